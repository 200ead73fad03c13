"""Maintenance windows: quartz cron expressions, durations, time zones (hawkBit's three strings)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone

from tests.stubs.hawkbit.errors import REPOSITORY, Refused
from tests.stubs.hawkbit.model import MaintenanceWindow

HORIZON_DAYS = 366 * 5
"""How far the next window is looked for: every 29 February lies within."""

_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}  # fmt: skip
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
_DURATION = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})")
_ZONE = re.compile(r"([+-])(\d{2}):(\d{2})")


def refused(message: str) -> Refused:
    return Refused(
        400,
        REPOSITORY + "InvalidMaintenanceScheduleException",
        "maintenanceScheduleInvalid",
        message,
    )


def seconds(text: str) -> int:
    """`HH:mm:ss` as seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not HH:mm:ss: {text}")
    hours, minutes, rest = (int(part) for part in match.groups())
    if minutes > 59 or rest > 59:
        raise ValueError(f"not HH:mm:ss: {text}")
    return hours * 3600 + minutes * 60 + rest


def clock_text(total: int) -> str:
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def _numbers(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    def one(word: str) -> int:
        value = names[word.upper()] if word.upper() in names else int(word)
        if not low <= value <= high:
            raise ValueError(f"{word} is outside {low} to {high}")
        return value

    found: set[int] = set()
    for part in text.split(","):
        span, _, step_text = part.partition("/")
        step = int(step_text) if step_text else 1
        if step < 1:
            raise ValueError(f"step of {part}")
        if span in ("*", "?"):
            first, last = low, high
        elif "-" in span:
            first_text, _, last_text = span.partition("-")
            first, last = one(first_text), one(last_text)
        else:
            first = one(span)
            last = high if step_text else first
        found.update(range(first, last + 1, step))
    return frozenset(found)


class Schedule:
    """A window that opens again and again."""

    def __init__(self, window: MaintenanceWindow) -> None:
        """Raises Refused when one of the three strings is none."""
        try:
            self.duration = seconds(window.duration)
            zone = _ZONE.fullmatch(window.timezone)
            if zone is None:
                raise ValueError(f"not a time zone: {window.timezone}")
            sign = -1 if zone[1] == "-" else 1
            offset = timedelta(hours=int(zone[2]), minutes=int(zone[3]))
            self.zone = timezone(sign * offset)
            fields = window.schedule.split()
            if not 6 <= len(fields) <= 7:
                raise ValueError(f"a quartz expression has 6 or 7 fields: {window.schedule}")
            self._seconds = sorted(_numbers(fields[0], 0, 59, {}))
            self._minutes = sorted(_numbers(fields[1], 0, 59, {}))
            self._hours = sorted(_numbers(fields[2], 0, 23, {}))
            self._days = _numbers(fields[3], 1, 31, {})
            self._months = _numbers(fields[4], 1, 12, _MONTHS)
            self._weekdays = _numbers(fields[5], 1, 7, _DAYS)
            self._years = _numbers(fields[6] if len(fields) == 7 else "*", 1970, 2199, {})
        except ValueError as error:
            raise refused(f"Invalid maintenance schedule: {error}") from None

    def _matches(self, day: date) -> bool:
        return (
            day.year in self._years
            and day.month in self._months
            and day.day in self._days
            and day.isoweekday() % 7 + 1 in self._weekdays
        )

    def _starts(self, day: date) -> Iterator[datetime]:
        for hour in self._hours:
            for minute in self._minutes:
                for second in self._seconds:
                    yield datetime.combine(day, time(hour, minute, second), self.zone)

    def next_start(self, now: float) -> float | None:
        """Start of the window that is open at `now`, else of the next; None when there is none."""
        since = datetime.fromtimestamp(now - self.duration, UTC).astimezone(self.zone)
        for distance in range(HORIZON_DAYS):
            day = (since + timedelta(days=distance)).date()
            if self._matches(day):
                for start in self._starts(day):
                    if start > since:
                        return start.timestamp()
        return None

    def open_at(self, now: float) -> bool:
        start = self.next_start(now)
        return start is not None and start <= now < start + self.duration
