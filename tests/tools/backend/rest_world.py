"""A backend in virtual time that is served over its REST API, with devices of all protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from sqlalchemy import Connection, select

from tests.tools.backend.api_models import check
from tests.tools.backend.http_device import HttpDevice, devices, in_process
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, IMAGE, world
from tools.backend.backend import Backend
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED
from tools.backend.store import tables

ACCOUNT = "0242078689-00001"
OTHER = "0242078689-00002"
STRANGER = "999999999999999"
V2 = "/api/fota/v2"
V3 = "/api/fota/v3"
HTTP_IMEI = 350000000000000
LWM2M_IMEI = 360000000000000
OMADM_IMEI = 370000000000000

FORM = {"fileVersion": "7", "make": "fotilla", "model": "virtual", "localTargetPath": "/etc/apn"}
UPLOAD = {"fileupload": ("/home/somebody/apn.cfg", b"\x00\r\n--apn=iot\r\n", "text/plain")}
STORED = "configfile-fotilla_virtual_apn.cfg"


@dataclass
class RestWorld:
    """What a test has: the backend, a client that is logged in, and devices."""

    backend: Backend
    api: httpx.AsyncClient
    http: list[HttpDevice]
    lwm2m: list[str]
    """Device ids; `scripted` lets one of them come."""
    omadm: list[str]
    came: list[ScriptedDevice] = field(default_factory=list)

    async def json(
        self, method: str, path: str, model: str, *, every: bool = False, **what: Any
    ) -> Any:
        """The answer to a request that succeeds, held against its model."""
        answer = await self.api.request(method, path, **what)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        check(model, answer.json(), every=every)
        return answer.json()

    async def refused(self, method: str, path: str, text: str, **what: Any) -> None:
        """A request that answers 400 in the API's form, with `text` in it, and writes nothing."""
        with self.unchanged():
            answer = await self.api.request(method, path, **what)
            assert answer.status_code == 400, (answer.status_code, answer.text)
            assert set(answer.json()) == {"errorCode", "errorMessage"}, answer.text
            assert answer.json()["errorCode"] == "INVALID_PARAMETER"
            assert text in answer.json()["errorMessage"], answer.text
            await self.backend.writer.flushed()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Every table of the store has the same rows afterwards, but for the clock's."""
        before = self.rows()
        yield
        assert self.rows() == before

    def rows(self) -> dict[str, list[Any]]:
        """Everything in the store; in virtual time its engine is this thread's."""

        def read(connection: Connection) -> dict[str, list[Any]]:
            return {
                table.name: sorted(map(repr, connection.execute(select(table)).all()))
                for table in tables.metadata.sorted_tables
                if table.name != "counters"
            }

        runner: Any = self.backend.writer._runner
        found: dict[str, list[Any]] = runner.run_inline(read)
        return found

    def ids(self) -> list[str]:
        """The device ids of the HTTP devices."""
        return [device.name.removeprefix("urn:imei:") for device in self.http]

    def subscribe(self, licences: int = 1000) -> None:
        """Give the account a monthly subscription with so many licences."""
        accounts = self.backend.inventory.accounts
        accounts[ACCOUNT] = replace(
            accounts[ACCOUNT],
            purchase_type=f"{EVENT_BILLED},{MONTHLY_BILLED}",
            licence_count=licences,
        )

    async def sleep(self, seconds: float) -> None:
        await self.backend.runtime.clock.sleep(seconds)

    async def scripted(self, index: int = 0, **changes: Any) -> ScriptedDevice:
        """Let an LwM2M device register."""
        backend = self.backend
        name = f"urn:imei:{self.lwm2m[index]}"
        device = ScriptedDevice(backend.runtime, backend.coap_address, name, index, **changes)
        self.came.append(device)
        device.register()
        await self.sleep(1)
        return device

    @asynccontextmanager
    async def again(self) -> AsyncIterator[RestWorld]:
        """The same with a client that has just logged in: sessions end after 20 idle minutes."""
        async with logged_in(self.backend) as api:
            yield replace(self, api=api)

    def software(self, **changes: Any) -> dict[str, Any]:
        """A request for a v2 campaign."""
        return {
            "campaignName": "first",
            "softwareName": "app",
            "softwareFrom": "1.0.0",
            "softwareTo": "2.0.0",
            "distributionType": "HTTP",
            "startDate": "2030-01-02",
            "endDate": "2030-01-07",
            "deviceList": self.ids(),
            **changes,
        }

    def firmware(self, **changes: Any) -> dict[str, Any]:
        """A request for a v3 campaign."""
        return {
            "campaignName": "first",
            "firmwareName": "fw",
            "firmwareFrom": "1.0.0",
            "firmwareTo": "2.0.0",
            "protocol": "LWM2M",
            "startDate": "2030-01-02",
            "endDate": "2030-01-31",
            "campaignTimeWindowList": [{"startTime": 20, "endTime": 24}],
            "deviceList": self.lwm2m,
            "autoAssignLicenseFlag": False,
            "autoAddDevicesFlag": False,
            **changes,
        }

    async def v2_campaign(self, **changes: Any) -> str:
        """The id of a new v2 campaign, whose devices are checked."""
        made = await self.json(
            "POST", f"{V2}/campaigns/{ACCOUNT}", "CampaignSoftware", json=self.software(**changes)
        )
        await self.sleep(1)
        return str(made["id"])

    async def v3_campaign(self, **changes: Any) -> str:
        """The id of a new v3 campaign, whose devices are checked."""
        made = await self.json(
            "POST",
            f"{V3}/campaigns/firmware/{ACCOUNT}",
            "FirmwareCampaign",
            json=self.firmware(**changes),
        )
        await self.sleep(1)
        return str(made["id"])


@asynccontextmanager
async def rest_world(
    http: int = 2, lwm2m: int = 2, omadm: int = 1, **changes: Any
) -> AsyncIterator[RestWorld]:
    """So many devices of each protocol and a package for each, in one account."""
    config = replace(CONFIG, account=ACCOUNT, **changes)
    async with (
        world(config) as backend,
        logged_in(backend) as api,
        in_process(backend) as client,
    ):
        lwm2m_ids = [str(LWM2M_IMEI + number) for number in range(lwm2m)]
        omadm_ids = [str(OMADM_IMEI + number) for number in range(omadm)]
        await backend.load_devices({"deviceId": one, "firmware": "1.0.0"} for one in lwm2m_ids)
        await backend.load_devices({"deviceId": one, "protocol": "OMADM"} for one in omadm_ids)
        for name, protocol in (("app", "HTTP"), ("fw", "LWM2M"), ("dm", "OMADM")):
            await backend.add_package(
                IMAGE, name=name, version="2.0.0", version_from="1.0.0", protocol=protocol
            )
        made = await devices(backend, client, http, HTTP_IMEI)
        found = RestWorld(backend, api, made, lwm2m_ids, omadm_ids)
        try:
            yield found
        finally:
            for device in found.came:
                device.close()
