"""Customer, administrator and operator of a backend that is killed: each request is repeated until
it is answered."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx

from tests.agent.parts import image
from tests.tools.backend.killing.meters import Meter
from tests.tools.backend.killing.stores import Store
from tests.tools.backend.process import BackendProcess
from tools.backend.inventory import MONTHLY_BILLED

NEW = image(2, 40_000, 2)
VERSION = "2.0.0"
PROTOCOLS = {"omadm": ("OMADM", 1), "http": ("HTTP", 2), "lwm2m": ("LWM2M", 3)}
"""What the API calls a protocol, and the version in which its devices are updated."""

PAUSE = 0.02  # seconds between two looks at a backend that is down
CELL = "cell-1"

Happened = Callable[[str], None]


def firmware_of(protocol: str) -> str:
    return f"{protocol}-app"


class Customer:
    """Everybody who asks something of the backend over HTTP."""

    def __init__(self, backend: BackendProcess, store: Store, happened: Happened) -> None:
        self.backend = backend
        self.store = store
        self.account = ""
        self.campaigns: dict[str, str] = {}
        """The campaign of each protocol, as the answer named it."""
        self._happened = happened
        self._clients: dict[tuple[int, bool], httpx.AsyncClient] = {}
        self._logging_in = asyncio.Lock()
        self._open = AsyncExitStack()

    # -- requests ---

    async def ask(self, method: str, path: str, *, seen: bool = True, **what: Any) -> Any:
        """What a request is answered with in the end. Those of `/admin` are the administrator's.
        `seen`: it is an event of the creation."""
        while True:
            answer = await self._once(method, path, seen, what)
            if answer is not None:
                return answer

    async def _once(self, method: str, path: str, seen: bool, what: dict[str, Any]) -> Any:
        """The JSON of the answer; None when the backend died over it."""
        try:
            client = await self._client(path.startswith("/admin"))
            asked = asyncio.ensure_future(client.request(method, path, **what))
            if seen:
                await asyncio.sleep(0)
                self._happened("creation")
            answer = await asked
        except (httpx.TransportError, KeyError):
            # A backend that was killed while it was asked, or while we logged in.
            await asyncio.sleep(PAUSE)
            return None
        assert answer.status_code == 200, (method, path, answer.status_code, answer.text)
        return answer.json()

    async def _client(self, admin: bool) -> httpx.AsyncClient:
        """Somebody who is logged in. Tokens end with the backend that gave them."""
        async with self._logging_in:
            while not self.backend.alive:
                await asyncio.sleep(PAUSE)
            key = (self.backend.starts, admin)
            if key not in self._clients:
                who = self.backend.administrator() if admin else self.backend.login()
                self._clients[key] = await self._open.enter_async_context(who)
            return self._clients[key]

    async def leave(self) -> None:
        """Close all connections."""
        await self._open.aclose()

    # -- before there are campaigns ---

    async def prepare(self, meters: list[Meter], urls: dict[int, str]) -> dict[str, Any]:
        """Subscription, callbacks, firmware, devices, what they log in with, and licences for those
        that are not assigned one by their campaign. Returns tokens and DM accounts."""
        self.account = self.backend.ready["account"]["name"]
        ids = {name: [one for one in meters if one.protocol == name] for name in PROTOCOLS}
        licensed = [one for one in meters if one.licensed]
        await self.ask(
            "PUT",
            f"/admin/accounts/{self.account}/subscription",
            json={"purchaseType": MONTHLY_BILLED, "licenseCount": len(licensed)},
        )
        for version, url in urls.items():
            await self.ask(
                "POST",
                f"/api/fota/v{version}/callbacks/{self.account}",
                json={"name": "Fota", "url": url},
            )
        for protocol, (kind, _version) in PROTOCOLS.items():
            query = f"name={firmware_of(protocol)}&version={VERSION}&protocol={kind}"
            await self.ask("PUT", f"/admin/firmware?{query}", content=NEW)
        inventory = [
            {
                "deviceId": one.id,
                "protocol": PROTOCOLS[one.protocol][0],
                "delivery": one.delivery,
                "firmware": "1.0.0",
            }
            for one in meters
        ]
        await self.ask("PUT", "/admin/devices", json=inventory)
        tokens = await self.ask(
            "POST", "/admin/devices/tokens", json={"names": [one.name for one in ids["http"]]}
        )
        accounts = await self.ask(
            "POST", "/admin/devices/dm-accounts", json={"names": [one.name for one in ids["omadm"]]}
        )
        for protocol in ("omadm", "http"):
            version = PROTOCOLS[protocol][1]
            await self.ask(
                "POST",
                f"/api/fota/v{version}/licenses/{self.account}/assign",
                json={"deviceList": [one.id for one in ids[protocol] if one.licensed]},
            )
        return {**tokens["tokens"], **accounts["accounts"]}

    # -- campaigns ---

    async def schedule(self, meters: list[Meter]) -> None:
        """A campaign for each protocol. Who gets no answer looks whether there is one now."""
        makers = {"omadm": self._v1, "http": self._v2, "lwm2m": self._v3}
        for protocol, make in makers.items():
            ids = [one.id for one in meters if one.protocol == protocol]
            await self._once_only(protocol, make, ids)
            self._happened("scheduling")

    async def _once_only(
        self, protocol: str, make: Callable[[list[str]], Awaitable[Any]], ids: list[str]
    ) -> None:
        while protocol not in self.campaigns:
            made = await make(ids)
            if made is None:
                # Died before it had answered: the campaign is there as a whole or not at all.
                while not self.backend.alive:
                    await asyncio.sleep(PAUSE)
                query = f"SELECT id FROM campaigns WHERE package = '{firmware_of(protocol)}'"
                found = await self.store.rows(query)
                if not found:
                    continue
                [[made]] = found
            self.campaigns[protocol] = made

    @property
    def _dates(self) -> dict[str, str]:
        today = datetime.datetime.now(datetime.UTC).date()
        return {"startDate": str(today), "endDate": str(today + datetime.timedelta(days=2))}

    async def _make(self, path: str, body: dict[str, Any]) -> str | None:
        answer = await self._once("POST", f"/api/fota/{path}", True, {"json": body})
        return None if answer is None else str(answer["id"])

    async def _v1(self, ids: list[str]) -> str | None:
        return await self._make(
            "v1/upgrades",
            {
                "accountName": self.account,
                "firmwareName": firmware_of("omadm"),
                "firmwareTo": VERSION,
                "deviceList": ids,
                **self._dates,
            },
        )

    async def _v2(self, ids: list[str]) -> str | None:
        return await self._make(
            f"v2/campaigns/software/{self.account}",
            {
                "softwareName": firmware_of("http"),
                "softwareFrom": "",
                "softwareTo": VERSION,
                "distributionType": "HTTP",
                "deviceList": ids,
                **self._dates,
            },
        )

    async def _v3(self, ids: list[str]) -> str | None:
        return await self._make(
            f"v3/campaigns/firmware/{self.account}",
            {
                "firmwareName": firmware_of("lwm2m"),
                "firmwareFrom": "",
                "firmwareTo": VERSION,
                "protocol": "LWM2M",
                "deviceList": ids,
                "autoAssignLicenseFlag": True,
                "autoAddDevicesFlag": False,
                **self._dates,
            },
        )

    # -- the operator ---

    async def attach(self, device_id: str, push: tuple[str, int]) -> None:
        """The device has come up in the network."""
        where = {"cell": CELL, "push": f"{push[0]}:{push[1]}"}
        await self.ask("PUT", f"/operator/devices/{device_id}", seen=False, json=where)
