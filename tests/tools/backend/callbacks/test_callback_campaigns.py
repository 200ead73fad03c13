"""Callbacks of whole campaigns with devices on the wire, and the backend killed in between."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_room import URL, ScriptedListener
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.test_restart import kill
from tests.tools.backend.virtual import CONFIG, IMAGE, package, virtual
from tools.backend.backend import Backend, BackendConfig
from tools.backend.config import Listen
from tools.backend.rest import v1_words
from tools.backend.timing import DAY, HOUR

ADDRESS = ("10.0.0.1", 5683)
DEVICES = 3

# What has become durable, in order; written by the database itself.
AUDIT = (
    "CREATE TABLE audit (number INTEGER PRIMARY KEY, campaign TEXT, device_id TEXT, status TEXT)",
    "CREATE TRIGGER audit_devices AFTER UPDATE OF status ON campaign_devices"
    " WHEN old.status != new.status BEGIN"
    " INSERT INTO audit (campaign, device_id, status)"
    " VALUES (new.campaign, new.device_id, new.status); END",
    "CREATE TRIGGER audit_campaigns AFTER UPDATE OF status ON campaigns"
    " WHEN old.status != new.status BEGIN"
    " INSERT INTO audit (campaign, device_id, status) VALUES (new.id, '', new.status); END",
    # What its checks have found when a campaign is written.
    "CREATE TRIGGER audit_rejected AFTER INSERT ON campaign_devices"
    " WHEN new.status = 'DeviceRejected' BEGIN"
    " INSERT INTO audit (campaign, device_id, status)"
    " VALUES (new.campaign, new.device_id, new.status); END",
    "CREATE TRIGGER audit_failed AFTER INSERT ON campaigns"
    " WHEN new.status = 'CampaignRequestFailed' BEGIN"
    " INSERT INTO audit (campaign, device_id, status) VALUES (new.id, '', new.status); END",
)


def config_of(path: Path, listener: ScriptedListener) -> BackendConfig:
    return replace(
        CONFIG, db=str(path), listen={"coap": Listen(ADDRESS)}, callback_transport=listener
    )


async def watched(backend: Backend) -> None:
    def work(connection: Connection) -> None:
        for statement in AUDIT:
            connection.exec_driver_sql(statement)

    await backend.writer.submit(work)


async def audited(backend: Backend) -> list[tuple[str, str, str]]:
    query = text("SELECT campaign, device_id, status FROM audit ORDER BY number")
    rows = await backend.writer.read(lambda connection: connection.execute(query).all())
    return [(row[0], row[1], row[2]) for row in rows]


def told(listener: ScriptedListener) -> list[tuple[str, str, str]]:
    """What the listener accepted, in order: campaigns and devices."""
    found = []
    for arrival in listener.accepted:
        body = arrival.body
        if body["campaignId"]:
            found.append((body["campaignId"], "", body["status"]))
        found += [
            (body["campaignId"], item["deviceId"], item["status"]) for item in body["deviceList"]
        ]
    return found


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


def check(durable: list[tuple[str, str, str]], listener: ScriptedListener) -> None:
    """Every change that is durable was told, and in its order."""
    found = told(listener)
    assert durable
    assert not set(durable) - set(found)
    for subject in {(campaign, device) for campaign, device, _status in durable}:
        wanted = [status for campaign, device, status in durable if (campaign, device) == subject]
        got = [status for campaign, device, status in found if (campaign, device) == subject]
        assert is_subsequence(wanted, got), (subject, wanted, got)


@rules("BR-127")
@virtual
async def test_a_campaign_is_told_from_its_start_to_its_end(tmp_path: Path) -> None:
    listener = ScriptedListener()
    async with Runtime.in_memory(seed=3) as runtime:
        listener.now = runtime.clock.now
        backend = Backend(runtime, config_of(tmp_path / "b.db", listener))
        await backend.start()
        await backend.callbacks.register(backend.account.name, 3, URL)
        await watched(backend)
        meters = [ScriptedDevice(runtime, ADDRESS, f"meter-{n}", n) for n in range(DEVICES)]
        for meter in meters:
            meter.register()
        campaign = await backend.create_campaign(
            [meter.name for meter in meters], await package(backend)
        )
        await backend.finished.wait()
        await runtime.clock.sleep(5)
        check(await audited(backend), listener)
        types = [arrival.body["type"] for arrival in listener.accepted]
        assert types[0] == "newFirmware"
        assert set(types[1:]) == {"campaignProgress"}
        # One message for each campaign status, and no repetition without a fault.
        numbers = [arrival.number for arrival in listener.arrivals]
        assert numbers == sorted(set(numbers))
        async with logged_in(backend) as api:
            path = f"/api/fota/v3/reports/{backend.account.name}/campaigns/{campaign.id}/devices"
            report = (await api.get(path)).json()["deviceList"]
        last = {
            item["deviceId"]: item
            for arrival in listener.accepted
            for item in arrival.body["deviceList"]
        }
        assert sorted(last.values(), key=lambda item: item["deviceId"]) == report
        assert not backend.callbacks.pending()
        for meter in meters:
            meter.close()
        await backend.stop()


@pytest.mark.parametrize("seed", range(12))
@virtual
async def test_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    """At instants drawn from a seed, over creation, push, execute, report and callback; half of the
    listener's answers are no acceptance."""
    dice = random.Random(seed)
    listener = ScriptedListener()
    async with Runtime.in_memory(seed=seed) as runtime:
        listener.now = runtime.clock.now
        config = config_of(tmp_path / "b.db", listener)
        backend = Backend(runtime, config)
        await backend.start()
        await backend.callbacks.register(backend.account.name, 3, URL)
        await watched(backend)
        meters = [ScriptedDevice(runtime, ADDRESS, f"meter-{n}", n) for n in range(DEVICES)]
        for meter in meters:
            meter.register()
        await backend.create_campaign([meter.name for meter in meters], await package(backend))
        for _ in range(4):
            listener.answer = dice.choice((200, 503))
            await runtime.clock.sleep(dice.choice((0.0, 0.05, 0.3, 1.0, 1.02, 3.0)) * dice.random())
            kill(backend)
            await backend.callbacks.stop()
            backend = Backend(runtime, config)
            await backend.start()
        listener.answer = 200
        await backend.finished.wait()
        await runtime.clock.sleep(700)
        check(await audited(backend), listener)
        assert not backend.callbacks.pending()
        for meter in meters:
            assert (meter.executes, meter.body) == (1, IMAGE)
            meter.close()
        await backend.stop()


