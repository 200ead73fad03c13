"""Killed around the commit of each report, in virtual time: nothing accepted is lost.

The two narrowest gaps: just before the commit (nothing was accepted, and the device repeats itself)
and just after it (it is durable, and the device does not know).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.http_device import HttpDevice
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.config import Listen
from tools.backend.faces.base import Position

NAME = "urn:imei:350000000000001"
PATIENCE = 2.0


class House:
    """A backend that can be killed and opened again on the same database."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self.runtime = runtime
        self.path = path
        self.starts = 0

    async def open(self) -> None:
        config = replace(CONFIG, db=str(self.path / "b.db"), listen={"coap": Listen(ADDRESS)})
        self.backend = Backend(self.runtime, config)
        await self.backend.start()
        self.starts += 1

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.backend.device_app(scope, receive, send)

    def strike(self, moment: str) -> None:
        """Be killed at the next commit."""
        backend, writer = self.backend, self.backend.writer
        flush: Callable[[], None] = writer._flush_inline

        def struck() -> None:
            if moment == "after the commit":
                writer._release = lambda _batch, _error: None  # type: ignore[method-assign]
                flush()
            kill(backend)

        writer._flush_inline = struck  # type: ignore[method-assign]


class Stubborn(HttpDevice):
    """Repeats what was not answered, after the backend has come back."""

    def __init__(self, house: House, client: httpx.AsyncClient, token: str) -> None:
        super().__init__(client, NAME, token)
        self.house = house
        self.point = ""
        self.moment = ""
        self.installed = 0

    async def post(self, path: str, **what: Any) -> httpx.Response:
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await super().post(path, **what)
            except TimeoutError:
                await self.house.open()

    async def report(self, campaign: str, state: str, **changes: Any) -> httpx.Response:
        if state == self.point:
            self.house.strike(self.moment)
        return await super().report(campaign, state, **changes)

    async def check_in(self, **changes: Any) -> dict[str, Any]:
        if self.point == "checkin":
            self.point = ""
            self.house.strike(self.moment)
        return await super().check_in(**changes)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
@pytest.mark.parametrize(
    "point", ["checkin", "downloading", "downloaded", "installing", "success", "failed"]
)
@virtual
async def test_nothing_accepted_is_lost(tmp_path: Path, point: str, moment: str) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        house = House(runtime, tmp_path)
        await house.open()
        await house.backend.load_devices([{"name": NAME, "protocol": "HTTP"}])
        token = (await house.backend.mint_tokens([NAME]))[NAME]
        firmware = await house.backend.add_package(IMAGE, name="a", version="2", protocol="HTTP")
        campaign = await house.backend.create_campaign([NAME], firmware)
        await runtime.clock.sleep(0.1)
        transport = httpx.ASGITransport(app=house)
        async with httpx.AsyncClient(transport=transport, base_url="http://backend") as client:
            device = Stubborn(house, client, token)
            device.point, device.moment = point, moment
            order = (await device.check_in())["campaign"]
            assert order["id"] == campaign.id
            for state, position in (
                ("downloading", Position.DOWNLOADING),
                ("downloaded", Position.DOWNLOADED),
                ("installing", Position.INSTALLING),
            ):
                await device.told(order["id"], state)
                member = house.backend.engine.book.latest(NAME)
                assert member is not None
                assert (member.position, member.attempts) == (position, 1)
                assert member.executed is (state == "installing")
            body = (await device.fetch(order["url"])).content
            assert body == IMAGE
            if point == "failed":
                await device.told(order["id"], "failed", reason="reverted")
            else:
                device.version = "2"
                await device.told(order["id"], "success")
            assert house.starts == 2
            member = house.backend.engine.book.latest(NAME)
            assert member is not None
            expected = states.FAILED if point == "failed" else states.SUCCESS
            assert (member.status, member.attempts) == (expected, 1)
            await house.backend.finished.wait()
            assert "campaign" not in await device.check_in()
        await house.backend.stop()


@virtual
async def test_an_abort_is_known_after_a_restart(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        house = House(runtime, tmp_path)
        await house.open()
        await house.backend.load_devices([{"name": NAME, "protocol": "HTTP"}])
        token = (await house.backend.mint_tokens([NAME]))[NAME]
        firmware = await house.backend.add_package(IMAGE, name="a", version="2", protocol="HTTP")
        campaign = await house.backend.create_campaign([NAME], firmware)
        await house.backend.logs.enable(CONFIG.account, [house.backend.inventory.devices[NAME]])
        await runtime.clock.sleep(0.1)
        transport = httpx.ASGITransport(app=house)
        async with httpx.AsyncClient(transport=transport, base_url="http://backend") as client:
            device = HttpDevice(client, NAME, token)
            order = (await device.check_in())["campaign"]
            await device.told(order["id"], "downloading")
            await house.backend.engine.cancel(campaign)
            kill(house.backend)
            await house.open()
            assert (await device.report(order["id"], "downloaded")).status_code == 409
            current = {"campaignId": order["id"], "state": "downloading"}
            answer = await device.check_in(current=current)
            assert answer["cancel"] == [order["id"]]
            assert answer["logging"]["on"] is True
            assert house.backend.http.reachable(NAME)
            history = await house.backend.logs.check_ins(NAME)
            assert [row["result"] for row in history] == ["UpdateCancelled", "UpdateOffered"]
        await house.backend.stop()
