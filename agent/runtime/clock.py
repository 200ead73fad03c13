"""Three clocks behind one interface: real, scaled, virtual.

Everything above reads ``now()`` (seconds since the run began) and ``utc()`` (calendar time, for
campaign dates and certificates). Code that would behave differently under the three is a bug.

A clock also drives the run's :class:`~agent.runtime.wheel.TimerWheel`: one handle of the event
loop for all timers of all devices.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar, TypeVarTuple

from agent.runtime.wheel import TimerWheel

__all__ = ["VIRTUAL_ORIGIN", "Clock", "LoopClock", "VirtualLoop", "run_virtual"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Virtual runs start here, so that no journal and no certificate check depends on today's date.
VIRTUAL_ORIGIN = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class Clock(Protocol):
    """What devices and backend know of time."""

    virtual: bool

    def now(self) -> float:
        """Seconds since the run began, never backwards."""

    def utc(self) -> datetime.datetime:
        """Calendar time that belongs to :meth:`now`."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling coroutine for ``seconds`` of this clock."""

    def drive(self, wheel: TimerWheel) -> None:
        """Advance ``wheel`` from now on."""

    def stop(self) -> None:
        """Drive nothing any more."""


class LoopClock:
    """A clock on the running event loop's time, ``rate`` times as fast.

    ``rate=1`` is real time. On a :class:`VirtualLoop` the same class is the virtual clock, because
    there it is the loop whose time jumps to the next deadline.
    """

    __slots__ = (
        "_handle",
        "_loop",
        "_origin",
        "_rate",
        "_time",
        "_utc_origin",
        "_wheel",
        "virtual",
    )

    def __init__(self, *, rate: float = 1.0, utc_origin: datetime.datetime | None = None) -> None:
        if not rate > 0:
            raise ValueError(f"a clock's rate must be positive, not {rate}")
        self._loop = asyncio.get_running_loop()
        self.virtual = isinstance(self._loop, VirtualLoop)
        # Read for every packet: on asyncio's own loops without the method in between.
        own = type(self._loop).time is asyncio.BaseEventLoop.time
        self._time: Callable[[], float] = time.monotonic if own else self._loop.time
        self._origin = self._time()
        self._rate = rate
        if utc_origin is None:
            utc_origin = VIRTUAL_ORIGIN if self.virtual else datetime.datetime.now(datetime.UTC)
        self._utc_origin = utc_origin
        self._wheel: TimerWheel | None = None
        self._handle: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return (self._time() - self._origin) * self._rate

    def utc(self) -> datetime.datetime:
        return self._utc_origin + datetime.timedelta(seconds=self.now())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)

    def drive(self, wheel: TimerWheel) -> None:
        if self._wheel is not None:
            raise RuntimeError("this clock already drives a wheel")
        self._wheel = wheel
        wheel.on_earlier = self._schedule
        self._schedule()

    def stop(self) -> None:
        if self._wheel is not None:
            self._wheel.on_earlier = None
            self._wheel = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        deadline = self._wheel.next_deadline if self._wheel is not None else None
        if deadline is not None:
            when = self._origin + deadline / self._rate
            self._handle = self._loop.call_at(when, self._advance, deadline)

    def _advance(self, deadline: float) -> None:
        self._handle = None
        wheel = self._wheel
        if wheel is None:
            return
        wheel.on_earlier = None  # one new handle after all callbacks, not one per callback
        try:
            # call_at may fire within the loop's clock resolution before the deadline.
            wheel.advance(max(self.now(), deadline))
        finally:
            if self._wheel is not None:
                wheel.on_earlier = self._schedule
                self._schedule()


class _JumpingSelector:
    """Never waits for the world: where asyncio would sleep, virtual time moves instead."""

    def __init__(self, inner: object, loop: VirtualLoop) -> None:
        self._inner = inner
        self._virtual_loop = loop

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def select(self, timeout: float | None = None) -> list[object]:
        if timeout is None:
            raise RuntimeError(
                "virtual time stands still: every coroutine waits and no timer is armed"
            )
        if timeout > 0:
            self._virtual_loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next deadline; it sees no descriptors and no threads.

    The same coroutines, seed and scenario therefore run in the same order every time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.virtual_now = 0.0
        self._clock_resolution = math.ulp(0.0)
        self._selector = _JumpingSelector(self._selector, self)  # type: ignore[has-type]

    def time(self) -> float:
        return self.virtual_now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self.virtual_now += seconds
        # asyncio runs what is due before time() + resolution. A fixed resolution vanishes in the
        # sum after some months (1 ns beside 2**23 s), and then nothing would be due ever again.
        self._clock_resolution = math.ulp(self.virtual_now)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        # A thread would finish at an arbitrary point among the callbacks of one instant.
        raise RuntimeError("no threads in virtual time")


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in virtual time and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
