"""What HTTP devices leave behind for their owner: check-in history and verbose logs.

Both are kept for 30 days. Which devices log is held in memory, because every check-in asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select

from agent.runtime.wheel import Timer, TimerWheel
from tools.backend.inventory import Device, Inventory
from tools.backend.refusals import Refusal
from tools.backend.store import rows as store
from tools.backend.store import tables
from tools.backend.store.writer import Writer
from tools.backend.timing import DAY, BackendTime, CampaignTiming

MAX_LOGGING = 20
"""Devices of an account with verbose logging [documented]."""

LOGGING_LIFE = 7 * DAY
"""From switching it on to its end [documented]."""

KEPT = 30 * DAY
"""How long logs [documented] and check-ins are kept."""

MAX_LOGS = 1_000
"""Entries of one device: some 30 a day, and no device can fill the store."""

PAGE_LOGS = 1_000
"""Entries in one answer, as everywhere in the API."""

SWEEP = 6 * 3600.0
"""Seconds between two looks for what is too old."""


class DeviceLogs:
    """Verbose logging, uploaded logs and the history of check-ins."""

    def __init__(
        self,
        writer: Writer,
        inventory: Inventory,
        time: BackendTime,
        timing: CampaignTiming,
        wheel: TimerWheel,
    ) -> None:
        self._writer = writer
        self._inventory = inventory
        self._time = time
        self._timing = timing
        self._wheel = wheel
        self._expires: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._timer = Timer(lambda _now: self._sweep())

    # -- life ---

    def load(self, connection: Connection) -> None:
        """Read what a former run left, without what is too old."""
        self._purge(connection)
        for row in connection.execute(select(tables.logging)):
            self._expires[row.device] = row.expires
        query = select(tables.logs.c.device, func.count()).group_by(tables.logs.c.device)
        self._counts = Counter({name: count for name, count in connection.execute(query)})

    def start(self) -> None:
        """Sweep from now on."""
        self._time.arm(self._wheel, self._timer, self._time.now() + SWEEP)

    def stop(self) -> None:
        """Sweep no more."""
        self._wheel.disarm(self._timer)

    def _purge(self, connection: Connection) -> Counter[str]:
        oldest = self._time.now() - KEPT
        connection.execute(delete(tables.check_ins).where(tables.check_ins.c.time < oldest))
        connection.execute(delete(tables.reports).where(tables.reports.c.time < oldest))
        connection.execute(delete(tables.logging).where(tables.logging.c.expires < oldest))
        old = tables.logs.c.stored < oldest
        query = select(tables.logs.c.device, func.count()).where(old).group_by(tables.logs.c.device)
        gone = Counter({name: count for name, count in connection.execute(query)})
        connection.execute(delete(tables.logs).where(old))
        return gone

    def _sweep(self) -> None:
        def purged(gone: Any, error: Exception | None) -> None:
            if error is None:
                self._counts -= gone

        self._writer.submit_nowait(self._purge, purged)
        self.start()

    # -- verbose logging ---

    def until(self, device: str) -> float | None:
        """When the logging of a device ends; None when it is off."""
        expires = self._expires.get(device)
        return expires if expires is not None and expires > self._time.now() else None

    def logging(self, account: str) -> list[tuple[Device, float]]:
        """The devices of an account that log, with the end of each, by device id."""
        found = []
        for name in self._expires:
            device = self._inventory.devices.get(name)
            expires = self.until(name)
            if device is not None and device.account == account and expires is not None:
                found.append((device, expires))
        return sorted(found, key=lambda item: item[0].device_id)

    async def enable(self, account: str, devices: Iterable[Device]) -> None:
        """Switch logging on, or renew it. Raises RequestRefused beyond 20, with nothing changed."""
        wanted = {device.name for device in devices}
        now = wanted | {device.name for device, _ in self.logging(account)}
        if len(now) > MAX_LOGGING:
            raise Refusal.TOO_MANY_LOGGING(limit=MAX_LOGGING)
        expires = self._time.now() + LOGGING_LIFE
        rows = [{"device": name, "expires": expires} for name in sorted(wanted)]
        self._expires.update((name, expires) for name in wanted)
        if rows:
            await self._writer.submit(partial(_put_logging, rows=rows))

    async def disable(self, devices: Iterable[Device]) -> None:
        """Switch logging off, where it is on."""
        names = [device.name for device in devices if self._expires.pop(device.name, None)]
        if names:
            await self._writer.submit(partial(_drop_logging, names=names))

    def forget(self, device: str) -> None:
        """The device is gone, from the store too."""
        self._expires.pop(device, None)
        self._counts.pop(device, None)

    # -- what devices send ---

    def full(self, device: str) -> bool:
        """Whether the store takes no more entries of a device."""
        return self._counts[device] >= MAX_LOGS

    async def add(self, device: str, row: Mapping[str, Any]) -> None:
        """Store one log entry, durably."""
        self._counts[device] += 1
        values = {**row, "device": device, "stored": self._time.now()}
        await self._writer.submit(lambda connection: connection.execute(store.ADD_LOG, values))

    async def logs(self, device: str) -> Sequence[RowMapping]:
        """The entries of a device that may be read by now, newest first."""
        columns = tables.logs.c
        ripe = self._time.now() - self._timing.log_delay
        query = (
            select(tables.logs)
            .where(columns.device == device)
            .where(columns.stored <= ripe)
            .where(columns.stored >= self._time.now() - KEPT)
            .order_by(columns.stored.desc(), columns.number.desc())
            .limit(PAGE_LOGS)
        )
        return await self._writer.read(
            lambda connection: connection.execute(query).mappings().all()
        )

    async def check_ins(self, device: str) -> Sequence[RowMapping]:
        """The check-ins of a device, newest first."""
        columns = tables.check_ins.c
        query = (
            select(tables.check_ins)
            .where(columns.device == device)
            .where(columns.time >= self._time.now() - KEPT)
            .order_by(columns.time.desc(), columns.number.desc())
            .limit(PAGE_LOGS)
        )
        return await self._writer.read(
            lambda connection: connection.execute(query).mappings().all()
        )


def _put_logging(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(store.PUT_LOGGING, rows)


def _drop_logging(connection: Connection, names: list[str]) -> None:
    # At most MAX_LOGGING names: within the limit of bound parameters.
    connection.execute(delete(tables.logging).where(tables.logging.c.device.in_(names)))
