"""Our own scheduler lag: how late the event loop runs what is due.

A tick is intended every 100 ms, whatever happened to the one before. When the loop was busy for
three seconds, thirty ticks were late, by 3.0, 2.9, 2.8 ... seconds, and all of them are recorded:
recording only the first would hide the stall among the thousands of ticks that were in time.
"""

from __future__ import annotations

import asyncio

from agent.runtime.metrics import Histogram

TICK = 0.1  # seconds


class LagMeter:
    """Records into `histogram` from `start` to `stop`."""

    __slots__ = ("_due", "_handle", "_histogram", "_loop")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        if self._handle is None:
            self._due = self._loop.time() + TICK
            self._handle = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        now = self._loop.time()
        while self._due <= now:
            self._histogram.record(now - self._due)
            self._due += TICK
        self._handle = self._loop.call_at(self._due, self._tick)
