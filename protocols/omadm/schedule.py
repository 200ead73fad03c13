"""When a device asks for updates by itself: checks, counted from its first activation.

The first activation is kept in `nvm`, so that a fleet that is rebooted does not check all at once
and one that runs for a month checks when its persona does.
"""

from __future__ import annotations

import contextlib
import math
import struct

from agent.device import Device
from agent.nvm import NvmFull
from protocols.omadm.personas.profile import Schedule

__all__ = ["Checks"]

_NAMESPACE = "omadm"
_NAME = "activated"
_TIME = struct.Struct("<d")

SPREAD = 0.05
"""Of an interval, added at random: devices that were activated together drift apart."""
LONGEST_SPREAD = 3600.0


class Checks:
    """The periodic checks of one device. Times in seconds of the runtime's clock."""

    __slots__ = ("_at", "_device", "_every", "_missed", "_schedule")

    def __init__(self, device: Device, schedule: Schedule, interval: float | None) -> None:
        """`interval` overrides what the persona does."""
        self._device = device
        self._schedule = schedule
        self._every = schedule.check_every if interval is None else interval
        self._missed = 0
        self._at = math.inf
        if self._every is None and schedule.first_check is None:
            return
        first = interval if interval is not None else schedule.first_check
        if first is None:
            first = self._every
        assert first is not None
        if interval is not None:
            # Asked for by a person, who wants to see it go: counted from the boot.
            self._at = self._now() + first + self._spread(first)
            return
        since = self._utc() - self._activated()
        wait = first - since
        if wait < 0:
            every = self._every
            wait = math.inf if every is None else every - (since - first) % every
        self._at = self._now() + wait + self._spread(wait)

    def due_in(self) -> float:
        """Seconds until the next check; at most 0: now. inf: never."""
        return self._at - self._now()

    def ask(self) -> None:
        """A check is due now."""
        self._at = self._now()

    def done(self) -> None:
        """It was had."""
        self._missed = 0
        every = self._every
        self._at = math.inf if every is None else self._now() + every + self._spread(every)

    def missed(self) -> float:
        """All tries of its session failed; seconds until it is tried once more."""
        self._missed += 1
        if self._missed > self._schedule.check_retries:
            self.done()
        else:
            self._at = self._now() + self._schedule.check_retry_after
        return self.due_in()

    # -- internals ------------------------------------------------------------------------------

    def _activated(self) -> float:
        """UTC seconds of the first activation."""
        nvm = self._device.nvm
        stored = nvm.get(_NAMESPACE, _NAME)
        if stored is not None and len(stored) == _TIME.size:
            (activated,) = _TIME.unpack(stored)
            return float(activated)
        now = self._utc()
        with contextlib.suppress(NvmFull):  # then it is activated anew at each boot
            nvm.set(_NAMESPACE, _NAME, _TIME.pack(now))
        return now

    def _spread(self, wait: float) -> float:
        longest = min(wait * SPREAD, LONGEST_SPREAD) if wait < math.inf else 0.0
        return self._device.random.uniform(0.0, longest) if longest > 0 else 0.0

    def _now(self) -> float:
        return self._device.runtime.clock.now()

    def _utc(self) -> float:
        return self._device.runtime.clock.utc().timestamp()
