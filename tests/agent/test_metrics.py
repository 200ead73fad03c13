"""The histogram against an exact sort, against hdrhistogram, and against itself when split."""

from __future__ import annotations

import math
import pickle

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.metrics import (
    BUCKETS,
    COUNTER_NAMES,
    UNITS_PER_SECOND,
    Histogram,
    HistogramSnapshot,
    Metrics,
    bucket_bounds,
    bucket_of,
)

UNIT = 1 / UNITS_PER_SECOND
durations = st.one_of(
    st.floats(0, 1e-4), st.floats(0, 1.0), st.floats(0, 3600.0), st.floats(0, 30 * 86400.0)
)
percents = st.sampled_from([0, 1, 25, 50, 90, 95, 99, 99.9, 100])


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.lists(durations, min_size=1, max_size=200), percents)
def test_percentiles_agree_with_an_exact_sort(values: list[float], p: float) -> None:
    exact = sorted(values)[max(1, math.ceil(p * len(values) / 100)) - 1]
    got = filled(values).percentile(p)
    assert abs(got - exact) <= max(UNIT, exact / 128)


@given(st.lists(durations, min_size=1, max_size=100), percents)
def test_percentiles_agree_with_hdrhistogram(values: list[float], p: float) -> None:
    hdr = HdrHistogram(1, 2**45, 3)
    for value in values:
        hdr.record_value(max(1, int(value * UNITS_PER_SECOND)))
    # hdrhistogram rounds the rank to the nearest and we round it up, so ask by rank, not percent.
    rank = max(1, math.ceil(p * len(values) / 100))
    theirs = hdr.get_value_at_percentile(100 * rank / len(values)) * UNIT
    assert abs(filled(values).percentile(p) - theirs) <= max(2 * UNIT, theirs / 100)


@given(durations)
def test_a_value_lies_within_its_bucket(value: float) -> None:
    low, high = bucket_bounds(bucket_of(value))
    assert low <= value * (1 + 1e-12) and value < high * (1 + 1e-12)
    histogram = filled([value])
    assert histogram.counts[bucket_of(value)] == 1


def test_buckets_leave_no_gap() -> None:
    bounds = [bucket_bounds(index) for index in range(BUCKETS)]
    assert bounds[0][0] == 0
    assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False))
    assert bounds[-1][1] > 40 * 86400


@pytest.mark.parametrize(("value", "index"), [(-1.0, 0), (-1e-9, 0), (0.0, 0), (1e9, BUCKETS - 1)])
def test_values_out_of_range_count_at_the_nearest_end(value: float, index: int) -> None:
    histogram = filled([value])
    assert histogram.counts[index] == 1
    assert histogram.count == 1


@given(st.lists(durations), st.lists(durations), percents)
def test_parts_merge_to_the_whole(a: list[float], b: list[float], p: float) -> None:
    whole = filled(a + b)
    merged = filled(a)
    merged.merge(filled(b))
    assert merged.counts == whole.counts
    assert filled(a).snapshot() + filled(b).snapshot() == whole.snapshot()
    assert whole.since(filled(a)).counts == filled(b).counts
    assert whole.snapshot().percentile(p) == whole.percentile(p)
    assert whole.snapshot().count == whole.count == len(a) + len(b)


def test_a_copy_does_not_follow() -> None:
    histogram = filled([1.0])
    copy = histogram.copy()
    histogram.record(2.0)
    assert (copy.count, histogram.count, histogram.since(copy).count) == (1, 2, 1)


def test_an_empty_histogram_answers_zero() -> None:
    assert Histogram().percentile(99) == 0.0
    empty = HistogramSnapshot()
    assert (empty.count, empty.mean, empty.maximum, empty.percentile(50)) == (0, 0.0, 0.0, 0.0)
    assert list(empty.buckets()) == []


@pytest.mark.parametrize("p", [-1, 101, math.nan])
def test_a_percentile_out_of_range_is_misuse(p: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 100"):
        filled([1.0]).percentile(p)


def test_mean_and_maximum_are_as_exact_as_the_buckets() -> None:
    snapshot = filled([0.1, 0.2, 0.6]).snapshot()
    assert snapshot.mean == pytest.approx(0.3, rel=0.005)
    assert snapshot.maximum == pytest.approx(0.6, rel=0.01)
    assert sum(n for _, _, n in snapshot.buckets()) == 3


def test_metrics_snapshots_pickle_and_add_up() -> None:
    metrics = Metrics()
    metrics.registration.record(0.5)
    metrics.counters["bytes_in"] += 10
    metrics.count("rejected")
    metrics.count("rejected", 2)
    snapshot = pickle.loads(pickle.dumps(metrics.snapshot()))
    assert snapshot == metrics.snapshot()
    both = snapshot + snapshot
    assert both.registration.count == 2
    assert both.counters["bytes_in"] == 20
    assert both.counters["rejected"] == 6
    assert set(COUNTER_NAMES) <= set(both.counters)
