"""The feed: coalesced, bounded, resumed, ended; in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from tests.tools.backend.virtual import virtual
from tools.backend.errors import RequestRefused
from tools.backend.page.feed import (
    BEAT,
    MAX_CLIENTS,
    MAX_EVENTS,
    MAX_PENDING,
    PACE,
    POLL,
    REMEMBERED,
    SLOW,
    Client,
    Feed,
    FeedFull,
    Topic,
    topic_of,
)

ALL = Topic("campaigns")


@dataclass
class FakeCampaign:
    id: str
    value: int = 0


@dataclass
class FakeMember:
    campaign: FakeCampaign
    device: str = "device"


class Shown(BaseModel):
    id: str
    value: int


class Rows(BaseModel):
    rows: list[int]


class World:
    """A feed, campaigns, and a table that is polled."""

    def __init__(self) -> None:
        self.rows = [1]
        self.polls = 0
        self.feed = Feed(lambda: 1000.0, lambda item: Shown(id=item.id, value=item.value), {
            "cells": self.poll,
        })  # fmt: skip

    async def poll(self) -> Rows:
        self.polls += 1
        return Rows(rows=self.rows)

    def change(self, campaign: FakeCampaign, device: str = "device") -> None:
        campaign.value += 1
        self.feed.member_changed(FakeMember(campaign, device), "")


@dataclass
class Event:
    kind: str
    data: Any
    number: str


class Reader:
    """Takes a client's stream apart, as it comes."""

    def __init__(self, feed: Feed, client: Client) -> None:
        self.stream: AsyncIterator[bytes] = feed.stream(client)
        self.events: list[Event] = []
        self.ended = False
        self.task = asyncio.ensure_future(self.read())

    async def read(self) -> None:
        async for part in self.stream:
            assert part.endswith(b"\n\n")
            self.events += [
                event for block in part.decode().split("\n\n")[:-1] if (event := parsed(block))
            ]
        self.ended = True

    def take(self, kind: str = "") -> list[Event]:
        """What came since the last call."""
        found = [event for event in self.events if kind in ("", event.kind)]
        self.events.clear()
        return found

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def parsed(block: str) -> Event | None:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
    if "event" not in fields:
        return None
    return Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))


async def opened(world: World, topic: Topic = ALL, last: str = "") -> tuple[Client, Reader]:
    client = world.feed.open(topic, last)
    reader = Reader(world.feed, client)
    await asyncio.sleep(0)
    return client, reader


@virtual
async def test_hello_first_and_changes_after_it() -> None:
    world, campaign = World(), FakeCampaign("a")
    _, reader = await opened(world)
    [hello] = reader.take()
    assert (hello.kind, hello.data) == ("hello", {"now": 1000.0, "fresh": True})
    assert hello.number
    world.change(campaign)
    assert reader.take() == []
    await asyncio.sleep(PACE * 1.1)
    [event] = reader.take()
    assert (event.kind, event.data) == ("campaign", {"id": "a", "value": 1})
    await reader.close()


@virtual
async def test_hundred_thousand_changes_are_two_events_a_second() -> None:
    world, campaign = World(), FakeCampaign("a")
    _, reader = await opened(world)
    reader.take()
    for _ in range(10):
        for number in range(10_000):
            world.change(campaign, f"device {number}")
        await asyncio.sleep(0.1)
    await asyncio.sleep(PACE)
    events = reader.take("campaign")
    assert 1 <= len(events) <= 3
    assert events[-1].data["value"] == 100_000
    await reader.close()


