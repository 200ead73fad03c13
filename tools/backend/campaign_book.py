"""All campaigns in memory, indexed by what is asked of them; and how a new one is drafted."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from sqlalchemy import Connection

from tools.backend import campaign_rules as rules
from tools.backend import campaign_states as states
from tools.backend import store
from tools.backend.campaign_records import (
    Campaign,
    CampaignRequest,
    Member,
    campaign_of,
    campaign_row,
    member_of,
    member_row,
)
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending, Position
from tools.backend.inventory import Inventory, check_device_id
from tools.backend.timing import DEFAULT_CONCURRENCY, CampaignTiming

CAMPAIGN_IDS = uuid.UUID("6b2a7a52-0b1e-5f0e-9d6e-3d1f5b0c7a11")
"""Ids are derived from the campaign's number: the same run gives the same ids."""

UNREACHABLE = states.REASONS[Ending.UNREACHABLE]


class CampaignBook:
    """Every campaign, and which device is in which."""

    def __init__(self, inventory: Inventory, timing: CampaignTiming) -> None:
        self._inventory = inventory
        self._timing = timing
        self._open: dict[str, Member] = {}
        self._latest: dict[str, Member] = {}
        self._number = 0
        self.campaigns: dict[str, Campaign] = {}

    def load(self, connection: Connection) -> dict[str, bytes]:
        """Read every campaign; returns the contents that unfinished ones need, by digest."""
        for row in store.load_campaigns(connection):
            campaign = campaign_of(row)
            self.campaigns[campaign.id] = campaign
            self._number = max(self._number, campaign.number)
        for row in store.load_members(connection):
            campaign = self.campaigns[row["campaign"]]
            member = member_of(campaign, row)
            campaign.members[member.device] = member
        for campaign in self.campaigns.values():
            self._index(campaign)
        needed = {item.digest for item in self.campaigns.values() if item.unfinished or item.active}
        return {digest: store.load_content(connection, digest) for digest in sorted(needed)}

    def add(self, campaign: Campaign) -> None:
        """Take in a draft."""
        self.campaigns[campaign.id] = campaign
        self._index(campaign)

    def _index(self, campaign: Campaign) -> None:
        for member in campaign.members.values():
            if member.status == states.REJECTED:
                continue
            self._latest[member.device] = member
            if not member.final:
                campaign.unfinished += 1
            if member.active:
                campaign.active += 1
            if not member.final or member.active:  # aborted while installing: final and active
                self._open[member.device] = member

    def remove(self, campaign: Campaign) -> None:
        """Undo `add`."""
        del self.campaigns[campaign.id]
        for member in campaign.members.values():
            self.close(member)
            if self._latest.get(member.device) is member:
                del self._latest[member.device]

    def close(self, member: Member) -> None:
        """The device is free for another campaign."""
        if self._open.get(member.device) is member:
            del self._open[member.device]

    # -- what is asked ---

    def open_member(self, device: str) -> Member | None:
        """The device in its one unfinished campaign."""
        return self._open.get(device)

    def latest(self, device: str) -> Member | None:
        """The device in the newest campaign that accepted it."""
        return self._latest.get(device)

    def of_account(self, account: str) -> list[Campaign]:
        """The campaigns of an account, in the order of creation."""
        found = [item for item in self.campaigns.values() if item.account == account]
        return sorted(found, key=lambda item: item.number)

    def needs(self, digest: str) -> bool:
        """Whether a content is still to be delivered to somebody."""
        return any(
            item.digest == digest and (item.unfinished or item.active)
            for item in self.campaigns.values()
        )

    # -- a new campaign ---

    def draft(self, request: CampaignRequest, protocols: Collection[str], now: float) -> Campaign:
        """A campaign after `request`, not taken in yet. Raises RequestRefused."""
        firmware = self._inventory.packages.get((request.account, request.package))
        if request.protocol not in protocols:
            raise RequestRefused(f"Protocol {request.protocol[:64]!r} is not supported")
        if firmware is None or firmware.protocol != request.protocol:
            raise RequestRefused(f"Firmware {request.package!r} is not available")
        if (firmware.version_from, firmware.version_to) != (
            request.version_from,
            request.version_to,
        ):
            raise RequestRefused(
                f"Firmware {request.package!r} does not lead from {request.version_from!r} "
                f"to {request.version_to!r}"
            )
        start, end = rules.check_dates(request, now)
        windows = rules.check_windows(request.windows)
        devices = rules.check_devices(request)
        number = self._number + 1
        campaign = Campaign(
            id=str(uuid.uuid5(CAMPAIGN_IDS, f"{request.account}/{number}")),
            number=number,
            account=request.account,
            title=request.title,
            protocol=request.protocol,
            package=request.package,
            digest=firmware.digest,
            version_from=request.version_from,
            version_to=request.version_to,
            make=firmware.make,
            model=firmware.model,
            start_date=request.start_date,
            end_date=request.end_date,
            windows=windows,
            created=now,
            starts=rules.first_start(start, now, len(devices), self._timing),
            ends=end,
            concurrency=request.concurrency or DEFAULT_CONCURRENCY,
            auto_assign=request.auto_assign,
            auto_add=request.auto_add,
            status=states.REQUEST_PENDING,
        )
        for device_id in devices:
            member = self._draft_member(campaign, check_device_id(device_id), request)
            campaign.members[member.device] = member
            if not member.final:
                campaign.ready.append(member)
        accepted = len(campaign.ready)
        account = self._inventory.accounts[request.account]
        rules.check_pilot(request, accepted, account.pilot_waived, self.campaigns.values())
        if not accepted:
            campaign.status = states.REQUEST_FAILED
        self._number = number
        return campaign

    def _draft_member(self, campaign: Campaign, device_id: str, request: CampaignRequest) -> Member:
        device = self._inventory.by_id(campaign.account, device_id)
        reason = ""
        if device is None:
            reason = rules.NOT_FOUND
        elif device.name in self._open:
            reason = rules.ALREADY_SCHEDULED
        elif (device.make, device.model) != (campaign.make, campaign.model):
            reason = rules.WRONG_MAKE
        delivery = "push" if device is None else device.delivery
        if request.deliveries is not None:
            delivery = request.deliveries.get(device_id, delivery)
        member = Member(
            campaign,
            device_id if device is None else device.name,
            device_id,
            delivery,
            states.NO_DATA,
            reason=UNREACHABLE,
            updated=campaign.created,
        )
        if reason:
            member.status, member.reason, member.position = states.REJECTED, reason, Position.DONE
        return member


def insert_campaign(connection: Connection, campaign: Campaign) -> bytes:
    """Write a new campaign with all its devices, and fetch the bytes it will send."""
    connection.execute(store.ADD_CAMPAIGN, campaign_row(campaign))
    rows = [member_row(member) for member in campaign.members.values()]
    connection.execute(store.ADD_MEMBER, rows)
    return store.load_content(connection, campaign.digest)
