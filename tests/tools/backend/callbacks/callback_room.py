"""Callbacks on a store of their own, without the rest of a backend; and a listener with a script.

The engine is only what callbacks ask of it: a book of campaigns and a list of observers. What the
engine does around a change, telling first and submitting then, `Room` does here.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from sqlalchemy import Connection, insert, select

from agent.runtime.runtime import Runtime
from tools.backend.callbacks.rows import Message
from tools.backend.callbacks.service import Callbacks
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FIRMWARE_V1, FIRMWARE_V3, SOFTWARE_V2, CampaignKind
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.store import tables
from tools.backend.store.database import parse_database
from tools.backend.store.runners import open_runner
from tools.backend.store.writer import Writer
from tools.backend.timing import BackendTime, timing

ACCOUNT = "0242078689-00001"
URL = "https://listener.example/fota"
KINDS = {1: FIRMWARE_V1, 2: SOFTWARE_V2, 3: FIRMWARE_V3}
SILENT = -1
"""An answer that never comes."""
BROKEN = -2
"""A connection that breaks."""


@dataclass
class Arrival:
    """A message as a listener got it."""

    when: float
    url: str
    number: int
    body: dict[str, Any]
    answer: int

    @property
    def accepted(self) -> bool:
        return 200 <= self.answer < 300


@dataclass
class ScriptedListener(httpx.AsyncBaseTransport):
    """Every listener there is. `script` has the next answers, `answer` all others; a dictionary in
    `hosts` goes before both."""

    now: Callable[[], float] = lambda: 0.0
    script: deque[int] = field(default_factory=deque)
    answer: int = 200
    hosts: dict[str, int] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        answer = self.hosts.get(request.url.host)
        if answer is None:
            answer = self.script.popleft() if self.script else self.answer
        number = int(request.headers["x-message-id"])
        self.arrivals.append(
            Arrival(self.now(), str(request.url), number, json.loads(body), answer)
        )
        if answer == SILENT:
            await asyncio.sleep(1e6)
        if answer == BROKEN:
            raise httpx.ReadError("broken")
        return httpx.Response(answer, content=b"thanks")

    @property
    def accepted(self) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.accepted]


def campaign_of(kind: CampaignKind, name: str = "c1", account: str = ACCOUNT) -> Campaign:
    return Campaign(
        id=name,
        number=1,
        account=account,
        kind=kind,
        title="",
        protocol="LWM2M",
        package="app",
        digest="",
        version_from="1",
        version_to="2",
        make="",
        model="",
        start_date="2030-01-01",
        end_date="2030-01-31",
        windows=(),
        install_windows=(),
        download_after="",
        install_after="",
        path="",
        created=0.0,
        starts=0.0,
        ends=0.0,
        concurrency=1,
        auto_assign=False,
        auto_add=False,
        plan=kind.plan,
        status=states.REQUEST_PENDING,
    )


def member_of(campaign: Campaign, number: int) -> Member:
    device_id = str(990_000_000_000_000 + number)
    return Member(campaign, f"urn:imei:{device_id}", device_id, "push", campaign.kind.accepted)


class Room:
    """One run of callbacks on a database."""

    def __init__(self, runtime: Runtime, path: Path, profile: str, listener: Any) -> None:
        self.runtime = runtime
        self.campaigns: dict[str, Campaign] = {}
        self.writer = Writer(open_runner(parse_database(str(path)), virtual=True))
        self.time = BackendTime(runtime.clock)
        self.journal: list[tuple[str, ...]] = []
        self.engine = SimpleNamespace(observers=[], book=SimpleNamespace(campaigns=self.campaigns))
        self.callbacks = Callbacks(
            runtime,
            self.writer,
            self.time,
            timing(profile),
            self.engine,  # type: ignore[arg-type]
            lambda *line: self.journal.append(line),
            transport=listener,
        )

    async def start(self) -> None:
        def work(connection: Connection) -> None:
            tables.metadata.create_all(connection)
            self.callbacks.load(connection)

        await self.writer.open(work)
        self.callbacks.start()

    async def stop(self) -> None:
        await self.callbacks.stop()
        await self.writer.stop()

    async def kill(self) -> None:
        """Everything in memory is gone, and what was queued is not committed."""
        self.writer._queue.clear()
        self.writer._push = lambda _change: None  # type: ignore[method-assign]
        await self.callbacks.stop()
        await self.writer._runner.close()

    # -- what the engine does ---

    def campaign(self, version: int = 3, name: str = "c1", devices: int = 0) -> Campaign:
        campaign = self.campaigns[name] = campaign_of(KINDS[version], name)
        for number in range(devices):
            member = member_of(campaign, number)
            campaign.members[member.device] = member
        return campaign

    def move(self, campaign: Campaign, status: str) -> None:
        old, campaign.status = campaign.status, status
        for observer in self.engine.observers:
            observer.campaign_changed(campaign, old)

    def change(self, member: Member, status: str, reason: str = "why") -> None:
        old, member.status, member.reason = member.status, status, reason
        member.updated = self.time.now()
        for observer in self.engine.observers:
            observer.member_changed(member, old)

    # -- what is looked at ---

    async def rows(self, table: Any) -> list[Any]:
        def read(connection: Connection) -> list[Any]:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

        return await self.writer.read(read)

    async def queue(self, count: int, version: int = 3) -> list[Message]:
        """Put `count` messages into the outbox, as if they had been composed."""
        now = self.time.now()
        numbers = [next(self.callbacks._outbox._messages) for _ in range(count)]
        await self.writer.submit(
            lambda connection: connection.execute(
                insert(tables.outbox),
                [
                    {
                        "number": number,
                        "account": ACCOUNT,
                        "version": version,
                        "kind": "test",
                        "campaign": "",
                        "body": json.dumps({"n": number}),
                        "state": "waiting",
                        "tries": 0,
                        "created": now,
                        "due": now,
                        "finished": None,
                        "error": "",
                    }
                    for number in numbers
                ],
            )
        )
        made = [
            Message(number, ACCOUNT, version, "test", "", "waiting", 0, now, now, None, "")
            for number in numbers
        ]
        self.callbacks._delivery.add(made)
        return made


@asynccontextmanager
async def room(
    path: Path, profile: str = "immediate", *, register: tuple[int, ...] = (3,)
) -> AsyncIterator[tuple[Room, ScriptedListener]]:
    """Callbacks in virtual time with registered listeners."""
    listener = ScriptedListener()
    async with Runtime.in_memory() as runtime:
        listener.now = runtime.clock.now
        made = Room(runtime, path, profile, listener)
        await made.start()
        for version in register:
            await made.callbacks.register(ACCOUNT, version, URL)
        yield made, listener
        await made.stop()
