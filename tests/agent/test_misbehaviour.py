"""Who misbehaves, drawn from seeds, and how answers are counted."""

from __future__ import annotations

import pickle

from agent.misbehaviour import (
    MAX_EXAMPLES,
    Judgement,
    Ledger,
    Misbehaviour,
    MisbehaviourSpec,
    merge,
)
from agent.runtime.random import DeviceRandom


def drawn(shares: dict[Misbehaviour, float], count: int = 2000) -> list[frozenset[Misbehaviour]]:
    spec = pickle.loads(pickle.dumps(MisbehaviourSpec(tuple(shares.items()))))
    return [spec.draw(DeviceRandom(7, 1, index)) for index in range(count)]


def test_the_share_of_devices_misbehaves_and_the_same_ones_each_time() -> None:
    sets = drawn({Misbehaviour.LATE_REPORT: 0.1})
    late = sum(Misbehaviour.LATE_REPORT in one for one in sets)
    assert 150 < late < 250
    assert sets == drawn({Misbehaviour.LATE_REPORT: 0.1})


def test_another_misbehaviour_leaves_the_first_where_it_was() -> None:
    alone = drawn({Misbehaviour.FALSE_SUCCESS: 0.2})
    both = drawn({Misbehaviour.LATE_REPORT: 0.5, Misbehaviour.FALSE_SUCCESS: 0.2})
    name = Misbehaviour.FALSE_SUCCESS
    assert [name in one for one in alone] == [name in one for one in both]


def test_a_whole_share_is_everybody_and_none_is_nobody() -> None:
    assert all(Misbehaviour.HERD in one for one in drawn({Misbehaviour.HERD: 1.0}))
    assert not any(drawn({}))


def test_answers_are_counted_and_some_broken_ones_told() -> None:
    ledger = Ledger()
    for index in range(10):
        ledger.judge("hawkbit", Misbehaviour.LATE_REPORT, index % 2 == 0, f"d{index}", "200")
    ledger.judge("http", Misbehaviour.HERD, True)
    snapshot = ledger.snapshot()
    late = snapshot["hawkbit", "late-report"]
    assert (late.kept, late.broken) == (5, 5)
    assert late.examples[0] == "d1: 200"
    merged = merge([snapshot, snapshot])
    assert list(merged) == [("hawkbit", "late-report"), ("http", "herd")]
    assert merged["hawkbit", "late-report"].broken == 10
    assert len(merged["hawkbit", "late-report"].examples) == MAX_EXAMPLES
    assert merged["http", "herd"] == Judgement(2)
