"""v1 OMA-DM: devices of the network queue that began again while their upgrade runs, ends or is
stopped."""

from __future__ import annotations

from dataclasses import replace

from tests.tools.backend.campaigns.test_campaign_v1_plans import dm_upgrade, omadm, powered_up
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.faces.base import Ending, FaceEvent, FaceKind
from tools.backend.store import rows as store
from tools.backend.timing import DAY, HOUR, date_text


async def begun_again(
    backend: Backend, names: list[str], **changes: object
) -> tuple[Campaign, Member]:
    """An upgrade of one device at a time, whose first one failed and was notified again."""
    tomorrow = date_text(backend.time.now() + DAY)
    asked = dm_upgrade(backend, names, concurrency=1, end_date=tomorrow)
    campaign = await backend.engine.create(replace(asked, **changes))  # type: ignore[arg-type]
    await turn(backend, DAY + 4.5 * HOUR)
    first = campaign.members[names[0]]
    assert (first.queued, first.active, campaign.status) == (True, False, states.SCHEDULED)
    await powered_up(backend, names[0])
    assert first.active
    return campaign, first


@rules("BR-068", "BR-078")
@virtual
async def test_an_upgrade_with_somebody_who_began_again_ends_on_its_end_date() -> None:
    async with omadm(8) as (backend, face, names):
        campaign, first = await begun_again(backend, names)
        await turn(backend, campaign.ends - HOUR - backend.time.now())
        if first.active:
            face.tell(names[0], FaceKind.FINAL, Ending.INTEGRITY)
        await powered_up(backend, names[0])
        assert campaign.status == states.SCHEDULED and first.active and first.queued
        await turn(backend, 1.1 * HOUR)
        assert (campaign.status, campaign.unfinished) == (states.ENDED, 0)
        assert first.status == states.PENDING and first.active
        await turn(backend, 5 * HOUR)
        assert (first.status, first.queued, campaign.active) == (states.FAILED, True, 0)


@rules("BR-074", "BR-078")
@virtual
async def test_the_target_version_ends_the_entry_of_who_began_again() -> None:
    async with omadm(2) as (backend, face, names):
        campaign, first = await begun_again(backend, names)
        backend.engine.face_event(FaceEvent(names[0], FaceKind.VERSION, version="2.0.0"))
        assert not first.queued
        face.finish(names[0])
        await turn(backend)
        assert (first.status, campaign.unfinished, campaign.status) == (
            states.SUCCESS,
            1,
            states.SCHEDULED,
        )
        await turn(backend, DAY)
        assert (campaign.status, campaign.unfinished) == (states.ENDED, 0)


@rules("BR-077")
@virtual
async def test_whoever_runs_us_stops_an_upgrade_and_its_queue() -> None:
    async with omadm(3) as (backend, face, names):
        campaign, first = await begun_again(backend, names)
        face.tell(names[0], FaceKind.FINAL, Ending.INTEGRITY)
        await turn(backend)
        assert first.queued
        await backend.engine.cancel(campaign, customer=False)
        for name in names:
            await powered_up(backend, name)
        assert campaign.status == states.ABORTED
        assert face.orders == {}
        assert not first.queued


@rules("BR-077")
@virtual
async def test_whoever_runs_us_stops_somebody_who_began_again() -> None:
    async with omadm(3) as (backend, face, names):
        campaign, first = await begun_again(backend, names)
        await backend.engine.cancel(campaign, customer=False)
        for name in names:
            await powered_up(backend, name)
            assert backend.engine.book.is_free(name, Lock.FIRMWARE)
        assert (campaign.status, campaign.unfinished, campaign.active) == (states.ABORTED, 0, 0)
        assert (first.status, first.queued) == (states.ABORTED, False)
        assert face.orders == {}


@rules("BR-077")
@virtual
async def test_an_administrator_takes_a_device_out_of_the_queue() -> None:
    async with omadm(2) as (backend, face, names):
        waiting, tried = names
        campaign = await backend.engine.create(dm_upgrade(backend, names))
        await turn(backend, DAY + 5 * HOUR)
        await powered_up(backend, tried)
        async with administrator(backend) as admin:
            for name, was in ((waiting, True), (waiting, False), (tried, True)):
                answer = await admin.delete(f"/admin/devices/{name}/queue")
                assert (answer.status_code, answer.json()) == (200, {"wasQueued": was})
            missing = await admin.delete("/admin/devices/urn:imei:359999999999999/queue")
            assert missing.status_code == 400
        face.tell(tried, FaceKind.FINAL, Ending.INTEGRITY)  # what ran has finished
        for name in names:
            await powered_up(backend, name)
        assert face.orders == {}
        assert [member.queued for member in campaign.members.values()] == [False, False]
        assert campaign.unfinished == 0
        rows = await backend.writer.read(lambda connection: list(store.load_members(connection)))
        assert [row["queued"] for row in rows] == [False, False]


@rules("BR-065", "BR-069")
@virtual
async def test_each_power_up_has_a_window_of_its_own() -> None:
    async with omadm() as (backend, face, [name]):
        campaign = await backend.engine.create(dm_upgrade(backend, [name]))
        member = campaign.members[name]
        await turn(backend, DAY + 5 * HOUR)
        await turn(backend, 40 * DAY)
        for number in (2, 3):
            await powered_up(backend, name)
            began = backend.time.now()
            assert face.orders[name].terms.began == member.recent
            await turn(backend, 4 * HOUR - 60)
            assert (member.status, member.attempts) == (states.PENDING, number)
            await turn(backend, 120)
            assert (member.status, member.queued) == (states.FAILED, True)
            assert backend.time.now() - began > 4 * HOUR
            await turn(backend, 10 * DAY)
