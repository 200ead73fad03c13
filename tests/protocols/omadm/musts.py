"""Marks a test with the rules of docs/omadm-musts.md that it proves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])


def musts(*ids: str) -> Callable[[Test], Test]:
    """`ids` are literals, such as "DM-001": `test_musts` reads them without running anything."""

    def attach(test: Test) -> Test:
        test.__dict__["musts"] = ids
        return test

    return attach