@virtual
async def test_the_same_run_tells_the_same(tmp_path: Path) -> None:
    async def run(path: Path) -> list[object]:
        listener = ScriptedListener()
        lines: list[str] = []
        async with Runtime.in_memory(seed=3, journal=lines.append) as runtime:
            start = runtime.clock.now()
            listener.now = lambda: runtime.clock.now() - start
            backend = Backend(runtime, config_of(path, listener))
            await backend.start()
            await backend.callbacks.register(backend.account.name, 3, URL)
            meter = ScriptedDevice(runtime, ADDRESS, "meter-1")
            meter.register()
            await backend.create_campaign([meter.name], await package(backend))
            await backend.finished.wait()
            await runtime.clock.sleep(5)
            meter.close()
            await backend.stop()
        return [[(arrival.when, arrival.body) for arrival in listener.arrivals], lines]

    first, second = await run(tmp_path / "a.db"), await run(tmp_path / "b.db")
    assert len(first[0]) > 3  # type: ignore[arg-type]
    times = [when for when, _body in first[0]]  # type: ignore[attr-defined]
    assert times == sorted(times)
    assert first == second


@virtual
async def test_new_firmware_is_told_once(tmp_path: Path) -> None:
    listener = ScriptedListener()
    async with Runtime.in_memory() as runtime:
        backend = Backend(runtime, config_of(tmp_path / "b.db", listener))
        await backend.start()
        for version in (1, 2, 3):
            await backend.callbacks.register(backend.account.name, version, f"{URL}/{version}")
        for protocol in ("LWM2M", "LWM2M", "HTTP", "OMADM"):
            await backend.add_package(IMAGE, name=protocol, version="2", protocol=protocol)
        await backend.add_package(IMAGE, name="OMADM", version="3", protocol="OMADM")
        await runtime.clock.sleep(2)
        found = []
        for arrival in listener.accepted:
            body = arrival.body
            [item] = body["softwareList" if arrival.url.endswith("2") else "firmwareList"]
            name = item.get("firmwareName") or item["softwareName"]
            found.append((arrival.url[-1], body["type"], name))
        assert sorted(found) == [
            ("1", "newFirmware", "LWM2M"),
            ("1", "newFirmware", "OMADM"),
            ("1", "newFirmware", "OMADM"),
            ("2", "newSoftware", "HTTP"),
            ("3", "newFirmware", "LWM2M"),
        ]
        await backend.stop()


