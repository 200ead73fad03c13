"""A backend with firmware and devices of every protocol, and raw HTTP calls of its API v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from tests.tools.backend.rest_client import basic
from tests.tools.backend.virtual import CONFIG, IMAGE, world
from tools.backend.backend import Backend
from tools.backend.inventory import Account, Device

ACCOUNT = "0242078689-00001"
OTHER = "0242078689-00002"
V1 = "/api/fota/v1"
TODAY = "2030-01-01"
TOMORROW = "2030-01-02"
LAST = "2030-01-07"

MODEM = 350000000000000
METER = 350000000100000
CAMERA = 350000000200000
FIRMWARE = {"OMADM": "modem-app", "LWM2M": "meter-app", "HTTP": "camera-app"}


def ids(first: int, count: int) -> list[str]:
    return [str(first + number) for number in range(count)]


def device(backend: Backend, device_id: str) -> Device:
    """A device of the account, by its id."""
    found = backend.inventory.by_id(ACCOUNT, device_id)
    assert found is not None
    return found


async def stock(backend: Backend, count: int) -> None:
    """Firmware and `count` devices of each protocol."""
    for protocol, name in FIRMWARE.items():
        await backend.add_package(
            IMAGE, name=name, version="2.0.0", version_from="1.0.0", protocol=protocol
        )
    for protocol, first in (("OMADM", MODEM), ("LWM2M", METER), ("HTTP", CAMERA)):
        await backend.load_devices(
            {"deviceId": one, "protocol": protocol, "firmware": "1.0.0"}
            for one in ids(first, count)
        )


async def add_account(backend: Backend, name: str = OTHER, **changes: Any) -> Account:
    account = Account(name, f"secret of {name}", pilot_waived=True, **changes)
    backend.inventory.accounts[name] = account
    return account


@asynccontextmanager
async def served(count: int = 2, **changes: Any) -> AsyncIterator[Backend]:
    async with world(replace(CONFIG, account=ACCOUNT, **changes)) as backend:
        await stock(backend, count)
        yield backend


class Caller:
    """Somebody who is logged in, and logs in again for each call: tokens end in virtual time."""

    def __init__(self, backend: Backend, account: Account | None = None) -> None:
        self.account = account or backend.account
        self.transport = httpx.ASGITransport(app=backend.app)

    async def send(self, method: str, path: str, **what: Any) -> httpx.Response:
        return await self.request(method, V1 + path, **what)

    async def request(self, method: str, path: str, **what: Any) -> httpx.Response:
        name, secret = self.account.name, self.account.secret
        async with httpx.AsyncClient(transport=self.transport, base_url="http://test") as client:
            answer = await client.post(
                "/api/ts/v1/oauth2/token",
                headers=basic(name, secret),
                data={"grant_type": "client_credentials"},
            )
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            answer = await client.post(
                "/api/m2m/v1/session/login", json={"username": name, "password": secret}
            )
            client.headers["VZ-M2M-Token"] = answer.json()["sessionToken"]
            return await client.request(method, path, **what)

    async def told(self, method: str, path: str, **what: Any) -> Any:
        """The JSON of a call that succeeds."""
        answer = await self.send(method, path, **what)
        assert answer.status_code == 200, (method, path, answer.text)
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    async def refused(self, method: str, path: str, **what: Any) -> str:
        """The message of a call that is refused."""
        answer = await self.send(method, path, **what)
        assert answer.status_code == 400, (method, path, answer.status_code, answer.text)
        body = answer.json()
        assert set(body) == {"errorCode", "errorMessage"}
        assert body["errorCode"] == "INVALID_PARAMETER"
        text = body["errorMessage"]
        assert isinstance(text, str)
        return text

    async def upgrade(self, devices: list[str], **changes: Any) -> Any:
        """Schedule an upgrade."""
        return await self.told("POST", "/upgrades", json=request(devices, **changes))

    async def shown(self, upgrade_id: str) -> Any:
        return await self.told("GET", f"/upgrades/{self.account.name}/upgrade/{upgrade_id}")

    async def statuses(self, upgrade_id: str) -> dict[str, str]:
        found = (await self.shown(upgrade_id))["deviceList"]
        return {item["deviceId"]: item["status"] for item in found}

    async def report(self, status: str, index: int = 0) -> Any:
        return await self.told("GET", f"/reports/{self.account.name}/status/{status}/index/{index}")

    async def of_v3(self, path: str) -> Any:
        """What another version of the API says."""
        answer = await self.request("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    async def history(self, device_id: str) -> Any:
        return await self.told("GET", f"/reports/{self.account.name}/devices/{device_id}")


def request(devices: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "accountName": ACCOUNT,
        "firmwareName": FIRMWARE["OMADM"],
        "firmwareTo": "2.0.0",
        "startDate": TOMORROW,
        "endDate": LAST,
        "deviceList": devices,
        **changes,
    }
