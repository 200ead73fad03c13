"""What the campaigns of all versions share: devices of ours, packages, and waiting.

Packages, the inventory, subscriptions and the clock come from the admin API, since the SDK has no
operation for them.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent.credentials import Credential
from tests.busy import ANY_LAG
from tests.interop.images import FACTORY, FACTORY_COUNTER, KEY, SLOT_SIZE, VERSION, signed
from tests.interop.sdk.customer import Customer, Refused
from tests.tools.backend.process import BackendProcess, ok
from tools.fleet.shard import Shard, open_shard
from tools.fleet.spec import FleetSpec

IMAGE = signed(counter=FACTORY_COUNTER + 1)
DEVICES = 6
NOTE = "first release"

LIMIT = 180.0
"""Seconds until a campaign has failed; it takes three."""

FIRST = {"LWM2M": 350000000000000, "HTTP": 350000000000000, "OMADM": 370000000000000}
IDS = [str(FIRST["LWM2M"] + number) for number in range(DEVICES)]
DM_IDS = [str(FIRST["OMADM"] + number) for number in range(DEVICES)]
"""Device ids; those of OMA-DM devices beside others."""
SPARE = "350000000000999"
"""A device that never comes."""
ACCOUNTS = ("account", "acc", "account_name")
"""How operations of the SDK call the account."""
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Case:
    """The SDK, the account, and the backend's day on which it all begins."""

    sdk: Customer
    account: str
    start: datetime.datetime

    async def call(self, operation: str, **arguments: Any) -> Any:
        """An operation for the account, whatever its parameter for that is called."""
        for parameter in self.sdk.operations[operation].parameters:
            if parameter in ACCOUNTS:
                arguments[parameter] = self.account
        return await self.sdk.call(operation, **arguments)

    @property
    def today(self) -> datetime.date:
        return self.start.date()

    @property
    def tomorrow(self) -> datetime.date:
        return self.today + DAY

    @property
    def last(self) -> datetime.date:
        return self.today + 3 * DAY


async def advance(backend: BackendProcess, to: datetime.datetime) -> None:
    async with backend.administrator() as admin:
        await ok(await admin.post("/admin/clock", json={"advanceTo": to.isoformat()}))


async def begun(backend: BackendProcess, customer: Customer) -> Case:
    """The case, at 08:00 UTC: no test runs into midnight."""
    async with backend.administrator() as admin:
        now = datetime.datetime.fromisoformat((await ok(await admin.get("/admin/clock")))["now"])
    start = (now + DAY).replace(hour=8, minute=0, second=0, microsecond=0)
    await advance(backend, start)
    return Case(customer, backend.ready["account"]["name"], start)


async def subscribe(backend: BackendProcess, purchase_type: str, licences: int) -> None:
    path = f"/admin/accounts/{backend.ready['account']['name']}/subscription"
    content = {"purchaseType": purchase_type, "licenseCount": licences}
    async with backend.administrator() as admin:
        await ok(await admin.put(path, json=content))


async def attached(backend: BackendProcess, ids: Sequence[str], cell: str) -> None:
    """Until these devices are in a cell of the operator network."""
    async with backend.administrator() as admin, asyncio.timeout(LIMIT):
        for one in ids:
            while (await ok(await admin.get(f"/admin/devices/{one}")))["cell"] != cell:
                await asyncio.sleep(0.1)


def names_of(protocol: str, ids: Sequence[str]) -> tuple[str, ...]:
    """The identities on the wire."""
    prefix = "IMEI:" if protocol == "OMADM" else "urn:imei:"
    return tuple(f"{prefix}{one}" for one in ids)


async def stock(
    backend: BackendProcess, protocol: str, ids: Sequence[str] = IDS, package: str = "app"
) -> tuple[Credential, ...]:
    """A package and devices; the credentials of those that need some."""
    what = {"name": package, "version": VERSION, "versionFrom": "1.0.0", "releaseNote": NOTE}
    names = names_of(protocol, ids)
    async with backend.administrator() as admin:
        await ok(
            await admin.put("/admin/firmware", params={**what, "protocol": protocol}, content=IMAGE)
        )
        records = [
            {"deviceId": one, "name": name, "protocol": protocol, "firmware": "1.0.0"}
            for one, name in zip(ids, names, strict=True)
        ]
        if protocol != "HTTP":  # both ways that a package can take
            for index, record in enumerate(records):
                record["delivery"] = ("push", "pull")[index % 2]
        await ok(await admin.put("/admin/devices", json=records))
        if protocol == "HTTP":
            minted = await ok(await admin.post("/admin/devices/tokens", json={"names": names}))
            return tuple(Credential(token=minted["tokens"][name]) for name in names)
        if protocol == "OMADM":
            asked = {"names": names, "auth": "md5"}
            made = await ok(await admin.post("/admin/devices/dm-accounts", json=asked))
            return tuple(
                Credential(
                    username=one["username"], password=one["password"], token=one["serverPassword"]
                )
                for one in (made["accounts"][name] for name in names)
            )
    return ()


@asynccontextmanager
async def powered(
    server: str, protocol: str, ids: Sequence[str] = IDS, **more: Any
) -> AsyncIterator[Shard]:
    spec = FleetSpec(
        server=server,
        devices=len(ids),
        names=names_of(protocol.upper(), ids),
        image=IMAGE,
        keys=(KEY.public.to_pem(),),
        running=FACTORY,
        slot_size=SLOT_SIZE,
        protocol=protocol,
        seed=5,
        max_lag=ANY_LAG,
        **more,
    )
    async with open_shard(spec) as shard:
        await shard.start()
        if protocol != "omadm":  # which knows no registration
            assert await shard.until_registered(LIMIT)
        yield shard
        await shard.power_off()


async def until(read: Callable[[], Awaitable[Any]], statuses: Collection[str]) -> Any:
    """The campaign, once it is in one of these."""
    campaign = None
    try:
        async with asyncio.timeout(LIMIT):
            while (campaign := await read()).status not in statuses:
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"not in {set(statuses)}: {campaign}") from None
    return campaign


async def refused(called: Awaitable[Any]) -> Refused:
    try:
        await called
    except Refused as error:
        return error
    raise AssertionError("the SDK got an answer")


def versions(shard: Shard) -> set[str]:
    return {truth.running_version for truth in shard.snapshot().truths}


def assert_all_were_driven(customer: Customer, version: int) -> None:
    """Every operation that the SDK has for this version has been answered with success."""
    known = {
        name for name, operation in customer.operations.items() if operation.version == version
    }
    assert known <= customer.answered, known - customer.answered
