"""Misbehaviour on purpose: what a device does wrong, and whether its server answered rightly.

`Misbehaviour` is one enum for all protocols. A `MisbehaviourSpec` (picklable, of a group) draws the
set of one device from that device's own random numbers. A protocol client asks `in` that set at the
place where it would behave, does the wrong thing instead, compares the server's answer with its
protocol's table, and tells the `Ledger` of its runtime: kept, or broken with what came instead.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.errors import UnusableSettings

if TYPE_CHECKING:
    from agent.runtime.random import DeviceRandom

__all__ = [
    "MAX_EXAMPLES",
    "Judgement",
    "Ledger",
    "Misbehaviour",
    "MisbehaviourSpec",
    "check_known",
    "merge",
]

MAX_EXAMPLES = 5
"""Broken expectations told in words per protocol and name; the counts are complete."""


class Misbehaviour(enum.Enum):
    """What a device may do wrong."""

    LATE_REPORT = "late-report"
    """Reports again after the attempt is closed."""
    DUPLICATE_REPORT = "duplicate-report"
    """Sends every report twice."""
    OUT_OF_ORDER = "out-of-order"
    """Reports a later step before an earlier one."""
    FOREIGN_REPORT = "foreign-report"
    """Reports on an attempt that is another device's, or nobody's."""
    OVERSIZED_REPORT = "oversized-report"
    """Sends a report far beyond any documented limit."""
    IGNORE_CANCEL = "ignore-cancel"
    """Goes on although it was told to stop."""
    STALE_CREDENTIAL = "stale-credential"
    """Presents a credential that has run out or was replaced."""
    CLONED_IDENTITY = "cloned-identity"
    """Presents its own credential under another device's name."""
    HERD = "herd"
    """Comes without jitter, at the same instant as all others."""
    NEVER_REPORT = "never-report"
    """Updates and says nothing."""
    FALSE_SUCCESS = "false-success"
    """Reports success whatever happened."""
    FALSE_FAILURE = "false-failure"
    """Reports failure although it runs the new image."""


@dataclass(frozen=True, slots=True)
class MisbehaviourSpec:
    """Which shares of a group (0 to 1) misbehave how."""

    shares: tuple[tuple[Misbehaviour, float], ...] = ()

    def draw(self, random: DeviceRandom) -> frozenset[Misbehaviour]:
        """The set of the device that owns `random`. One number is drawn for each member of the
        enum, asked for or not, so that adding one leaves the others where they were."""
        drawn = {name: random.uniform(0.0, 1.0) for name in Misbehaviour}
        return frozenset(name for name, share in self.shares if drawn[name] < share)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a server answered one misbehaviour of one protocol's devices."""

    kept: int = 0
    broken: int = 0
    examples: tuple[str, ...] = ()
    """What came instead of what a right server answers, with the device's name."""

    def __add__(self, other: Judgement) -> Judgement:
        examples = (self.examples + other.examples)[:MAX_EXAMPLES]
        return Judgement(self.kept + other.kept, self.broken + other.broken, examples)


@dataclass(slots=True)
class Ledger:
    """All judgements of one runtime, by (protocol, name of the misbehaviour)."""

    judgements: dict[tuple[str, str], Judgement] = field(default_factory=dict)

    def judge(
        self, protocol: str, name: Misbehaviour, kept: bool, device: str = "", detail: str = ""
    ) -> None:
        """Count one answer; `detail` says what a broken expectation met, and holds no secret."""
        one = Judgement(1) if kept else Judgement(0, 1, (f"{device}: {detail}",))
        key = (protocol, name.value)
        self.judgements[key] = self.judgements.get(key, Judgement()) + one

    def snapshot(self) -> dict[tuple[str, str], Judgement]:
        return dict(self.judgements)


def merge(
    ledgers: Iterable[Mapping[tuple[str, str], Judgement]],
) -> dict[tuple[str, str], Judgement]:
    """The judgements of several runtimes as one, sorted by protocol and name."""
    merged: dict[tuple[str, str], Judgement] = {}
    for ledger in ledgers:
        for key, judgement in ledger.items():
            merged[key] = merged.get(key, Judgement()) + judgement
    return dict(sorted(merged.items()))


def check_known(
    protocol: str, asked: frozenset[Misbehaviour], known: frozenset[Misbehaviour]
) -> None:
    """Raise UnusableSettings when devices of `protocol` cannot do all that is `asked`."""
    strange = asked - known
    if strange:
        cannot, can = (", ".join(sorted(one.value for one in names)) for names in (strange, known))
        instead = f"they can do {can}" if can else "they always behave"
        raise UnusableSettings(f"{protocol} devices cannot do {cannot}; {instead}")
