"""What goes wrong in one device, decided before the run and drawn from its own random numbers.

`FaultSpec` is picklable data for a group of devices; `draw` makes the `FaultPlan` of one of them,
or None for the many that have no fault and should pay nothing for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.flash import CutMode
from agent.runtime.random import DeviceRandom

__all__ = ["FaultPlan", "FaultSpec"]

COUNTER_BUMP = 1 << 16
"""Above the counter of any image that somebody builds by hand, so that the update is refused."""


@dataclass(slots=True)
class FaultPlan:
    """The faults of one device. What was used up is counted down here."""

    bad_boots: int = 0
    """So many of the next trial boots never come up: the watchdog resets, the bootloader
    reverts."""
    cut_power_at: int | None = None
    """Lose the power at this flash operation, counted from 1 since power on."""
    cut_mode: CutMode = CutMode.BEFORE
    outage_seconds: float = 5.0
    """How long the power stays away after such a cut."""
    corrupt_page: int | None = None
    """Flip a bit in this page of the download before it reaches the flash, once."""
    corrupt_slot_page: int | None = None
    """Flip a bit in this page of the slot after it was verified, once: the bootloader finds it."""
    cut_downloads: tuple[int, ...] = ()
    """Offsets of a download at which its connection is cut, each once; over HTTP."""
    counter_bump: int = 0
    """The stored security counter is this much higher than the factory image's."""
    seed: int = 0
    """Of what a torn operation leaves, and of the bit that flips."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """Shares of a group, each from 0 to 1, that get a fault."""

    bad_boot: float = 0.0
    power_cut: float = 0.0
    corrupt_download: float = 0.0
    corrupt_slot: float = 0.0
    counter_bump: float = 0.0
    cut_download: float = 0.0
    cut_range: int = 2000
    """A power cut falls on one of the first so many flash operations."""
    page_range: int = 64
    """A corrupted page is one of the first so many."""

    def draw(self, random: DeviceRandom) -> FaultPlan | None:
        """The plan of the device that owns `random`. Draws the same count of numbers whatever the
        shares are, so that changing one fault leaves the others where they were."""
        bad, cut, page, slot, bump = (random.uniform(0.0, 1.0) for _ in range(5))
        at = 1 + random.below(self.cut_range)
        mode = tuple(CutMode)[random.below(3)]
        index = random.below(self.page_range)
        seed = random.u64()
        lost = random.uniform(0.0, 1.0)
        lost_at = 1 + random.below(self.page_range * 1024)
        plan = FaultPlan(
            bad_boots=int(bad < self.bad_boot),
            cut_power_at=at if cut < self.power_cut else None,
            cut_mode=mode,
            corrupt_page=index if page < self.corrupt_download else None,
            corrupt_slot_page=index if slot < self.corrupt_slot else None,
            counter_bump=COUNTER_BUMP if bump < self.counter_bump else 0,
            cut_downloads=(lost_at,) if lost < self.cut_download else (),
            seed=seed,
        )
        idle = FaultPlan(cut_mode=mode, seed=seed)
        return None if plan == idle else plan
