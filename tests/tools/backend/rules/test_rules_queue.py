"""v1 OMA-DM: devices of the network queue that began again while their upgrade runs, ends or is
stopped."""

from __future__ import annotations

from dataclasses import replace

from tests.tools.backend.campaigns.test_campaign_v1_plans import dm_upgrade, omadm, powered_up
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.faces.base import Ending, FaceEvent, FaceKind
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


@rules("BR-067", "BR-071")
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


@rules("BR-066")
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


@rules("BR-069")
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


@rules("BR-069")
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
