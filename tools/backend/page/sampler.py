"""How the devices of each campaign stand, now and over the time of this run.

Theory of operation
-------------------
The engine tells of every change of a status. For each campaign that has changed, or that somebody
looked at, there is a track: the devices in each status, and a bounded series of what these numbers
were. A change costs two additions. Time is cut into steps; the first change in a new step puts the
numbers that held until then into the series, at the instant of their last change, so the series
says what was so at the end of each step in which something happened, and nothing needs a timer.
When a series is full, its steps get twice as long and only the last entry of each is kept.

Not everything is told: devices come and go, and the checks of a new campaign change them silently.
So all devices are counted again (5 ms for 100,000) once in each step, when the campaign itself gets
another status, when the numbers do not add up, and when somebody looks at that one campaign.

All of it is in memory: after a restart the numbers are counted anew, and the series begins there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from tools.backend.campaigns.records import Campaign, Member

__all__ = ["StateSampler", "Track"]

SAMPLES = 512
"""Entries of one series: more than the page has pixels to tell apart in a narrow window."""

FIRST_STEP = 1.0
"""Seconds of a step at first; a campaign in the demo takes some ten."""

EXACT = 5_000
"""Devices of a campaign that are counted again for a list and for each event, 0.3 ms; for more of
them the running numbers do, which a step later are right in any case."""

CHANGES = 32
"""Status changes of a campaign itself that are kept; a life has six."""


class Track:
    """What is known of one campaign."""

    __slots__ = ("_last", "_rows", "_statuses", "_step", "_times", "_until", "changes", "counts")

    def __init__(self, counts: Counter[str], begin: float) -> None:
        self.counts = counts
        self.changes: list[tuple[float, str]] = []
        self._statuses: list[str] = []
        self._times: list[float] = []
        self._rows: list[tuple[int, ...]] = []
        self._step = FIRST_STEP
        self._last = begin
        self._until = begin

    def change(self, when: float, old: str, new: str) -> None:
        """One device went from `old` to `new`."""
        if self.ends_step(when):
            self._close(when)
        if self.counts[old]:  # else it was taken in after the last count
            self.counts[old] -= 1
        self.counts[new] += 1
        if when > self._last:
            self._last = when

    def ends_step(self, when: float) -> bool:
        """Whether a change at `when` is the first of a new step."""
        return when >= self._until

    def correct(self, counts: Counter[str], when: float) -> None:
        """The devices have been counted."""
        if +counts == +self.counts:
            return
        if self.ends_step(when):
            self._close(when)
        self.counts = counts
        self._last = max(self._last, when)

    def _close(self, when: float) -> None:
        for status in self.counts:
            if status not in self._statuses:
                self._statuses.append(status)
        self._times.append(self._last)
        self._rows.append(tuple(self.counts[status] for status in self._statuses))
        while len(self._times) >= SAMPLES:
            self._thin()
        self._until = (when // self._step + 1) * self._step

    def _thin(self) -> None:
        """Steps of twice the length; the last entry of each stays."""
        self._step *= 2
        times, rows = self._times, self._rows
        kept = [
            index
            for index, time in enumerate(times)
            if index + 1 == len(times) or time // self._step != times[index + 1] // self._step
        ]
        self._times = [times[index] for index in kept]
        self._rows = [rows[index] for index in kept]

    def series(self, now: float) -> tuple[list[float], dict[str, list[int]]]:
        """The instants, and the number of devices in each status at each of them."""
        times = [*self._times, self._last]
        if now > self._last:
            times.append(now)
        counts: dict[str, list[int]] = {}
        for index, status in enumerate(self._statuses):
            # A row is as long as the list of statuses was when it was made.
            column = [row[index] if index < len(row) else 0 for row in self._rows]
            counts[status] = column
        for status in dict.fromkeys((*self._statuses, *self.counts)):
            column = counts.setdefault(status, [0] * len(self._rows))
            column.extend([self.counts[status]] * (len(times) - len(self._rows)))
        return times, counts


class StateSampler:
    """The tracks of all campaigns; an observer of the engine."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tracks: dict[str, Track] = {}
        self.since = 0.0
        """When it began to look."""

    def start(self) -> None:
        """Everything is counted from now on."""
        self.since = self._now()

    def track(self, campaign: Campaign) -> Track:
        """The track of a campaign, begun when there is none."""
        found = self._tracks.get(campaign.id)
        if found is None:
            begin = max(self.since, campaign.created)
            found = self._tracks[campaign.id] = Track(_counted(campaign), begin)
        return found

    def counts(self, campaign: Campaign) -> dict[str, int]:
        """The devices in each status, without the statuses of none."""
        track = self.track(campaign)
        devices = len(campaign.members)
        if devices <= EXACT or track.counts.total() != devices:
            track = self.look(campaign)
        return dict(_present(track.counts))

    def look(self, campaign: Campaign) -> Track:
        """The track of a campaign after counting all its devices again."""
        track = self.track(campaign)
        track.correct(_counted(campaign), self._now())
        return track

    # -- what the engine tells ---

    def campaign_changed(self, campaign: Campaign, _old: str) -> None:
        """A campaign has another status."""
        changes = self.look(campaign).changes
        changes.append((self._now(), campaign.status))
        del changes[:-CHANGES]

    def member_changed(self, member: Member, old: str) -> None:
        """A device in a campaign has another status or reason."""
        if member.status == old:
            return
        campaign = member.campaign
        track = self._tracks.get(campaign.id)
        if track is None or track.ends_step(member.updated):
            track = self.track(campaign)
            track.counts = _counted(campaign)
            # How it was before this change, with which it has been counted.
            track.counts[member.status] -= 1
            track.counts[old] += 1
        track.change(member.updated, old, member.status)


def _counted(campaign: Campaign) -> Counter[str]:
    return Counter(member.status for member in campaign.members.values())


def _present(counts: Counter[str]) -> Iterator[tuple[str, int]]:
    return ((status, number) for status, number in counts.items() if number > 0)
