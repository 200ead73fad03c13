"""kill -9 while HTTP devices are served, at each step, on real sockets.

Each device kills the backend once, while its request is under way; whether the blow falls before or
after the commit is chance. The devices only repeat what was not answered. Afterwards the backend
believes what is so, nobody was given two attempts, and no device was told to install twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.tools.backend.http_device import HttpDevice
from tests.tools.backend.process import BackendProcess, Killed, ok
from tests.tools.backend.rules_marker import rules

IMAGE = bytes(range(256)) * (64 << 10)  # more than the buffers of two sockets hold
POINTS = ["checkin", "downloading", "package", "downloaded", "installing", "success"]
LIMIT = 180.0  # seconds; only a backend that is stuck takes them


class Striking(HttpDevice):
    """Kills the backend once, at `point`, and repeats what was not answered."""

    def __init__(self, process: BackendProcess, name: str, token: str, point: str) -> None:
        super().__init__(httpx.AsyncClient(timeout=5.0), name, token)
        self.process = process
        self.point = point
        self.body = bytearray()
        self.resumed = 0

    @property
    def base(self) -> str:
        return f"http://{self.process.http}"

    async def strike(self, point: str) -> None:
        if point == self.point:
            self.point = ""
            if self.process.alive:
                self.process.kill()

    async def post(self, path: str, **what: Any) -> httpx.Response:
        body = what["json"]
        point = body.get("state", "checkin")
        while True:
            asking = asyncio.ensure_future(
                self.client.post(f"{self.base}/device/v1{path}", headers=self.headers, **what)
            )
            await asyncio.sleep(0)
            if point == self.point:
                await asyncio.sleep(0.002)  # let it leave
            await self.strike(point)
            with contextlib.suppress(httpx.TransportError):
                answer = await asking
                if answer.status_code < 500:
                    return answer
            await asyncio.sleep(0.05)

    async def download(self, path: str) -> None:
        """Goes on where it was cut."""
        while True:
            headers = {**self.headers, "Range": f"bytes={len(self.body)}-"}
            try:
                async with self.client.stream("GET", self.base + path, headers=headers) as answer:
                    if answer.status_code == 206:
                        async for chunk in answer.aiter_raw():
                            self.body += chunk
                            await self.strike("package")
            except httpx.TransportError:
                self.resumed += 1
            if len(self.body) == len(IMAGE):
                return
            await asyncio.sleep(0.05)

    async def live(self) -> None:
        while True:
            answer = await self.check_in()
            if "campaign" in answer:
                break
            await asyncio.sleep(0.05)
        order = answer["campaign"]
        await self.told(order["id"], "downloading")
        await self.download(httpx.URL(order["url"]).path)
        await self.told(order["id"], "downloaded")
        await self.told(order["id"], "installing")
        self.version = order["to"]
        await self.told(order["id"], "success")


async def keep_up(backend: BackendProcess) -> None:
    while True:
        if backend.killed:
            with contextlib.suppress(Killed):
                await backend.start()
        await asyncio.sleep(0.01)


@rules("BR-165")
async def test_kill_at_each_step(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path)
    await backend.start()
    ids = [str(350000000000000 + number) for number in range(len(POINTS))]
    today = datetime.datetime.now(datetime.UTC).date()
    account = backend.ready["account"]["name"]
    async with backend.administrator() as admin:
        await ok(await admin.put("/admin/firmware?name=a&version=2&protocol=HTTP", content=IMAGE))
        records = [{"deviceId": one, "protocol": "HTTP"} for one in ids]
        await ok(await admin.put("/admin/devices", json=records))
        names = [f"urn:imei:{one}" for one in ids]
        minted = await ok(await admin.post("/admin/devices/tokens", json={"names": names}))
    async with backend.login() as client:
        made = await ok(
            await client.post(
                f"/api/fota/v2/campaigns/{account}",
                json={
                    "softwareName": "a",
                    "softwareFrom": "",
                    "softwareTo": "2",
                    "distributionType": "HTTP",
                    "startDate": str(today),
                    "endDate": str(today + datetime.timedelta(days=2)),
                    "deviceList": ids,
                },
            )
        )
    meters = [
        Striking(backend, name, minted["tokens"][name], point)
        for name, point in zip(names, POINTS, strict=True)
    ]
    restarts = asyncio.create_task(keep_up(backend))
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(meter.live() for meter in meters))
            while not backend.alive:
                await asyncio.sleep(0.01)
    finally:
        restarts.cancel()
        for meter in meters:
            await meter.client.aclose()
    assert [meter.point for meter in meters] == [""] * len(POINTS)
    assert backend.starts > 1
    assert meters[POINTS.index("package")].resumed >= 1
    assert all(meter.body == IMAGE for meter in meters)
    async with backend.login() as client:
        shown = await ok(await client.get(f"/api/fota/v2/campaigns/{account}/{made['id']}"))
        assert shown["status"] == "CampaignEnded"
        assert {item["status"] for item in shown["deviceList"]} == {"UpgradeSuccess"}
    async with backend.administrator() as admin:
        for meter in meters:
            seen = await ok(await admin.get(f"/admin/devices/{meter.name}/belief"))
            assert (seen["verdict"], seen["firmware"]) == ("updated", "2")
    assert backend.interrupt() == 0
