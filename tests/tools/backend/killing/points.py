"""Points at which a backend is killed: drawn from a seed, recognised from the outside.

Nothing of the backend is asked where it stands. What is counted is what anybody sees who talks to
it: requests of the customer, messages that devices get, changes of devices, callbacks.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

PHASES = ("creation", "scheduling", "push", "execute", "report", "callback")

LEAST = {"creation": 15, "scheduling": 36, "push": 120, "execute": 30, "report": 36, "callback": 14}
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

AGAIN = 0.3
"""How often a second blow follows, while the backend starts again or soon after."""

SOON = 4.0
"""Seconds from the new start to that blow, at most; a start takes one or two."""


@dataclass(frozen=True)
class Point:
    """The `number`-th event of a phase, and how long after it the blow falls."""

    seed: int
    phase: str
    number: int
    delay: float
    again: tuple[float, ...] = ()
    """Further blows: seconds from each new start to the next one."""

    @staticmethod
    def drawn(seed: int) -> Point:
        """One point of a seed; six seeds in a row are one of each phase."""
        phase = PHASES[seed % len(PHASES)]
        draw = random.Random(seed)
        number = draw.randint(1, LEAST[phase])
        # Now and then while the event is under way, before anybody has answered.
        delay = 0.0 if draw.random() < 0.25 else draw.uniform(0.0, LONGEST[phase])
        again = (draw.uniform(0.0, SOON),) if draw.random() < AGAIN else ()
        return Point(seed, phase, number, delay, again)

    @staticmethod
    def many(seed: int, blows: int) -> Point:
        """The same, and then blow upon blow: half of them while the backend is still starting."""
        draw = random.Random(seed)
        again = [draw.uniform(0.0, draw.choice((1.0, 2 * SOON))) for _ in range(blows - 1)]
        return replace(Point.drawn(seed), again=tuple(again))

    def __str__(self) -> str:
        text = (
            f"seed {self.seed}: kill -9 {1000 * self.delay:.1f} ms after event {self.number} "
            f"of {self.phase}"
        )
        if self.again:
            text += ", and after new starts by " + ", ".join(f"{one:.2f} s" for one in self.again)
        return text


@dataclass
class Killer:
    """Counts events, and strikes at its point."""

    point: Point
    strike: Callable[[], None] = lambda: None
    counts: Counter[str] = field(default_factory=Counter)
    blows: int = 0

    @property
    def left(self) -> int:
        """Blows that are still to fall."""
        return 1 + len(self.point.again) - self.blows

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
        self.blows += 1
        self.strike()

    def started_again(self) -> None:
        """The backend is being started after a blow."""
        if self.left:
            delay = self.point.again[self.blows - 1]
            asyncio.get_running_loop().call_later(delay, self._strike)
