"""How the devices of each campaign stand, now and over time.

Theory of operation
-------------------
The engine tells of every change of a status. For each campaign that has changed, or that somebody
looked at, there is a track: the devices in each status, and a bounded series of what these numbers
were. A change costs two additions. Time is cut into steps; the first change in a new step puts the
numbers that held until then into the series, at the instant of their last change, so the series
says what was so at the end of each step in which something happened, and nothing needs a timer.
When a series is full, its steps get twice as long and only the last entry of each is kept.

The series are rows of `state_samples`, written with the change that begins the next step: one row a
second of each campaign at first, fewer the longer it goes on, whatever the number of its devices.
So they cost nothing beside the rows of these devices, no memory, and outlast the process; they are
read when somebody looks at a campaign. The present numbers are in no row. They are counted from the
devices, also after a kill, and belong to the last instant at which one of these changed.

Not everything is told: devices come and go, and the checks of a new campaign change them silently.
So all devices are counted again (5 ms for 100,000) once in each step, when the campaign itself gets
another status, when the numbers do not add up, and when somebody looks at that one campaign.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select

from tools.backend.campaigns.records import Campaign, Member
from tools.backend.campaigns.trail import load_last_step
from tools.backend.store import tables
from tools.backend.store.rows import counter, upsert
from tools.backend.store.statements import execute_rows
from tools.backend.store.writer import Writer

__all__ = ["Sample", "StateSampler", "Track"]

SAMPLES = 512
"""Entries of one series: more than the page has pixels to tell apart in a narrow window."""

FIRST_STEP = 1.0
"""Seconds of a step at first; a campaign in the demo takes some ten."""

EXACT = 5_000
"""Devices of a campaign that are counted again for a list and for each event, 0.3 ms; for more of
them the running numbers do, which a step later are right in any case."""

HISTORY = "history"
"""The counter that says since when there is a history, in a database that is older."""

_samples = tables.state_samples.c
PUT_SAMPLE = upsert(tables.state_samples, "campaign", "time")
DROP_SAMPLE = delete(tables.state_samples).where(
    _samples.campaign == bindparam("b_campaign"), _samples.time == bindparam("b_time")
)


class Sample(NamedTuple):
    """An entry of a series: the devices in each status at an instant."""

    time: float
    counts: dict[str, int]


class Track:
    """What is known of one campaign in memory. `keep` takes each entry of its series."""

    __slots__ = ("_keep", "_last", "_until", "counts", "kept", "step")

    def __init__(
        self, counts: Counter[str], begin: float, keep: Callable[[Sample], None], kept: int = 0
    ) -> None:
        self.counts = counts
        self.step = FIRST_STEP
        """Seconds. After a restart it begins anew, and grows when there are too many entries."""
        self.kept = kept
        """Entries that there are, at most."""
        self._keep = keep
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
        self.kept += 1
        self._until = (when // self.step + 1) * self.step
        self._keep(Sample(self._last, dict(_present(self.counts))))

    def series(
        self, samples: Sequence[Sample], now: float
    ) -> tuple[list[float], dict[str, list[int]]]:
        """The instants, and the number of devices in each status at each of them."""
        # An entry of the last change is older than the present numbers of that instant.
        known = [sample for sample in samples if sample.time < self._last]
        known.append(Sample(self._last, dict(_present(self.counts))))
        if now > self._last:
            known.append(known[-1]._replace(time=now))
        statuses = dict.fromkeys(status for sample in known for status in sample.counts)
        return [sample.time for sample in known], {
            status: [sample.counts.get(status, 0) for sample in known] for status in statuses
        }


class StateSampler:
    """The tracks of all campaigns; an observer of the engine."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._writer: Writer | None = None
        self._tracks: dict[str, Track] = {}
        self._kept: dict[str, int] = {}
        """Entries that a former run has left, by campaign."""
        self.since = 0.0
        """Nothing of before is known: the database is older than its histories."""

    # -- life ---

    def load(self, connection: Connection, alive: Iterable[Campaign]) -> None:
        """Read what a former run left. `alive` are the campaigns in which something may change:
        when the last change in them was, nobody could tell after the next one."""
        self.since = counter(connection, HISTORY) or 0.0
        query = select(_samples.campaign, func.count()).group_by(_samples.campaign)
        self._kept = {campaign: count for campaign, count in connection.execute(query)}
        for campaign in alive:
            last = load_last_step(connection, campaign.id) if campaign.id in self._kept else None
            self._begin(campaign, last)

    def start(self, writer: Writer) -> None:
        """Write from now on."""
        self._writer = writer

    def track(self, campaign: Campaign) -> Track:
        """The track of a campaign, begun when there is none."""
        found = self._tracks.get(campaign.id)
        if found is not None:
            return found
        last = None
        if campaign.id in self._kept:  # it is over, and every device came to its end
            last = max((member.updated for member in campaign.members.values()), default=None)
        return self._begin(campaign, last)

    def _begin(self, campaign: Campaign, last: float | None) -> Track:
        begin = max(self.since, campaign.created, last or 0.0)
        keep = partial(self._keep, campaign.id)
        kept = self._kept.get(campaign.id, 0)
        track = self._tracks[campaign.id] = Track(_counted(campaign), begin, keep, kept)
        return track

    def forget(self, campaign: str) -> None:
        """The campaign is not there any more; its rows are for others to drop."""
        self._tracks.pop(campaign, None)
        self._kept.pop(campaign, None)

    # -- the store ---

    def _keep(self, campaign: str, sample: Sample) -> None:
        track = self._tracks.get(campaign)
        if self._writer is None or track is None:
            return
        counts = json.dumps(sample.counts, separators=(",", ":"))
        self._writer.submit_row(
            PUT_SAMPLE, {"campaign": campaign, "time": sample.time, "counts": counts}
        )
        if track.kept < SAMPLES:
            return
        track.kept = 0  # counted by `_thin`

        def thinned(result: Any, error: Exception | None) -> None:
            if error is None:
                left, track.step = result
                track.kept += left

        self._writer.submit_nowait(
            partial(_thin, campaign=campaign, step=track.step), thinned, keep=True
        )

    async def samples(self, campaign: Campaign) -> list[Sample]:
        """The series of a campaign, without its present numbers."""
        assert self._writer is not None, "the backend is not started"
        query = (
            select(_samples.time, _samples.counts)
            .where(_samples.campaign == campaign.id)
            .order_by(_samples.time)
        )
        rows = await self._writer.read(lambda connection: connection.execute(query).all())
        return [Sample(time, json.loads(counts)) for time, counts in rows]

    # -- what is asked ---

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
        self.look(campaign)

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


def _thin(connection: Connection, campaign: str, step: float) -> tuple[int, float]:
    """Make steps longer until half of the entries at most are left, the last one of each step;
    returns how many that are, and the length."""
    query = select(_samples.time).where(_samples.campaign == campaign).order_by(_samples.time)
    times: list[float] = list(connection.execute(query).scalars())
    kept = times
    while len(kept) > SAMPLES // 2:
        step *= 2
        kept = [
            time
            for index, time in enumerate(times)
            if index + 1 == len(times) or time // step != times[index + 1] // step
        ]
    gone = [{"b_campaign": campaign, "b_time": time} for time in set(times) - set(kept)]
    if gone:
        execute_rows(connection, DROP_SAMPLE, gone)
    return len(kept), step


def _counted(campaign: Campaign) -> Counter[str]:
    return Counter(member.status for member in campaign.members.values())


def _present(counts: Counter[str]) -> Iterator[tuple[str, int]]:
    return ((status, number) for status, number in counts.items() if status and number > 0)
