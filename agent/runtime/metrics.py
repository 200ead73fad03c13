"""What one worker counts and times: histograms cheap enough for the hot path, and counters.

A histogram is log-linear. A duration becomes an integer of 100 ns units; below 128 units every
value has a bucket of its own, and above that each power of two is cut into 128 equal buckets, so a
bucket is never wider than 1/128 of the values in it and the middle of a bucket is off by at most
0.4 %. The index takes one shift and one addition::

    units = 0b1_0110101_11010        bit_length - 8 = 5 bits are dropped
    index = 5 * 128 + 0b1_0110101    the leading one makes each power of two start where the
                                     previous one ended

Only bucket counts are kept: no sum, no minimum, no maximum. Each would cost as much again as the
record itself, and all three can be read from the buckets to the same precision.

Snapshots are plain tuples and dicts: they pickle, add up over workers, and subtract to give the
percentiles of one interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import add, sub

SUB_BUCKETS = 128  # per power of two: 0.8 % bucket width, below the noise of any network
_SUB_BITS = 7
UNITS_PER_SECOND = 10_000_000  # 100 ns: an exchange on loopback takes some 50 µs
_TOP_BITS = 45  # 2**45 units are 40 days: longer than the longest campaign in virtual time
BUCKETS = (_TOP_BITS - _SUB_BITS) * SUB_BUCKETS + SUB_BUCKETS

# Counters that every worker has from the start, so a report shows zeros and not gaps. Bytes are
# those of whole datagrams, and of the bodies of HTTP and MQTT.
COUNTER_NAMES = (
    "bytes_in",
    "bytes_out",
    "datagrams_in",
    "datagrams_out",
    "requests",
    "retransmissions",
    "duplicates",
    "malformed",
    "send_errors",
    "icmp_errors",
)


def bucket_of(seconds: float) -> int:
    """The index that `Histogram.record` counts under, for values inside its range."""
    units = int(seconds * UNITS_PER_SECOND)
    shift = units.bit_length() - _SUB_BITS - 1
    return (shift << _SUB_BITS) + (units >> shift) if shift > 0 else units


def bucket_bounds(index: int) -> tuple[float, float]:
    """Lowest and first too high duration of a bucket, in seconds."""
    shift = max(0, (index >> _SUB_BITS) - 1)
    low = (index - (shift << _SUB_BITS)) << shift
    return low / UNITS_PER_SECOND, (low + (1 << shift)) / UNITS_PER_SECOND


def _middle(index: int) -> float:
    low, high = bucket_bounds(index)
    # Buckets of one unit hold what was truncated to it; their middle is the fairest guess as well.
    return (low + high) / 2


def _percentile(items: Iterator[tuple[int, int]], count: int, p: float) -> float:
    if not 0 <= p <= 100:
        raise ValueError(f"percentile {p} is not between 0 and 100")
    if not count:
        return 0.0
    rank = max(1, math.ceil(p * count / 100))
    seen = 0
    index = 0
    for index, n in items:  # noqa: B007 - the last index is the answer when rounding overshoots
        seen += n
        if seen >= rank:
            break
    return _middle(index)


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """The buckets in use, ordered: `indexes[i]` holds `counts[i]` values."""

    indexes: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Mean duration in seconds, 0.0 when nothing was recorded."""
        weighted = sum(_middle(i) * n for i, n in zip(self.indexes, self.counts, strict=True))
        return weighted / self.count if self.counts else 0.0

    @property
    def maximum(self) -> float:
        """Upper bound of the highest bucket in use, 0.0 when nothing was recorded."""
        return bucket_bounds(self.indexes[-1])[1] if self.indexes else 0.0

    def percentile(self, p: float) -> float:
        """Duration in seconds that `p` percent of the values do not exceed; 0.0 when empty."""
        return _percentile(zip(self.indexes, self.counts, strict=True), self.count, p)

    def buckets(self) -> Iterator[tuple[float, float, int]]:
        """(low, high, count) of every bucket in use, in seconds."""
        for index, n in zip(self.indexes, self.counts, strict=True):
            low, high = bucket_bounds(index)
            yield low, high, n

    def __add__(self, other: HistogramSnapshot) -> HistogramSnapshot:
        merged = dict(zip(self.indexes, self.counts, strict=True))
        for index, n in zip(other.indexes, other.counts, strict=True):
            merged[index] = merged.get(index, 0) + n
        order = sorted(merged)
        return HistogramSnapshot(tuple(order), tuple(merged[index] for index in order))


