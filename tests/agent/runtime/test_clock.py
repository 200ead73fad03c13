from __future__ import annotations

import asyncio
import datetime

import pytest

from agent.runtime.clock import VIRTUAL_ORIGIN, LoopClock, run_virtual
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer, TimerWheel


def test_virtual_time_jumps_and_everything_runs_in_order() -> None:
    order: list[tuple[str, float]] = []

    async def story(clock: LoopClock, name: str, days: float) -> None:
        await clock.sleep(days * 86_400)
        order.append((name, clock.now() / 86_400))

    async def main() -> datetime.datetime:
        clock = LoopClock()
        assert clock.virtual and clock.utc() == VIRTUAL_ORIGIN
        await asyncio.gather(*(story(clock, f"{n} days", n) for n in (30, 1, 200)))
        return clock.utc()

    assert run_virtual(main()) == VIRTUAL_ORIGIN + datetime.timedelta(days=200)
    assert order == [("1 days", 1.0), ("30 days", 30.0), ("200 days", 200.0)]


def test_a_deadlock_in_virtual_time_is_said_and_not_waited_for() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="virtual time stands still"):
        run_virtual(main())


def test_threads_are_refused_in_virtual_time() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="no threads in virtual time"):
        run_virtual(main())


def test_the_wheel_and_coroutines_share_virtual_time() -> None:
    fired: list[float] = []

    async def main() -> None:
        async with Runtime.in_memory() as runtime:
            for delay in (0.5, 100.0, 3600.0):
                runtime.arm(Timer(fired.append), delay)
            await runtime.clock.sleep(10.0)
            assert len(fired) == 1
            # Armed in the middle of a wait for a later deadline.
            runtime.arm(Timer(fired.append), 1.0)
            await runtime.clock.sleep(5000.0)

    run_virtual(main())
    for time, due in zip(fired, (0.5, 11.0, 100.0, 3600.0), strict=True):
        assert due <= time <= due + 1 / 32


def test_a_stopped_clock_fires_nothing() -> None:
    fired: list[float] = []

    async def main() -> None:
        clock = LoopClock()
        wheel = TimerWheel()
        clock.drive(wheel)
        with pytest.raises(RuntimeError, match="already drives"):
            clock.drive(TimerWheel())
        wheel.arm(Timer(fired.append), 1.0)
        clock.stop()
        wheel.arm(Timer(fired.append), 0.5)
        await clock.sleep(10.0)

    run_virtual(main())
    assert not fired


def test_a_callback_may_stop_the_clock_or_raise_without_ending_it() -> None:
    fired: list[float] = []
    told: list[BaseException] = []

    def broken(now: float) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        clock = LoopClock()
        wheel = TimerWheel()
        clock.drive(wheel)
        wheel.arm(Timer(broken), 1.0)
        wheel.arm(Timer(fired.append), 1.0)
        wheel.arm(Timer(lambda now: clock.stop()), 2.0)
        wheel.arm(Timer(fired.append), 3.0)
        await clock.sleep(10.0)

    run_virtual(main())
    assert len(fired) == 1 and [type(error) for error in told] == [ZeroDivisionError]


class SlowLoop:
    """Only what a clock needs of a loop: its time, turned by hand, and one handle."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.calls: list[tuple[float, object, tuple[object, ...]]] = []

    def time(self) -> float:
        return self.seconds

    def call_at(self, when: float, callback: object, *args: object) -> asyncio.TimerHandle:
        self.calls.append((when, callback, args))
        return asyncio.TimerHandle(when, lambda: None, (), self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.calls.pop()


def test_a_scaled_clock_runs_faster_than_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = SlowLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    origin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    clock = LoopClock(rate=60.0, utc_origin=origin)
    loop.seconds += 2.0
    assert clock.now() == 120.0
    assert clock.utc() == origin + datetime.timedelta(minutes=2)
    wheel = TimerWheel()
    clock.drive(wheel)
    wheel.arm(Timer(lambda now: None), 600.0)
    wheel.arm(Timer(lambda now: None), 240.0)
    assert len(loop.calls) == 1  # one handle for all timers
    assert loop.calls[0][0] == pytest.approx(54.0, abs=0.001)


async def test_a_real_clock_starts_at_zero_and_knows_the_date() -> None:
    clock = LoopClock()
    assert not clock.virtual
    assert 0 <= clock.now() < 5
    assert abs(clock.utc() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=5)
    with pytest.raises(ValueError, match="positive"):
        LoopClock(rate=0)
