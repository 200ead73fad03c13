"""What a customer changes in a campaign: cancel, abort, devices, dates; and lost licences.

Devices can be added and removed until the campaign starts [documented]. Each edit changes the
memory at once and is answered after the commit, so edits of one campaign follow each other, and one
that races the start is wholly applied or wholly refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tools.backend.campaigns import checks, pilots, queue, rules, scheduling, states
from tools.backend.campaigns.records import (
    NOTHING_MORE,
    Campaign,
    CampaignDates,
    EditResult,
    Member,
    Rider,
)
from tools.backend.faces.base import Position
from tools.backend.inventory import check_device_id
from tools.backend.refusals import Refusal
from tools.backend.store import rows as store
from tools.backend.store.rows import windows_text
from tools.backend.timing import DAY, date_text, day_start

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine

ADDED = "Device added Successfully"
"""The API's own text."""

REMOVED = "Device removed Successfully"
NOT_IN = "Device is not in the campaign."
ALREADY_IN = "Device is in the campaign already."

BY_USER = "by user"

END_NOTICE = DAY
"""How far the new end of a campaign that runs must be away [documented: 24 hours]."""


def _check_open(engine: CampaignEngine, campaign: Campaign) -> None:
    if campaign.final:
        raise Refusal.CAMPAIGN_OVER()
    if campaign.status == states.SCHEDULED or engine.now() >= campaign.starts:
        raise Refusal.CAMPAIGN_STARTED()
    if campaign.unchecked:
        raise Refusal.CAMPAIGN_UNCHECKED()


# -- cancel and abort ---


async def cancel(engine: CampaignEngine, campaign: Campaign, *, customer: bool) -> None:
    """Cancel before the start, abort after it."""
    if campaign.final:
        raise Refusal.CAMPAIGN_OVER()
    started = campaign.status == states.SCHEDULED
    account = engine.inventory.accounts[campaign.account]
    if (started and customer) and (
        campaign.kind.version == 1 or (campaign.kind.version == 3 and not account.v3_abort)
    ):
        raise Refusal.CAMPAIGN_STARTED()
    campaign.unchecked.clear()
    for member in campaign.members.values():
        if member.queued:
            queue.leave(engine, member.device, queue.BY_ADMINISTRATOR)
    for member in list(campaign.members.values()):
        if not member.final:
            _end(engine, member, "abort" if started else "cancel", BY_USER)
    engine.move_campaign(campaign, "cancel")
    await engine.writer.submit(lambda _connection: None)
    engine.settle(campaign)


def _end(engine: CampaignEngine, member: Member, event: str, reason: str) -> None:
    installing = member.position in (Position.EXECUTE, Position.INSTALLING)
    counted = engine.book.holds(member) and not member.queued
    engine.move(member, event)
    member.reason, member.next = reason, None
    if counted:
        member.campaign.unfinished -= 1
    if installing:
        engine.save(member)  # its real result replaces this one
    else:
        engine.drop(member)


def release(engine: CampaignEngine, names: Iterable[str]) -> None:
    """The licences of these devices are gone."""
    for name in names:
        queue.leave(engine, name, "licence released")
        for member in engine.book.open_members(name):
            if not (member.active or member.final):
                _end(engine, member, "cancel", "The license of the device was released.")
                _close_if_empty(engine, member.campaign)


def _close_if_empty(engine: CampaignEngine, campaign: Campaign) -> None:
    """A campaign without devices that has not started is cancelled; one that has, ends."""
    if campaign.unfinished or campaign.final or campaign.unchecked:
        return
    if campaign.status != states.SCHEDULED:
        engine.move_campaign(campaign, "cancel")
    engine.settle(campaign)


# -- devices ---


async def append(
    engine: CampaignEngine, campaign: Campaign, device_ids: Sequence[str]
) -> list[EditResult]:
    """Add devices; those that do not pass the checks are reported, the others are taken."""
    _check_open(engine, campaign)
    asked = rules.check_devices(device_ids)
    now, book = engine.now(), engine.book
    drafts: list[tuple[str, Member | None, str]] = []
    for device_id in map(check_device_id, asked):
        member = book.member_for(campaign, device_id, None, now)
        device = engine.inventory.by_id(campaign.account, device_id)
        former = campaign.members.get(member.device)
        if former is not None and former.status != states.REJECTED:
            drafts.append((device_id, None, ALREADY_IN))
        else:
            reason = book.rejection(campaign, device)
            drafts.append((device_id, None if reason else member, reason))
    fresh = [member for _device_id, member, _reason in drafts if member is not None]
    if book.needs_pilot(campaign):
        pilots.check_pilot(pilots.taken(campaign) + len(fresh))
    licences: Rider | None = NOTHING_MORE
    if fresh and campaign.auto_assign:
        devices = [engine.inventory.devices[member.device] for member in fresh]
        licences = engine.auto_assign(campaign.account, devices)
    if licences is None:
        text = campaign.kind.wording.no_licences
        return [EditResult(name, False, reason or text) for name, _member, reason in drafts]
    for member in fresh:
        rejected = campaign.members.get(member.device)
        if rejected is not None:
            book.forget(rejected)
    checks.append_all(engine, campaign, fresh, licences)
    await engine.writer.submit(lambda _connection: None)
    engine.tick(campaign)
    return [
        EditResult(device_id, member is not None, reason or ADDED)
        for device_id, member, reason in drafts
    ]


