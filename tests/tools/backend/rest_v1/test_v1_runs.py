"""Upgrades made through v1's REST and driven to their end by virtual devices, in virtual time."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from agent.device import Device
from protocols.lwm2m import Lwm2mClient
from tests.agent.parts import image, old_image, trusted
from tests.tools.backend.api_models import check
from tests.tools.backend.rest_v1.stock import ACCOUNT, TODAY, TOMORROW, Caller, ids
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.test_omadm_client import NEW, SLOT, Fleet, equip
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.rest import v1_reports
from tools.backend.timing import DAY, HOUR

FIRST = 350000000000700
FAILURE = "Firmware update failed to device"


@asynccontextmanager
async def modems(count: int, timing: str = "immediate") -> AsyncIterator[Fleet]:
    """Real OMA-DM devices, and the firmware for them."""
    async with world(replace(CONFIG, account=ACCOUNT, timing=timing)) as backend:
        made = await equip(backend, count, "md5")
        made.spawn({"push": "2948"})
        await backend.add_package(
            NEW, name="modem", version="2.0.0", version_from="1.0.0", protocol="OMADM"
        )
        try:
            yield made
        finally:
            await made.switch_off()


@asynccontextmanager
async def meters(
    count: int, timing: str = "immediate"
) -> AsyncIterator[tuple[Backend, list[Device]]]:
    """Real LwM2M devices, and the firmware for them."""
    async with world(replace(CONFIG, account=ACCOUNT, timing=timing)) as backend:
        host, port = backend.coap_address
        client = functools.partial(Lwm2mClient, server=f"coap://{host}:{port}")
        names = [f"urn:imei:{one}" for one in ids(FIRST, count)]
        made = [
            Device(
                backend.runtime,
                name,
                image=old_image(),
                trusted=trusted(),
                slot_size=SLOT,
                index=index,
            )
            for index, name in enumerate(names)
        ]
        for device in made:
            device.attach(client)
        await backend.load_devices({"name": name} for name in names)
        await backend.add_package(
            image(2, 13000, 2), name="meter", version="2.0.0", version_from="1.0.0"
        )
        try:
            yield backend, made
        finally:
            for device in made:
                if device.phase.name != "OFF":
                    device.power_off()
            await backend.runtime.clock.sleep(1)


def versions(devices: list[Device]) -> list[str]:
    return [str(device.running.version) for device in devices if device.running is not None]


def device_ids(devices: list[Device]) -> list[str]:
    return [device.name.removeprefix("urn:imei:") for device in devices]


async def finished(api: Caller, backend: Backend, upgrade_id: str, seconds: float = HOUR) -> Any:
    """The upgrade, as soon as it shows that it is over."""
    for _ in range(60):
        shown = await api.shown(upgrade_id)
        if shown["status"] == "Finished":
            return shown
        await backend.runtime.clock.sleep(seconds / 60)
    raise AssertionError(shown)


def is_success(shown: Any, wanted: list[str]) -> None:
    check("FirmwareUpgrade", shown, every=True)
    assert {item["deviceId"]: item["status"] for item in shown["deviceList"]} == dict.fromkeys(
        wanted, "UpgradeSuccess"
    )


@virtual
async def test_an_upgrade_of_omadm_devices() -> None:
    async with modems(3) as fleet:
        backend, api = fleet.backend, Caller(fleet.backend)
        for device in fleet.devices:
            device.power_on()
            await fleet.attach(device)
        await fleet.runtime.clock.sleep(10)
        wanted = device_ids(fleet.devices)
        made = await api.upgrade(wanted, firmwareName="modem", startDate=TODAY)
        is_success(await finished(api, backend, made["id"]), wanted)
        assert versions(fleet.devices) == ["2.0.0"] * 3
        for one in wanted:
            rows = await api.history(one)
            check("[DeviceUpgradeHistory]", rows, every=True)
            [row] = rows
            assert row | {"upgradeStartTime": ""} == {
                "deviceId": one,
                "id": made["id"],
                "accountName": ACCOUNT,
                "firmwareFrom": "1.0.0",
                "firmwareTo": "2.0.0",
                "startDate": TODAY,
                "upgradeStartTime": "",
                "status": "UpgradeSuccess",
                "reason": row["reason"],
            }
            assert row["upgradeStartTime"].startswith(TODAY)
        listed = (await api.told("GET", f"/devices/{ACCOUNT}/index/0"))["deviceList"]
        assert {item["firmware"] for item in listed} == {"2.0.0"}
        assert all(item["upgradeTime"].startswith(TODAY) for item in listed)


@virtual
async def test_an_upgrade_of_lwm2m_devices() -> None:
    async with meters(3) as (backend, devices):
        api = Caller(backend)
        for device in devices:
            device.power_on()
        await backend.runtime.clock.sleep(10)
        wanted = device_ids(devices)
        made = await api.upgrade(wanted, firmwareName="meter", startDate=TODAY)
        is_success(await finished(api, backend, made["id"]), wanted)
        assert versions(devices) == ["2.0.0"] * 3
        [row] = await api.history(wanted[0])
        assert (row["id"], row["status"]) == (made["id"], "UpgradeSuccess")


@rules("BR-003", "BR-035", "BR-036")
@virtual
async def test_a_dated_upgrade_begins_at_midnight_and_is_published_at_noon() -> None:
    async with modems(2, "documented") as fleet:
        api, clock = Caller(fleet.backend), fleet.runtime.clock
        for device in fleet.devices:
            device.power_on()
            await fleet.attach(device)
        wanted = device_ids(fleet.devices)
        made = await api.upgrade(wanted, firmwareName="modem")
        assert {item["status"] for item in made["deviceList"]} == {"RequestPending"}
        await clock.sleep(DAY - HOUR)
        assert (await api.shown(made["id"]))["status"] == "Queued"
        assert versions(fleet.devices) == ["1.0.0"] * 2
        await clock.sleep(2 * HOUR)
        # The upgrade is live, and so is the device list; status and history of a device are not.
        shown = await api.shown(made["id"])
        assert shown["status"] == "Finished"
        assert {item["status"] for item in shown["deviceList"]} == {"Device Accepted"}
        assert await api.history(wanted[0]) == []
        listed = (await api.told("GET", f"/devices/{ACCOUNT}/index/0"))["deviceList"]
        assert {item["firmware"] for item in listed} == {"2.0.0"}
        await clock.sleep(12 * HOUR)
        is_success(await api.shown(made["id"]), wanted)
        [row] = await api.history(wanted[0])
        assert row["upgradeStartTime"].startswith(f"{TOMORROW}T00:00:0")


@rules("BR-004")
@virtual
async def test_an_on_demand_upgrade_begins_within_ninety_minutes() -> None:
    async with meters(1, "documented") as (backend, [device]):
        api, clock = Caller(backend), backend.runtime.clock
        device.power_on()
        await clock.sleep(10)
        made = await api.upgrade(device_ids([device]), firmwareName="meter", startDate=TODAY)
        await clock.sleep(1)
        assert (await api.shown(made["id"]))["status"] == "Queued"
        await clock.sleep(1.75 * HOUR)
        assert (await api.shown(made["id"]))["status"] == "Finished"
        assert versions([device]) == ["2.0.0"]


@rules("BR-040")
@virtual
async def test_an_lwm2m_device_that_is_off_is_tried_twice_a_night_for_three_days() -> None:
    async with meters(1, "documented") as (backend, [device]):
        api, clock = Caller(backend), backend.runtime.clock
        [one] = device_ids([device])
        made = await api.upgrade([one], firmwareName="meter")
        await clock.sleep(4 * DAY + 13 * HOUR)
        assert (await api.shown(made["id"]))["status"] == "Finished"
        assert await api.statuses(made["id"]) == {one: "UpgradeFailed"}
        rows = await api.history(one)
        assert [row["upgradeStartTime"][:13] for row in reversed(rows)] == [
            f"2030-01-0{day}T{hour}" for day in (2, 3, 4) for hour in ("00", "04")
        ]
        assert {(row["id"], row["status"], row["reason"]) for row in rows} == {
            (made["id"], "UpgradeFailed", FAILURE)
        }


@rules("BR-041")
@virtual
async def test_an_lwm2m_device_that_comes_back_is_upgraded_at_the_next_try() -> None:
    async with meters(1, "documented") as (backend, [device]):
        api, clock = Caller(backend), backend.runtime.clock
        [one] = device_ids([device])
        made = await api.upgrade([one], firmwareName="meter")
        await clock.sleep(DAY + HOUR)
        device.power_on()
        await clock.sleep(HOUR)
        assert versions([device]) == ["1.0.0"]
        await clock.sleep(3 * HOUR)
        assert versions([device]) == ["2.0.0"]
        assert (await api.shown(made["id"]))["status"] == "Finished"
        await clock.sleep(12 * HOUR)
        rows = await api.history(one)
        assert [(row["status"], row["upgradeStartTime"][:13]) for row in rows] == [
            ("UpgradeSuccess", f"{TOMORROW}T04"),
            ("UpgradeFailed", f"{TOMORROW}T00"),
        ]


def refusing(backend: Backend, device_id: str) -> ScriptedDevice:
    """A registered device that finds every package broken."""
    meter = ScriptedDevice(
        backend.runtime,
        backend.coap_address,
        f"urn:imei:{device_id}",
        lifetime=int(30 * DAY),  # it never says that it is still there
    )
    meter.on_package = lambda: meter.set(0, 5)
    meter.register()
    return meter


@rules("BR-039")
@virtual
async def test_a_failure_is_seen_through_v1_next_day_and_through_v3_at_once() -> None:
    """Release notes 3.0: freshness and result reasons; whichever version made the campaign."""
    async with world(replace(CONFIG, account=ACCOUNT, timing="documented")) as backend:
        api, clock = Caller(backend), backend.runtime.clock
        one = str(FIRST)
        meter = refusing(backend, one)
        await backend.load_devices([{"deviceId": one}])
        firmware = await backend.add_package(IMAGE, name="meter", version="2.0.0")
        await clock.sleep(1)
        by_v3 = await backend.create_campaign([f"urn:imei:{one}"], firmware)
        await clock.sleep(2 * HOUR)
        [member] = by_v3.members.values()
        assert member.status == "UpgradeFailed"
        report = f"/api/fota/v3/reports/{ACCOUNT}/devices/{one}"
        [row] = await api.of_v3(report)
        assert (row["status"], "integrity" in row["reason"]) == ("UpgradeFailed", True)
        assert await api.history(one) == []
        await clock.sleep(DAY)
        [row] = await api.history(one)
        assert (row["id"], row["status"], row["reason"]) == (by_v3.id, "UpgradeFailed", FAILURE)
        meter.close()


@rules("BR-039")
@virtual
async def test_an_upgrade_of_v1_is_in_the_history_of_v3_at_once_and_in_its_words() -> None:
    async with world(replace(CONFIG, account=ACCOUNT, timing="documented")) as backend:
        api, clock = Caller(backend), backend.runtime.clock
        one = str(FIRST)
        meter = refusing(backend, one)
        await backend.load_devices([{"deviceId": one}])
        await backend.add_package(IMAGE, name="meter", version="2.0.0")
        await clock.sleep(1)
        made = await api.upgrade([one], firmwareName="meter", startDate=TODAY)
        await clock.sleep(2 * HOUR)
        assert await api.statuses(made["id"]) == {one: "Device Accepted"}
        [row] = await api.of_v3(f"/api/fota/v3/reports/{ACCOUNT}/devices/{one}")
        assert (row["campaignId"], row["status"]) == (made["id"], "UpgradeFailed")
        assert "integrity" in row["reason"]
        await clock.sleep(DAY)
        assert await api.statuses(made["id"]) == {one: "UpgradeFailed"}
        [row] = await api.history(one)
        assert (row["id"], row["reason"]) == (made["id"], FAILURE)
        meter.close()


@rules("BR-162")
@virtual
async def test_a_history_goes_back_six_months(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v1_reports, "SIX_MONTHS", 3 * DAY)
    async with meters(1) as (backend, [device]):
        api, clock = Caller(backend), backend.runtime.clock
        device.power_on()
        await clock.sleep(10)
        [one] = device_ids([device])
        made = await api.upgrade([one], firmwareName="meter", startDate=TODAY)
        await finished(api, backend, made["id"])
        device.power_off()
        await clock.sleep(2.5 * DAY)
        assert [row["id"] for row in await api.history(one)] == [made["id"]]
        await clock.sleep(DAY)
        assert await api.history(one) == []


@virtual
async def test_a_device_that_was_never_asked_has_failed_too() -> None:
    """In a campaign of v3, which waits for a device and asks none that is not there."""
    async with meters(1, "documented") as (backend, [device]):
        api = Caller(backend)
        [one] = device_ids([device])
        firmware = backend.inventory.packages[ACCOUNT, "meter"]
        campaign = await backend.create_campaign([device.name], firmware)
        await backend.runtime.clock.sleep(campaign.ends - backend.time.now() + HOUR)
        [member] = campaign.members.values()
        assert (member.status, member.attempts) == ("UpgradeFailed", 0)
        assert await api.history(one) == []
        await backend.runtime.clock.sleep(12 * HOUR)
        [row] = await api.history(one)
        check("DeviceUpgradeHistory", row, every=True)
        assert (row["id"], row["status"], row["reason"]) == (campaign.id, "UpgradeFailed", FAILURE)
        assert row["upgradeStartTime"].startswith(TODAY)
