"""The feed of changes: server-sent events (WHATWG HTML, section 9.2) for whoever has the page open.

Theory of operation
-------------------
A client asks for one topic: all campaigns, one campaign, one device, one of the polled tables
(cells, callbacks), or nothing but the signs of life (clock). A change only marks what has changed;
every half second the marks become events, so a campaign of 100,000 devices that all change at once
costs two events a second. Events of one device go only to clients that look at that device.

What waits for a client is held by key, the newest event of each campaign, and bounded. A client
that does not take its events is dropped: it connects again and is told to read everything anew.

Ids are `RUN-REVISION`. A client that comes back with the id it saw last (`Last-Event-ID`) gets the
newest event of everything that has changed since; after a restart of the backend, or when it was
away for too much, it is told to read everything anew (`fresh` in the first event).

The pace here is that of people and connections. It runs on the loop's own time, whatever the rate
of the backend's clock.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from tools.backend.campaigns.records import Campaign, Member
from tools.backend.errors import RequestRefused

__all__ = ["BEAT", "PACE", "Client", "Feed", "Topic", "topic_of"]

PACE = 0.5
"""Seconds between two looks at what has changed: at most two events a second of one campaign."""

BEAT = 5.0
"""Seconds between two signs of life; each carries the time, so that the page's clock is right. A
client that hears nothing for some of them knows that the connection is gone."""

POLL = 2.0
"""Seconds between two looks at a polled table, while somebody looks at it."""

MAX_CLIENTS = 64
"""Open feeds at once: windows of the people who run one backend, with room."""

MAX_PENDING = 256
"""Events that wait for one client; beyond it the client is dropped."""

MAX_EVENTS = 100
"""Campaigns that change within one `PACE` and are told one by one; beyond it, that many did."""

SLOW = 30.0
"""Seconds after which a client that takes nothing of what waits for it is dropped."""

REMEMBERED = 4_096
"""Revisions of campaigns that are kept for clients that come back, the newest."""


class FeedFull(RequestRefused):
    """Too many feeds are open."""

    def __init__(self) -> None:
        super().__init__("Too many feeds are open", code="TOO_MANY_REQUESTS", status=503)


@dataclass(frozen=True, slots=True)
class Topic:
    """What a client looks at: `kind` is one of KINDS."""

    kind: str
    name: str = ""
    """The id of the campaign, or the identity of the device."""


KINDS = {
    "campaigns": False,
    "campaign": True,
    "device": True,
    "cells": False,
    "callbacks": False,
    "clock": False,
}
"""The kinds of topic, and whether each needs a name."""


def topic_of(text: str) -> Topic:
    """`KIND` or `KIND/NAME`. Raises RequestRefused."""
    kind, slash, name = text.partition("/")
    if KINDS.get(kind) is not bool(slash) or bool(name) is not bool(slash):
        raise RequestRefused(
            "topic is campaigns, campaign/ID, device/ID, cells, callbacks or clock"
        )
    return Topic(kind, name)


def event(kind: str, data: BaseModel | str, number: str = "") -> bytes:
    """One event as it is sent. JSON has no raw line breaks, so one data line is enough."""
    text = data if isinstance(data, str) else data.model_dump_json()
    head = f"id: {number}\n" if number else ""
    return f"{head}event: {kind}\ndata: {text}\n\n".encode()


class Clock(BaseModel):
    """A sign of life: the backend's time."""

    now: float


class Hello(Clock):
    """The first event. `fresh`: the client has missed something and should read it again."""

    fresh: bool


class Changed(BaseModel):
    """Something to read again."""

    topic: str


