"""Firmware synchronisation: who is asked, for how long, and what is kept of a request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from protocols.coap import Code, response
from tests.tools.backend.rest_world import ACCOUNT, STRANGER, V3, RestWorld, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, started, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns.states import IllegalTransition, next_state
from tools.backend.firmware_sync import READ_LIMIT, REQUEST_LIFE, SYNC_TABLE, SyncRequest
from tools.backend.inventory import Device

PATH = f"{V3}/firmware/{ACCOUNT}"
UNREACHABLE = "The network reports the device is not reachable."


async def synchronise(world: RestWorld, *ids: str) -> list[dict[str, str]]:
    found = await world.json(
        "PUT", f"{PATH}/devices", "DeviceFirmwareList", json={"deviceList": list(ids)}
    )
    items: list[dict[str, str]] = found["deviceFirmwarVersionList"]
    return items


async def ask(world: RestWorld, device_id: str) -> str:
    answer = await world.json(
        "PUT", f"{PATH}/async/{device_id}", "DeviceFirmwareVersionUpdateResult", every=True
    )
    return str(answer["requestId"])


async def status(world: RestWorld, device_id: str) -> tuple[str | None, str | None, str | None]:
    async with world.again() as again:
        found = await again.json(
            "POST",
            f"{V3}/devices/{ACCOUNT}",
            "DeviceListResult",
            json={"deviceList": [device_id]},
        )
    [item] = found["deviceList"]
    return item.get("requestStatus"), item.get("resultReason"), item.get("statusTime")


def test_every_cell_of_the_table() -> None:
    for state, cells in SYNC_TABLE.items():
        for event in ("read", "expire"):
            if event in cells:
                assert SYNC_TABLE[next_state(SYNC_TABLE, state, event)] == {}
            else:
                with pytest.raises(IllegalTransition):
                    next_state(SYNC_TABLE, state, event)


@rules("BR-099")
@virtual
async def test_a_call_lasts_thirty_seconds_at_most() -> None:
    async with rest_world(lwm2m=3) as world:
        answers = await world.scripted(0)
        mute = await world.scripted(1)
        mute.endpoint.abandon()
        answers.version = "1.5.0"
        before = world.backend.time.now()
        read, silent, absent = await synchronise(world, *world.lwm2m)
        assert world.backend.time.now() - before == pytest.approx(READ_LIMIT, abs=0.1)
        assert read["status"] == "FirmwareVersionUpdateSuccess"
        assert (read["firmwareVersion"], read["reason"]) == (
            "1.5.0",
            "The device reports its firmware version.",
        )
        for item in (silent, absent):
            assert item["status"] == "FirmwareVersionUpdateFailed"
            assert (item["reason"], item["firmwareVersion"]) == (UNREACHABLE, "1.0.0")
        # What was read is what the device list says from now on, durably.
        assert world.backend.inventory.devices[answers.name].firmware == "1.5.0"
        assert any("1.5.0" in row for row in world.rows()["devices"])
        # Nobody is asked any more: a late answer is a stranger's.
        before = world.backend.time.now()
        await synchronise(world, world.lwm2m[0])
        assert world.backend.time.now() - before < 1


@rules("BR-100")
@virtual
async def test_who_cannot_be_asked_is_named() -> None:
    async with rest_world() as world:
        device = await world.scripted()
        http, omadm = world.ids()[0], world.omadm[0]
        found = await synchronise(world, http, omadm, STRANGER)
        assert {item["status"] for item in found} == {"FirmwareVersionUpdateFailed"}
        assert [item["reason"] for item in found] == [
            "Only LwM2M devices can be asked for their firmware version.",
            "Only LwM2M devices can be asked for their firmware version.",
            "Device Not Found.",
        ]
        assert [item["deviceId"] for item in found] == [http, omadm, STRANGER]
        assert all("firmwareVersionUpdateTime" not in item for item in found)
        device.version = "x" * 256
        [item] = await synchronise(world, world.lwm2m[0])
        assert "too long" in item["reason"]
        assert item["firmwareVersion"] == "1.0.0"


@virtual
async def test_a_device_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rest_world() as world:
        await world.scripted()
        monkeypatch.setattr(ScriptedDevice, "_read", lambda *_: response(Code.METHOD_NOT_ALLOWED))
        [item] = await synchronise(world, world.lwm2m[0])
        assert item["reason"] == "The device refused the request."


@virtual
async def test_a_sleeping_device_is_not_waited_for() -> None:
    async with rest_world() as world:
        device = await world.scripted(query=("Q",), lifetime=86400)
        [item] = await synchronise(world, world.lwm2m[0])
        assert item["status"] == "FirmwareVersionUpdateSuccess"
        await world.sleep(300)
        before = world.backend.time.now()
        [item] = await synchronise(world, world.lwm2m[0])
        assert (item["reason"], world.backend.time.now()) == (UNREACHABLE, before)
        # Who does not wait gets the version at the device's next wake.
        device.version = "1.7.0"
        await ask(world, world.lwm2m[0])
        assert (await status(world, world.lwm2m[0]))[0] == "Pending"
        await device.update()
        await world.sleep(1)
        assert (await status(world, world.lwm2m[0]))[0] == "Success"
        assert world.backend.inventory.devices[device.name].firmware == "1.7.0"


BAD_LISTS: list[tuple[object, str]] = [
    ({"deviceList": []}, "Device list is empty"),
    ({"deviceList": ["12"]}, "Invalid device id format"),
    ({"deviceList": ["٣" * 15]}, "Invalid device id format"),
    ({"deviceList": [STRANGER] * 1001}, "deviceList"),
    ({"deviceList": [STRANGER, 1]}, "deviceList.1"),
    ({}, "deviceList"),
    ([], "object"),
]


@virtual
async def test_a_bad_list_is_named() -> None:
    async with rest_world(0, 0, 0) as world:
        for sent, text in BAD_LISTS:
            await world.refused("PUT", f"{PATH}/devices", text, json=sent)
            await world.refused("POST", f"{V3}/devices/{ACCOUNT}", text, json=sent)


@rules("BR-101")
@virtual
async def test_a_request_is_answered_when_the_device_comes() -> None:
    async with rest_world() as world:
        [one, two] = world.lwm2m
        first = await ask(world, one)
        assert await status(world, one) == (
            "Pending",
            "The firmware version of the device is being read.",
            "2030-01-01T00:00:00.000Z",
        )
        assert await status(world, two) == (None, None, None)
        second = await ask(world, one)
        assert first != second
        [row] = world.rows()["firmware_syncs"]
        assert second in row
        await world.sleep(3600)
        device = await world.scripted()
        found = await status(world, one)
        assert found[:2] == ("Success", "The device reports its firmware version.")
        assert (found[2] or "").startswith("2030-01-01T01:00:0")
        # And once more, now that it is there.
        device.version = "1.9.0"
        async with world.again() as again:
            await ask(again, one)
        await world.sleep(1)
        assert (await status(world, one))[0] == "Success"
        assert world.backend.inventory.devices[device.name].firmware == "1.9.0"
        async with world.again() as again:
            for other, text in (
                (world.ids()[0], "Only LwM2M devices"),
                (STRANGER, "does not exist"),
                ("12", "Invalid device id format"),
            ):
                await again.refused("PUT", f"{PATH}/async/{other}", text)


@rules("BR-101")
@virtual
async def test_a_request_expires_after_a_day() -> None:
    async with rest_world() as world:
        [one, two] = world.lwm2m
        await ask(world, one)
        await world.sleep(600)
        await ask(world, two)
        await world.sleep(REQUEST_LIFE - 601)
        assert (await status(world, one))[0] == "Pending"
        await world.sleep(2)
        failed, reason, when = await status(world, one)
        assert (failed, reason) == ("Failed", UNREACHABLE)
        assert (when or "").startswith("2030-01-02T00:00:00")
        assert (await status(world, two))[0] == "Pending"
        await world.sleep(600)
        assert (await status(world, two))[0] == "Failed"
        # A device that comes later changes nothing.
        await world.scripted()
        assert (await status(world, one))[0] == "Failed"


@virtual
async def test_a_caller_who_hangs_up_leaves_nothing_behind() -> None:
    async with rest_world() as world:
        device = await world.scripted()
        device.endpoint.abandon()
        known = world.backend.inventory.devices[device.name]
        reading = asyncio.ensure_future(world.backend.firmware_sync.read([known]))
        await world.sleep(1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await world.sleep(READ_LIMIT)


def latest(backend: Backend, device_id: str) -> SyncRequest:
    device = backend.inventory.by_id(ACCOUNT, device_id)
    assert isinstance(device, Device)
    found = backend.firmware_sync.latest(device)
    assert found is not None
    return found


@virtual
async def test_requests_outlive_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, account=ACCOUNT, db=str(tmp_path / "b.db"))
    one, two, three = (str(360000000000000 + number) for number in range(3))
    async with Runtime.in_memory(seed=7) as runtime:
        async with started(runtime, config) as backend:
            await backend.load_devices({"deviceId": name} for name in (one, two, three))
            for name in (one, two):
                device = backend.inventory.by_id(ACCOUNT, name)
                assert device is not None
                await backend.firmware_sync.request(device, f"request of {name}")
        await runtime.clock.sleep(3600)
        async with started(runtime, config) as backend:
            assert latest(backend, one).status == "Pending"
            assert latest(backend, one).request == f"request of {one}"
            name = f"urn:imei:{one}"
            device = ScriptedDevice(runtime, backend.coap_address, name)
            device.register()
            await runtime.clock.sleep(1)
            assert latest(backend, one).status == "Success"
            device.close()
        await runtime.clock.sleep(REQUEST_LIFE)
        async with started(runtime, config) as backend:
            # It ran out while nobody was there to see it.
            assert (latest(backend, one).status, latest(backend, two).status) == (
                "Success",
                "Failed",
            )
            await backend.writer.flushed()
        async with started(runtime, config) as backend:
            assert latest(backend, two).status == "Failed"
