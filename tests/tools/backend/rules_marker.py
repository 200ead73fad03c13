"""Marks a test with the rules of docs/backend-rules.md that it proves, or shows to be not met."""

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


def not_met(*ids: str) -> Callable[[Test], Test]:
    """The test shows what happens instead of these rules."""

    def attach(test: Test) -> Test:
        test.__dict__["not_met"] = ids
        return test

    return attach
