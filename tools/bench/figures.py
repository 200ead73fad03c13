"""A figure and its yardstick, as a table for people and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Figure", "format_table", "write_results"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside what it is measured against.

    `ratio` is value / yardstick_value, except where `cheaper` is set: then it says how many times
    cheaper than the yardstick we are. `bound` is the ratio that must hold: at most, or with
    `cheaper` at least. A figure without a yardstick or a bound is only reported.
    """

    name: str
    value: float
    unit: str
    yardstick: str = ""
    yardstick_value: float | None = None
    bound: float | None = None
    cheaper: bool = False
    at_least: bool = False
    """More is better: the ratio must reach the bound."""
    details: dict[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        if self.yardstick_value is None:
            return None
        if self.cheaper:
            return self.yardstick_value / self.value if self.value else 0.0
        if self.yardstick_value == 0:  # a count that must be zero is its own ratio
            return self.value
        return self.value / self.yardstick_value

    @property
    def holds(self) -> bool:
        if self.ratio is None or self.bound is None:
            return True
        at_least = self.cheaper or self.at_least
        return self.ratio >= self.bound if at_least else self.ratio <= self.bound

    def as_json(self) -> dict[str, object]:
        return {
            "value": round(self.value, 3),
            "unit": self.unit,
            "yardstick": self.yardstick,
            "yardstick_value": _rounded(self.yardstick_value),
            "ratio": _rounded(self.ratio),
            "bound": self.bound,
            "holds": self.holds,
            **self.details,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def write_results(path: Path, figures: Iterable[Figure], problems: dict[str, str]) -> None:
    """Write `latest.json`; figures that an earlier run took and this one did not are kept out."""
    found: dict[str, object] = {"figures": {figure.name: figure.as_json() for figure in figures}}
    if problems:
        found["problems"] = problems
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def format_table(figures: Iterable[Figure]) -> str:
    rows = [
        ("figure", "value", "yardstick", "ratio", "bound", ""),
        *(
            (
                figure.name,
                f"{figure.value:,.2f} {figure.unit}",
                "-"
                if figure.yardstick_value is None
                else f"{figure.yardstick_value:,.2f} ({figure.yardstick})",
                "-" if figure.ratio is None else f"{figure.ratio:.2f}",
                "-"
                if figure.bound is None
                else f"{'>=' if figure.cheaper or figure.at_least else '<='} {figure.bound:g}",
                "" if figure.holds else "MISSED",
            )
            for figure in figures
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