@virtual
async def test_v1_is_told_what_it_is_shown(tmp_path: Path) -> None:
    """Two devices of a v1 upgrade over LwM2M, one of which has gone: whatever v1 shows of them
    after a publication was told at it, and nothing else."""
    listener = ScriptedListener()
    async with Runtime.in_memory(seed=3) as runtime:
        listener.now = runtime.clock.now
        config = replace(config_of(tmp_path / "b.db", listener), timing="documented")
        backend = Backend(runtime, config)
        await backend.start()
        account = backend.account.name
        await backend.callbacks.register(account, 1, URL)
        meters = [
            ScriptedDevice(runtime, ADDRESS, f"meter-{n}", n, lifetime=30 * int(DAY))
            for n in range(2)
        ]
        for meter in meters:
            meter.register()
        meters[1].on_package = lambda: meters[1].set(0, 5)  # it finds the image broken
        await package(backend)
        devices = await backend.load_devices({"name": meter.name} for meter in meters)
        async with logged_in(backend) as api:
            answer = await api.post(
                "/api/fota/v1/upgrades",
                json={
                    "accountName": account,
                    "firmwareName": "app",
                    "firmwareTo": "2.0.0",
                    "startDate": "2030-01-02",
                    "endDate": "2030-01-08",
                    "deviceList": [device.device_id for device in devices],
                },
            )
            assert answer.status_code == 200, answer.text
        campaign = backend.engine.book.campaigns[answer.json()["id"]]
        shown: dict[str, tuple[str, str]] = {}
        expected: list[tuple[str, str, str]] = []
        await runtime.clock.sleep(12 * HOUR + 30)
        for day in range(9):
            for member in campaign.members.values():
                status = v1_words.device_status(member, backend.time.now(), backend.timing)
                if day and shown[member.device_id] != status:
                    expected.append((member.device_id, *status))
                shown[member.device_id] = status
            await runtime.clock.sleep(DAY)
        told_devices = [
            (item["deviceId"], item["status"], item["resultReason"])
            for arrival in listener.accepted
            for item in arrival.body["upgradeProgress"].get("deviceList", [])
        ]
        assert {status for _device, status, _reason in expected} >= {
            "UpgradeSuccess",
            "UpgradeFailed",
        }
        assert sorted(told_devices) == sorted(expected)
        statuses = [
            arrival.body["upgradeProgress"]["status"]
            for arrival in listener.accepted
            if arrival.body["upgradeProgress"]
        ]
        assert list(dict.fromkeys(statuses)) == ["Queued", "InProgress", "Finished"]
        for meter in meters:
            meter.close()
        await backend.stop()