@virtual
async def test_client_gets_its_own_topic_only() -> None:
    world, one, other = World(), FakeCampaign("a"), FakeCampaign("b")
    readers = {
        topic: (await opened(world, topic))[1]
        for topic in (ALL, Topic("campaign", "a"), Topic("device", "x"), Topic("device", "y"))
    }
    for reader in readers.values():
        reader.take()
    world.change(one, "x")
    world.change(other, "z")
    await asyncio.sleep(2 * PACE)
    took = {topic: reader.take() for topic, reader in readers.items()}
    assert [event.data["id"] for event in took[ALL]] == ["a", "b"]
    assert [event.data["id"] for event in took[Topic("campaign", "a")]] == ["a"]
    assert [event.kind for event in took[Topic("device", "x")]] == ["changed"]
    assert took[Topic("device", "y")] == []
    world.feed.device_changed("y")
    await asyncio.sleep(2 * PACE)
    assert [event.kind for event in readers[Topic("device", "y")].take()] == ["changed"]
    for reader in readers.values():
        await reader.close()


@virtual
async def test_many_changed_campaigns_are_one_event() -> None:
    world = World()
    _, reader = await opened(world)
    _, single = await opened(world, Topic("campaign", "7"))
    reader.take(), single.take()
    for number in range(MAX_EVENTS + 1):
        world.change(FakeCampaign(str(number)))
    await asyncio.sleep(2 * PACE)
    assert [(event.kind, event.data) for event in reader.take()] == [
        ("changed", {"topic": "campaigns"})
    ]
    assert [event.data["id"] for event in single.take()] == ["7"]
    await reader.close()
    await single.close()


@virtual
async def test_client_that_comes_back_gets_what_it_missed() -> None:
    world = World()
    campaigns = [FakeCampaign(str(number)) for number in range(5)]
    client, reader = await opened(world)
    world.change(campaigns[0])
    await asyncio.sleep(2 * PACE)
    seen = reader.take()[-1].number
    await reader.close()
    # Nobody looks while these change; one of them twice.
    for campaign in (campaigns[3], campaigns[1], campaigns[3]):
        world.change(campaign)
    _, reader = await opened(world, ALL, seen)
    hello, *events = reader.take()
    assert hello.data["fresh"] is False
    assert sorted((event.data["id"], event.data["value"]) for event in events) == [
        ("1", 1),
        ("3", 2),
    ]
    # Whoever is cut off in between goes on at the right place: ids rise with the events.
    assert hello.number == ""
    numbers = [int(event.number.partition("-")[2]) for event in events]
    assert numbers == sorted(numbers)
    await reader.close()
    _, reader = await opened(world, ALL, events[0].number)
    hello, *rest = reader.take()
    assert [event.data["id"] for event in rest] == [events[1].data["id"]]
    await reader.close()
    _, reader = await opened(world, ALL, events[-1].number)
    [hello] = reader.take()
    assert hello.data["fresh"] is False
    await reader.close()


@pytest.mark.parametrize(
    "last", ["", "x", "other-1", "{run}-", "{run}--1", "{run}-²", "{run}-" + "9" * 40]
)
@virtual
async def test_foreign_id_means_reading_everything_anew(last: str) -> None:
    world = World()
    _, reader = await opened(world)
    run = reader.take()[0].number.partition("-")[0]
    await reader.close()
    _, reader = await opened(world, ALL, last.format(run=run))
    assert reader.take()[0].data["fresh"] is True
    await reader.close()


@virtual
async def test_forgotten_revisions_mean_reading_everything_anew() -> None:
    world = World()
    _, reader = await opened(world)
    first = reader.take()[0].number
    for number in range(REMEMBERED + 1):
        world.change(FakeCampaign(str(number)))
    await asyncio.sleep(2 * PACE)
    await reader.close()
    _, reader = await opened(world, ALL, first)
    assert reader.take()[0].data["fresh"] is True
    await reader.close()


@virtual
async def test_client_that_takes_nothing_is_dropped() -> None:
    world = World()
    client = world.feed.open(ALL)
    stream = world.feed.stream(client)
    await anext(stream)  # and never again
    campaign = FakeCampaign("a")
    for _ in range(int(SLOW / PACE) + 4):
        world.change(campaign)
        await asyncio.sleep(PACE * 1.1)
    assert client.closed and not client.pending
    rest = b"".join([part async for part in stream])
    assert b"event: campaign" not in rest