class Histogram:
    """Durations in seconds, from 100 ns to 40 days; what lies outside counts at the nearest end."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: list[int] = [0] * BUCKETS

    def record(self, seconds: float) -> None:
        units = int(seconds * UNITS_PER_SECOND)
        try:
            if units > 255:
                shift = units.bit_length() - 8
                self.counts[(shift << 7) + (units >> shift)] += 1
            else:  # one bucket per unit; a negative duration is a clock's rounding, so 0
                self.counts[units if units > 0 else 0] += 1
        except IndexError:
            self.counts[-1] += 1

    @property
    def count(self) -> int:
        return sum(self.counts)

    def percentile(self, p: float) -> float:
        """Duration in seconds that `p` percent of the values do not exceed; 0.0 when empty."""
        return _percentile(enumerate(self.counts), self.count, p)

    def snapshot(self) -> HistogramSnapshot:
        used = [index for index, n in enumerate(self.counts) if n]
        counts = self.counts
        return HistogramSnapshot(tuple(used), tuple([counts[index] for index in used]))

    def copy(self) -> Histogram:
        """A frozen moment, to be taken away from a later one by `since`."""
        other = Histogram()
        other.counts = self.counts.copy()
        return other

    def since(self, earlier: Histogram) -> Histogram:
        """What was recorded after `earlier`, a copy of this histogram."""
        interval = Histogram()
        interval.counts = list(map(sub, self.counts, earlier.counts))
        return interval

    def merge(self, other: Histogram) -> None:
        self.counts = list(map(add, self.counts, other.counts))


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """All of a worker's numbers at one moment; snapshots of several workers add up."""

    registration: HistogramSnapshot = HistogramSnapshot()
    block: HistogramSnapshot = HistogramSnapshot()
    update: HistogramSnapshot = HistogramSnapshot()
    lag: HistogramSnapshot = HistogramSnapshot()
    request: HistogramSnapshot = HistogramSnapshot()
    counters: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: MetricsSnapshot) -> MetricsSnapshot:
        counters = dict(self.counters)
        for name, n in other.counters.items():
            counters[name] = counters.get(name, 0) + n
        return MetricsSnapshot(
            self.registration + other.registration,
            self.block + other.block,
            self.update + other.update,
            self.lag + other.lag,
            self.request + other.request,
            counters,
        )


class Metrics:
    """One worker's numbers. The hot path adds to `counters` directly.

    `registration`: from the intended start of a registration to its answer. `block`: one exchange
    of a transfer. `request`: one HTTP request or MQTT exchange that is not part of a transfer.
    `update`: from the start of an attempt to its outcome. `lag`: how late our own
    scheduler ran what was due; a run that lags too much is invalid.
    """

    __slots__ = ("block", "counters", "lag", "registration", "request", "update")

    def __init__(self) -> None:
        self.registration = Histogram()
        self.block = Histogram()
        self.update = Histogram()
        self.lag = Histogram()
        self.request = Histogram()
        self.counters: dict[str, int] = dict.fromkeys(COUNTER_NAMES, 0)

    def count(self, name: str, n: int = 1) -> None:
        """For counters off the hot path that need not exist yet."""
        self.counters[name] = self.counters.get(name, 0) + n

    def snapshot(self) -> MetricsSnapshot:
        return MetricsSnapshot(
            self.registration.snapshot(),
            self.block.snapshot(),
            self.update.snapshot(),
            self.lag.snapshot(),
            self.request.snapshot(),
            dict(self.counters),
        )
