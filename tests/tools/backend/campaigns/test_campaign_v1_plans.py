"""v1: LwM2M tries at 00:00 and 04:00, OMA-DM with one attempt and network-aware."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, engine, request, turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FIRMWARE_V1, FIRMWARE_V1_LWM2M, FIRMWARE_V3
from tools.backend.campaigns.publication import published
from tools.backend.campaigns.records import CampaignRequest, Member
from tools.backend.faces.base import Ending, FaceEvent, FaceKind, Position
from tools.backend.inventory import SUSPENDED
from tools.backend.timing import DAY, HOUR, date_text

V1_FAILURE = "Firmware update failed to device"


def upgrade(backend: Backend, names: list[str], **changes: object) -> CampaignRequest:
    tomorrow = date_text(backend.time.now() + DAY)
    asked = replace(
        request(names),
        kind=FIRMWARE_V1_LWM2M,
        start_date=tomorrow,
        end_date=date_text(backend.time.now() + 6 * DAY),
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


class DmFace(FakeFace):
    """OMA-DM: the network keeps notifications, so whoever has a DM account can be asked."""

    protocol = "OMADM"

    def reachable(self, device: str) -> bool:
        return True


@asynccontextmanager
async def omadm(
    devices: int = 1, mode: str = "network_aware"
) -> AsyncIterator[tuple[Backend, DmFace, list[str]]]:
    async with engine(devices=devices, timing="documented") as (backend, _face, _firmware, names):
        account = backend.account
        backend.inventory.accounts[account.name] = replace(account, omadm_mode=mode)
        face = DmFace(backend)
        backend.engine.attach("OMADM", face)
        await backend.add_package(b"x" * 100, name="dm", version="2.0.0", protocol="OMADM")
        await backend.load_devices([{"name": name, "protocol": "OMADM"} for name in names])
        yield backend, face, names


def dm_upgrade(backend: Backend, names: list[str], **changes: object) -> CampaignRequest:
    return upgrade(backend, names, kind=FIRMWARE_V1, package="dm", protocol="OMADM", **changes)


async def powered_up(backend: Backend, name: str) -> None:
    backend.engine.attached(name.removeprefix("urn:imei:"))
    await turn(backend)


# -- LwM2M ---


@rules("BR-040")
@virtual
async def test_lwm2m_is_tried_at_midnight_and_at_four_for_three_days() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, [name, *_rest]):
        face.here.clear()
        campaign = await backend.engine.create(upgrade(backend, [name]))
        member = campaign.members[name]
        tries: list[float] = []
        while not campaign.final:
            await turn(backend, 60)
            if member.attempts > len(tries):
                tries.append(((member.recent or 0.0) - campaign.starts) / HOUR)
        assert [round(hours) for hours in tries] == [0, 4, 24, 28, 48, 52]
        assert (member.status, member.reason) == (states.FAILED, V1_FAILURE)
        assert backend.time.now() - campaign.starts < 3 * DAY + HOUR
        attempts = await backend.engine.attempts(name)
        assert [item.number for item in attempts] == [1, 2, 3, 4, 5, 6]
        assert {item.status for item in attempts} == {states.FAILED}


@rules("BR-041")
@virtual
async def test_a_device_that_is_there_at_four_is_upgraded_at_four() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, [name, *_rest]):
        face.here.clear()
        campaign = await backend.engine.create(upgrade(backend, [name]))
        await turn(backend, DAY + HOUR)
        face.here.add(name)
        face.tell(name, FaceKind.REGISTERED)  # changes nothing: v1 tries at its hours
        await turn(backend, 1)
        assert face.orders == {}
        await turn(backend, 3 * HOUR)
        assert set(face.orders) == {name}
        face.finish(name)
        await turn(backend)
        assert campaign.members[name].status == states.SUCCESS
        assert campaign.status == states.ENDED


@rules("BR-041")
@virtual
async def test_a_failure_that_may_pass_waits_for_the_next_try_and_others_are_final() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, names):
        campaign = await backend.engine.create(upgrade(backend, names))
        await turn(backend, DAY + 60)
        lost, refused, good = names
        face.tell(lost, FaceKind.FINAL, Ending.CONNECTION_LOST)
        face.tell(refused, FaceKind.FINAL, Ending.SIGNATURE)
        face.finish(good)
        await turn(backend)
        assert campaign.members[refused].status == states.FAILED
        assert campaign.members[lost].status == states.PENDING
        await turn(backend, 4 * HOUR)
        assert set(face.orders) == {lost}


# -- OMA-DM ---


@rules("BR-067", "BR-068")
@pytest.mark.parametrize("mode", ["one_attempt", "network_aware"])
def test_after_four_hours_the_device_has_failed_in_both_modes(mode: str) -> None:
    @virtual
    async def scene() -> None:
        async with omadm(mode=mode) as (backend, face, [name]):
            campaign = await backend.engine.create(dm_upgrade(backend, [name]))
            member = campaign.members[name]
            assert campaign.plan == mode
            await turn(backend, DAY + 3.9 * HOUR)
            assert member.position is Position.OFFERED
            await turn(backend, 0.2 * HOUR)
            assert (member.status, member.reason) == (states.FAILED, V1_FAILURE)
            assert campaign.status == states.ENDED
            assert member.queued is (mode == "network_aware")
            await powered_up(backend, name)
            assert (name in face.orders) is (mode == "network_aware")

    scene()


@rules("BR-066")
@virtual
async def test_a_session_that_began_inside_the_window_may_finish() -> None:
    async with omadm(mode="one_attempt") as (backend, face, [name]):
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        await turn(backend, DAY + 3.9 * HOUR)
        face.tell(name, FaceKind.PROGRESS)
        await turn(backend, 0.5 * HOUR)
        assert campaign.members[name].position is Position.DOWNLOADING
        face.finish(name)
        await turn(backend)
        assert campaign.members[name].status == states.SUCCESS


@rules("BR-069")
@virtual
async def test_network_aware_tries_at_every_power_up_until_it_succeeds() -> None:
    async with omadm() as (backend, face, [name]):
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        member = campaign.members[name]
        await turn(backend, DAY + 5 * HOUR)
        assert campaign.status == states.ENDED
        for number in (2, 3, 4):
            await turn(backend, 10 * DAY)
            await powered_up(backend, name)
            assert (member.status, member.attempts) == (states.PENDING, number)
            if number < 4:
                face.tell(name, FaceKind.FINAL, Ending.INTEGRITY)
                await turn(backend)
                assert (member.status, member.queued) == (states.FAILED, True)
        face.finish(name)
        await turn(backend)
        assert (member.status, member.queued) == (states.SUCCESS, False)
        assert campaign.status == states.ENDED  # as it was
        attempts = await backend.engine.attempts(name)
        assert [item.status for item in attempts] == [states.FAILED] * 3 + [states.SUCCESS]
        assert len({item.started for item in attempts}) == 4
        assert {item.campaign.id for item in attempts} == {campaign.id}
        await powered_up(backend, name)
        assert member.attempts == 4


@rules("BR-079")
@virtual
async def test_a_device_that_nobody_knew_begins_when_it_comes() -> None:
    async with omadm() as (backend, face, [name]):
        face.reachable = lambda _device: False  # type: ignore[method-assign]
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        await turn(backend, DAY + HOUR)
        assert campaign.members[name].attempts == 0
        face.reachable = lambda _device: True  # type: ignore[method-assign]
        await powered_up(backend, name)
        assert campaign.members[name].attempts == 1


@virtual
async def test_another_power_up_during_an_attempt_begins_no_second_one() -> None:
    async with omadm() as (backend, _face, [name]):
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        await turn(backend, DAY + 5 * HOUR)
        await powered_up(backend, name)
        await powered_up(backend, name)
        assert campaign.members[name].attempts == 2


@rules("BR-070")
@virtual
async def test_a_queued_device_that_times_out_again_is_queued_again() -> None:
    async with omadm() as (backend, _face, [name]):
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        member = campaign.members[name]
        await turn(backend, DAY + 5 * HOUR)
        await powered_up(backend, name)
        await turn(backend, 4.1 * HOUR)
        assert (member.status, member.queued, member.active) == (states.FAILED, True, False)


async def queued(backend: Backend, name: str) -> Member:
    campaign = await backend.engine.create(dm_upgrade(backend, [name]))
    await turn(backend, DAY + 5 * HOUR)
    member = campaign.members[name]
    assert member.queued
    return member


@rules("BR-074", "BR-075")
@virtual
async def test_what_ends_a_queue_entry() -> None:
    async with omadm(5) as (backend, face, names):
        members = [await queued(backend, name) for name in names]
        reported, released, suspended, superseded, kept = names
        backend.engine.face_event(FaceEvent(reported, FaceKind.VERSION, version="2.0.0"))
        backend.engine.release([released])
        await backend.load_devices([{"name": suspended, "protocol": "OMADM"}])
        backend.inventory.devices[suspended].line = SUSPENDED
        newer = await backend.engine.create(dm_upgrade(backend, [superseded]))
        assert newer.members[superseded].status == states.ACCEPTED
        for name in names:
            await powered_up(backend, name)
        assert [member.queued for member in members] == [False, False, False, False, True]
        assert set(face.orders) == {kept}


@rules("BR-076")
@virtual
async def test_a_queued_device_is_free_for_another_upgrade() -> None:
    async with omadm() as (backend, _face, [name]):
        first = await queued(backend, name)
        second = await backend.engine.create(dm_upgrade(backend, [name]))
        assert second.status == states.REQUEST_PENDING
        assert not first.queued
        await powered_up(backend, name)
        assert first.attempts == 1


@rules("BR-064")
@virtual
async def test_the_mode_is_frozen_when_the_upgrade_is_made() -> None:
    async with omadm() as (backend, face, [name]):
        member = await queued(backend, name)
        account = backend.account
        backend.inventory.accounts[account.name] = replace(account, omadm_mode="one_attempt")
        await powered_up(backend, name)
        assert name in face.orders
        assert member.campaign.plan == "network_aware"


# -- published daily ---


@rules("BR-035")
@virtual
async def test_v1_shows_a_result_after_the_next_publication() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, [name, *_rest]):
        campaign = await backend.engine.create(upgrade(backend, [name]))
        member = campaign.members[name]

        def shown() -> str:
            return published(member, backend.time.now(), backend.timing)[0]

        assert shown() == states.ACCEPTED
        await turn(backend, DAY + 60)
        face.finish(name)
        await turn(backend)
        assert member.status == states.SUCCESS
        assert shown() == states.ACCEPTED
        await turn(backend, 11.9 * HOUR)
        assert shown() == states.ACCEPTED
        await turn(backend, 0.2 * HOUR)
        assert shown() == states.SUCCESS


@rules("BR-035")
@virtual
async def test_changes_of_several_days_are_published_one_by_one() -> None:
    async with omadm() as (backend, face, [name]):
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        member = campaign.members[name]

        def shown() -> str:
            return published(member, backend.time.now(), backend.timing)[0]

        await turn(backend, DAY + 5 * HOUR)  # failed at 04:00
        await turn(backend, 8 * HOUR)  # 13:00, published
        assert shown() == states.FAILED
        await powered_up(backend, name)
        assert (member.status, shown()) == (states.PENDING, states.FAILED)
        face.finish(name)
        await turn(backend)
        assert (member.status, shown()) == (states.SUCCESS, states.FAILED)
        await turn(backend, DAY)
        assert shown() == states.SUCCESS


# -- what a device runs ---


@rules("BR-170")
@pytest.mark.parametrize("version", [1, 3])
@virtual
async def test_a_device_of_another_version_is_taken_by_v1_and_v3(version: int) -> None:
    async with engine(timing="documented") as (backend, _face, _firmware, [name, *_rest]):
        await backend.add_package(b"x" * 100, name="step", version="2.0.0", version_from="1.0.0")
        await backend.load_devices([{"name": name, "firmware": "0.9.0"}])
        asked = upgrade(backend, [name], package="step", version_from="1.0.0")
        campaign = await backend.engine.create(
            asked if version == 1 else replace(asked, kind=FIRMWARE_V3)
        )
        await turn(backend)
        assert campaign.kind.version == version
        assert campaign.members[name].status in (states.ACCEPTED, states.PENDING)