@virtual
async def test_queue_of_a_client_is_bounded() -> None:
    world = World()
    client = world.feed.open(ALL)
    stream = world.feed.stream(client)
    await anext(stream)
    for round_ in range(MAX_PENDING // MAX_EVENTS + 1):
        for number in range(MAX_EVENTS):
            world.change(FakeCampaign(f"{round_}/{number}"))
        await asyncio.sleep(PACE * 1.1)
    assert client.closed and not client.pending
    await stream.aclose()


@virtual
async def test_signs_of_life_carry_the_time() -> None:
    world = World()
    _, reader = await opened(world)
    reader.take()
    await asyncio.sleep(BEAT * 3.5)
    assert [event.data for event in reader.take("clock")] == [{"now": 1000.0}] * 3
    await reader.close()


@virtual
async def test_signs_of_life_come_among_many_changes_too() -> None:
    world, campaign = World(), FakeCampaign("a")
    _, reader = await opened(world)
    _, only = await opened(world, Topic("clock"))
    for _ in range(int(BEAT * 2.5 / PACE)):
        world.change(campaign)
        await asyncio.sleep(PACE)
    assert len(reader.take("clock")) == 2
    assert [event.kind for event in only.take()] == ["hello", "clock", "clock"]
    await reader.close()
    await only.close()


@virtual
async def test_polled_table_is_sent_when_it_is_another_one() -> None:
    world = World()
    _, reader = await opened(world, Topic("cells"))
    assert [event.data for event in reader.take("table")] == [{"rows": [1]}]
    await asyncio.sleep(POLL * 3.5)
    assert reader.take("table") == []
    world.rows = [2]
    await asyncio.sleep(POLL * 1.5)
    assert [event.data for event in reader.take("table")] == [{"rows": [2]}]
    asked = world.polls
    await reader.close()
    await asyncio.sleep(POLL * 5)
    assert world.polls == asked  # nobody looks


@virtual
async def test_so_many_clients_and_no_more() -> None:
    world = World()
    readers = [(await opened(world))[1] for _ in range(MAX_CLIENTS)]
    with pytest.raises(FeedFull):
        world.feed.open(ALL)
    await readers.pop().close()
    readers.append((await opened(world))[1])
    for reader in readers:
        await reader.close()


@virtual
async def test_stop_ends_every_feed_at_once() -> None:
    world = World()
    readers = [(await opened(world, topic))[1] for topic in (ALL, Topic("cells"))]
    world.change(FakeCampaign("a"))
    world.feed.stop()
    await asyncio.gather(*(reader.task for reader in readers))
    assert all(reader.ended for reader in readers)
    with pytest.raises(FeedFull):
        world.feed.open(ALL)
    world.change(FakeCampaign("b"))
    world.feed.device_changed("x")


@virtual
async def test_nothing_runs_while_nobody_looks() -> None:
    world = World()
    world.change(FakeCampaign("a"))
    world.feed.device_changed("x")
    assert len(asyncio.all_tasks()) == 1
    assert asyncio.get_running_loop()._scheduled == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("campaigns", ALL),
        ("campaign/a-b", Topic("campaign", "a-b")),
        ("device/urn:imei:1/2", Topic("device", "urn:imei:1/2")),
        ("cells", Topic("cells")),
        ("callbacks", Topic("callbacks")),
        ("clock", Topic("clock")),
    ],
)
def test_topics(text: str, topic: Topic) -> None:
    assert topic_of(text) == topic


@pytest.mark.parametrize(
    "text", ["", "/", "campaign", "campaign/", "campaigns/x", "cells/", "other", "device"]
)
def test_bad_topics(text: str) -> None:
    with pytest.raises(RequestRefused):
        topic_of(text)
