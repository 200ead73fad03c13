"""Callbacks as one object: registering a listener, what waits for it, what it got."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from sqlalchemy import Connection

from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from tools.backend.callbacks import rows
from tools.backend.callbacks.delivery import Delivery, sockets, tls_context
from tools.backend.callbacks.listeners import Listeners, check_url
from tools.backend.callbacks.outbox import Outbox
from tools.backend.callbacks.rows import Key, Listener, Message
from tools.backend.campaigns.engine import CampaignEngine, Record
from tools.backend.errors import BackendError
from tools.backend.inventory import Firmware
from tools.backend.store.writer import Writer
from tools.backend.timing import DAY, BackendTime, CampaignTiming

KEPT = 7 * DAY
"""How long a message that was delivered or dropped can be looked at; ours."""

SWEEP = 3600.0
"""Seconds between two looks for what is too old."""

MAX_LISTED = 1_000
"""Messages in one list, as on any page of the API."""

DEREGISTERED = "the listener was deregistered"


class NoNetwork(BackendError):
    """Virtual time has no network of its own for callbacks."""


class Callbacks:
    """Listeners, outbox and delivery of one backend."""

    def __init__(
        self,
        runtime: Runtime,
        writer: Writer,
        time: BackendTime,
        timing: CampaignTiming,
        engine: CampaignEngine,
        record: Record,
        *,
        authorities: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`authorities` is a PEM file with further certificate authorities; `transport` takes the
        place of the network, which virtual time has none of. Raises CertificatesRefused."""
        self._writer = writer
        self._time = time
        self._wheel = runtime.wheel
        self._virtual = runtime.clock.virtual
        self._injected = transport
        # What is wrong with the file is said now; the system's authorities are read when the first
        # message is sent, for many a backend has no listener.
        self._context = None if authorities is None else tls_context(authorities)
        self._listeners = Listeners()
        self._delivery = Delivery(
            writer, time, runtime.wheel, self._listeners, record, self._transport
        )
        self._outbox = Outbox(
            writer,
            time,
            runtime.wheel,
            lambda campaign_id: engine.book.campaigns.get(campaign_id),
            timing.publication,
            self._delivery.add,
        )
        self._waiting: list[Message] = []
        self._sweeper = Timer(lambda _now: self._sweep())
        engine.observers.append(self._outbox)
        engine.on_create = self._outbox.campaign_created

    async def _transport(self) -> httpx.AsyncBaseTransport:
        if self._injected is not None:
            return self._injected
        if self._virtual:
            return httpx.MockTransport(_no_network)
        if self._context is None:
            # The authorities of the system take a tenth of a second to read.
            self._context = await asyncio.to_thread(tls_context, None)
        return sockets(self._context)

    # -- life ---

    def load(self, connection: Connection) -> None:
        """Read what a former run left."""
        self._listeners.load(connection)
        for key in self._listeners:
            self._outbox.open(key)
        orphans = self._outbox.load(connection)
        for message in rows.load_waiting(connection):
            if message.key in self._listeners:
                self._waiting.append(message)
            else:
                orphans.add(message.key)
        # A kill may have come before the second half of a deregistration.
        for key in orphans:
            _erase(connection, key, self._time.now())

    def start(self) -> None:
        """Deliver from now on."""
        waiting, self._waiting = self._waiting, []
        self._delivery.add(waiting)
        self._outbox.start()
        self._sweep()

    async def stop(self) -> None:
        """Deliver no more; what is undelivered stays in the store."""
        self._wheel.disarm(self._sweeper)
        self._outbox.stop()
        await self._delivery.stop()

    def _sweep(self) -> None:
        """Forget what was finished long ago."""
        now = self._time.now()
        self._writer.submit_row(rows.PURGE_MESSAGES, {"b_oldest": now - KEPT})
        self._time.arm(self._wheel, self._sweeper, now + SWEEP)

    # -- listeners ---

    def listener(self, account: str, version: int) -> Listener | None:
        """Who listens for an account in a version of the API."""
        return self._listeners.get((account, version))

    async def register(self, account: str, version: int, url: str) -> Listener:
        """Register a listener, durably, in the place of a former one. Messages that wait go to the
        new address; a try that is under way is finished at the old one. Raises RequestRefused."""
        listener = Listener(account, version, check_url(url), self._time.now())
        row = {
            "account": account,
            "version": version,
            "url": url,
            "registered": listener.registered,
        }

        def write(connection: Connection) -> None:
            connection.execute(rows.PUT_LISTENER, row)

        await self._writer.submit(write)
        self._listeners.put(listener)
        self._outbox.open(listener.key)
        self._delivery.hurry(listener.key)
        return listener

    async def change(self, account: str, version: int, url: str) -> Listener:
        """The same for a listener that there is. Raises RequestRefused without one."""
        self._listeners.named((account, version))
        return await self.register(account, version, url)

    async def deregister(self, account: str, version: int) -> None:
        """Remove a listener, durably. What it did not get is dropped: nobody wants it any more, and
        whoever registers later has not asked for it. Raises RequestRefused without one."""
        key = (account, version)
        self._listeners.named(key)
        now = self._time.now()

        def write(connection: Connection) -> None:
            connection.execute(rows.DROP_LISTENER, rows.key_of(key))
            _erase(connection, key, now)

        await self._writer.submit(write)
        self._listeners.drop(key)
        self._outbox.close(key)
        self._delivery.remove(key)
        # What was made between that commit and this line.
        self._writer.submit_nowait(lambda connection: _erase(connection, key, now))

    # -- firmware ---

    def announce(self, firmware: Firmware) -> None:
        """Firmware is about to be in the catalogue: call it before that is submitted."""
        self._outbox.announce(firmware)

    # -- what administrators see ---

    def pending(self, limit: int = MAX_LISTED) -> list[Message]:
        """Messages that wait, the oldest of each listener first."""
        return sorted(self._delivery.waiting(), key=lambda message: message.number)[:limit]

    async def recent(
        self, limit: int = MAX_LISTED, *, account: str | None = None, state: str | None = None
    ) -> list[Message]:
        """The newest messages, newest first, of one account or in one state where that is asked;
        those that were delivered or dropped for a week."""
        limit = max(0, min(limit, MAX_LISTED))
        return await self._writer.read(
            lambda connection: rows.load_recent(connection, limit, account, state)
        )

    def counters(self) -> dict[str, int]:
        """For metrics. `listeners` and `waiting` are of now, the others since the start: messages
        `composed`, `delivered` and `dropped`, and `failed` tries."""
        counts = self._delivery.counts
        return {
            "listeners": len(self._listeners),
            "waiting": sum(1 for _ in self._delivery.waiting()),
            "composed": self._outbox.composed,
            **{name: counts[name] for name in (rows.DELIVERED, rows.DROPPED, "failed")},
        }


def _erase(connection: Connection, key: Key, now: float) -> None:
    """Nobody is to get what waits for a listener."""
    connection.execute(rows.DROP_CHANGES, rows.key_of(key))
    ended = {"b_finished": now, "b_error": DEREGISTERED}
    connection.execute(rows.DROP_MESSAGES, {**rows.key_of(key), **ended})


def _no_network(_request: httpx.Request) -> httpx.Response:
    raise NoNetwork("give the config a callback_transport")
