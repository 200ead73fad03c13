"""kill -9 in the middle of many requests about licences, on real sockets.

What was answered is there after the restart, nobody has more than he pays for, and the figures of
the API equal a recount of the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.licence_office import ids
from tests.tools.backend.process import BackendProcess, ok
from tools.backend.backend import Backend, BackendConfig
from tools.backend.config import Listen
from tools.backend.inventory import MONTHLY_BILLED

TOTAL = 1_500
DEVICES = 2_000
AT_ONCE = 100  # devices of one request
LIMIT = 120.0  # seconds; only a backend that is stuck takes them


def stored_licences(process: BackendProcess) -> list[str]:
    """Who has a licence, by the database of a backend that is not running."""
    with contextlib.closing(sqlite3.connect(process.database)) as connection:
        rows = connection.execute("SELECT device_id FROM licences ORDER BY number").fetchall()
    return [str(row[0]) for row in rows]


class Requests:
    """Many requests at a time; after some answers the backend is killed."""

    def __init__(self, process: BackendProcess, api: httpx.AsyncClient, deadly: int) -> None:
        self.process = process
        self.api = api
        self.deadly = deadly
        self.answers = 0

    async def ask(self, what: str, devices: Sequence[str], good: str) -> set[str]:
        """The devices that the answer says it went well for; none without an answer."""
        account = self.process.ready["account"]["name"]
        try:
            answer = await self.api.post(
                f"/api/fota/v3/licenses/{account}/{what}", json={"deviceList": list(devices)}
            )
        except httpx.TransportError:
            return set()  # killed before the answer
        found = await ok(answer)
        self.answers += 1
        if self.answers == self.deadly:
            self.process.kill()
        return {item["deviceId"] for item in found["deviceList"] if item["status"] == good}

    async def all(self, what: str, devices: Sequence[str], good: str) -> set[str]:
        parts = [devices[start : start + AT_ONCE] for start in range(0, len(devices), AT_ONCE)]
        return set().union(*await asyncio.gather(*(self.ask(what, part, good) for part in parts)))


async def holders(process: BackendProcess, api: httpx.AsyncClient) -> list[str]:
    """Everybody who has a licence, by the API, page by page; the figures must agree."""
    account = process.ready["account"]["name"]
    seen: list[str] = []
    last_seen = "0"
    while True:
        url = f"/api/fota/v3/licenses/{account}?lastSeenDeviceId={last_seen}"
        page = await ok(await api.get(url))
        seen += [item["deviceId"] for item in page["deviceList"]]
        last_seen = page["lastSeenDeviceId"]
        if not page["hasMoreData"]:
            break
    subscription = await ok(await api.get(f"/api/fota/v1/subscriptions/{account}"))
    assert len(seen) == page["assignedLicenses"] == subscription["licenseUsedCount"]
    assert subscription["licenseCount"] == TOTAL
    return seen


async def prepare(process: BackendProcess, devices: Sequence[str]) -> None:
    """What the requests are about, put into the database that the process will open."""
    async with Runtime.in_memory() as runtime:
        backend = Backend(
            runtime, BackendConfig(db=process.database, listen={"coap": Listen(("10.0.0.1", 5683))})
        )
        await backend.start()
        try:
            await backend.load_devices({"deviceId": device} for device in devices)
            account = backend.account.name
            await backend.licences.set_subscription(account, MONTHLY_BILLED, TOTAL)
        finally:
            await backend.stop()


@pytest.mark.parametrize("deadly", [1, 9])
async def test_figures_after_kill_equal_a_recount(tmp_path: Path, deadly: int) -> None:
    process = BackendProcess(tmp_path)
    devices = ids(*range(DEVICES))
    async with asyncio.timeout(LIMIT):
        try:
            await prepare(process, devices)
            await process.start()
            async with process.login() as api:
                assigned = await Requests(process, api, deadly).all(
                    "assign", devices, "LicenseAssignSuccess"
                )
            assert process.killed
            stored = stored_licences(process)
            assert assigned <= set(stored)
            assert len(assigned) >= deadly * AT_ONCE
            assert len(set(stored)) == len(stored) <= TOTAL

            await process.start()
            async with process.login() as api:
                held = await holders(process, api)
                assert held == stored
                removed = await Requests(process, api, deadly).all(
                    "remove", held, "LicenseRemoveSuccess"
                )
            stored = stored_licences(process)
            assert len(removed) >= min(deadly * AT_ONCE, len(held))
            assert not removed & set(stored)
            assert set(stored) <= set(held)
        finally:
            if process.process is not None:
                process.process.kill()
                process.process.wait()
