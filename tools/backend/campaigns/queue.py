"""Devices that wait in the network for their next power-up (OMA-DM since 3.1).

A network-aware upgrade that failed is not over for its device: it is queued, for an unlimited time,
whatever becomes of the campaign. At the next power-up (any connection counts) the device is
notified again and the upgrade begins for it; if that fails, it is queued again. A queued device is
free for a new campaign, which supersedes what it waits for. A queue entry ends with a success, when
the device reports the target version, without a licence or an active line, by the administrator, or
with a newer upgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.campaigns import turns
from tools.backend.faces.base import same_version
from tools.backend.inventory import ACTIVE

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine
    from tools.backend.campaigns.records import Member
    from tools.backend.inventory import Device

MACHINE = "network queue"
"""Of the journal."""
QUEUED = "queued"
BY_ADMINISTRATOR = "by the administrator"


def enter(engine: CampaignEngine, member: Member) -> None:
    """A device whose attempt failed waits for its next power-up, unless it left the queue while it
    was tried again. The caller saves the member."""
    if member.attempts > 1 and not member.queued:
        return
    member.queued = True
    engine.book.enqueue(member)
    engine.record(member.device, MACHINE, "", QUEUED, "attempt failed")


def leave(engine: CampaignEngine, device: str, cause: str) -> None:
    """It waits no more."""
    member = engine.book.dequeue(device)
    if member is None:
        return
    member.queued = False
    if not member.final:
        member.campaign.unfinished += 1  # it has begun again, and counts from now on
    engine.record(device, MACHINE, QUEUED, "", cause)
    engine.save(member)
    engine.settle(member.campaign)


def supersede(engine: CampaignEngine, member: Member) -> None:
    """A new campaign has the device: what it waited for is void, unless that is of another kind."""
    waiting = engine.book.queued.get(member.device)
    if waiting is not None and waiting.campaign.kind.lock is member.campaign.kind.lock:
        leave(engine, member.device, "superseded")


def power_up(engine: CampaignEngine, device: Device) -> None:
    """A device has come up: begin again what it waits for."""
    member = engine.book.queued.get(device.name)
    if member is None or not engine.book.is_free(device.name, member.campaign.kind.lock):
        return
    if engine.under_way(device.name):
        return  # one action at a time: the end of that attempt is a contact as well
    if device.firmware and same_version(device.firmware, member.campaign.version_to):
        leave(engine, device.name, "target version reported")
    elif device.line != ACTIVE or engine.book.barred(device):
        leave(engine, device.name, "not served any more")
    else:
        engine.move(member, "requeue")
        engine.step(member, "requeue")
        member.executed = False
        engine.book.reopen(member)
        turns.begin(engine, member, engine.now())
