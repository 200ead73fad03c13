"""Windows of whole UTC hours and days: every instant against a brute-force search."""

from __future__ import annotations

import datetime
from datetime import UTC, date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.checkin.windows import ALL_DAY, Hours, next_begin

WINDOW = st.integers(0, 23).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, 24)))
INSTANT = st.datetimes(
    datetime.datetime(2029, 12, 30), datetime.datetime(2030, 1, 3), timezones=st.just(UTC)
)


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_no_window_is_all_day():
    assert Hours.of([]) == ALL_DAY
    now = at("2030-01-01T13:37:00")
    assert ALL_DAY.next_open(now) == now


def test_a_window_excludes_its_end():
    night = Hours.of([(1, 5)])
    assert not night.open_at(at("2030-01-01T00:59:59"))
    assert night.open_at(at("2030-01-01T01:00:00"))
    assert night.open_at(at("2030-01-01T04:59:59"))
    assert not night.open_at(at("2030-01-01T05:00:00"))


def test_a_night_is_two_windows():
    night = Hours.of([(22, 24), (0, 2)])
    assert night.next_open(at("2030-01-01T23:30:00")) == at("2030-01-01T23:30:00")
    assert night.next_open(at("2030-01-01T02:00:00")) == at("2030-01-01T22:00:00")
    assert night.open_at(at("2030-01-02T00:00:00"))


def test_overlaps_merge():
    assert Hours.of([(1, 4), (3, 6)]) == Hours.of([(1, 6)])


@pytest.mark.parametrize("window", [(5, 5), (6, 5), (-1, 3), (0, 25)])
def test_windows_that_cannot_be(window):
    with pytest.raises(ValueError):
        Hours.of([window])


@given(st.lists(WINDOW, max_size=4), INSTANT)
def test_next_open_is_the_first_open_instant(windows, now):
    hours = Hours.of(windows)
    opens = hours.next_open(now)
    assert opens >= now
    assert hours.open_at(opens)
    hour = now.replace(minute=0, second=0, microsecond=0)
    while hour + datetime.timedelta(hours=1) <= opens:
        inside = not windows or any(a <= hour.hour < b for a, b in windows)
        assert not inside
        hour += datetime.timedelta(hours=1)


def test_dates_bound_a_beginning():
    hours = Hours.of([(1, 5)])
    first, last = date(2030, 1, 2), date(2030, 1, 3)
    assert next_begin(at("2030-01-01T02:00:00"), hours, first, last) == at("2030-01-02T01:00:00")
    assert next_begin(at("2030-01-03T04:59:00"), hours, first, last) == at("2030-01-03T04:59:00")
    assert next_begin(at("2030-01-03T05:00:00"), hours, first, last) is None
    assert next_begin(at("2030-01-03T23:59:59"), ALL_DAY, first, last) == at("2030-01-03T23:59:59")
    assert next_begin(at("2030-01-04T00:00:00"), ALL_DAY, first, last) is None


@given(st.lists(WINDOW, max_size=3), INSTANT, st.integers(0, 4), st.integers(0, 4))
def test_next_begin_is_inside_or_never(windows, now, start, days):
    hours = Hours.of(windows)
    first = date(2029, 12, 30) + datetime.timedelta(days=start)
    last = first + datetime.timedelta(days=days)
    begin = next_begin(now, hours, first, last)
    if begin is None:
        assert now.date() >= last
    else:
        assert begin >= now and hours.open_at(begin) and first <= begin.date() <= last
