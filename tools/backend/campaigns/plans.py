"""How the devices of a campaign are tried: one plan for each way that the release history tells of.

A plan answers three questions and keeps nothing: when may an attempt begin, when is an attempt
given up, and what follows a failure. Which plan a campaign has is frozen when it is made.

========================  ========================================================================
`windows`                 v3 LwM2M: inside the time windows, at most 3 attempts a device and the
                          next one in the next free slot; a device waits for a place in its cell
`pull`                    v2 HTTP: the same windows, but the device comes by itself
`notified_files`          v2 OMA-DM: the server keeps the windows and dates, of the download and of
                          the installation; at most 3 attempts a device, each with a notification
`nightly`                 v1 LwM2M: at 00:00 and 04:00 UTC, for up to three days; a device that is
                          not there has used up that try
`one_attempt`             v1 OMA-DM before 3.1: one notification, kept for 4 hours, and one attempt
`network_aware`           v1 OMA-DM since 3.1: the same, and whoever fails is queued in the network
                          and notified again at its next power-up, as often as it takes
========================  ========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.backend.campaigns.reasons import RETRYABLE
from tools.backend.faces.base import Ending, Position
from tools.backend.timing import DAY, HOUR, MAX_ATTEMPTS, CampaignTiming, day_start, next_opening

if TYPE_CHECKING:
    from tools.backend.campaigns.records import Campaign, Member

__all__ = ["PLANS", "Plan"]

NIGHTLY_HOURS = (0.0, 4 * HOUR)
"""When v1 tries its LwM2M devices, after midnight UTC [documented]."""

NIGHTLY_DAYS = 3
"""For so many days [documented]."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Inside windows, with a bounded number of attempts; the base of the others."""

    name: str
    cells: bool = False
    """A device waits for a place in its serving cell."""
    counts_absence: bool = False
    """A device that is not reachable when its turn comes has failed that try; else it waits."""
    requeues: bool = False
    """A device that failed is tried again at its next power-up, campaign or not."""

    def opening(self, campaign: Campaign, instant: float) -> float:
        """The first instant at or after `instant` at which an attempt may begin."""
        return next_opening(campaign.windows, instant)

    def first(self, campaign: Campaign, now: float) -> float:
        """When the first attempt of a device may begin."""
        return self.opening(campaign, max(now, campaign.starts))

    def closes(self, campaign: Campaign) -> float:
        """When a device without a result has failed."""
        return campaign.ends

    def limit(self, member: Member, timing: CampaignTiming) -> float:
        """When an attempt ends that has not been told to install by then. A device that drives
        itself may be waiting for the download window to open again."""
        end = max(member.recent or 0.0, member.heard) + timing.attempt_limit
        if not member.campaign.kind.device_driven:
            return end
        opening = next_opening(member.campaign.windows, end)
        return end if opening == end else opening + timing.attempt_limit

    def install_from(self, member: Member, now: float, timing: CampaignTiming) -> float:
        """When a device that has the package may be told to install it: inside the window, or as
        long as its slot runs."""
        if member.recent is not None and now < member.recent + timing.slot:
            return now
        return next_opening(member.campaign.windows, now)

    def again(
        self, member: Member, ending: Ending, now: float, timing: CampaignTiming
    ) -> float | None:
        """When the next attempt begins after one that failed; None when there is none."""
        instant = self.opening(member.campaign, now + timing.retry_delay)
        if (
            ending not in RETRYABLE
            or member.executed
            or member.attempts >= MAX_ATTEMPTS
            or instant >= member.campaign.ends
        ):
            return None
        return instant


class NightlyPlan(Plan):
    """v1 LwM2M."""

    __slots__ = ()

    def first(self, campaign: Campaign, now: float) -> float:
        # At its start, which is 00:00 of its day or, on demand, a lead time from now [documented].
        return max(now, campaign.starts)

    def opening(self, campaign: Campaign, instant: float) -> float:
        return instant  # who is waiting for a later try is not ready

    def closes(self, campaign: Campaign) -> float:
        return min(campaign.ends, campaign.starts + NIGHTLY_DAYS * DAY)

    def again(
        self, member: Member, ending: Ending, now: float, timing: CampaignTiming
    ) -> float | None:
        midnight = now - now % DAY
        tries = [midnight + hour for hour in NIGHTLY_HOURS] + [midnight + DAY]
        instant = next(moment for moment in tries if moment > now)
        if ending not in RETRYABLE or member.executed or instant >= self.closes(member.campaign):
            return None
        return instant


class FilePlan(Plan):
    """v2 OMA-DM. Such a device is told no windows, so they are kept for it."""

    __slots__ = ()

    def opening(self, campaign: Campaign, instant: float) -> float:
        if campaign.download_after:
            instant = max(instant, day_start(campaign.download_after))
        return next_opening(campaign.windows, instant)

    def install_from(self, member: Member, now: float, timing: CampaignTiming) -> float:
        campaign = member.campaign
        if campaign.install_after:
            now = max(now, day_start(campaign.install_after))
        return next_opening(campaign.install_windows, now)


class NotifiedPlan(Plan):
    """v1 OMA-DM: the network keeps the notification, so nobody asks where the device is."""

    __slots__ = ()

    def opening(self, campaign: Campaign, instant: float) -> float:
        return instant

    def limit(self, member: Member, timing: CampaignTiming) -> float:
        # A session that began inside the window may finish, and counts. Ours: as long again.
        end = (member.recent or 0.0) + timing.attempt_limit
        return end if member.position == Position.OFFERED else end + timing.attempt_limit

    def again(
        self, member: Member, ending: Ending, now: float, timing: CampaignTiming
    ) -> float | None:
        return None


PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan("windows", cells=True),
        Plan("pull"),
        FilePlan("notified_files"),
        NightlyPlan("nightly", counts_absence=True),
        NotifiedPlan("one_attempt"),
        NotifiedPlan("network_aware", requeues=True),
    )
}
