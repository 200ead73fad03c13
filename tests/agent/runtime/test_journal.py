from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.journal import OTHER, RING, Journal, Record, Ring

texts = st.sampled_from(["IDLE", "DOWNLOADING", "begin", "größer", ""])
changes = st.lists(st.tuples(st.floats(0, 1e7), texts, texts, texts, texts), max_size=40)


@given(changes, st.integers(1, 20))
def test_a_ring_holds_the_last_records_in_order(
    entries: list[tuple[float, str, str, str, str]], size: int
) -> None:
    now = 0.0
    journal = Journal(lambda: now, ring_size=size)
    ring = Ring()
    for now, *words in entries:  # noqa: B007 - the clock of the journal
        journal.record(ring, "meter-1", *words)
    assert journal.history(ring) == [Record(*entry) for entry in entries[-size:]]


def test_a_full_ring_takes_256_bytes() -> None:
    journal = Journal(lambda: 0.0)
    ring = Ring()
    for n in range(100):
        journal.record(ring, "d", "update", "IDLE", "DOWNLOADING", str(n))
    assert len(ring._data) == 256 == 16 * RING
    assert [record.cause for record in journal.history(ring)] == [str(n) for n in range(84, 100)]


def test_lines_have_the_documented_shape_and_count_over_all_devices() -> None:
    lines: list[str] = []
    times = iter([0.0, 1.23456789])
    journal = Journal(lambda: next(times), lines.append)
    journal.record(Ring(), "a", "update", "IDLE", "DOWNLOADING", "begin")
    journal.record(Ring(), "ü", "update", "DOWNLOADING", "IDLE", "cancel")
    assert lines[0] == (
        '{"v":1,"seq":1,"t":0.0,"device":"a","machine":"update","old":"IDLE",'
        '"new":"DOWNLOADING","cause":"begin"}'
    )
    assert json.loads(lines[1]) | {"seq": 2, "t": 1.234568, "device": "ü"} == json.loads(lines[1])


def test_more_texts_than_numbers_are_named_other_in_the_ring_and_whole_in_the_lines() -> None:
    lines: list[str] = []
    journal = Journal(lambda: 0.0, lines.append)
    ring = Ring()
    for n in range(70_000):
        journal._number(f"cause {n}")
    journal.record(ring, "d", "cause 1", "cause 2", "cause 3", "one too many")
    assert journal.history(ring) == [Record(0.0, "cause 1", "cause 2", "cause 3", OTHER)]
    assert json.loads(lines[0])["cause"] == "one too many"


def test_a_ring_of_no_records_is_refused() -> None:
    with pytest.raises(ValueError, match="not 0"):
        Journal(lambda: 0.0, ring_size=0)