class Client:
    """One open feed."""

    def __init__(self, topic: Topic, poll: Callable[[], Awaitable[BaseModel]] | None) -> None:
        self.topic = topic
        self.poll = poll
        self.pending: dict[str, bytes] = {}
        """By what it is about: a newer event replaces the older one."""
        self.wake = asyncio.Event()
        self.closed = False
        self.waits_since = 0.0
        """When the oldest of what is pending was put there."""

    def put(self, key: str, data: bytes, now: float) -> None:
        """Let the client have an event; a client that is too slow is dropped instead."""
        if self.closed:
            return
        if not self.pending:
            self.waits_since = now
        self.pending.pop(key, None)  # ids go up in the order of sending
        self.pending[key] = data
        if len(self.pending) > MAX_PENDING or now - self.waits_since > SLOW:
            self.close()
        self.wake.set()

    def close(self) -> None:
        """End the feed at the next moment that its connection takes something."""
        self.closed = True
        self.pending.clear()
        self.wake.set()


class Feed:
    """All open feeds of a backend; an observer of the engine."""

    def __init__(
        self,
        now: Callable[[], float],
        show: Callable[[Campaign], BaseModel],
        polls: dict[str, Callable[[], Awaitable[BaseModel]]],
    ) -> None:
        """`show` gives the data of a campaign's event, `polls` the polled tables by topic."""
        self._now = now
        self._show = show
        self._polls = polls
        self._run = secrets.token_hex(4)
        self._revision = 0
        self._revisions: dict[str, tuple[int, Campaign]] = {}
        """By campaign, the oldest change first."""
        self._forgotten = 0
        """The newest revision that is not in there any more."""
        self._clients: set[Client] = set()
        self._watched: dict[str, int] = {}
        """Devices that somebody looks at, and how many do."""
        self._dirty: dict[str, Campaign] = {}
        self._dirty_devices: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    # -- what the engine tells ---

    def campaign_changed(self, campaign: Campaign, _old: str) -> None:
        """A campaign has another status."""
        self._mark(campaign)

    def member_changed(self, member: Member, _old: str) -> None:
        """A device in a campaign has another status or reason."""
        self._mark(member.campaign)
        if self._watched and member.device in self._watched:
            self._dirty_devices.add(member.device)

    def campaign_removed(self, campaign: str) -> None:
        """A campaign is not there any more: whoever shows it reads anew."""
        self._dirty.pop(campaign, None)
        revision, _ = self._revisions.pop(campaign, (0, None))
        self._forgotten = max(self._forgotten, revision)
        now = asyncio.get_running_loop().time()
        for client in self._clients:
            if client.topic.kind == "campaigns" or client.topic == Topic("campaign", campaign):
                client.pending.pop(campaign, None)
                client.put("removed", event("changed", Changed(topic=client.topic.kind)), now)

    def device_changed(self, device: str) -> None:
        """Something else is new about a device, by identity."""
        if device in self._watched:
            self._dirty_devices.add(device)
            self._arm()

    def _mark(self, campaign: Campaign) -> None:
        if campaign.id not in self._dirty:
            self._dirty[campaign.id] = campaign
            self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._clients and not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(PACE, self._flush)

    def _flush(self) -> None:
        """Make events of what has changed."""
        self._timer = None
        dirty, self._dirty = self._dirty, {}
        devices, self._dirty_devices = self._dirty_devices, set()
        for campaign in dirty.values():
            self._revise(campaign)
        now = asyncio.get_running_loop().time()
        self._tell(dirty, now)
        for client in self._clients:
            if client.topic.kind == "device" and client.topic.name in devices:
                client.put("device", event("changed", Changed(topic="device")), now)

    def _tell(self, dirty: dict[str, Campaign], now: float) -> None:
        everything = len(dirty) > MAX_EVENTS
        rendered: dict[str, bytes] = {}

        def shown(key: str) -> bytes:
            if key not in rendered:
                rendered[key] = self._event(dirty[key])
            return rendered[key]

        for client in self._clients:
            kind, name = client.topic.kind, client.topic.name
            if kind == "campaign" and name in dirty:
                client.put(name, shown(name), now)
            elif kind == "campaigns" and everything:
                again = event("changed", Changed(topic="campaigns"), self._id(self._revision))
                client.put("campaigns", again, now)
            elif kind == "campaigns":
                for key in dirty:
                    client.put(key, shown(key), now)

    def _revise(self, campaign: Campaign) -> None:
        self._revision += 1
        self._revisions.pop(campaign.id, None)
        self._revisions[campaign.id] = (self._revision, campaign)
        if len(self._revisions) > REMEMBERED:
            first = next(iter(self._revisions))
            self._forgotten = self._revisions.pop(first)[0]

    def _event(self, campaign: Campaign) -> bytes:
        """How a campaign is now, under the number of its last change."""
        revision, _ = self._revisions.get(campaign.id, (self._revision, campaign))
        return event("campaign", self._show(campaign), self._id(revision))

    def _id(self, revision: int) -> str:
        return f"{self._run}-{revision}"

    # -- clients ---

    @property
    def clients(self) -> int:
        """How many feeds are open."""
        return len(self._clients)

    def open(self, topic: Topic, last_id: str = "") -> Client:
        """A new client, who will get what has changed since `last_id`. Raises FeedFull."""
        if self._stopped or len(self._clients) >= MAX_CLIENTS:
            raise FeedFull
        client = Client(topic, self._polls.get(topic.kind))
        now = asyncio.get_running_loop().time()
        if not self._clients:
            # What was marked while nobody looked. With others there, a flush is under way already.
            for campaign in self._dirty.values():
                self._revise(campaign)
            self._dirty.clear()
        missed = self._missed(topic, last_id)
        hello = Hello(now=self._now(), fresh=missed is None)
        # Whoever is still to get what it missed has not come as far as the newest revision.
        number = "" if missed else self._id(self._revision)
        client.put("hello", event("hello", hello, number), now)
        for campaign in missed or ():
            client.put(campaign.id, self._event(campaign), now)
        self._clients.add(client)
        if topic.kind == "device":
            self._watched[topic.name] = self._watched.get(topic.name, 0) + 1
        return client

    def _missed(self, topic: Topic, last_id: str) -> list[Campaign] | None:
        """The campaigns of a topic that have changed since an id, in the order of their change;
        None when that is not known."""
        run, _, number = last_id.partition("-")
        if run != self._run or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            return None
        if topic.kind not in ("campaigns", "campaign") or int(number) < self._forgotten:
            return None
        found: list[Campaign] = []
        for revision, campaign in reversed(self._revisions.values()):
            if revision <= int(number):
                break
            if topic.kind == "campaigns" or campaign.id == topic.name:
                found.append(campaign)
        return found[::-1] if len(found) <= MAX_EVENTS else None

    def close(self, client: Client) -> None:
        """The client is gone."""
        client.close()
        if client not in self._clients:
            return
        self._clients.discard(client)
        if client.topic.kind == "device":
            left = self._watched[client.topic.name] - 1
            if left:
                self._watched[client.topic.name] = left
            else:
                del self._watched[client.topic.name]

    def stop(self) -> None:
        """End every feed, so that the listener can close."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for client in self._clients:
            client.close()

    async def stream(self, client: Client) -> AsyncIterator[bytes]:
        """What is sent to a client, until it is dropped or gone, or the backend stops."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + BEAT
        polled, shown = loop.time(), ""
        try:
            while not client.closed:
                if client.pending:
                    waiting = b"".join(client.pending.values())
                    client.pending.clear()
                    client.wake.clear()
                    yield waiting
                if client.poll is not None and loop.time() >= polled:
                    polled = loop.time() + POLL
                    table = (await client.poll()).model_dump_json()
                    if table != shown:
                        shown = table
                        yield event("table", table)
                if loop.time() >= beat:
                    beat = loop.time() + BEAT
                    # The comment is for whoever watches the connection; the event for the page.
                    yield b": beat\n" + event("clock", Clock(now=self._now()))
                due = beat if client.poll is None else min(beat, polled)
                await _woken(client.wake, due - loop.time())
        finally:
            self.close(client)


async def _woken(wake: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await wake.wait()
    except TimeoutError:
        pass
