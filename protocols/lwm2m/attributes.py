"""Notification attributes: Write-Attributes, inheritance, Discover (LwM2M 1.1 core section 5.1.2).

A server writes attributes as queries of a PUT without payload: ``pmin=10``, ``gt=50.5``; a name
alone takes the attribute away again. pmin and pmax may stand at any level and are inherited
downwards, the nearest level wins for each attribute by itself; gt, lt and st belong to numeric
resources and their instances only.

Two rules keep the thresholds coherent, ``lt < gt`` and ``lt + 2 * st < gt``. A request that breaks
them by itself is rejected; a request that only clashes with what stands there already is accepted,
and the thresholds are not valid until a later request mends them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from protocols.lwm2m.model import ResourceType
from protocols.lwm2m.paths import Path, format_path, is_under

__all__ = [
    "NONE",
    "AttributeStore",
    "AttributesRefused",
    "Attributes",
    "Changes",
    "parse_queries",
]


class AttributesRefused(ValueError):
    """A Write-Attributes request is wrong (4.00); names the attribute."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """None is an attribute that is not set."""

    pmin: int | None = None
    pmax: int | None = None
    gt: float | None = None
    lt: float | None = None
    st: float | None = None

    @property
    def thresholds(self) -> bool:
        """Whether a change of value alone is no reason to notify."""
        return not (self.gt is None and self.lt is None and self.st is None)

    @property
    def coherent(self) -> bool:
        if self.lt is None or self.gt is None:
            return True
        return self.lt < self.gt and self.lt + 2 * (self.st or 0) < self.gt

    def over(self, outer: Attributes) -> Attributes:
        """These, with what is not set here taken from the level above."""
        return Attributes(
            outer.pmin if self.pmin is None else self.pmin,
            outer.pmax if self.pmax is None else self.pmax,
            outer.gt if self.gt is None else self.gt,
            outer.lt if self.lt is None else self.lt,
            outer.st if self.st is None else self.st,
        )

    def link_attributes(self) -> tuple[tuple[str, str], ...]:
        """As Discover shows them."""
        shown = ((name, getattr(self, name)) for name in _NAMES)
        return tuple((name, _number_text(value)) for name, value in shown if value is not None)


NONE = Attributes()
_NAMES = ("pmin", "pmax", "gt", "lt", "st")
_PERIODS = ("pmin", "pmax")

Changes = dict[str, int | float | None]

# 1*DIGIT of the specification; ten digits are three centuries.
_PERIOD = re.compile(r"[0-9]{1,10}\Z")
# 1*DIGIT ["." 1*DIGIT], and a sign: a radio signal strength is a negative number of dBm. The bound
# is what a 64-bit integer or the shortest text of a common float needs.
_THRESHOLD = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?\Z")


def _number_text(value: int | float) -> str:
    """Without exponent, which the grammar does not know, and without a needless ``.0``."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return f"{value:.20f}".rstrip("0") if "e" in repr(value) else repr(value)


def parse_queries(queries: Sequence[str]) -> Changes:
    """The queries of a Write-Attributes; None takes an attribute away."""
    changes: Changes = {}
    for query in queries:
        name, _, text = query.partition("=")
        if name not in _NAMES:
            raise AttributesRefused(f"{name[:64]!r} is no attribute that can be written")
        if name in changes:
            raise AttributesRefused(f"{name} is written twice")
        if not text:
            changes[name] = None
        elif name in _PERIODS:
            if not _PERIOD.match(text):
                raise AttributesRefused(f"{name} is a number of seconds, not {text[:64]!r}")
            changes[name] = int(text)
        else:
            if not _THRESHOLD.match(text):
                raise AttributesRefused(f"{name} is a decimal number, not {text[:64]!r}")
            changes[name] = float(text)
    step = changes.get("st")
    if step is not None and step < 0:
        raise AttributesRefused("st is a distance, so not negative")
    return changes


def _check(path: Path, changes: Changes, kind: ResourceType | None) -> None:
    thresholds = [name for name in changes if name not in _PERIODS]
    if thresholds and len(path) < 3:
        raise AttributesRefused(
            f"{thresholds[0]} belongs to a resource, {format_path(path)} is none"
        )
    if thresholds and kind is not None and not kind.numeric:
        raise AttributesRefused(
            f"{thresholds[0]} belongs to a numeric resource, {format_path(path)} is {kind.value}"
        )
    by_itself = Attributes(gt=changes.get("gt"), lt=changes.get("lt"), st=changes.get("st"))
    if not by_itself.coherent:
        raise AttributesRefused("lt + 2 * st is not below gt")


# Devices of a fleet are given the same attributes: one object serves them all.
@lru_cache(maxsize=256)
def _shared(attributes: Attributes) -> Attributes:
    return attributes


class AttributeStore:
    """What one server wrote, by path. An untouched device holds one empty slot."""

    __slots__ = ("_by_path",)

    def __init__(self) -> None:
        self._by_path: dict[Path, Attributes] | None = None

    def write(self, path: Path, queries: Sequence[str], kind: ResourceType | None) -> Attributes:
        """Apply a Write-Attributes at `path`, all of it or (AttributesRefused) nothing.

        `kind` is the type of the resource at `path`, None when it has none or it is unknown.
        """
        changes = parse_queries(queries)
        _check(path, changes, kind)
        own = self.own(path)
        changed = _shared(replace(own, **changes))  # type: ignore[arg-type]
        if changed != NONE:
            if self._by_path is None:
                self._by_path = {}
            self._by_path[path] = changed
        elif self._by_path is not None:
            self._by_path.pop(path, None)
        return changed

    def own(self, path: Path) -> Attributes:
        """What is attached at exactly this level: Discover of something above shows this."""
        return NONE if self._by_path is None else self._by_path.get(path, NONE)

    def effective(self, path: Path) -> Attributes:
        """What holds at this level: an observation obeys it, Discover of a resource shows it."""
        if not self._by_path:
            return NONE
        result = NONE
        for depth in range(len(path), 0, -1):
            own = self._by_path.get(path[:depth])
            if own is not None:
                result = result.over(own)
        return result

    def remove_under(self, path: Path) -> None:
        """The instance is deleted, or (with the root path) the server is forgotten."""
        if self._by_path:
            self._by_path = {
                known: attributes
                for known, attributes in self._by_path.items()
                if not is_under(known, path)
            } or None
