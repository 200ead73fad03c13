"""From a request to a campaign: the checks of its devices.

A short list is checked before the campaign is written. A long one is written as it came, a part
at a time, and answered at once; its devices are then checked some hundreds at a time. So nobody
else waits for them. Until that is over the campaign is `CampaignRequestPending`; a restart begins
the checks anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tools.backend.campaigns import pilots, queue, rules, scheduling, states, trail
from tools.backend.campaigns.book import insertion, part, removal
from tools.backend.campaigns.records import NOTHING_MORE
from tools.backend.faces.base import Position
from tools.backend.inventory import check_device_id
from tools.backend.store import rows as store
from tools.backend.timing import PILOT_SIZE

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine
    from tools.backend.campaigns.records import Campaign, CampaignRequest, Member, Rider

CHECKED_AT_ONCE = 500
"""Devices whose checks fit between two turns of the loop: some milliseconds."""

WRITTEN_AT_ONCE = 1_000
"""Devices of one transaction: some tens of milliseconds, for which everybody else waits."""


async def create(engine: CampaignEngine, request: CampaignRequest) -> Campaign:
    """Check a request and make the campaign durable. Raises RequestRefused."""
    devices = rules.check_devices(request.devices)
    campaign = engine.book.draft(request, engine.faces, engine.now())
    try:
        members = await _members_for(engine, campaign, request, devices)
        await _written(engine, campaign, request, members)
    except BaseException:
        if campaign.id not in engine.book.campaigns:
            campaign.members.clear()  # a frozen cycle would never be collected
        raise
    _begin(engine, campaign)
    return campaign


def _begin(engine: CampaignEngine, campaign: Campaign) -> None:
    engine.on_change()
    engine.tick(campaign)


async def _members_for(
    engine: CampaignEngine, campaign: Campaign, request: CampaignRequest, devices: Sequence[str]
) -> list[Member]:
    """The devices of a draft. Raises RequestRefused."""
    members: list[Member] = []
    for start in range(0, len(devices), CHECKED_AT_ONCE):
        if start:
            engine.keep()
            await asyncio.sleep(0)
        for device_id in devices[start : start + CHECKED_AT_ONCE]:
            check_device_id(device_id)
            member = engine.book.member_for(
                campaign, device_id, request.deliveries, campaign.created
            )
            campaign.members[member.device] = member
            members.append(member)
    return members


async def _written(
    engine: CampaignEngine, campaign: Campaign, request: CampaignRequest, members: list[Member]
) -> None:
    """Make a draft durable and take it in. Raises RequestRefused."""
    engine.give_timer(campaign)
    if len(members) > CHECKED_AT_ONCE:
        if engine.book.needs_pilot(request):
            await _check_pilot(engine, campaign, members)
        await _write_unchecked(engine, campaign, members)
        return
    # From here nothing else runs until the devices are claimed: of two requests with the same
    # device exactly one finds it free. Those of a long list are claimed by their checks.
    if engine.book.needs_pilot(request):
        pilots.check_pilot(_acceptable(engine, campaign, members))
    await _write_checked(engine, campaign, members)


async def _write_checked(engine: CampaignEngine, campaign: Campaign, members: list[Member]) -> None:
    """Check the devices and write all at once: the campaign, its devices, the licences that it has
    assigned, and what is told of it. So none of them is there without the others."""
    riders = [_check_inline(engine, campaign, members), engine.on_create(campaign, members)]
    engine.book.add(campaign)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # Also when nobody waits for the answer any more.
    def settled(body: bytes | None, error: Exception | None) -> None:
        for rider in riders:
            rider.settled(error)
        if error is None:
            _taken_in(engine, campaign, members, body)
        else:
            engine.book.remove(campaign)
        if error is not None and not done.cancelled():
            done.set_exception(error)
        elif error is None and done.cancelled():
            _begin(engine, campaign)
        elif error is None:
            done.set_result(None)

    engine.writer.submit_nowait(insertion(campaign, members, riders), settled)
    await done


def _taken_in(
    engine: CampaignEngine, campaign: Campaign, members: list[Member], body: bytes | None
) -> None:
    if campaign.status == states.REQUEST_FAILED:
        engine.record(campaign.id, "campaign", states.REQUEST_PENDING, campaign.status, "rejected")
    if campaign.unfinished and body is not None:
        engine.bodies[campaign.digest] = body
    for member in members:
        member.told = member.status
        if not member.final:
            queue.supersede(engine, member)


async def _write_unchecked(
    engine: CampaignEngine, campaign: Campaign, members: list[Member]
) -> None:
    """Write a campaign whose checks are still to come: its devices in parts, so that the changes of
    others are not kept waiting, and the campaign itself last. What has no campaign is dropped at
    the next start."""
    writer = engine.writer
    try:
        for start in range(0, len(members), WRITTEN_AT_ONCE):
            await writer.submit(part(members[start : start + WRITTEN_AT_ONCE]))
        body = await writer.submit(insertion(campaign, ()))
    except Exception:
        writer.submit_nowait(removal(campaign))
        raise
    campaign.unchecked.extend(members)
    engine.book.add(campaign)
    if body is not None:
        engine.bodies[campaign.digest] = body


async def _check_pilot(engine: CampaignEngine, campaign: Campaign, members: list[Member]) -> None:
    """Refuse a long list of which more devices pass now than a pilot may have; others have a turn
    in between. What passes later only, its checks keep within the limit."""
    accepted = 0
    for start in range(0, len(members), CHECKED_AT_ONCE):
        accepted += _acceptable(engine, campaign, members[start : start + CHECKED_AT_ONCE])
        pilots.check_pilot(accepted)
        await asyncio.sleep(0)


def _acceptable(engine: CampaignEngine, campaign: Campaign, members: Sequence[Member]) -> int:
    """How many devices pass, counted as far as it matters."""
    accepted = 0
    for member in members:
        device = engine.inventory.by_id(campaign.account, member.device_id)
        accepted += not engine.book.rejection(campaign, device)
        if accepted > PILOT_SIZE:
            break
    return accepted


def _check_inline(engine: CampaignEngine, campaign: Campaign, members: list[Member]) -> Rider:
    """Check all devices; returns the licences that those who passed were given."""
    accepted = []
    for member in members:
        device = engine.inventory.by_id(campaign.account, member.device_id)
        reason = engine.book.rejection(campaign, device)
        if reason:
            _reject(member, reason)
        elif device is not None:
            accepted.append((member, device))
    licences: Rider | None = NOTHING_MORE
    if campaign.auto_assign and accepted:
        licences = engine.auto_assign(campaign.account, [device for _member, device in accepted])
    if licences is None:
        for member, _device in accepted:
            _reject(member, campaign.kind.wording.no_licences)
        accepted = []
    if not accepted:
        table = campaign.kind.campaign_table
        campaign.status = states.next_state(table, campaign.status, "rejected")
        campaign.trail += trail.step(campaign.status, campaign.created)
    for member, _device in accepted:
        _take(engine, member)
    return licences or NOTHING_MORE


def _reject(member: Member, reason: str) -> None:
    """Of a campaign that is not written yet."""
    member.status, member.reason, member.position = states.REJECTED, reason, Position.DONE


def _take(engine: CampaignEngine, member: Member) -> None:
    campaign = member.campaign
    if "reachable" in member.cells and engine.reachable(member):
        engine.move(member, "reachable")
        member.reason = campaign.kind.wording.reachable
    if not campaign.kind.device_driven:
        campaign.ready.append(member)


def check_some(engine: CampaignEngine, campaign: Campaign) -> None:
    """Check the next devices of a campaign that was written before its checks."""
    is_pilot: bool | None = None
    for _ in range(min(CHECKED_AT_ONCE, len(campaign.unchecked))):
        member = campaign.unchecked.popleft()
        device = engine.inventory.by_id(campaign.account, member.device_id)
        reason = engine.book.rejection(campaign, device)
        if not reason and campaign.unfinished >= PILOT_SIZE:
            # It did not pass when the request came, or that would have been refused.
            if is_pilot is None:
                is_pilot = engine.book.needs_pilot(campaign)
            reason = campaign.kind.wording.no_pilot if is_pilot else ""
        if reason:
            _reject_written(engine, member, reason)
            engine.book.claim(member)
            continue
        # Not saved: what changes here is found again at a restart, or saved with the plan.
        _take(engine, member)
        engine.book.claim(member)
        queue.supersede(engine, member)
    if campaign.unchecked:
        return
    if campaign.auto_assign and campaign.unfinished:
        accepted = [member for member in campaign.members.values() if not member.final]
        devices = [engine.inventory.devices[member.device] for member in accepted]
        licences = engine.auto_assign(campaign.account, devices)
        if licences is not None:
            # A restart before this is stored checks everything again.
            engine.writer.submit_nowait(
                licences.write, lambda _result, error: licences.settled(error), keep=True
            )
        else:
            for member in accepted:
                campaign.unfinished -= 1
                engine.book.close(member)
                _reject_written(engine, member, campaign.kind.wording.no_licences)
    if not campaign.unfinished:
        campaign.ready.clear()
        engine.move_campaign(campaign, "rejected")
        engine.settle(campaign)


def _reject_written(engine: CampaignEngine, member: Member, reason: str) -> None:
    engine.move(member, "reject")
    engine.step(member, "finish")
    member.reason = reason
    engine.save(member)


def append_all(
    engine: CampaignEngine, campaign: Campaign, members: Sequence[Member], licences: Rider
) -> None:
    """Write devices that were added to a campaign with their licences, and let their turn come."""
    for member in members:
        _take(engine, member)
        engine.book.add_member(member)
        member.told = member.status
    engine.join(store.PUT_MEMBER, members, licences)
    for member in members:
        queue.supersede(engine, member)
    if members:
        scheduling.plan_again(campaign)
