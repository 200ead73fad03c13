"""From a request to a campaign: the checks of its devices.

A short list is checked before the campaign is written. A long one is written as it came and
answered at once; its devices are then checked a thousand at a time, so that nobody else waits for
them. Until that is over the campaign is `CampaignRequestPending`; a restart begins the checks anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tools.backend.campaigns import queue, rules, scheduling, states
from tools.backend.campaigns.book import insertion
from tools.backend.campaigns.records import member_row
from tools.backend.faces.base import Position
from tools.backend.inventory import check_device_id
from tools.backend.store import rows as store
from tools.backend.timing import PILOT_SIZE

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine
    from tools.backend.campaigns.records import Campaign, CampaignRequest, Member

CHECKED_AT_ONCE = 500
"""Devices whose checks fit between two turns of the loop: some milliseconds."""


async def create(engine: CampaignEngine, request: CampaignRequest) -> Campaign:
    """Check a request and make the campaign durable. Raises RequestRefused."""
    book, now = engine.book, engine.now()
    devices = rules.check_devices(request.devices)
    waived = engine.inventory.accounts[request.account].pilot_waived
    campaign = book.draft(request, engine.faces, now)
    members: list[Member] = []
    for start in range(0, len(devices), CHECKED_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        for device_id in devices[start : start + CHECKED_AT_ONCE]:
            check_device_id(device_id)
            member = book.member_for(campaign, device_id, request.deliveries, now)
            campaign.members[member.device] = member
            members.append(member)
    # From here to the writer nothing else runs: of two requests with the same device exactly one
    # finds it free.
    if rules.needs_pilot(request, waived, book.campaigns.values()):
        rules.check_pilot(_acceptable(engine, campaign, members))
    if len(members) > CHECKED_AT_ONCE:
        campaign.unchecked.extend(members)
    else:
        _check_inline(engine, campaign, members)
    engine.give_timer(campaign)
    book.add(campaign)
    try:
        body = await engine.writer.submit(insertion(campaign))
    except Exception:
        book.remove(campaign)
        raise
    if campaign.unfinished or campaign.unchecked:
        engine.bodies[campaign.digest] = body
    for member in [] if campaign.unchecked else members:
        member.told = member.status
        if not member.final:
            queue.leave(engine, member.device, "superseded")
    engine.on_change()
    engine.tick(campaign)
    return campaign


def _acceptable(engine: CampaignEngine, campaign: Campaign, members: list[Member]) -> int:
    """How many devices pass, counted as far as it matters."""
    accepted = 0
    for member in members:
        device = engine.inventory.by_id(campaign.account, member.device_id)
        accepted += not engine.book.rejection(campaign, device)
        if accepted > PILOT_SIZE:
            break
    return accepted


def _check_inline(engine: CampaignEngine, campaign: Campaign, members: list[Member]) -> None:
    accepted = []
    for member in members:
        device = engine.inventory.by_id(campaign.account, member.device_id)
        reason = engine.book.rejection(campaign, device)
        if reason:
            _reject(member, reason)
        elif device is not None:
            accepted.append((member, device))
    if (
        campaign.auto_assign
        and accepted
        and not engine.auto_assign(campaign.account, [device for _member, device in accepted])
    ):
        for member, _device in accepted:
            _reject(member, campaign.kind.wording.no_licences)
        accepted = []
    if not accepted:
        campaign.status = states.REQUEST_FAILED
    for member, _device in accepted:
        _take(engine, member)


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
    for _ in range(min(CHECKED_AT_ONCE, len(campaign.unchecked))):
        member = campaign.unchecked.popleft()
        device = engine.inventory.by_id(campaign.account, member.device_id)
        reason = engine.book.rejection(campaign, device)
        if reason:
            _reject_written(engine, member, reason)
            engine.book.claim(member)
            continue
        # Not saved: what changes here is found again at a restart, or saved with the plan.
        _take(engine, member)
        engine.book.claim(member)
        queue.leave(engine, member.device, "superseded")
    if campaign.unchecked:
        return
    if campaign.auto_assign and campaign.unfinished:
        accepted = [member for member in campaign.members.values() if not member.final]
        devices = [engine.inventory.devices[member.device] for member in accepted]
        if not engine.auto_assign(campaign.account, devices):
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


def append_row(engine: CampaignEngine, member: Member) -> None:
    """Write a device that was added to a campaign, and let its turn come."""
    _take(engine, member)
    engine.book.add_member(member)
    member.told = member.status
    engine.writer.submit_row(store.PUT_MEMBER, member_row(member))
    queue.leave(engine, member.device, "superseded")
    scheduling.plan_again(member.campaign)
