"""Section 1 of the API reference, the release history: one raw test for each row that concerns v1,
named after it. The rows of 2.33 to 3.0 are about v2 and v3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.tools.backend.omadm_device import DmDevice, in_process
from tests.tools.backend.rest_v1.stock import (
    ACCOUNT,
    FIRMWARE,
    METER,
    MODEM,
    TOMORROW,
    Caller,
    device,
    ids,
    served,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.timing import DAY, HOUR

ONE, TWO = ids(MODEM, 2)
FAILURE = "Firmware update failed to device"
CALLBACK = {"name": "Fota", "url": "https://listener.example/fota"}


@pytest.mark.parametrize(("protocol", "first"), [("OMADM", MODEM), ("LWM2M", METER)])
@virtual
async def test_initial_release_firmware_campaigns_for_omadm_and_lwm2m(
    protocol: str, first: int
) -> None:
    async with served() as backend:
        api = Caller(backend)
        found = await api.told("GET", f"/firmware/{ACCOUNT}")
        [firmware] = [item for item in found if item["firmwareName"] == FIRMWARE[protocol]]
        devices = (await api.told("GET", f"/devices/{ACCOUNT}/index/0"))["deviceList"]
        ready = [
            item["deviceId"]
            for item in devices
            if item["clientType"] == protocol and item["firmware"] == firmware["fromVersion"]
        ]
        assert ready == ids(first, 2)
        made = await api.upgrade(
            ready, firmwareName=firmware["firmwareName"], firmwareTo=firmware["toVersion"]
        )
        assert made["status"] == "RequestPending"
        await backend.runtime.clock.sleep(1)
        assert (await api.shown(made["id"]))["status"] == "Queued"
        await backend.runtime.clock.sleep(DAY)
        assert (await api.shown(made["id"]))["status"] == "InProgress"
        await backend.runtime.clock.sleep(7 * DAY)
        assert (await api.shown(made["id"]))["status"] == "Finished"


@virtual
async def test_2_2_the_whole_list_of_cancellation_candidates_can_be_deleted_at_once() -> None:
    async with served() as backend:
        api = Caller(backend)
        await monthly(backend)
        await api.told("POST", f"/licenses/{ACCOUNT}/assign", json={"deviceList": [ONE, TWO]})
        await api.told("POST", f"/licenses/{ACCOUNT}/cancel", json={"deviceList": [ONE, TWO]})
        listed = f"/licenses/{ACCOUNT}/cancel/index/0"
        assert (await api.told("GET", listed))["deviceList"] == [ONE, TWO]
        await api.told("DELETE", f"/licenses/{ACCOUNT}/cancel")
        assert (await api.told("GET", listed))["deviceList"] == []


@virtual
async def test_2_4_1_three_deletions_answer_success() -> None:
    async with served() as backend:
        api = Caller(backend)
        await monthly(backend)
        await api.told("POST", f"/licenses/{ACCOUNT}/assign", json={"deviceList": [ONE, TWO]})
        await api.told("POST", f"/licenses/{ACCOUNT}/cancel", json={"deviceList": [ONE]})
        await api.told("POST", f"/callbacks/{ACCOUNT}", json=CALLBACK)
        made = await api.upgrade([ONE])
        for path in (
            f"/licenses/{ACCOUNT}/cancel",
            f"/callbacks/{ACCOUNT}/name/Fota",
            f"/upgrades/{ACCOUNT}/upgrade/{made['id']}",
        ):
            assert await api.told("DELETE", path) == {"success": True}


@rules("BR-057")
@virtual
async def test_2_7_devices_can_be_added_to_or_removed_from_a_scheduled_upgrade() -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade([ONE])
        await backend.runtime.clock.sleep(1)
        path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
        await api.told("PUT", path, json={"type": "append", "deviceList": [TWO]})
        assert await api.statuses(made["id"]) == dict.fromkeys([ONE, TWO], "Device Accepted")
        await api.told("PUT", path, json={"type": "remove", "deviceList": [ONE]})
        assert await api.statuses(made["id"]) == {TWO: "Device Accepted"}


@virtual
async def test_2_9_the_device_list_states_the_status_of_the_line_of_service() -> None:
    async with served() as backend:
        device(backend, TWO).line = "suspend"
        found = (await Caller(backend).told("GET", f"/devices/{ACCOUNT}/index/0"))["deviceList"]
        lines = {item["deviceId"]: item["status"] for item in found}
        assert (lines[ONE], lines[TWO]) == ("active", "suspend")


@virtual
async def test_2_9_user_name_and_password_are_no_part_of_a_listener_any_more() -> None:
    async with served() as backend:
        api = Caller(backend)
        sent = {**CALLBACK, "username": "someone", "password": "something"}
        answer = await api.send("POST", f"/callbacks/{ACCOUNT}", json=sent)
        assert answer.status_code == 200
        [listener] = await api.told("GET", f"/callbacks/{ACCOUNT}")
        assert not listener.keys() & {"username", "password"}
        assert "someth" not in answer.text


@virtual
async def test_2_10_device_list_and_firmware_list_are_filtered_by_client_type() -> None:
    async with served() as backend:
        api = Caller(backend)
        for path, items, devices in (
            (f"/devices/{ACCOUNT}/index/0", "deviceList", 2),
            (f"/firmware/{ACCOUNT}", None, 1),
        ):
            for asked, meant in (("OMADM", "OMADM"), ("LWM2M", "LWM2M"), ("OMD-DM", "OMADM")):
                found = await api.told("GET", path, params={"clientType": asked})
                listed = found[items] if items else found
                assert [item["clientType"] for item in listed] == [meant] * devices
            found = await api.told("GET", path)
            assert len(found[items] if items else found) == 2 * devices


# -- 1.3: OMA-DM before and since 3.1 ---


async def monthly(backend: Backend) -> None:
    account = replace(backend.account, purchase_type="TS-HFOTA-MRC", licence_count=10)
    backend.inventory.accounts[ACCOUNT] = account


@asynccontextmanager
async def modem(mode: str) -> AsyncIterator[tuple[Backend, Caller, DmDevice]]:
    """A device that is off, and an upgrade for it that begins tomorrow."""
    async with served(1, timing="documented") as backend, in_process(backend) as client:
        backend.inventory.accounts[ACCOUNT] = replace(backend.account, omadm_mode=mode)
        name = device(backend, ONE).name
        account = (await backend.mint_dm_accounts([name]))[name]
        yield backend, Caller(backend), DmDevice(client, name, account)


async def powers_up(backend: Backend, device: DmDevice) -> None:
    push = device.listen(backend).local
    await backend.operator.attach(ONE, "c1", push)
    await backend.runtime.clock.sleep(5)


async def obeys(device: DmDevice) -> None:
    """Its session, the update, and its report."""
    await device.session(session=device.pushed[-1].session_text)
    device.install()
    await device.session(device.result(200))


@rules("BR-065", "BR-071")
@virtual
async def test_3_1_before_it_one_attempt_and_a_queue_of_four_hours() -> None:
    async with modem("one_attempt") as (backend, api, device):
        made = await api.upgrade([ONE])
        clock = backend.runtime.clock
        await clock.sleep(DAY + HOUR)
        assert (await api.shown(made["id"]))["status"] == "InProgress"
        await clock.sleep(3.5 * HOUR)
        # Off during all of that: the upgrade is over at once, its devices are published at noon.
        assert (await api.shown(made["id"]))["status"] == "Finished"
        assert await api.history(ONE) == []
        await clock.sleep(8 * HOUR)
        [shown] = (await api.shown(made["id"]))["deviceList"]
        assert (shown["status"], shown["resultReason"]) == ("UpgradeFailed", FAILURE)
        [row] = await api.history(ONE)
        assert (row["status"], row["reason"]) == ("UpgradeFailed", FAILURE)
        await powers_up(backend, device)
        assert device.pushed == []
        # Another upgrade is needed.
        again = await api.upgrade([ONE], startDate="2030-01-03")
        await clock.sleep(12.5 * HOUR)
        await obeys(device)
        await clock.sleep(DAY)
        rows = await api.history(ONE)
        assert [(item["id"], item["status"]) for item in rows] == [
            (again["id"], "UpgradeSuccess"),
            (made["id"], "UpgradeFailed"),
        ]


@rules("BR-070", "BR-072", "BR-073")
@virtual
async def test_3_1_since_it_the_device_is_queued_until_its_next_power_up() -> None:
    async with modem("network_aware") as (backend, api, device):
        made = await api.upgrade([ONE])
        clock = backend.runtime.clock
        await clock.sleep(2 * DAY + HOUR)
        assert (await api.shown(made["id"]))["status"] == "Finished"
        assert await api.statuses(made["id"]) == {ONE: "UpgradeFailed"}
        # Ten days later it powers up, is notified, and fails; so it is queued again.
        await clock.sleep(10 * DAY)
        await powers_up(backend, device)
        await device.session(session=device.pushed[-1].session_text)
        device.state = 20  # the download has failed
        await device.session(device.result(402))
        await clock.sleep(10 * DAY)
        assert await api.statuses(made["id"]) == {ONE: "UpgradeFailed"}
        await powers_up(backend, device)
        await obeys(device)
        # The device list is the truth, and live.
        [listed] = (await api.told("GET", f"/devices/{ACCOUNT}/index/0?clientType=OMADM"))[
            "deviceList"
        ]
        assert listed["firmware"] == "2.0.0"
        assert listed["upgradeTime"].startswith("2030-01-23")
        await clock.sleep(DAY)
        shown = await api.shown(made["id"])
        assert shown["status"] == "Finished"
        [item] = shown["deviceList"]
        assert item["status"] == "UpgradeSuccess"
        rows = await api.history(ONE)
        assert {row["id"] for row in rows} == {made["id"]}
        assert [row["status"] for row in rows] == ["UpgradeSuccess", *["UpgradeFailed"] * 2]
        assert [row["reason"] for row in rows[1:]] == [FAILURE] * 2
        assert [row["upgradeStartTime"][:10] for row in rows] == [
            "2030-01-23",
            "2030-01-13",
            TOMORROW,
        ]
        assert {(row["startDate"], row["firmwareFrom"], row["firmwareTo"]) for row in rows} == {
            (TOMORROW, "1.0.0", "2.0.0")
        }


@rules("BR-076")
@virtual
async def test_3_1_a_device_in_the_queue_is_free_for_another_upgrade() -> None:
    async with modem("network_aware") as (backend, api, device):
        made = await api.upgrade([ONE])
        await backend.runtime.clock.sleep(2 * DAY + HOUR)
        newer = await api.upgrade([ONE], startDate="2030-01-05")
        await backend.runtime.clock.sleep(1)
        assert await api.statuses(newer["id"]) == {ONE: "Device Accepted"}
        await powers_up(backend, device)
        assert device.pushed == []  # superseded: the older one notifies it no more
        await backend.runtime.clock.sleep(3 * DAY)
        await obeys(device)
        await backend.runtime.clock.sleep(DAY)
        assert await api.statuses(newer["id"]) == {ONE: "UpgradeSuccess"}
        assert await api.statuses(made["id"]) == {ONE: "UpgradeFailed"}