async def remove(
    engine: CampaignEngine, campaign: Campaign, device_ids: Sequence[str]
) -> list[EditResult]:
    """Take devices out; without any left the campaign is cancelled."""
    _check_open(engine, campaign)
    if not device_ids:
        raise Refusal.NO_DEVICES()
    asked = [check_device_id(device_id) for device_id in dict.fromkeys(device_ids)]
    by_id = {member.device_id: member for member in campaign.members.values()}
    results = []
    for device_id in asked:
        member = by_id.get(device_id)
        if member is None or member.final:
            results.append(EditResult(device_id, False, NOT_IN))
            continue
        _take_out(engine, member)
        results.append(EditResult(device_id, True, REMOVED))
    _close_if_empty(engine, campaign)
    await engine.writer.submit(lambda _connection: None)
    return results


def _take_out(engine: CampaignEngine, member: Member) -> None:
    campaign = member.campaign
    campaign.unfinished -= 1
    member.waits = ""
    engine.book.forget(member)
    engine.writer.submit_row(
        store.DROP_MEMBER, {"b_campaign": campaign.id, "b_device": member.device}
    )
    # Stale entries in `ready` and `later` find a member that is done.
    member.status, member.position = states.CANCELLED, Position.DONE
    scheduling.free_place(engine, member)


# -- dates ---


async def redate(engine: CampaignEngine, campaign: Campaign, dates: CampaignDates) -> None:
    """Change dates and windows: anything before the start, little after it."""
    if campaign.final:
        raise Refusal.CAMPAIGN_OVER()
    now = engine.now()
    started = campaign.status == states.SCHEDULED or now >= campaign.starts
    # A campaign of yesterday night may start today: its startDate is sent again as it is.
    kept = dates.start_date == campaign.start_date
    start, end = rules.check_dates(dates, now, started=started or kept)
    windows = rules.check_windows(dates.windows)
    install_windows = rules.check_windows(dates.install_windows)
    if started:
        _check_running(campaign, dates, now, end)
    elif not kept:
        today = dates.start_date == date_text(now)
        lead = rules.lead_of(campaign.kind.version, len(campaign.members), engine.timing)
        campaign.starts = rules.first_start(start, now, lead if today else 0.0)
    campaign.start_date, campaign.end_date = dates.start_date, dates.end_date
    campaign.windows, campaign.install_windows = windows, install_windows
    campaign.download_after, campaign.install_after = dates.download_after, dates.install_after
    campaign.ends = end
    campaign.slots.clear()
    engine.writer.submit_row(
        store.SET_CAMPAIGN_DATES,
        {
            "b_id": campaign.id,
            "b_start_date": campaign.start_date,
            "b_end_date": campaign.end_date,
            "b_windows": windows_text(windows),
            "b_install_windows": windows_text(install_windows),
            "b_download_after": campaign.download_after,
            "b_install_after": campaign.install_after,
            "b_starts": campaign.starts,
            "b_ends": campaign.ends,
        },
    )
    scheduling.replan(engine, campaign)
    await engine.writer.submit(lambda _connection: None)


def _check_running(campaign: Campaign, dates: CampaignDates, now: float, end: float) -> None:
    if dates.start_date != campaign.start_date:
        raise Refusal.START_FIXED()
    if end < now + END_NOTICE:
        raise Refusal.END_TOO_NEAR()
    if campaign.kind.version == 3:
        if tuple(dates.windows) != campaign.windows:
            raise Refusal.WINDOWS_FIXED()
        return
    for name, old, new in (
        ("downloadTimeWindowList", campaign.windows, dates.windows),
        ("installTimeWindowList", campaign.install_windows, dates.install_windows),
    ):
        if any(window not in new for window in old):
            raise Refusal.WINDOWS_ONLY_ADDED(field=name)
    for name, old_text, new_text in (
        ("downloadAfterDate", campaign.download_after, dates.download_after),
        ("installAfterDate", campaign.install_after, dates.install_after),
    ):
        if old_text != new_text and (not new_text or day_start(new_text) + DAY < now):
            raise Refusal.DAY_OVER(field=name)
