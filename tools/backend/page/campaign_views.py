"""What the page shows of campaigns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tools.backend.campaigns import trail
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.errors import RequestRefused
from tools.backend.page.models import (
    CampaignDetail,
    CampaignEvent,
    CampaignPage,
    CampaignRow,
    History,
    MemberPage,
    MemberRow,
    StatusChange,
    Summary,
)
from tools.backend.page.sampler import StateSampler

if TYPE_CHECKING:
    from tools.backend.backend import Backend

CAMPAIGNS = 25
"""Campaigns in one answer: more than a screen."""

MEMBERS = 50
"""Devices of a campaign in one answer; likewise."""

AFTERWARDS = 0.1
"""How much longer than the campaign itself the history of one that has ended is."""


class CampaignViews:
    """Reads the campaigns of a backend."""

    def __init__(self, backend: Backend, sampler: StateSampler) -> None:
        self._backend = backend
        self._sampler = sampler

    def summary(self) -> Summary:
        """The backend at a glance."""
        inventory = self._backend.inventory
        campaigns = self._backend.engine.book.campaigns.values()
        return Summary(
            now=self._backend.time.now(),
            timing=self._backend.timing.name,
            accounts=sorted(inventory.accounts),
            devices=len(inventory.devices),
            campaigns=Counter(campaign.status for campaign in campaigns),
        )

    async def page(self, before: int | None, account: str | None, running: bool) -> CampaignPage:
        """The campaigns with a number below `before`, newest first; those of one account, or those
        that have not ended."""
        # The book is in the order of creation after a start, and of numbers always.
        found = sorted(
            (
                item
                for item in self._backend.engine.book.campaigns.values()
                if (before is None or item.number < before)
                and (account is None or item.account == account)
                and not (running and item.final)
            ),
            key=lambda item: -item.number,
        )
        rows = []
        for campaign in found[:CAMPAIGNS]:
            rows.append(self.row(campaign))
            # To look at a campaign may be to count its devices, 5 ms for 100,000 of them.
            await asyncio.sleep(0)
        more = len(found) > CAMPAIGNS
        return CampaignPage(campaigns=rows, next=rows[-1].number if more else None)

    def row(self, campaign: Campaign) -> CampaignRow:
        """A campaign in a list."""
        return CampaignRow(
            id=campaign.id,
            number=campaign.number,
            account=campaign.account,
            title=campaign.title,
            kind=campaign.kind.name,
            protocol=campaign.protocol,
            package=campaign.package,
            versionFrom=campaign.version_from,
            versionTo=campaign.version_to,
            status=campaign.status,
            final=campaign.final,
            created=campaign.created,
            starts=campaign.starts,
            ends=campaign.ends,
            active=campaign.active,
            devices=len(campaign.members),
            counts=self._sampler.counts(campaign),
        )

    def event(self, campaign: Campaign) -> CampaignEvent:
        """A campaign in the feed."""
        row = self.row(campaign)
        return CampaignEvent(**row.model_dump(), now=self._backend.time.now())

    def named(self, text: str) -> Campaign:
        """The campaign of that id. Raises RequestRefused."""
        campaign = self._backend.engine.book.campaigns.get(text)
        if campaign is None:
            raise RequestRefused("Campaign does not exist", code="RESOURCE_NOT_FOUND", status=404)
        return campaign

    async def detail(self, campaign: Campaign) -> CampaignDetail:
        """One campaign with its history."""
        samples = await self._sampler.samples(campaign)
        steps = trail.steps(campaign.trail)
        until = self._backend.time.now()
        if campaign.final and not campaign.active and steps:
            # Nothing comes any more: what was must not shrink to a line as time goes on.
            ended = steps[-1][0]
            until = min(until, ended + AFTERWARDS * (ended - campaign.created))
        times, counts = self._sampler.look(campaign).series(samples, until)
        return CampaignDetail(
            **self.row(campaign).model_dump(),
            make=campaign.make,
            model=campaign.model,
            digest=campaign.digest,
            startDate=campaign.start_date,
            endDate=campaign.end_date,
            windows=list(campaign.windows),
            installWindows=list(campaign.install_windows),
            downloadAfter=campaign.download_after,
            installAfter=campaign.install_after,
            path=campaign.path,
            concurrency=campaign.concurrency,
            plan=campaign.plan,
            autoAdd=campaign.auto_add,
            autoAssign=campaign.auto_assign,
            history=History(times=times, counts=counts),
            changes=[StatusChange(time=time, status=status) for time, status in steps],
            since=max(self._sampler.since, campaign.created),
        )

    def members(
        self, campaign: Campaign, status: str | None, offset: int, search: str
    ) -> MemberPage:
        """Devices of a campaign from `offset` on, all or those in one status, or whose id has
        `search` in it."""
        rows: list[MemberRow] = []
        following: int | None = None
        for index, member in _from(campaign.members.values(), offset):
            if status is not None and member.status != status:
                continue
            if search not in member.device_id:
                continue
            if len(rows) == MEMBERS:
                following = index
                break
            rows.append(self.member(member))
        return MemberPage(members=rows, next=following)

    def member(self, member: Member) -> MemberRow:
        """A device in a campaign."""
        return MemberRow(
            deviceId=member.device_id,
            known=member.device in self._backend.inventory.devices,
            status=member.status,
            position=member.position.name.lower(),
            reason=member.reason,
            said=member.said,
            attempts=member.attempts,
            updated=member.updated,
            recent=member.recent,
            next=member.next,
        )


def _from(members: Iterable[Member], offset: int) -> Iterator[tuple[int, Member]]:
    return ((index, member) for index, member in enumerate(members) if index >= offset)
