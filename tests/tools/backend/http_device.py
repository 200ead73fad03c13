"""A scripted HTTP device: speaks the wire of docs/device-checkin.md, and does as a test says."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tools.backend.backend import Backend

TIME = "2030-01-01T00:00:00.000Z"
V1 = "/device/v1"


class HttpDevice:
    """One device with a client of its own."""

    def __init__(self, client: httpx.AsyncClient, name: str, token: str | None) -> None:
        self.client = client
        self.name = name
        self.version = "1.0.0"
        self.files: list[dict[str, str]] = []
        self.seq = itertools.count()
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def checkin_body(self, **changes: Any) -> dict[str, Any]:
        return {
            "deviceId": self.name,
            "reason": "schedule",
            "clientType": "RovaClient",
            "make": "fotilla",
            "model": "virtual",
            "software": [{"name": "firmware", "version": self.version}],
            "files": self.files,
            **changes,
        }

    async def post(self, path: str, **what: Any) -> httpx.Response:
        return await self.client.post(V1 + path, headers=self.headers, **what)

    async def check_in(self, **changes: Any) -> dict[str, Any]:
        answer = await self.post("/checkin", json=self.checkin_body(**changes))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def report(self, campaign: str, state: str, **changes: Any) -> httpx.Response:
        seq = changes.pop("seq", None)
        body = {
            "seq": next(self.seq) if seq is None else seq,
            "state": state,
            "time": TIME,
            **changes,
        }
        return await self.post(f"/campaigns/{campaign}/status", json=body)

    async def told(self, campaign: str, state: str, **changes: Any) -> None:
        answer = await self.report(campaign, state, **changes)
        assert answer.status_code == 204, (state, answer.status_code, answer.text)

    async def fetch(self, url: str, method: str = "GET", **headers: str) -> httpx.Response:
        return await self.client.request(method, url, headers={**self.headers, **headers})

    async def update(self, order: dict[str, Any]) -> bytes:
        """The whole of an order, as a right device does it."""
        campaign = order["id"]
        await self.told(campaign, "downloading")
        body = (await self.fetch(order["url"])).content
        await self.told(campaign, "downloaded")
        await self.told(campaign, "installing")
        if order["kind"] == "file":
            self.files = [{"name": order["name"], "version": order["to"]}]
        else:
            self.version = order["to"]
        await self.told(campaign, "success")
        return body


@asynccontextmanager
async def in_process(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=backend.device_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://backend") as client:
        yield client


async def devices(
    backend: Backend, client: httpx.AsyncClient, count: int, first: int = 350000000000000
) -> list[HttpDevice]:
    """Devices in the inventory, each with a token."""
    names = [f"urn:imei:{first + number}" for number in range(count)]
    await backend.load_devices({"name": name, "protocol": "HTTP"} for name in names)
    tokens = await backend.mint_tokens(names)
    return [HttpDevice(client, name, tokens[name]) for name in names]
