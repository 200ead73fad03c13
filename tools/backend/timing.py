"""When things happen: the backend's time and the lead times of a campaign.

`BackendTime` gives seconds since the epoch in the time of the run's clock. It never goes back: if
the clock says less than the last committed instant (a scaled run that was restarted, a wall clock
that was set back), the difference is added for the rest of the run. An administrator may let it
jump ahead or pass at another rate; both are stored, and hold after a restart.

`CampaignTiming` holds every lead time and delay in one place, in two profiles: `documented` follows
the public documentation where it says something; `immediate` is for demos and tests.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from agent.runtime.clock import Clock
from agent.runtime.wheel import Timer, TimerWheel

HOUR = 3600.0
DAY = 24 * HOUR

RATES = (0.001, DAY)
"""How slow and how fast time may pass. Timers are exact to a 64th of a second of the run's clock:
at a day a second that is 23 minutes."""

LAST_INSTANT = dt.datetime(2900, 1, 1, tzinfo=dt.UTC).timestamp()
"""Where jumps end, well before the calendar of Python does."""

MIN_ARMED = 64
"""Timers that are kept before those that have fired are looked for."""


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

    publication: float | None
    """Seconds after midnight UTC at which v1 publishes its devices' status [once a day documented,
    the hour ours]; None publishes every change at once."""


PILOT_SIZE = 20
"""A campaign of at most so many devices is a pilot [documented]."""

MAX_ATTEMPTS = 3
"""Attempts a device within one campaign; ours, the documentation names no number."""

CELL_LIMIT = 20
"""Devices of one cell that are upgraded at once, over all campaigns; ours, settable for a cell."""

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
        publication=12 * HOUR,
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
        publication=None,
    ),
}


def timing(name: str) -> CampaignTiming:
    """The profile `name`, or a ValueError that lists the known ones."""
    try:
        return TIMINGS[name]
    except KeyError:
        known = ", ".join(sorted(TIMINGS))
        raise ValueError(f"unknown timing profile {name!r}; known: {known}") from None


class TimeRefused(ValueError):
    """A change of the time that cannot be; the text says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the time was set last: at `utc` of the run's clock it was `instant`, and it has passed
    `rate` times as fast since."""

    instant: float
    utc: float
    rate: float

    def at(self, utc: float) -> float:
        """What time it is at `utc`."""
        return self.instant + (utc - self.utc) * self.rate


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of the time. `moved` is for what devices count by clocks of their own, such as the
    lifetime of a registration: it is as far away for them as it was before."""

    before: float
    after: float
    factor: float
    """The new rate as a multiple of the old one."""

    def moved(self, instant: float) -> float:
        return self.after + (instant - self.before) * self.factor


OnShift = Callable[[Shift], None]


class BackendTime:
    """Seconds since the epoch, never going back, not over a restart either.

    It is the time of the run's clock until an administrator moves it or lets it pass at another
    rate. Whoever waits for an instant arms a timer with `arm`, which is armed again when that
    happens; what follows the clocks of devices goes into `on_shift`.
    """

    __slots__ = ("_armed", "_base", "_clock", "_swept", "on_shift", "origin")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        utc = clock.utc().timestamp()
        self.origin = Origin(utc, utc, 1.0)
        # In one tuple, because the writer's thread reads it too: (clock, instant, rate).
        self._base = (clock.now(), utc, 1.0)
        self._armed: dict[Timer, tuple[TimerWheel, float]] = {}
        self._swept = MIN_ARMED
        self.on_shift: list[OnShift] = []

    def resume(self, last_committed: float, origin: Origin | None = None) -> None:
        """Go on at or after the last instant that a former run committed, and as that one went:
        while no backend ran, the time passed as if it had."""
        utc = self._clock.utc().timestamp()
        self.origin = origin or Origin(utc, utc, 1.0)
        self._base = (self._clock.now(), max(last_committed, self.origin.at(utc)), self.origin.rate)

    def now(self) -> float:
        """This instant, in seconds since the epoch."""
        clock, instant, rate = self._base
        return instant + (self._clock.now() - clock) * rate

    @property
    def rate(self) -> float:
        """Seconds that pass here in a second of the run's clock."""
        return self._base[2]

    # -- changes ---

    def advance(self, seconds: float) -> None:
        """Jump ahead. Raises TimeRefused for a jump back, or past LAST_INSTANT."""
        if not seconds >= 0:
            raise TimeRefused("time never goes back")
        self._shift(self.now() + seconds, self.rate)

    def advance_to(self, instant: float) -> None:
        """Jump to an instant. Raises TimeRefused as `advance` does."""
        if not instant >= self.now():
            raise TimeRefused(f"time never goes back, and it is {rfc3339(self.now())} already")
        self._shift(instant, self.rate)

    def set_rate(self, rate: float) -> None:
        """Let time pass `rate` times as fast. Raises TimeRefused outside RATES."""
        low, high = RATES
        if not low <= rate <= high:
            raise TimeRefused(f"a rate is between {low:g} and {high:g}, not {rate:g}")
        self._shift(self.now(), rate)

    def _shift(self, instant: float, rate: float) -> None:
        if instant > LAST_INSTANT:
            raise TimeRefused(f"time ends on {date_text(LAST_INSTANT)}")
        shift = Shift(self.now(), instant, rate / self.rate)
        self._base = (self._clock.now(), instant, rate)
        self.origin = Origin(instant, self._clock.utc().timestamp(), rate)
        self._sweep()
        for timer, (wheel, due) in self._armed.items():
            wheel.arm(timer, self.on_wheel(due))
        for hook in self.on_shift:
            hook(shift)

    # -- waiting ---

    def until(self, instant: float) -> float:
        """Seconds of the run's clock, and so of devices, until an instant; 0 for a past one."""
        _clock, _instant, rate = self._base
        return max(0.0, instant - self.now()) / rate

    def after(self, seconds: float) -> float:
        """The instant at which so many seconds of the run's clock will have passed."""
        return self.now() + seconds * self.rate

    def on_wheel(self, instant: float) -> float:
        """The same instant as the timer wheel counts it, if the time is left alone until then."""
        return self._clock.now() + self.until(instant)

    def arm(self, wheel: TimerWheel, timer: Timer, instant: float) -> None:
        """Let `timer` fire at `instant`, even if the time is changed meanwhile. It is disarmed at
        its wheel. Not for a timer of each device: it costs a dictionary's entry."""
        self._armed[timer] = (wheel, instant)
        wheel.arm(timer, self.on_wheel(instant))
        if len(self._armed) > self._swept:
            self._sweep()

    def _sweep(self) -> None:
        """Forget the timers that have fired or were disarmed."""
        self._armed = {timer: due for timer, due in self._armed.items() if timer.armed}
        self._swept = max(MIN_ARMED, 2 * len(self._armed))


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
    text = dt.datetime.fromtimestamp(instant, dt.UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


@lru_cache(maxsize=1_024)  # thousands of devices of a campaign have the same slot
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
