"""Licences on a store of their own, without a backend: what they ask of campaigns is scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from sqlalchemy import Connection, func, insert, select

from agent.runtime.runtime import Runtime
from tools.backend.inventory import MONTHLY_BILLED, Account, Device, Inventory
from tools.backend.licences.service import Licences
from tools.backend.store import rows as store
from tools.backend.store import tables
from tools.backend.store.runners import Runner, SyncRunner
from tools.backend.store.schema import open_schema
from tools.backend.store.writer import Writer
from tools.backend.timing import BackendTime

ACCOUNT = "0242078689-00001"
OTHER = "0242078689-00002"
IMEI = 350000000000000


def ids(*numbers: int) -> list[str]:
    """The device ids of devices by number."""
    return [str(IMEI + number) for number in numbers]


class Campaigns:
    """Says what it is told to say, and remembers what it is told."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.released: list[str] = []

    def in_progress(self, name: str) -> bool:
        return name in self.running

    def release(self, names: Iterable[str]) -> None:
        self.released.extend(names)


class Office:
    """Licences of two accounts; `restart` opens them again as after kill -9."""

    def __init__(self, runtime: Runtime, runner: Runner, devices: int) -> None:
        self.runtime = runtime
        self.runner = runner
        self.inventory = Inventory()
        self.campaigns = Campaigns()
        for number in range(devices):
            self.inventory.add_device(device(number))
        self.inventory.add_device(device(devices + 1000, account=OTHER))
        self.open()

    def open(self) -> None:
        """What a start does: everything in memory is read from the store."""
        self.writer = Writer(self.runner)
        self.time = BackendTime(self.runtime.clock)
        self.licences = Licences(self.writer, self.inventory, self.time, self.campaigns)
        self.runner.run_inline(self._load)
        self.licences.resume()

    def _load(self, connection: Connection) -> None:
        for account in store.load_accounts(connection):
            self.inventory.accounts[account.name] = account
        self.licences.load(connection)

    @property
    def account(self) -> Account:
        return self.inventory.accounts[ACCOUNT]

    async def assigned(self, *numbers: int) -> list[str]:
        """Assign licences; the verdicts, in words."""
        return words(await self.licences.assign(self.account, ids(*numbers)))

    async def removed(self, *numbers: int) -> list[str]:
        return words(await self.licences.remove(self.account, ids(*numbers)))

    def granted(self, devices: Iterable[Device]) -> bool:
        """Assign licences as a campaign does, which stores them with itself."""
        grant = self.licences.auto_assign(ACCOUNT, devices)
        if grant is not None:
            self.writer.submit_nowait(grant.write, lambda _result, error: grant.settled(error))
        return grant is not None

    def holders(self) -> list[int]:
        """The devices that have a licence, by number, in the order of assignment."""
        held = self.licences.from_index(ACCOUNT, 0)
        return [int(licence.device_id) - IMEI for licence in held]

    def stored(self) -> list[int]:
        """The same, recounted in the store."""
        query = select(tables.licences).order_by(tables.licences.c.number)
        rows = self.runner.run_inline(lambda connection: connection.execute(query).all())
        return [int(row.device_id) - IMEI for row in rows if row.account == ACCOUNT]

    def listed(self) -> list[int]:
        """The cancellation list of the store, by number of the device."""
        columns = tables.cancellations.c
        query = select(columns.device_id).order_by(columns.number)
        found = self.runner.run_inline(lambda connection: connection.execute(query).scalars().all())
        return [int(text) - IMEI for text in found]

    def count(self) -> int:
        query = select(func.count()).select_from(tables.licences)
        return int(self.runner.run_inline(lambda connection: connection.execute(query).scalar()))


def words(results: Iterable[object]) -> list[str]:
    return [result.verdict.value for result in results]  # type: ignore[attr-defined]


def device(number: int, account: str = ACCOUNT) -> Device:
    device_id = str(IMEI + number)
    return Device(
        name=f"urn:imei:{device_id}",
        account=account,
        device_id=device_id,
        make="fotilla",
        model="virtual",
        firmware="1.0.0",
        delivery="push",
        created=0.0,
        updated=0.0,
    )


def _seed(connection: Connection, purchase_type: str, count: int) -> None:
    open_schema(connection)
    for name in (ACCOUNT, OTHER):
        account = Account(name, "secret", False, purchase_type, count)
        connection.execute(insert(tables.accounts), store.row_of(account))


@asynccontextmanager
async def office(
    total: int = 3, devices: int = 10, purchase_type: str = MONTHLY_BILLED
) -> AsyncIterator[Office]:
    """Two accounts that have subscribed to `total` licences each, and devices of the first."""
    runner = SyncRunner(":memory:")
    runner.run_inline(lambda connection: _seed(connection, purchase_type, total))
    async with Runtime.in_memory() as runtime:
        opened = Office(runtime, runner, devices)
        yield opened
        await opened.writer.flushed()
    await runner.close()
