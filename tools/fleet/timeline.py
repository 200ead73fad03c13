"""A run over time: devices by state, and the percentiles and rates of each interval.

One sample a second into plain arrays, 8 bytes a number. A run that outlasts `MAX_SAMPLES` seconds
is thinned: samples are joined by twos and `due` asks for half as many from then on, so a campaign
of a month costs as much memory as one of half an hour and its plot is as sharp.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.runtime.metrics import Histogram, Metrics

INTERVAL = 1.0  # seconds between samples, before any thinning
MAX_SAMPLES = 2048  # more than twice the pixels that a plot has across
PERCENTILES = (50, 95, 99)
LATENCIES = ("registration", "request", "block", "update", "lag")
RATES = ("bytes_in", "bytes_out", "datagrams_in", "datagrams_out", "requests", "retransmissions")


@dataclass(frozen=True, slots=True)
class TimelineSnapshot:
    """Columns of equal length; `times` in seconds since the run began."""

    times: tuple[float, ...] = ()
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Devices in each state."""
    latencies: Mapping[str, Mapping[int, tuple[float | None, ...]]] = field(default_factory=dict)
    """Seconds, by histogram and percentile; None where an interval recorded nothing."""
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Per second, by counter."""


class Timeline:
    """Samples of one worker: ask `due` about once a second, and `sample` when it says so."""

    def __init__(self, states: Sequence[str], max_samples: int = MAX_SAMPLES) -> None:
        self.interval = INTERVAL
        self._max_samples = max_samples + max_samples % 2  # they are joined by twos
        self._times = array("d")
        self._states = {name: array("q") for name in states}
        self._latencies = {name: {p: array("d") for p in PERCENTILES} for name in LATENCIES}
        self._rates = {name: array("d") for name in RATES}
        self._earlier = {name: Histogram() for name in LATENCIES}
        self._counters = dict.fromkeys(RATES, 0)
        self._last = 0.0

    def due(self, now: float) -> bool:
        """Whether an interval has passed since the last sample; half a second is forgiven."""
        return not self._times or now - self._last >= self.interval - INTERVAL / 2

    def sample(self, now: float, states: Mapping[str, int], metrics: Metrics) -> None:
        """Take one sample; a state that is not among those given at the start is an error."""
        unknown = states.keys() - self._states.keys()
        if unknown:
            raise ValueError(f"states that this timeline does not have: {sorted(unknown)}")
        elapsed = now - self._last
        self._times.append(now)
        for name, column in self._states.items():
            column.append(states.get(name, 0))
        for name in LATENCIES:
            current: Histogram = getattr(metrics, name)
            interval = current.since(self._earlier[name])
            empty = interval.count == 0
            for p, values in self._latencies[name].items():
                values.append(-1.0 if empty else interval.percentile(p))
            if not empty:
                self._earlier[name] = current.copy()
        for name, rates in self._rates.items():
            total = metrics.counters.get(name, 0)
            rates.append((total - self._counters[name]) / elapsed if elapsed > 0 else 0.0)
            self._counters[name] = total
        self._last = now
        if len(self._times) >= self._max_samples:
            self._thin()

    def _thin(self) -> None:
        """Join samples by twos: the later state, the worse percentile, the mean rate."""
        self.interval *= 2
        self._times = self._times[1::2]
        for name, column in self._states.items():
            self._states[name] = column[1::2]
        for by_percentile in self._latencies.values():
            for p, values in by_percentile.items():
                by_percentile[p] = array("d", map(max, values[::2], values[1::2]))
        for name, rates in self._rates.items():
            pairs = zip(rates[::2], rates[1::2], strict=False)
            self._rates[name] = array("d", [(a + b) / 2 for a, b in pairs])

    def snapshot(self) -> TimelineSnapshot:
        return TimelineSnapshot(
            tuple(self._times),
            {name: tuple(column) for name, column in self._states.items()},
            {
                name: {
                    p: tuple([None if value < 0 else value for value in values])
                    for p, values in by_percentile.items()
                }
                for name, by_percentile in self._latencies.items()
            },
            {name: tuple(rates) for name, rates in self._rates.items()},
        )


def merge(timelines: Sequence[TimelineSnapshot]) -> TimelineSnapshot:
    """Timelines of one run as one, on the times of the longest.

    The others' samples are those taken last by then. States and rates are added; of percentiles
    the worst counts, because those of several histograms cannot be joined afterwards."""
    timelines = [timeline for timeline in timelines if timeline.times]
    if not timelines:
        return TimelineSnapshot()
    longest = max(timelines, key=lambda timeline: timeline.times[-1])
    at = [
        [max(0, bisect_right(timeline.times, now) - 1) for now in longest.times]
        for timeline in timelines
    ]

    def summed(columns: Sequence[Sequence[float]]) -> list[float]:
        return [
            sum(column[where[i]] for column, where in zip(columns, at, strict=True))
            for i in range(len(longest.times))
        ]

    def worst(columns: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
        return tuple(
            max(
                (
                    value
                    for column, where in zip(columns, at, strict=True)
                    if (value := column[where[i]]) is not None
                ),
                default=None,
            )
            for i in range(len(longest.times))
        )

    return TimelineSnapshot(
        longest.times,
        {
            name: tuple(int(n) for n in summed([timeline.states[name] for timeline in timelines]))
            for name in longest.states
        },
        {
            name: {p: worst([t.latencies[name][p] for t in timelines]) for p in by_percentile}
            for name, by_percentile in longest.latencies.items()
        },
        {
            name: tuple(summed([timeline.rates[name] for timeline in timelines]))
            for name in longest.rates
        },
    )
