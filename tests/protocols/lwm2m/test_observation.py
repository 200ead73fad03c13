"""When notifications leave: each case is a timeline of values, and the moments of notification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.lwm2m.attributes import Attributes
from protocols.lwm2m.observation import Conditions, ObservationState, conditions


def run(
    wanted: Conditions, start: object, changes: list[tuple[float, object]], until: float = 1000
) -> list[tuple[float, object]]:
    """Drive an observation as a client does: at changes and at deadlines."""
    state = ObservationState(0.0, start, wanted)
    notified: list[tuple[float, object]] = []
    value = start
    pending = sorted(changes, key=lambda change: change[0])
    while True:
        deadline = state.deadline
        if pending and (deadline is None or pending[0][0] <= deadline):
            now, value = pending.pop(0)
        elif deadline is not None and deadline <= until:
            now = deadline
        else:
            return notified
        if state.due(now, value):
            state.sent(now, value)
            notified.append((now, value))


def test_any_change_at_once_without_attributes() -> None:
    changes: list[tuple[float, object]] = [(1, 1), (1.5, 1), (2, 2), (300, 0)]
    assert run(conditions(Attributes()), 0, changes) == [(1, 1), (2, 2), (300, 0)]


def test_pmin_holds_back_and_sends_the_value_of_then() -> None:
    wanted = conditions(Attributes(pmin=10))
    assert run(wanted, 0, [(1, 1), (2, 2), (15, 3), (40, 4)]) == [(10, 2), (20, 3), (40, 4)]


def test_a_change_that_went_back_inside_pmin_is_still_told() -> None:
    assert run(conditions(Attributes(pmin=10)), "a", [(1, "b"), (2, "a")]) == [(10, "a")]


def test_pmax_tells_the_same_value_again() -> None:
    wanted = conditions(Attributes(pmin=10, pmax=60))
    assert run(wanted, 0, [(70, 1)], until=200) == [(60, 0), (70, 1), (130, 1), (190, 1)]


def test_the_defaults_of_the_server_object_hold_where_nothing_is_written() -> None:
    assert conditions(Attributes(), 5, 50) == Conditions(5, 50, None, None, None)
    assert conditions(Attributes(pmin=1, pmax=9), 5, 50) == Conditions(1, 9, None, None, None)
    assert conditions(Attributes(), None, None) == Conditions(0, 0, None, None, None)
    assert conditions(Attributes(pmin=0, pmax=0), 5, 50) == Conditions(0, 0, None, None, None)


@pytest.mark.parametrize(("pmin", "pmax", "kept"), [(10, 9, 0), (10, 10, 10), (10, 11, 11)])
def test_a_pmax_below_pmin_is_ignored(pmin: int, pmax: int, kept: int) -> None:
    assert conditions(Attributes(pmin=pmin, pmax=pmax)).pmax == kept


def test_a_strict_period() -> None:
    wanted = conditions(Attributes(pmin=10, pmax=10))
    assert run(wanted, 0, [(3, 1)], until=35) == [(10, 1), (20, 1), (30, 1)]


def test_crossing_a_threshold_both_ways() -> None:
    values: list[tuple[float, object]] = [
        (1, 50), (2, 51), (3, 80), (4, 50), (5, 20), (6, 19.9), (7, 5), (8, 20),
    ]  # fmt: skip
    assert run(conditions(Attributes(gt=50)), 40, values) == [(2, 51), (4, 50)]
    assert run(conditions(Attributes(lt=20)), 40, values) == [(6, 19.9), (8, 20)]
    both = conditions(Attributes(gt=50, lt=20))
    assert run(both, 40, values) == [(2, 51), (4, 50), (6, 19.9), (8, 20)]


def test_a_step_is_measured_from_the_last_notification() -> None:
    values: list[tuple[float, object]] = [(1, 42), (2, 44), (3, 45), (4, 47), (5, 39), (6, 39)]
    assert run(conditions(Attributes(st=5)), 40, values) == [(3, 45), (5, 39)]


def test_a_step_of_zero_is_any_change() -> None:
    assert run(conditions(Attributes(st=0)), 40, [(1, 40), (2, 41), (3, 41)]) == [(2, 41)]


def test_thresholds_wait_for_pmin_and_pmax_does_not_wait_for_thresholds() -> None:
    wanted = conditions(Attributes(pmin=10, pmax=100, gt=50))
    assert run(wanted, 40, [(1, 60), (2, 45)], until=120) == [(10, 45), (110, 45)]


def test_incoherent_thresholds_are_not_valid() -> None:
    wanted = conditions(Attributes(gt=10, lt=20))
    assert not wanted.thresholds
    assert run(wanted, 40, [(1, 41)]) == [(1, 41)]


def test_thresholds_do_not_apply_to_what_is_no_number() -> None:
    wanted = conditions(Attributes(gt=50))
    assert run(wanted, (1, 2), [(1, (1, 3)), (2, (1, 3))]) == [(1, (1, 3))]
    assert run(wanted, False, [(1, True)]) == [(1, True)]


def test_conditions_may_change_under_a_running_observation() -> None:
    state = ObservationState(0.0, 0, conditions(Attributes(pmax=60)))
    assert state.deadline == 60
    state.conditions = conditions(Attributes(pmin=5, pmax=20))
    assert state.deadline == 20
    assert not state.due(3.0, 1)
    assert state.deadline == 5


@given(
    start=st.floats(0, 1e6),
    pmin=st.integers(0, 50),
    pmax=st.integers(0, 50),
    gaps=st.lists(st.tuples(st.floats(0.001, 30), st.integers(0, 5)), max_size=30),
)
def test_no_two_inside_pmin_and_no_gap_beyond_pmax(
    start: float, pmin: int, pmax: int, gaps: list[tuple[float, int]]
) -> None:
    wanted = conditions(Attributes(pmin=pmin, pmax=pmax))
    changes: list[tuple[float, object]] = []
    now = start
    for gap, value in gaps:
        now += gap
        changes.append((now, value))
    moments = [0.0, *(when for when, _ in run(wanted, 0, changes, until=500))]
    for earlier, later in zip(moments, moments[1:], strict=False):
        assert later >= earlier + wanted.pmin
        if wanted.pmax:
            assert later <= earlier + wanted.pmax
