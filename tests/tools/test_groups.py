"""Several protocols in one run: what is asked for, and how the parts become one."""

from __future__ import annotations

import pytest

from agent.runtime.metrics import Metrics
from tools.fleet.groups import merge_views, parse_groups
from tools.fleet.progress import View
from tools.fleet.spec import SpecError
from tools.fleet.timeline import Timeline, TimelineSnapshot, merge


def test_groups_are_read() -> None:
    assert parse_groups("1000", "http") == (("http", 1000),)
    assert parse_groups(" lwm2m=10, http=2 ", "aws") == (("lwm2m", 10), ("http", 2))
    assert parse_groups("5,http=1", "lwm2m") == (("lwm2m", 5), ("http", 1))


@pytest.mark.parametrize(
    "text", ["", "x", "lwm2m=", "=3", "a=1,a=2", "1,2", "a=-1", "a=1.5", "a=0", "9999999", "a=1,"]
)
def test_groups_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(SpecError, match="devices"):
        parse_groups(text, "lwm2m")


def test_views_of_groups_add_up() -> None:
    one = View(3.0, 10, {"idle": 4, "updated": 6}, 6, {"bytes_in": 5}, {"reverted": 1}, "waiting")
    two = View(4.0, 2, {"idle": 1, "updated": 1}, 1, {"bytes_in": 7}, {"reverted": 2}, "")
    assert merge_views([one, two]) == View(
        4.0, 12, {"idle": 5, "updated": 7}, 7, {"bytes_in": 12}, {"reverted": 3}, "waiting"
    )


def timeline(samples: list[tuple[float, int, float | None]]) -> TimelineSnapshot:
    metrics = Metrics()
    line = Timeline(("idle",))
    for now, idle, latency in samples:
        if latency is not None:
            metrics.request.record(latency)
        metrics.counters["bytes_in"] += 100
        line.sample(now, {"idle": idle}, metrics)
    return line.snapshot()


def test_timelines_merge_on_the_times_of_the_longest() -> None:
    one = timeline([(0.0, 3, None), (1.0, 2, 0.1), (2.0, 1, None)])
    two = timeline([(0.1, 10, None), (1.1, 9, 0.4)])
    merged = merge([one, TimelineSnapshot(), two])
    assert merged.times == (0.0, 1.0, 2.0)
    # At each moment the sample that was taken last: the first one stands in before it.
    assert merged.states["idle"] == (13, 12, 10)
    p95 = merged.latencies["request"][95]
    assert p95[0] is None
    assert p95[1] == pytest.approx(0.1, rel=0.01)
    assert p95[2] == pytest.approx(0.4, rel=0.01)
    assert merged.rates["bytes_in"][2] == pytest.approx(200.0)
    assert merge([]) == TimelineSnapshot()
    assert merge([one]) == one
