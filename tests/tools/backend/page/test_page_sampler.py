"""The series of device states: right at every instant, bounded, whatever comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from tools.backend.campaigns import trail
from tools.backend.page.sampler import HISTORY, SAMPLES, Sample, StateSampler
from tools.backend.store import tables
from tools.backend.store.rows import PUT_MEMBER, put_counter
from tools.backend.store.statements import execute_rows

ACCEPTED, PENDING, SUCCESS = "Accepted", "UpgradePending", "UpgradeSuccess"


@dataclass
class FakeMember:
    campaign: FakeCampaign
    status: str = ACCEPTED
    updated: float = 0.0


@dataclass
class FakeCampaign:
    """What the sampler reads of a campaign."""

    id: str = "one"
    created: float = 100.0
    status: str = "CampaignScheduled"
    final: bool = False
    active: int = 0
    members: dict[str, FakeMember] = field(default_factory=dict)


class FakeWriter:
    """Writes at once."""

    def __init__(self) -> None:
        self.connection = create_engine("sqlite://").connect()
        for table in (tables.state_samples, tables.counters, tables.campaign_devices):
            table.create(self.connection)

    def submit_row(self, statement: Any, row: Mapping[str, Any]) -> None:
        execute_rows(self.connection, statement, [row])

    def submit_nowait(
        self,
        work: Callable[[Connection], Any],
        then: Callable[[Any, Exception | None], None],
        *,
        keep: bool,
    ) -> None:
        assert keep
        then(work(self.connection), None)

    def samples(self, campaign: str) -> list[Sample]:
        rows = tables.state_samples.c
        query = select(rows.time, rows.counts).where(rows.campaign == campaign).order_by(rows.time)
        return [Sample(time, json.loads(counts)) for time, counts in self.connection.execute(query)]


class World:
    """A sampler, a clock, and a campaign whose devices move."""

    def __init__(self, devices: int, created: float = 100.0) -> None:
        self.now = 100.0
        self.campaign = FakeCampaign(created=created)
        self.writer = FakeWriter()
        self.restart()
        for number in range(devices):
            self.add(number)

    def restart(self) -> None:
        """What was in memory is gone."""
        self.sampler = StateSampler(lambda: self.now)
        campaigns: Any = [self.campaign] if self.campaign.members else []
        self.sampler.load(self.writer.connection, campaigns)
        self.sampler.start(self.writer)  # type: ignore[arg-type]

    def add(self, number: int) -> None:
        self.campaign.members[str(number)] = FakeMember(self.campaign, updated=self.now)

    def move(self, number: int, status: str) -> None:
        member = self.campaign.members[str(number)]
        old = member.status
        member.status, member.updated = status, self.now
        self.sampler.member_changed(member, old)  # type: ignore[arg-type]
        if status != old:
            self.write(number, trail.step(status, self.now))

    def write(self, number: int, step: str) -> None:
        """The row of a device, as far as it matters here."""
        columns = tables.campaign_devices.columns
        row: dict[str, Any] = {column.name: None if column.nullable else 0 for column in columns}
        row |= {"campaign": self.campaign.id, "device": str(number), "trail": step}
        execute_rows(self.writer.connection, PUT_MEMBER, [row])

    def series(self) -> tuple[list[float], dict[str, list[int]]]:
        track = self.sampler.look(self.campaign)
        return track.series(self.writer.samples(self.campaign.id), self.now)

    def counts(self) -> dict[str, int]:
        return self.sampler.counts(self.campaign)

    def at(self, instant: float) -> dict[str, int]:
        """What the series says of an instant: its last entry by then."""
        times, counts = self.series()
        index = max(place for place, time in enumerate(times) if time <= instant)
        return {status: column[index] for status, column in counts.items() if column[index]}


def test_state_before_a_change_is_kept() -> None:
    world = World(3)
    world.now = 130.0
    world.move(0, PENDING)
    world.now = 150.0
    world.move(0, SUCCESS)
    world.now = 200.0
    assert world.at(100.0) == {ACCEPTED: 3}
    assert world.at(129.0) == {ACCEPTED: 3}
    assert world.at(140.0) == {ACCEPTED: 2, PENDING: 1}
    assert world.at(200.0) == {ACCEPTED: 2, SUCCESS: 1}
    assert world.series()[0][-1] == 200.0


def test_burst_then_silence_shows_the_burst_when_it_was() -> None:
    world = World(10)
    world.now = 110.0
    for number in range(10):
        world.now += 0.01
        world.move(number, SUCCESS)
    world.now = 90_000.0
    assert world.at(111.0) == {SUCCESS: 10}


def test_campaign_from_before_there_was_a_history_begins_with_that() -> None:
    world = World(2, created=5.0)
    put_counter(world.writer.connection, HISTORY, 100.0)
    world.restart()
    world.now = 120.0
    world.move(0, SUCCESS)
    times, _ = world.series()
    assert times[0] == 100.0
    assert world.at(110.0) == {ACCEPTED: 2}


def test_series_goes_on_after_a_restart() -> None:
    world = World(3)
    world.now = 110.0
    world.move(0, PENDING)
    world.now = 110.5
    world.move(0, SUCCESS)  # in no row yet
    before = world.series()
    world.restart()
    assert world.series() == before
    world.now = 500.0
    world.move(1, SUCCESS)
    assert world.at(100.0) == {ACCEPTED: 3}
    assert world.at(110.5) == world.at(499.0) == {ACCEPTED: 2, SUCCESS: 1}
    assert world.at(500.0) == {ACCEPTED: 1, SUCCESS: 2}


def test_devices_that_come_and_go_are_counted() -> None:
    world = World(2)
    assert world.counts() == {ACCEPTED: 2}
    world.now = 110.0
    world.add(2)
    assert world.counts() == {ACCEPTED: 3}
    world.now = 120.0
    world.move(2, SUCCESS)
    del world.campaign.members["0"]
    assert world.counts() == {ACCEPTED: 1, SUCCESS: 1}
    assert world.at(115.0) == {ACCEPTED: 3}


def test_changes_that_nobody_told_are_found() -> None:
    """The checks of a new campaign change its devices before anybody is told."""
    world = World(4)
    assert world.counts() == {ACCEPTED: 4}
    for number in range(2):
        world.campaign.members[str(number)].status = PENDING
    world.now = 110.0
    for number in range(2):
        member = world.campaign.members[str(number)]
        member.status, member.updated = SUCCESS, world.now
        world.sampler.member_changed(member, ACCEPTED)
    assert world.counts() == {ACCEPTED: 2, SUCCESS: 2}
    world.now = 130.0
    world.move(2, SUCCESS)
    assert world.at(120.0) == {ACCEPTED: 2, SUCCESS: 2}
    assert world.at(130.0) == {ACCEPTED: 1, SUCCESS: 3}


def test_changed_reason_alone_is_no_change() -> None:
    world = World(1)
    world.now = 110.0
    world.move(0, ACCEPTED)
    assert world.series() == ([100.0, 110.0], {ACCEPTED: [1, 1]})


moves = st.lists(
    st.tuples(
        st.floats(0.0, 5_000.0),
        st.integers(0, 9),
        st.sampled_from([ACCEPTED, PENDING, SUCCESS]),
        st.booleans(),
    ),
    max_size=60,
)


@given(moves)
def test_series_agrees_with_the_truth(steps: list[tuple[float, int, str, bool]]) -> None:
    """At the last change in every step of one second in which something happened, over any number
    of restarts."""
    world = World(10)
    truth: dict[float, tuple[float, dict[str, int]]] = {}
    for pause, number, status, restarted in steps:
        world.now += pause
        if restarted:
            world.restart()
        world.move(number, status)
        held = [member.status for member in world.campaign.members.values()]
        truth[world.now // 1.0] = world.now, {name: held.count(name) for name in set(held)}
    times, counts = world.series()
    assert times == sorted(times)
    assert all(len(column) == len(times) for column in counts.values())
    assert [sum(column) for column in zip(*counts.values(), strict=True)] == [10] * len(times)
    for instant, expected in truth.values():
        assert world.at(instant) == expected


@given(st.integers(2, 40), st.floats(0.05, 4_000.0), st.integers(100, 5_000))
def test_series_is_bounded(devices: int, pause: float, life: int) -> None:
    world = World(devices)
    for number in range(SAMPLES * 3):
        if number and not number % life:
            world.restart()
        world.now += pause
        member = world.campaign.members[str(number % devices)]
        world.move(number % devices, SUCCESS if member.status == ACCEPTED else ACCEPTED)
    times, counts = world.series()
    assert 2 <= len(times) <= SAMPLES + 2
    assert len(times) > 4 or times[-1] - times[0] < 300
    assert {sum(column) for column in zip(*counts.values(), strict=True)} == {devices}
