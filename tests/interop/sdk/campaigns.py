"""What the campaigns of both versions share: devices of ours, packages, and waiting.

Packages and the inventory come from the admin API, since the SDK has no operation for them.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.credentials import Credential
from tests.busy import ANY_LAG
from tests.interop.images import FACTORY, FACTORY_COUNTER, KEY, SLOT_SIZE, VERSION, signed
from tests.interop.sdk.customer import Customer, Refused
from tests.interop.sdk.served import NOT_SERVED
from tests.tools.backend.process import BackendProcess, ok
from tools.fleet.shard import Shard, open_shard
from tools.fleet.spec import FleetSpec

IMAGE = signed(counter=FACTORY_COUNTER + 1)
DEVICES = 6
NOTE = "first release"

LIMIT = 60.0
"""Seconds until a campaign has failed; it takes three."""

IDS = [str(350000000000000 + number) for number in range(DEVICES)]
NAMES = [f"urn:imei:{one}" for one in IDS]
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Case:
    """The SDK, the account, and the day on which it all begins."""

    sdk: Customer
    account: str
    start: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    @property
    def call(self) -> Callable[..., Awaitable[Any]]:
        return self.sdk.call

    @property
    def today(self) -> datetime.date:
        return self.start.date()

    @property
    def tomorrow(self) -> datetime.date:
        return self.today + DAY

    @property
    def last(self) -> datetime.date:
        return self.today + 2 * DAY


async def stock(backend: BackendProcess, protocol: str) -> tuple[Credential, ...]:
    """A package and devices; the credentials of those that need some."""
    what = {"name": "app", "version": VERSION, "versionFrom": "1.0.0", "releaseNote": NOTE}
    async with backend.administrator() as admin:
        await ok(
            await admin.put("/admin/firmware", params={**what, "protocol": protocol}, content=IMAGE)
        )
        records: list[dict[str, str]] = [{"deviceId": one, "protocol": protocol} for one in IDS]
        if protocol == "LWM2M":
            for index, record in enumerate(records):
                record["delivery"] = ("push", "pull")[index % 2]
        await ok(await admin.put("/admin/devices", json=records))
        if protocol != "HTTP":
            return ()
        minted = await ok(await admin.post("/admin/devices/tokens", json={"names": NAMES}))
        return tuple(Credential(token=minted["tokens"][name]) for name in NAMES)


@asynccontextmanager
async def powered(server: str, protocol: str, **more: Any) -> AsyncIterator[Shard]:
    spec = FleetSpec(
        server=server,
        devices=DEVICES,
        names=tuple(NAMES),
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
        assert await shard.until_registered(LIMIT)
        yield shard
        await shard.power_off()


async def until(read: Callable[[], Awaitable[Any]], statuses: Collection[str]) -> Any:
    """The campaign, once it is in one of these."""
    async with asyncio.timeout(LIMIT):
        while (campaign := await read()).status not in statuses:
            await asyncio.sleep(0.2)
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
    served = {
        name
        for name, operation in customer.operations.items()
        if operation.version == version and name not in NOT_SERVED
    }
    assert served <= customer.answered, served - customer.answered
