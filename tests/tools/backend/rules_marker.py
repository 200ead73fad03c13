"""Marks a test with the rules of docs/backend-rules.md that it proves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])


def rules(*ids: str) -> Callable[[Test], Test]:
    """`ids` are literals, such as "BR-001": `test_rules` reads them without running anything."""

    def attach(test: Test) -> Test:
        test.__dict__["rules"] = ids
        return test

    return attach
