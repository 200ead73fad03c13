"""When things happen: the backend's time and the lead times of a campaign.

`BackendTime` gives seconds since the epoch in the time of the run's clock. It never goes back: if
the clock says less than the last committed instant (a scaled run that was restarted, a wall clock
that was set back), the difference is added for the rest of the run.

`CampaignTiming` holds every lead time and delay in one place, in two profiles: `documented` follows
the public documentation where it says something; `immediate` is for demos and tests.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from agent.runtime.clock import Clock

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class CampaignTiming:
    """Lead times and delays of a campaign, in seconds."""

    name: str

    on_demand_lead: float
    """From the request to the start, when the start date is today [documented: 90 minutes]."""

    pilot_lead: float
    """The same for a pilot campaign. The public notes only say `much shorter`; ours."""

    retry_delay: float
    """From a failed attempt to the next one [ours: a slot of 4 h, as in the public example]."""

    slot: float
    """The estimated length of one upgrade: an action may run on for so long past a window."""

    attempt_limit: float
    """An attempt that has not been told to install by then is given up and may be retried."""

    contact: float
    """How often a device that comes by itself is told to come [documented: about once a day]."""

    log_delay: float
    """From the upload of a log to the moment it can be read [documented: 24 hours]."""

    poll: float
    """How often a device under way is asked for its state, in case a notification was lost."""


PILOT_SIZE = 20
"""A campaign of at most so many devices is a pilot [documented]."""

MAX_ATTEMPTS = 3
"""Attempts a device within one campaign; ours, the documentation names no number."""

DEFAULT_CONCURRENCY = 250
"""Devices of one campaign that are downloading or installing at once; ours."""

TIMINGS: dict[str, CampaignTiming] = {
    "documented": CampaignTiming(
        "documented",
        on_demand_lead=90 * 60,
        pilot_lead=10 * 60,
        retry_delay=4 * HOUR,
        slot=4 * HOUR,
        attempt_limit=4 * HOUR,
        contact=DAY,
        log_delay=DAY,
        poll=300,
    ),
    "immediate": CampaignTiming(
        "immediate",
        on_demand_lead=0,
        pilot_lead=0,
        retry_delay=2,
        slot=4 * HOUR,
        attempt_limit=15 * 60,
        contact=5,
        log_delay=0,
        poll=15,
    ),
}


def timing(name: str) -> CampaignTiming:
    """The profile `name`, or a ValueError that lists the known ones."""
    try:
        return TIMINGS[name]
    except KeyError:
        known = ", ".join(sorted(TIMINGS))
        raise ValueError(f"unknown timing profile {name!r}; known: {known}") from None


class BackendTime:
    """Seconds since the epoch, never going back over a restart."""

    __slots__ = ("_clock", "_offset")

    def __init__(self, clock: Clock, last_committed: float = 0.0) -> None:
        self._clock = clock
        self._offset = 0.0
        self.resume(last_committed)

    def resume(self, last_committed: float) -> None:
        """Go on at or after the last instant that a former run committed."""
        self._offset = max(self._offset, last_committed - self._clock.utc().timestamp())

    def now(self) -> float:
        """This instant, in seconds since the epoch."""
        return self._clock.utc().timestamp() + self._offset

    def on_wheel(self, instant: float) -> float:
        """The same instant as the timer wheel counts it."""
        return self._clock.now() + max(0.0, instant - self.now())


def day_start(text: str) -> float:
    """00:00:00 UTC of a `YYYY-MM-DD` date; ValueError for anything else."""
    date = dt.date.fromisoformat(text)
    if date.isoformat() != text:
        # fromisoformat also takes 20300102 and 2030-W01-3, which the API does not.
        raise ValueError(f"not a date of the form YYYY-MM-DD: {text!r}")
    return dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC).timestamp()


def date_text(instant: float) -> str:
    """The UTC date of an instant, `YYYY-MM-DD`."""
    return dt.datetime.fromtimestamp(instant, dt.UTC).date().isoformat()


def rfc3339(instant: float) -> str:
    """The instant as RFC 3339 with milliseconds, as the API serves timestamps."""
    moment = dt.datetime.fromtimestamp(instant, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def rfc822(instant: float) -> str:
    """The instant as in the reason texts: `06 Oct 22 18:05 UTC`."""
    return f"{dt.datetime.fromtimestamp(instant, dt.UTC):%d %b %y %H:%M} UTC"


Windows = tuple[tuple[int, int], ...]


def in_window(windows: Windows, instant: float) -> bool:
    """Whether an action may start at `instant`; no windows means all day."""
    if not windows:
        return True
    hour = (instant % DAY) / HOUR
    return any(start <= hour < end for start, end in windows)


def next_opening(windows: Windows, instant: float) -> float:
    """The first instant at or after `instant` at which an action may start."""
    if in_window(windows, instant):
        return instant
    midnight = instant - instant % DAY
    return min(
        opening + (DAY if opening < instant else 0.0)
        for opening in (midnight + start * HOUR for start, _ in windows)
    )
