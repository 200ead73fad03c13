"""What v1 shows of a device in an upgrade: it is published once a day.

The release notes of 3.0 say that v1's device status changes once a day; at which hour is ours. The
status of the upgrade itself is live, and so is everything in v2 and v3. A profile without a
publication hour shows every change at once.

A device keeps at most one older status: the one that the last publication found. It is set aside
when the status changes, so nothing has to run at the hour itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.campaigns import states
from tools.backend.timing import DAY, CampaignTiming

if TYPE_CHECKING:
    from tools.backend.campaigns.records import Member

__all__ = ["last_publication", "published", "set_aside"]


def last_publication(now: float, timing: CampaignTiming) -> float:
    """The instant of the newest publication; `now` where everything is published at once."""
    if timing.publication is None:
        return now
    return now - (now - timing.publication) % DAY


def set_aside(member: Member, now: float, timing: CampaignTiming) -> None:
    """Keep what is published of a device that is about to change."""
    if timing.publication is None or member.campaign.kind.version != 1:
        return
    if member.campaign.status == states.REQUEST_PENDING:
        return  # what the checks of a new upgrade find is where its devices begin
    if not member.shown_status or member.updated <= last_publication(now, timing):
        member.shown_status, member.shown_reason = member.status, member.reason


def published(member: Member, now: float, timing: CampaignTiming) -> tuple[str, str]:
    """The status and the reason that v1 shows."""
    if member.shown_status and member.updated > last_publication(now, timing):
        return member.shown_status, member.shown_reason
    return member.status, member.reason
