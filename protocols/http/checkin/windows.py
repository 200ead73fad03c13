"""When an action of a campaign may begin: windows of whole UTC hours, and calendar days.

A window counts `[startTime, endTime)` in hours; two windows express a night. Overlaps merge by
themselves, for what is kept is the set of open hours: one integer. Dates are UTC days, both ends
inclusive. All of it is arithmetic on `datetime`; nobody here knows what time it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ALL_DAY", "Hours", "next_begin"]

_DAY_HOURS = 24
_ALL = (1 << _DAY_HOURS) - 1
_HOUR = datetime.timedelta(hours=1)
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a UTC day in which something may begin."""

    mask: int = _ALL
    """Bit n is the hour that begins at n:00."""

    @classmethod
    def of(cls, windows: Iterable[tuple[int, int]]) -> Hours:
        """From (start, end) pairs, 0 <= start < end <= 24; none of them: all day."""
        mask = 0
        for start, end in windows:
            if not 0 <= start < end <= _DAY_HOURS:
                raise ValueError(f"a window from {start} to {end}")
            mask |= (1 << end) - (1 << start)
        return cls(mask or _ALL)

    def open_at(self, utc: datetime.datetime) -> bool:
        return bool(self.mask >> utc.hour & 1)

    def next_open(self, utc: datetime.datetime) -> datetime.datetime:
        """The first instant from `utc` on that is inside: `utc` itself, or a full hour."""
        if self.open_at(utc):
            return utc
        hour = utc.replace(minute=0, second=0, microsecond=0)
        for _ in range(_DAY_HOURS):
            hour += _HOUR
            if self.open_at(hour):
                return hour
        raise ValueError("no hour is open")


ALL_DAY = Hours()


def next_begin(
    utc: datetime.datetime,
    hours: Hours,
    first: datetime.date,
    last: datetime.date,
) -> datetime.datetime | None:
    """The first instant from `utc` on that is inside `hours` of the days `first` to `last`;
    None when there is no such instant any more."""
    midnight = datetime.datetime.combine(first, datetime.time(), datetime.UTC)
    begin = hours.next_open(max(utc, midnight))
    return begin if begin.date() <= last else None
