"""A hashed timer wheel that is idle when nothing is due.

Theory of operation
===================

Time is cut into ticks. Every tick that holds a timer has a *slot* (a list) in a hash table, and a
heap orders the ticks that exist, so the next deadline is known without visiting empty slots; a
virtual clock can jump straight to it.

A :class:`Timer` is made once per purpose and re-armed for free. It stands in at most one live
slot: arming it *later* than that slot only moves its due time, and the slot, when it comes round,
puts the timer where it belongs. Disarming only clears the due time. So a retransmission timer,
armed and disarmed once per exchange, costs two attribute stores and leaves nothing behind; a slot
in which nobody waits any more is dropped when it would be the next one.

Far timers wait in slots of :data:`COARSE_TICKS` ticks, so that a hundred thousand registration
lifetimes share few; such a slot comes round just before they are due, and they move to their tick.

The wheel does no I/O and reads no clock: ``now`` is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

__all__ = ["COARSE_TICKS", "TICKS_PER_SECOND", "Timer", "TimerWheel"]

TICKS_PER_SECOND = 64  # 15.6 ms: a hundredth of RFC 7252's ACK_TIMEOUT, coarse enough to share
COARSE_AFTER = 64 * TICKS_PER_SECOND  # RFC 7252's longest retransmission interval is 48 s
COARSE_TICKS = TICKS_PER_SECOND


class Timer:
    """One re-armable deadline; ``callback(now)`` runs at most once per arming, never early."""

    __slots__ = ("_due", "_slot", "callback")

    def __init__(self, callback: Callable[[float], None]) -> None:
        self.callback = callback
        self._due = 0
        self._slot = 0

    @property
    def armed(self) -> bool:
        return self._due != 0


class TimerWheel:
    """All timers of one worker."""

    __slots__ = ("_heap", "_slots", "_tick", "on_earlier")

    def __init__(self) -> None:
        self._slots: dict[int, list[Timer]] = {}
        self._heap: list[int] = []
        self._tick = 0  # the last tick that was served
        # Called when the next deadline moved closer, so that whoever drives the wheel can follow.
        self.on_earlier: Callable[[], None] | None = None

    def arm(self, timer: Timer, when: float) -> None:
        """Let ``timer`` fire at ``when`` (seconds of the driving clock), in place of any other."""
        due = int(when * TICKS_PER_SECOND) + 1  # rounded up: a timer is never early
        tick = self._tick
        if due <= tick:
            due = tick + 1
        timer._due = due
        if not timer._slot or due < timer._slot:
            self._place(timer, due)

    def disarm(self, timer: Timer) -> None:
        timer._due = 0

    def _place(self, timer: Timer, due: int) -> None:
        if due - self._tick > COARSE_AFTER:
            # Too early is safe, too late would not be: how far away it is nobody knows here, for
            # the last served tick is old when nothing was due for long.
            due -= due % COARSE_TICKS
        timer._slot = due
        slot = self._slots.get(due)
        if slot is not None:
            slot.append(timer)
            return
        self._slots[due] = [timer]
        heap = self._heap
        heappush(heap, due)
        if heap[0] == due and self.on_earlier is not None:
            self.on_earlier()

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`advance` has something to do next, in seconds; None: nothing is placed.

        Slots whose timers were all disarmed are let go here: nobody wakes up for them. Each timer
        is looked at from the end of its slot and taken out, so none is looked at twice."""
        heap, slots = self._heap, self._slots
        while heap:
            tick = heap[0]
            timers = slots[tick]
            while timers:
                timer = timers[-1]
                if timer._slot == tick:
                    if timer._due:
                        return tick / TICKS_PER_SECOND
                    timer._slot = 0
                timers.pop()
            heappop(heap)
            del slots[tick]
        return None

    def advance(self, now: float) -> None:
        """Fire what is due at ``now``, tick by tick, in the order of arming within a tick."""
        limit = int(now * TICKS_PER_SECOND)
        heap = self._heap
        while heap and heap[0] <= limit:
            tick = heappop(heap)
            self._tick = tick
            timers = iter(self._slots.pop(tick))
            try:
                for timer in timers:
                    if timer._slot != tick:
                        continue  # re-armed to an earlier slot since; this entry is its shadow
                    timer._slot = 0
                    due = timer._due
                    if due == 0:
                        continue
                    if due > tick:
                        self._place(timer, due)
                    else:
                        timer._due = 0
                        timer.callback(now)
            except BaseException:
                # What one device's callback raises must not cost the others their timers.
                self._slots[tick] = list(timers)
                heappush(heap, tick)
                raise
        if limit > self._tick:
            self._tick = limit
