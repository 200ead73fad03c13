"""Points at which a backend is killed: drawn from a seed, recognised from the outside.

Nothing of the backend is asked where it stands. What is counted is what anybody sees who talks to
it: requests of the customer, messages that devices get, changes of devices, callbacks.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

PHASES = ("creation", "scheduling", "push", "execute", "report", "callback")

LEAST = {"creation": 14, "scheduling": 12, "push": 60, "execute": 10, "report": 10, "callback": 10}
"""How often each of them is seen in any run."""

LONGEST = {
    # The backend is at work on a request for some milliseconds, and on a campaign for longer.
    "creation": 0.03,
    "scheduling": 0.2,
    "push": 0.01,
    "execute": 0.1,
    "report": 0.2,
    "callback": 0.03,
}
"""Seconds from what is seen to the blow, at most."""


@dataclass(frozen=True)
class Point:
    """The `number`-th event of a phase, and how long after it the blow falls."""

    seed: int
    phase: str
    number: int
    delay: float

    @staticmethod
    def drawn(seed: int) -> Point:
        """One point of a seed; six seeds in a row are one of each phase."""
        phase = PHASES[seed % len(PHASES)]
        draw = random.Random(seed)
        number = draw.randint(1, LEAST[phase])
        # Now and then while the event is under way, before anybody has answered.
        delay = 0.0 if draw.random() < 0.25 else draw.uniform(0.0, LONGEST[phase])
        return Point(seed, phase, number, delay)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: kill -9 {1000 * self.delay:.1f} ms after event {self.number} "
            f"of {self.phase}"
        )


@dataclass
class Killer:
    """Counts events, and strikes once."""

    point: Point
    strike: Callable[[], None] = lambda: None
    counts: Counter[str] = field(default_factory=Counter)
    fell: bool = False

    def happened(self, phase: str) -> None:
        """An event of a phase is seen."""
        self.counts[phase] += 1
        if (phase, self.counts[phase]) != (self.point.phase, self.point.number):
            return
        if self.point.delay:
            asyncio.get_running_loop().call_later(self.point.delay, self._strike)
        else:
            self._strike()

    def _strike(self) -> None:
        self.fell = True
        self.strike()
