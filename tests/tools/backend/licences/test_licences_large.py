"""A hundred thousand licences in one call: whoever else asks is not kept waiting.

Not timed: a task that only counts its turns stands for everybody else. It has one at least for each
part of the list, when the list is worked off and when the answer is made.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from agent.runtime.runtime import Runtime
from tests.tools.backend.licence_office import ACCOUNT, IMEI
from tests.tools.backend.rest_client import logged_in
from tools.backend.backend import Backend, BackendConfig
from tools.backend.inventory import MONTHLY_BILLED
from tools.backend.licences.service import PART
from tools.backend.store import tables

COUNT = 100_000
V1 = "/api/fota/v1"


class Turns:
    """Somebody else, who wants a turn as often as he can get one."""

    def __init__(self) -> None:
        self.had = 0

    async def take(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.had += 1


@asynccontextmanager
async def beside() -> AsyncIterator[Turns]:
    turns = Turns()
    task = asyncio.ensure_future(turns.take())
    try:
        yield turns
    finally:
        task.cancel()


async def ask(api: httpx.AsyncClient, what: str, devices: list[str]) -> Any:
    """One call with all devices; somebody else has his turns meanwhile."""
    body = json.dumps({"deviceList": devices}).encode()
    async with beside() as turns:
        answer = await api.post(f"{V1}/licenses/{ACCOUNT}/{what}", content=body)
    assert answer.status_code == 200, answer.text
    assert turns.had >= 2 * COUNT // PART
    return answer.json()


async def recount(backend: Backend, table: Any) -> int:
    query = select(func.count()).select_from(table)
    return await backend.writer.read(lambda connection: connection.execute(query).scalar_one())


async def test_a_hundred_thousand_devices_in_one_call(tmp_path: Path) -> None:
    config = BackendConfig(account=ACCOUNT, db=str(tmp_path / "b.db"))
    devices = [str(IMEI + number) for number in range(COUNT)]
    async with Runtime.in_memory() as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        try:
            await backend.load_devices({"deviceId": device} for device in devices)
            await backend.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, COUNT - 1)
            async with logged_in(backend) as api:
                found = await ask(api, "assign", devices)
                assert Counter(item["status"] for item in found["deviceList"]) == {
                    "LicenseAssignSuccess": COUNT - 1,
                    "LicenseAssignFailed": 1,
                }
                assert found["licUsedCount"] == await recount(backend, tables.licences) == COUNT - 1
                found = await ask(api, "cancel", devices[::-1])
                assert found["count"] == await recount(backend, tables.cancellations) == COUNT
                assert found["deviceList"] == devices[::-1]
                # The subscription ends for all but one: that with the oldest licence, because the
                # list names him last.
                async with beside() as turns:
                    await backend.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 1)
                assert turns.had >= COUNT // PART
                held = backend.licences.from_index(ACCOUNT, 0)
                assert [licence.device_id for licence in held] == devices[:1]
                assert await recount(backend, tables.licences) == 1
                found = await ask(api, "remove", devices)
                assert Counter(item["Reason"] for item in found["deviceList"]) == {
                    "Success": 1,
                    "No license attached to device": COUNT - 1,
                }
                assert await recount(backend, tables.licences) == 0
        finally:
            await backend.stop()
