from __future__ import annotations

import pickle

import pytest

from agent.runtime.metrics import Metrics
from tools.fleet.timeline import Timeline


def test_samples_become_columns_of_intervals() -> None:
    metrics = Metrics()
    timeline = Timeline(("idle", "updated"))
    assert timeline.due(0.0)
    timeline.sample(0.0, {"idle": 3}, metrics)
    assert not timeline.due(0.4)
    assert timeline.due(0.9)
    metrics.registration.record(0.2)
    metrics.counters["bytes_in"] += 500
    timeline.sample(1.0, {"idle": 2, "updated": 1}, metrics)
    metrics.registration.record(0.4)
    timeline.sample(2.0, {"updated": 3}, metrics)
    snapshot = pickle.loads(pickle.dumps(timeline.snapshot()))
    assert snapshot.times == (0.0, 1.0, 2.0)
    assert snapshot.states == {"idle": (3, 2, 0), "updated": (0, 1, 3)}
    p95 = snapshot.latencies["registration"][95]
    assert p95[0] is None
    assert p95[1:] == (pytest.approx(0.2, rel=0.01), pytest.approx(0.4, rel=0.01))
    assert snapshot.latencies["block"][50] == (None, None, None)
    assert snapshot.rates["bytes_in"] == (0.0, 500.0, 0.0)


def test_a_long_run_is_thinned() -> None:
    metrics = Metrics()
    timeline = Timeline(("a",), max_samples=7)
    taken = 0
    for second in range(100):
        if timeline.due(float(second)):
            metrics.block.record(0.001 * (1 + second))
            metrics.counters["bytes_out"] += 100
            timeline.sample(float(second), {"a": second}, metrics)
            taken += 1
    snapshot = timeline.snapshot()
    assert 3 <= len(snapshot.times) < 8
    assert taken < 50
    assert list(snapshot.times) == sorted(snapshot.times)
    assert snapshot.states["a"] == tuple(int(t) for t in snapshot.times)
    columns = [*snapshot.states.values(), *snapshot.rates.values()]
    columns += [values for by_p in snapshot.latencies.values() for values in by_p.values()]
    assert {len(column) for column in columns} == {len(snapshot.times)}
    assert max(v for v in snapshot.latencies["block"][99] if v) <= 0.101


def test_an_unknown_state_is_an_error() -> None:
    with pytest.raises(ValueError, match="bogus"):
        Timeline(("a",)).sample(0.0, {"bogus": 1}, Metrics())
