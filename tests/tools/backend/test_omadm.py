"""The OMA-DM server in process and in virtual time: campaigns by FUMO, notifications, downloads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from protocols.omadm.model import Alert, Status
from tests.protocols.omadm.musts import musts
from tests.tools.backend.omadm_device import UPDATE, DmDevice, devices, in_process
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.faces.base import Delivery, Ending, Position
from tools.backend.faces.omadm import WATCH
from tools.backend.faces.omadm_sessions import LINGER
from tools.backend.inventory import Firmware
from tools.backend.timing import HOUR


@asynccontextmanager
async def fleet(
    count: int = 1, auth: str = "md5", **changes: Any
) -> AsyncIterator[tuple[Backend, list[DmDevice], Firmware]]:
    config = replace(CONFIG, **changes)
    async with world(config) as backend, in_process(backend) as client:
        made = await devices(backend, client, count, auth)
        firmware = await backend.add_package(IMAGE, name="app", version="2.0.0", protocol="OMADM")
        yield backend, made, firmware


async def campaign_of(
    backend: Backend, made: list[DmDevice], firmware: Firmware, delivery: Delivery = "pull"
) -> Campaign:
    campaign = await backend.create_campaign(
        [one.name for one in made], firmware, delivery_of=lambda _name: delivery
    )
    await backend.runtime.clock.sleep(0.1)
    return campaign


def member_of(campaign: Campaign, device: DmDevice) -> Member:
    return campaign.members[device.name]


@virtual
async def test_a_device_without_an_order_has_a_short_session() -> None:
    async with fleet() as (backend, [device], _firmware):
        said = await device.session()
        assert len(said) == 2  # its version is not known yet
        assert backend.inventory.devices[device.name].firmware == "1.0.0"
        [only] = await device.session()
        codes = [one.code for one in only.commands if isinstance(one, Status)]
        assert codes == [212, 200, 200]
        assert only.final


@musts("DM-014")
@virtual
async def test_delivery_by_url() -> None:
    async with fleet() as (backend, [device], firmware):
        push = device.listen(backend).local
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        assert (member.status, member.position) == (states.PENDING, Position.OFFERED)
        await backend.operator.attach("350000000000100", "c1", push)
        await backend.runtime.clock.sleep(1)
        [notification] = device.pushed
        await device.session(session=notification.session_text)
        [(uri, correlator)] = device.executed
        assert uri == f"{device.root}/DownloadAndUpdate"
        assert correlator == campaign.id
        assert member.position == Position.INSTALLING
        described = await device.client.get(device.url)
        assert described.headers["content-type"] == "application/vnd.oma.dd+xml"
        url = described.text.partition("<objectURI>")[2].partition("</objectURI>")[0]
        got = await device.client.get(url, headers={"Range": "bytes=100-"})
        assert (got.status_code, got.content) == (206, IMAGE[100:])
        device.install()
        await device.session(device.result(200))
        assert (member.status, member.reason) == (states.SUCCESS, "Upgrade completed successfully")
        assert member.said == "result 200, version 2.0.0"
        assert backend.finished.is_set()
        belief = backend.belief(device.name)
        assert (belief.verdict, belief.version) == ("updated", "2.0.0")
        [only] = await device.session()
        assert len(device.pushed) == 1
        assert only.final


@virtual
async def test_delivery_as_a_large_object() -> None:
    async with fleet() as (backend, [device], firmware):
        device.max_msg = 1024
        campaign = await campaign_of(backend, [device], firmware, "push")
        member = member_of(campaign, device)
        await device.session()
        assert bytes(device.package) == IMAGE
        assert device.executed == [(f"{device.root}/Update", campaign.id)]
        device.install()
        await device.session(device.result(200, UPDATE))
        assert (member.status, member.attempts) == (states.SUCCESS, 1)


@virtual
async def test_success_with_another_version_is_none() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        await device.session()
        await device.session(device.result(200))
        member = member_of(campaign, device)
        assert (member.status, member.ending) == (states.FAILED, Ending.WRONG_VERSION)


@musts("DM-045")
@virtual
async def test_an_abort_of_the_device() -> None:
    async with fleet() as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        answer = await device.post(device.package_1(Alert("", 1223)))
        assert answer.final
        assert all(isinstance(one, Status) for one in answer.commands)


@virtual
async def test_many_devices_at_once_leave_nothing_behind() -> None:
    async with fleet(200) as (backend, made, firmware):
        before = len(asyncio.all_tasks())
        campaign = await campaign_of(backend, made, firmware)
        await asyncio.gather(*(device.session() for device in made))
        for device in made:
            device.install()
        await asyncio.gather(*(device.session(device.result(200)) for device in made))
        assert {member.status for member in campaign.members.values()} == {states.SUCCESS}
        assert campaign.status == states.ENDED
        assert len(asyncio.all_tasks()) == before
        await backend.runtime.clock.sleep(LINGER + 1)
        face = backend.omadm
        assert (face.sessions.live, face._ordered, face._notifier._wanted) == ({}, {}, {})
        writer = backend.writer
        # Group commit: what arrives together shares a transaction.
        assert writer.commits < writer.changes / 10


@virtual
async def test_a_device_that_is_off_finds_its_notification() -> None:
    async with fleet(2, timing="documented") as (backend, [early, late], firmware):
        clock, operator = backend.runtime.clock, backend.operator
        campaign = await campaign_of(backend, [early, late], firmware)
        await clock.sleep(1.5 * HOUR)  # v1 knows no pilots
        began = member_of(campaign, early).recent
        assert began is not None
        assert {member.attempts for member in campaign.members.values()} == {1}
        await clock.sleep(3.9 * HOUR - (backend.time.now() - began))
        assert operator.waiting(early.name) == 1
        push = early.listen(backend).local
        await operator.attach(early.name, "c1", push)
        await clock.sleep(1)
        [notification] = early.pushed
        await early.session(session=notification.session_text)
        assert member_of(campaign, early).position == Position.INSTALLING
        # The other one stays off: its notification expires and the attempt has failed. It is queued
        # in the network until its next power-up, however late that is.
        await clock.sleep(0.2 * HOUR)
        assert operator.waiting(late.name) == 0
        member = member_of(campaign, late)
        assert (member.position, member.ending) == (Position.DONE, Ending.TIMEOUT)
        assert (member.status, member.queued) == (states.FAILED, True)
        await clock.sleep(40 * HOUR)
        assert member.attempts == 1
        await operator.attach(late.name, "c1", late.listen(backend).local)
        await clock.sleep(1)
        assert (member.position, member.attempts) == (Position.OFFERED, 2)
        assert len(late.pushed) == 1


@rules("BR-069")
@virtual
async def test_a_device_that_attaches_again_is_notified_again() -> None:
    async with fleet() as (backend, [device], firmware):
        await campaign_of(backend, [device], firmware)
        push = device.listen(backend).local
        await backend.operator.attach(device.name, "c1", push)
        await backend.runtime.clock.sleep(1)
        await backend.operator.attach(device.name, "c2", push)
        await backend.runtime.clock.sleep(1)
        first, second = device.pushed
        assert first == second  # one session for both


@virtual
async def test_a_device_under_way_is_asked_when_it_says_nothing() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        await backend.operator.attach(device.name, "c1", device.listen(backend).local)
        await backend.runtime.clock.sleep(1)
        await device.session()
        assert member.position == Position.INSTALLING
        device.install()
        device.pushed.clear()
        await backend.runtime.clock.sleep(WATCH + 1)
        [notification] = device.pushed
        await device.session(session=notification.session_text)  # its result got lost
        assert (member.status, member.said) == (
            states.SUCCESS,
            "State 100, version 2.0.0",
        )


@rules("BR-055")
@virtual
async def test_a_campaign_that_is_aborted_while_a_device_installs() -> None:
    async with fleet() as (backend, [device], firmware):
        campaign = await campaign_of(backend, [device], firmware)
        member = member_of(campaign, device)
        await device.session()
        await backend.engine.cancel(campaign, customer=False)
        assert member.status == states.ABORTED
        device.install()
        await device.session(device.result(200))
        assert member.status == states.SUCCESS
