"""The engine's answers to devices that drive themselves: they ask, download and install.

Nothing is sent to such a device. An attempt begins when it asks inside the download window, and the
order stands until it reports the end. It has to announce that it will install; the position
`EXECUTE` is durable before it is told that it may, so that an abort and an installation cannot both
be true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.campaigns import states
from tools.backend.faces.base import Position
from tools.backend.timing import day_start, in_window, next_opening

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine
    from tools.backend.campaigns.records import Member
    from tools.backend.faces.base import FaceEvent


def due(member: Member) -> float | None:
    """When an attempt may begin at the earliest; None when none can."""
    campaign = member.campaign
    if member.final or member.active or not campaign.kind.device_driven:
        return None
    earliest = max(campaign.starts, member.next or 0.0)
    if campaign.download_after:
        earliest = max(earliest, day_start(campaign.download_after))
    opening = next_opening(campaign.windows, earliest)
    return opening if opening < campaign.ends else None


def _may_begin(member: Member, now: float) -> bool:
    campaign = member.campaign
    earliest = due(member)
    return (
        campaign.status == states.SCHEDULED
        and earliest is not None
        and earliest <= now < campaign.ends
        and in_window(campaign.windows, now)
        and campaign.active < campaign.concurrency
    )


def on_asked(engine: CampaignEngine, member: Member, _event: FaceEvent) -> None:
    """The device asks for an order. One action at a time, whatever the number of campaigns."""
    from tools.backend.campaigns import turns

    if member.active:
        return
    now = engine.now()
    for candidate in engine.book.open_members(member.device):
        if _may_begin(candidate, now):
            turns.begin(engine, candidate, now)
            return


def on_progress(engine: CampaignEngine, member: Member, _event: FaceEvent) -> None:
    """It downloads."""
    member.heard = engine.now()
    if member.position == Position.OFFERED:
        engine.step(member, "progress")
        engine.save(member)


def on_downloaded(engine: CampaignEngine, member: Member, event: FaceEvent) -> None:
    """It has the package, and will ask for leave to install."""
    member.heard = engine.now()
    if member.position in (Position.OFFERED, Position.DOWNLOADING):
        engine.step(member, "downloaded")
        member.said = event.said
        engine.save(member)


def on_installing(engine: CampaignEngine, member: Member, event: FaceEvent) -> None:
    """It asks for leave to install, or says that it does; reports before it may be missing."""
    if not Position.OFFERED <= member.position < Position.INSTALLING:
        return
    if member.position < Position.DOWNLOADED:
        engine.step(member, "downloaded")
    if member.position == Position.DOWNLOADED:
        engine.step(member, "execute")
    member.executed = True
    engine.step(member, "installing")
    member.said = event.said
    engine.save(member)
