"""Licences and real campaigns: who may take part, what a removal and a release do to an upgrade."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from agent.runtime.runtime import Runtime
from tests.tools.backend.licence_office import ACCOUNT, IMEI, ids
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.test_restart import kill
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.config import Listen
from tools.backend.faces.base import Position
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED
from tools.backend.licences.service import NOT_LICENSED
from tools.backend.store import tables
from tools.backend.timing import DAY

V3 = "/api/fota/v3"
TODAY, LATER = "2030-01-01", "2030-01-05"


@asynccontextmanager
async def fleet(
    total: int, devices: int = 3, purchase_type: str = MONTHLY_BILLED
) -> AsyncIterator[tuple[Backend, httpx.AsyncClient, list[ScriptedDevice]]]:
    """A backend, and LwM2M devices that are registered with it."""
    async with world(replace(CONFIG, account=ACCOUNT)) as backend, logged_in(backend) as api:
        await backend.load_devices({"deviceId": device} for device in ids(*range(devices)))
        await backend.licences.set_subscription(ACCOUNT, purchase_type, total)
        await backend.add_package(IMAGE, name="app", version="2.0.0")
        meters = [
            ScriptedDevice(
                backend.runtime,
                backend.coap_address,
                f"urn:imei:{device}",
                index,
                lifetime=10 * int(DAY),  # a campaign of some days later finds it
            )
            for index, device in enumerate(ids(*range(devices)))
        ]
        for meter in meters:
            meter.register()
        await backend.runtime.clock.sleep(1)
        yield backend, api, meters
        for meter in meters:
            meter.close()


async def scheduled(
    api: httpx.AsyncClient, devices: list[str], start: str = TODAY, **changes: Any
) -> str:
    """The id of a new v3 campaign."""
    answer = await api.post(
        f"{V3}/campaigns/firmware/{ACCOUNT}",
        json={
            "firmwareName": "app",
            "firmwareFrom": "",
            "firmwareTo": "2.0.0",
            "protocol": "LWM2M",
            "startDate": start,
            "endDate": "2030-01-20",
            "deviceList": devices,
            "autoAssignLicenseFlag": False,
            "autoAddDevicesFlag": False,
            **changes,
        },
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def report(backend: Backend, campaign_id: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """The status of a campaign; status and reason of each device. Not over the API, whose sessions
    end before a campaign does."""
    campaign = backend.engine.book.campaigns[campaign_id]
    return campaign.status, {
        member.device_id: (member.status, member.reason) for member in campaign.members.values()
    }


async def changed(api: httpx.AsyncClient, what: str, devices: list[str]) -> list[str]:
    """Assign or remove licences; the reasons."""
    answer = await api.post(f"{V3}/licenses/{ACCOUNT}/{what}", json={"deviceList": devices})
    assert answer.status_code == 200, answer.text
    return [item["resultReason"] for item in answer.json()["deviceList"]]


def holders(backend: Backend) -> list[str]:
    return [licence.device_id for licence in backend.licences.from_index(ACCOUNT, 0)]


@rules("BR-119")
@virtual
async def test_a_monthly_account_upgrades_only_devices_with_a_licence() -> None:
    async with fleet(total=2) as (backend, api, meters):
        await changed(api, "assign", ids(1))
        campaign = await scheduled(api, ids(0, 1))
        await backend.finished.wait()
        _status, devices = report(backend, campaign)
        assert devices[ids(0)[0]] == ("DeviceRejected", NOT_LICENSED)
        assert devices[ids(1)[0]][0] == "UpgradeSuccess"
        assert [meter.executes for meter in meters] == [0, 1, 0]
        # Used licences stay where they are.
        reasons = await changed(api, "remove", ids(1))
        assert reasons == ["Device has been upgraded since the license was assigned"]


@virtual
async def test_without_any_licence_the_request_fails() -> None:
    async with fleet(total=2) as (backend, api, _meters):
        status, _devices = report(backend, await scheduled(api, ids(0, 1)))
        assert status == "CampaignRequestFailed"


@rules("BR-119")
@virtual
async def test_an_event_billed_account_needs_no_licence() -> None:
    async with fleet(total=0, purchase_type=EVENT_BILLED) as (backend, api, _meters):
        campaign = await scheduled(api, ids(0), autoAssignLicenseFlag=True)
        await backend.finished.wait()
        status, devices = report(backend, campaign)
        assert (status, devices[ids(0)[0]][0]) == ("CampaignEnded", "UpgradeSuccess")
        assert holders(backend) == []


@rules("BR-117")
@virtual
async def test_the_other_versions_ask_for_the_same_licence() -> None:
    async with fleet(total=2) as (backend, _api, _meters):
        for protocol, first in (("OMADM", 10), ("HTTP", 20)):
            names = [f"urn:imei:{device}" for device in ids(first, first + 1)]
            await backend.load_devices({"name": name, "protocol": protocol} for name in names)
            await backend.licences.assign(backend.account, ids(first))
            package = await backend.add_package(
                IMAGE, name=protocol, version="2.0.0", protocol=protocol
            )
            campaign = await backend.create_campaign(names, package)
            statuses = {name: campaign.members[name].status for name in names}
            assert statuses[names[0]] != "DeviceRejected"
            assert campaign.members[names[1]].reason == NOT_LICENSED
            assert statuses[names[1]] == "DeviceRejected"


@rules("BR-120")
@virtual
async def test_auto_assign_gives_a_licence_to_each_device() -> None:
    async with fleet(total=2) as (backend, api, _meters):
        await changed(api, "assign", ids(1))
        campaign = await scheduled(api, ids(1, 2), autoAssignLicenseFlag=True)
        assert holders(backend) == ids(1, 2)
        await backend.finished.wait()
        _status, devices = report(backend, campaign)
        assert {status for status, _reason in devices.values()} == {"UpgradeSuccess"}


@rules("BR-120")
@virtual
async def test_auto_assign_with_too_few_free_assigns_nothing() -> None:
    async with fleet(total=1) as (backend, api, meters):
        campaign = await scheduled(api, ids(0, 1), autoAssignLicenseFlag=True)
        await backend.runtime.clock.sleep(60)
        status, devices = report(backend, campaign)
        assert status == "CampaignRequestFailed"
        assert {found for found, _reason in devices.values()} == {"DeviceRejected"}
        assert holders(backend) == []
        assert [meter.executes for meter in meters] == [0, 0, 0]


@rules("BR-059", "BR-104")
@pytest.mark.parametrize(
    ("total", "assigns", "taken"), [(2, True, True), (1, True, False), (2, False, False)]
)
@virtual
async def test_a_device_that_is_added_later_needs_a_licence_too(
    total: int, assigns: bool, taken: bool
) -> None:
    async with fleet(total=total) as (backend, api, _meters):
        await changed(api, "assign", ids(0))
        campaign = await scheduled(
            api, ids(0), start=LATER, autoAddDevicesFlag=True, autoAssignLicenseFlag=assigns
        )
        await backend.load_devices([{"deviceId": ids(9)[0], "firmware": "1.0.0"}])
        _status, devices = report(backend, campaign)
        assert (ids(9)[0] in devices) is taken
        assert holders(backend) == (ids(0, 9) if taken else ids(0))


@virtual
async def test_removing_a_licence_cancels_what_is_scheduled() -> None:
    async with fleet(total=3) as (backend, api, meters):
        await changed(api, "assign", ids(0, 1))
        campaign = await scheduled(api, ids(0, 1), start=LATER)
        assert await changed(api, "remove", ids(0)) == ["Success"]
        await backend.finished.wait()
        _status, devices = report(backend, campaign)
        assert devices[ids(0)[0]][0] == "CampaignCancelled"
        assert devices[ids(1)[0]][0] == "UpgradeSuccess"
        assert [meter.executes for meter in meters] == [0, 1, 0]


@rules("BR-123")
@virtual
async def test_a_running_upgrade_outlives_the_subscription() -> None:
    async with fleet(total=3) as (backend, api, meters):
        await changed(api, "assign", ids(0, 1, 2))
        meters[0].on_package = lambda: None  # it goes on downloading
        running = await scheduled(api, ids(0))
        waiting = await scheduled(api, ids(1, 2), start=LATER)
        await backend.runtime.clock.sleep(5)
        assert await changed(api, "remove", ids(0)) == ["An upgrade of the device is in progress"]
        await backend.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 1)
        # In the order of assignment: the first runs on with its licence, the second goes.
        assert holders(backend) == ids(0, 2)
        found = (await api.get(f"{V3}/licenses/{ACCOUNT}")).json()
        assert (found["totalLicenses"], found["assignedLicenses"]) == (1, 2)
        meters[0].downloaded()
        await backend.runtime.clock.sleep(60)
        _status, devices = report(backend, running)
        assert devices[ids(0)[0]][0] == "UpgradeSuccess"
        assert holders(backend) == ids(2)
        await backend.finished.wait()
        _status, devices = report(backend, waiting)
        assert devices[ids(1)[0]][0] == "CampaignCancelled"
        assert devices[ids(2)[0]][0] == "UpgradeSuccess"


async def recount(backend: Backend, table: Any) -> int:
    query = select(func.count()).select_from(table)
    return await backend.writer.read(lambda connection: connection.execute(query).scalar_one())


@rules("BR-124")
@pytest.mark.parametrize("delay", [0.0, 0.001, 0.2, 0.5, 2.0])
@virtual
async def test_after_a_kill_the_figures_equal_a_recount(tmp_path: Path, delay: float) -> None:
    config = replace(
        CONFIG,
        account=ACCOUNT,
        db=str(tmp_path / "b.db"),
        listen={"coap": Listen(("10.0.0.1", 5683))},
    )
    async with Runtime.in_memory(seed=3) as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        await backend.load_devices({"deviceId": device} for device in ids(*range(4)))
        await backend.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 3)
        await backend.add_package(IMAGE, name="app", version="2.0.0")
        name = f"urn:imei:{IMEI}"
        meter = ScriptedDevice(runtime, ("10.0.0.1", 5683), name)
        meter.register()
        async with logged_in(backend) as api:
            await changed(api, "assign", ids(0, 1, 2))
            await scheduled(api, ids(0))
            member = backend.engine.book.latest(name)
            assert member is not None
            while member.position < Position.DOWNLOADING:
                await runtime.clock.sleep(0.001)
            await backend.licences.set_subscription(ACCOUNT, MONTHLY_BILLED, 1)
            assert holders(backend) == ids(0, 2)
            await runtime.clock.sleep(delay)
        kill(backend)
        await runtime.clock.sleep(0.5)
        backend = Backend(runtime, config)
        await backend.start()
        assert backend.licences.used(ACCOUNT) == await recount(backend, tables.licences)
        await backend.finished.wait()
        await runtime.clock.sleep(1)
        # The upgrade has been finished, once, and its licence has gone then.
        assert meter.executes == 1
        assert holders(backend) == ids(2)
        assert await recount(backend, tables.licences) == 1
        meter.close()
        await backend.stop()
