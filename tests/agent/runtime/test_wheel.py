"""The timer wheel against the simplest thing that could be right: a dict of due times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.runtime.wheel import COARSE_AFTER, TICKS_PER_SECOND, Timer, TimerWheel

TICK = 1 / TICKS_PER_SECOND
TIMERS = 5
# Delays around one tick, around the coarse limit, and far beyond.
delays = st.one_of(
    st.floats(0, 4 * TICK),
    st.floats(0, 10),
    st.floats(COARSE_AFTER * TICK - 2, COARSE_AFTER * TICK + 2),
    st.floats(0, 1e5),
)


class AgainstModel(RuleBasedStateMachine):
    """Never early, at most one tick late, once per arming, whatever is re-armed or disarmed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.wheel = TimerWheel()
        self.due: dict[int, float] = {}
        self.timers = [Timer(self.watch(n)) for n in range(TIMERS)]

    def watch(self, n: int) -> Callable[[float], None]:
        def fired(now: float) -> None:
            assert now == self.now
            assert self.due.pop(n) <= now, "early, or fired twice"

        return fired

    @rule(n=st.integers(0, TIMERS - 1), delay=delays)
    def arm(self, n: int, delay: float) -> None:
        self.wheel.arm(self.timers[n], self.now + delay)
        self.due[n] = self.now + delay

    @rule(n=st.integers(0, TIMERS - 1))
    def disarm(self, n: int) -> None:
        self.wheel.disarm(self.timers[n])
        self.due.pop(n, None)

    @rule(seconds=delays)
    def wait(self, seconds: float) -> None:
        """A real clock: it may look long after the deadline."""
        self.now += seconds
        self.wheel.advance(self.now)

    @rule(seconds=delays)
    def wait_unseen(self, seconds: float) -> None:
        """Time passes, but nothing is due and so nobody advances the wheel."""
        deadline = self.wheel.next_deadline
        later = self.now + seconds
        self.now = later if deadline is None else max(self.now, min(later, deadline))

    @rule()
    def jump(self) -> None:
        """A virtual clock: straight to the next deadline."""
        deadline = self.wheel.next_deadline
        if deadline is not None:
            self.now = max(self.now, deadline)
            self.wheel.advance(self.now)

    @invariant()
    def armed_as_the_model_says(self) -> None:
        assert {n for n, timer in enumerate(self.timers) if timer.armed} == set(self.due)

    @invariant()
    def the_next_deadline_covers_all(self) -> None:
        deadline = self.wheel.next_deadline
        for due in self.due.values():
            assert deadline is not None and deadline <= max(due, self.now) + TICK * 1.001

    def teardown(self) -> None:
        while (deadline := self.wheel.next_deadline) is not None:
            self.now = max(self.now, deadline)
            self.wheel.advance(self.now)
            for due in self.due.values():
                assert due + TICK * 1.001 >= self.now, "more than a tick late"
        assert not self.due


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def fire_times(wheel: TimerWheel, until: float, fired: list[float]) -> list[float]:
    while (deadline := wheel.next_deadline) is not None and deadline <= until:
        wheel.advance(deadline)
    return fired


@given(st.lists(delays, max_size=20))
def test_a_virtual_clock_fires_each_within_a_tick_and_in_order(whens: list[float]) -> None:
    wheel = TimerWheel()
    fired: list[tuple[float, int]] = []
    timers = [Timer(lambda now, n=n: fired.append((now, n))) for n in range(len(whens))]
    for timer, when in zip(timers, whens, strict=True):
        wheel.arm(timer, when)
    while (deadline := wheel.next_deadline) is not None:
        wheel.advance(deadline)
    assert sorted(n for _, n in fired) == list(range(len(whens)))
    for now, n in fired:
        assert whens[n] <= now <= whens[n] + TICK * 1.001
    assert [now for now, _ in fired] == sorted(now for now, _ in fired)


def test_a_near_timer_is_exact_after_a_long_time_without_any() -> None:
    """Nothing was due for 1,000 s, so nobody advanced the wheel: it must not take 2 s for far."""
    wheel = TimerWheel()
    fired: list[float] = []
    wheel.arm(Timer(fired.append), 1002.3)
    fire_times(wheel, 2000.0, fired)
    assert 1002.3 <= fired[0] <= 1002.3 + TICK


def test_far_timers_share_slots() -> None:
    wheel = TimerWheel()
    for n in range(1000):
        wheel.arm(Timer(lambda now: None), 300 + n / 1000)
    assert len(wheel._slots) <= 2


def test_an_exchange_that_arms_and_disarms_leaves_one_entry() -> None:
    wheel = TimerWheel()
    timer = Timer(lambda now: None)
    for n in range(1000):
        wheel.arm(timer, 2.0 + n / 1000)
        wheel.disarm(timer)
    assert sum(map(len, wheel._slots.values())) == 1


def test_a_callback_may_rearm_its_own_timer_and_disarm_another_of_the_same_tick() -> None:
    wheel = TimerWheel()
    fired: list[str] = []

    def first(now: float) -> None:
        fired.append("first")
        wheel.disarm(second)
        if len(fired) < 3:
            wheel.arm(timer, now)  # due at once: the next tick, not an endless loop in this one

    timer = Timer(first)
    second = Timer(lambda now: fired.append("second"))
    wheel.arm(timer, 1.0)
    wheel.arm(second, 1.0)
    wheel.advance(1.1)
    assert fired == ["first"] and not second.armed
    wheel.advance(1.2)
    wheel.advance(1.3)
    assert fired == ["first"] * 3 and not timer.armed


def test_a_callback_that_raises_costs_no_other_timer() -> None:
    wheel = TimerWheel()
    fired: list[int] = []

    def broken(now: float) -> None:
        raise ZeroDivisionError

    for n in range(3):
        wheel.arm(Timer(broken if n == 1 else lambda now, n=n: fired.append(n)), 1.0)
    with pytest.raises(ZeroDivisionError):
        wheel.advance(5.0)
    assert fired == [0]
    deadline = wheel.next_deadline
    assert deadline is not None and deadline <= 5.0
    wheel.advance(5.0)
    assert fired == [0, 2]


def test_whoever_drives_is_told_only_when_the_next_deadline_moves_closer() -> None:
    wheel = TimerWheel()
    told: list[float | None] = []
    wheel.on_earlier = lambda: told.append(wheel.next_deadline)
    wheel.arm(Timer(lambda now: None), 10.0)
    wheel.arm(Timer(lambda now: None), 20.0)
    wheel.arm(Timer(lambda now: None), 5.0)
    assert [round(deadline or 0) for deadline in told] == [10, 5]
