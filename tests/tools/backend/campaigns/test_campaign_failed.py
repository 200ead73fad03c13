"""Campaigns that could not be scheduled: their package is gone from the store, or is another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_room import URL, ScriptedListener
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, request, statuses, turn
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import scheduling, states
from tools.backend.campaigns.kinds import FIRMWARE_V1, SOFTWARE_V2
from tools.backend.campaigns.reasons import V1_FAILED
from tools.backend.config import Listen
from tools.backend.faces.base import Ending, FaceKind, Position
from tools.backend.store import tables
from tools.backend.timing import DAY, HOUR

LATER = "2030-01-03"
BAD, GOOD = b"the package that is lost", b"the one that stays"
KINDS: dict[int, dict[str, Any]] = {
    1: {"kind": FIRMWARE_V1, "protocol": "OMADM"},
    2: {"kind": SOFTWARE_V2, "protocol": "HTTP"},
    3: {"protocol": "LWM2M"},
}
SHOWN = {
    1: ("UpgradeFailed", V1_FAILED),
    2: ("CampaignFailed", "other"),
    3: ("CampaignFailed", "The upgrade could not be scheduled, its firmware is not available."),
}


def names_of(version: int, count: int, first: int = 0) -> list[str]:
    prefix = "IMEI:" if version == 1 else "urn:imei:"
    base = 350_000_000_000_000 + 1_000 * version + first
    return [f"{prefix}{base + number}" for number in range(count)]


def ids(names: list[str]) -> tuple[str, ...]:
    return tuple(name.rpartition(":")[2] for name in names)


class World:
    """A backend that can be killed and started again on its database."""

    def __init__(self, runtime: Runtime, path: Path, timing: str) -> None:
        self.runtime = runtime
        self.listener = ScriptedListener()
        self.listener.now = runtime.clock.now
        self.config = replace(
            CONFIG,
            db=str(path),
            timing=timing,
            listen={"coap": Listen(ADDRESS)},
            callback_transport=self.listener,
        )

    async def start(self) -> Backend:
        self.backend = Backend(self.runtime, self.config)
        await self.backend.start()
        self.face = FakeFace(self.backend)
        self.backend.engine.attach("LWM2M", self.face)  # type: ignore[arg-type]
        return self.backend

    async def restart(self) -> Backend:
        kill(self.backend)
        self.backend.callbacks._outbox.stop()
        return await self.start()


@asynccontextmanager
async def world(tmp_path: Path, timing: str = "immediate") -> AsyncIterator[World]:
    async with Runtime.in_memory(seed=3) as runtime:
        found = World(runtime, tmp_path / "b.db", timing)
        backend = await found.start()
        for version, protocol in ((1, "OMADM"), (2, "HTTP"), (3, "LWM2M")):
            for name, body in (("lost", BAD), ("kept", GOOD)):
                await backend.add_package(
                    body, name=f"{name}{version}", version="2.0.0", protocol=protocol
                )
            await backend.load_devices(
                {"name": name, "deviceId": device, "protocol": protocol}
                for name, device in zip(
                    names_of(version, 6), ids(names_of(version, 6)), strict=True
                )
            )
            await backend.callbacks.register(CONFIG.account, version, URL)
        yield found
        await found.backend.stop()


async def spoil(backend: Backend, how: str) -> None:
    """What a bad disk, or somebody with the database in hand, does to one package."""
    table = tables.contents

    def work(connection: Connection) -> None:
        mine = table.c.body == BAD
        if how == "gone":
            connection.execute(table.delete().where(mine))
        else:
            connection.execute(table.update().where(mine).values(body=b"something else"))

    await backend.writer.submit(work)


def asked(version: int, package: str, names: list[str], **changes: object) -> Any:
    base = request([], package=f"{package}{version}", **KINDS[version], **changes)
    return replace(base, devices=ids(names))


def told(listener: ScriptedListener, campaign: str) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """The statuses of a campaign and the last of its devices, as its listener has them."""
    campaign_statuses: list[str] = []
    devices: dict[str, tuple[str, str]] = {}
    for arrival in listener.accepted:
        body = arrival.body.get("upgradeProgress") or arrival.body
        if body.get("upgradeId", body.get("campaignId")) == campaign:
            campaign_statuses.append(body["status"])
            for item in body["deviceList"]:
                devices[item["deviceId"]] = item["status"], item["resultReason"]
    return campaign_statuses, devices


@rules("BR-168", "BR-127")
@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("how", ["gone", "changed"])
@pytest.mark.parametrize("when", ["before the request", "before a restart"])
def test_a_campaign_without_its_package_fails_alone(
    tmp_path: Path, version: int, how: str, when: str
) -> None:
    @virtual
    async def scene() -> None:
        async with world(tmp_path) as place:
            backend = place.backend
            if when == "before the request":
                await spoil(backend, how)
            names = names_of(version, 6)
            lost = await backend.engine.create(asked(version, "lost", names[:3], start_date=LATER))
            kept = await backend.engine.create(asked(version, "kept", names[3:], start_date=LATER))
            await turn(backend, 5)
            assert lost.status in (states.QUEUED, states.PRE_SCHEDULED)
            if when == "before a restart":
                await spoil(backend, how)
                backend = await place.restart()
            await turn(backend, 2 * DAY + 60)
            lost, kept = (backend.engine.book.campaigns[item.id] for item in (lost, kept))
            assert (lost.status, kept.status) == (states.NOT_SCHEDULED, states.SCHEDULED)
            shown, reason = SHOWN[version]
            assert statuses(lost) == [states.FAILED] * 3
            assert {member.reason for member in lost.members.values()} == {reason}
            assert {member.attempts for member in lost.members.values()} == {0}
            found, devices = told(place.listener, lost.id)
            assert found[-1] == shown
            assert devices == dict.fromkeys(ids(names[:3]), ("UpgradeFailed", reason))
            # The devices are free, and a restart finds it over.
            fresh = asked(version, "kept", names[:3], start_date="2030-01-05")
            fresh = await backend.engine.create(fresh)
            assert statuses(fresh).count(states.REJECTED) == 0
            backend = await place.restart()
            assert statuses(backend.engine.book.campaigns[lost.id]) == [states.FAILED] * 3

    scene()


@rules("BR-168")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_api_shows_it(tmp_path: Path, version: int) -> None:
    @virtual
    async def scene() -> None:
        async with world(tmp_path) as place:
            backend, account = place.backend, CONFIG.account
            await spoil(backend, "gone")
            names = names_of(version, 2)
            lost = await backend.engine.create(asked(version, "lost", names))
            await turn(backend, 5)
            base = f"/api/fota/v{version}"
            one = {1: f"upgrades/{account}/upgrade/{lost.id}"}
            by_status = {
                1: f"reports/{account}/status/UpgradeFailed/index/0",
                2: f"reports/{account}/campaigns?campaignStatus=CampaignFailed",
                3: f"reports/{account}/firmware/campaigns?campaignStatus=CampaignFailed",
            }
            async with logged_in(backend) as api:
                path = one.get(version, f"campaigns/{account}/{lost.id}")
                answer = await api.get(f"{base}/{path}")
                assert answer.json()["status"] == SHOWN[version][0]
                listed = (await api.get(f"{base}/{by_status[version]}")).json()
                [found] = listed["reportList" if version == 1 else "campaignList"]
                assert (found["id"], found["status"]) == (lost.id, SHOWN[version][0])
                if version > 1:
                    path = f"{base}/reports/{account}/campaigns/{lost.id}/devices"
                    devices = (await api.get(path)).json()["deviceList"]
                    assert [
                        (item["deviceId"], item["status"], item["resultReason"]) for item in devices
                    ] == [(device, "UpgradeFailed", SHOWN[version][1]) for device in ids(names)]
                gone = await api.delete(
                    f"{base}/{one.get(version, f'campaigns/{account}/{lost.id}')}"
                )
                assert gone.status_code == 400

    scene()


@rules("BR-168", "BR-165")
@virtual
async def test_killed_while_its_devices_fail(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        backend = place.backend
        await spoil(backend, "gone")
        many = names_of(3, 3 * scheduling.AT_ONCE, first=100)
        await backend.load_devices({"name": name} for name in many)
        campaign = await backend.engine.create(asked(3, "lost", many))
        while campaign.status != states.NOT_SCHEDULED:
            await turn(backend, 0.001)
        await backend.writer.flushed()
        backend = await place.restart()
        again = backend.engine.book.campaigns[campaign.id]
        assert again.status == states.NOT_SCHEDULED
        await turn(backend, 5)
        assert set(statuses(again)) == {states.FAILED}
        assert again.unfinished == 0
        assert all(backend.engine.book.open_member(name) is None for name in many)


@rules("BR-169")
@virtual
async def test_a_running_campaign_whose_package_is_lost(tmp_path: Path) -> None:
    async with world(tmp_path, "documented") as place:
        backend = place.backend
        one, two = names_of(3, 2)
        place.face.here.update((one, two))
        campaign = await backend.engine.create(asked(3, "lost", [one, two]))
        await turn(backend, HOUR)
        assert set(place.face.orders) == {one, two}
        place.face.tell(one, FaceKind.DOWNLOADED)
        await turn(backend)
        place.face.tell(one, FaceKind.INSTALLING)
        await turn(backend)
        await spoil(backend, "gone")
        backend = await place.restart()
        place.face.here.update((one, two))
        again = backend.engine.book.campaigns[campaign.id]
        # Who installs is waited for; for who has not got it the fault is ours, and no attempt.
        first, second = again.members[one], again.members[two]
        assert (again.status, first.position) == (states.SCHEDULED, Position.INSTALLING)
        assert (second.status, second.attempts) == (states.FAULT, 0)
        place.face.tell(one, FaceKind.FINAL, Ending.SUCCESS)
        await turn(backend, 8 * DAY)
        assert (first.status, second.status) == (states.SUCCESS, states.FAILED)
        assert again.status == states.ENDED
