"""How long to wait before the next try: doubling, bounded, with jitter."""

from __future__ import annotations

from dataclasses import dataclass

from agent.runtime.random import DeviceRandom

__all__ = ["DEFAULT_BACKOFF", "Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds. Full jitter over the upper half: a fleet that lost its server together must not
    come back together, and no device may come back at once."""

    first: float = 5.0
    limit: float = 300.0
    factor: float = 2.0

    def delay(self, failures: int, random: DeviceRandom) -> float:
        """Before try `failures` + 1; `failures` counts from 1."""
        longest = min(self.limit, self.first * self.factor ** min(failures - 1, 64))
        return random.uniform(longest / 2, longest)


DEFAULT_BACKOFF = Backoff()
