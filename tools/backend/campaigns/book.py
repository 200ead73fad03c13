"""All campaigns in memory, indexed by what is asked of them; and how a new one is drafted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection

from sqlalchemy import Connection

from tools.backend.campaigns import rules, states
from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.records import (
    Campaign,
    CampaignRequest,
    Member,
    campaign_of,
    campaign_row,
    member_of,
    member_row,
)
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Delivery, Position, same_version
from tools.backend.inventory import ConfigFile, Device, Firmware, Inventory, check_device_id
from tools.backend.store import rows as store
from tools.backend.timing import DEFAULT_CONCURRENCY, CampaignTiming

CAMPAIGN_IDS = uuid.UUID("6b2a7a52-0b1e-5f0e-9d6e-3d1f5b0c7a11")
"""Ids are derived from the campaign's number: the same run gives the same ids."""


class CampaignBook:
    """Every campaign, and which device is in which."""

    def __init__(self, inventory: Inventory, timing: CampaignTiming) -> None:
        self._inventory = inventory
        self._timing = timing
        self._open: dict[Lock, dict[str, Member]] = {lock: {} for lock in Lock}
        self._latest: dict[str, Member] = {}
        self._adding: list[Campaign] = []
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
            self._index_member(member)
        if campaign.auto_add:
            self._adding.append(campaign)

    def _index_member(self, member: Member) -> None:
        campaign = member.campaign
        if member.status == states.REJECTED:
            return
        if campaign.kind.lock is Lock.FIRMWARE:
            self._latest[member.device] = member
        if not member.final:
            campaign.unfinished += 1
        if member.active:
            campaign.active += 1
        if not member.final or member.active:  # aborted while installing: final and active
            self._open[campaign.kind.lock][member.device] = member

    def adopt(self, device: Device, now: float) -> Member | None:
        """Take a device into the first campaign that adds devices by itself and that it matches."""
        if not self._adding:
            return None
        self._adding = [item for item in self._adding if rules.adds_devices(item, now)]
        account = self._inventory.accounts[device.account]
        for campaign in self._adding:
            if (
                campaign.account == device.account
                and device.name not in campaign.members
                and not self._rejection(campaign, device)
                and _runs(device, campaign)
                and rules.has_room(campaign, account.pilot_waived, self.campaigns.values())
            ):
                member = self._member(campaign, device, device.device_id, device.delivery, now)
                campaign.members[member.device] = member
                self._index_member(member)
                return member
        return None

    def remove(self, campaign: Campaign) -> None:
        """Undo `add`."""
        del self.campaigns[campaign.id]
        self._adding = [item for item in self._adding if item is not campaign]
        for member in campaign.members.values():
            self.close(member)
            if self._latest.get(member.device) is member:
                del self._latest[member.device]

    def close(self, member: Member) -> None:
        """The device is free for another campaign."""
        held = self._open[member.campaign.kind.lock]
        if held.get(member.device) is member:
            del held[member.device]

    # -- what is asked ---

    def open_members(self, device: str) -> list[Member]:
        """The device in its unfinished campaigns, at most one for each lock."""
        return [held[device] for held in self._open.values() if device in held]

    def open_member(self, device: str) -> Member | None:
        """The device in the campaign that is under way, else in one that waits."""
        found = self.open_members(device)
        return next((member for member in found if member.active), found[0] if found else None)

    def latest(self, device: str) -> Member | None:
        """The device in the newest firmware campaign that accepted it."""
        return self._latest.get(device)

    def of_account(self, account: str, version: int) -> list[Campaign]:
        """The campaigns of an account in one version of the API, in the order of creation."""
        found = [
            item
            for item in self.campaigns.values()
            if item.account == account and item.kind.version == version
        ]
        return sorted(found, key=lambda item: item.number)

    def needs(self, digest: str) -> bool:
        """Whether a content is still to be delivered to somebody."""
        return any(
            item.digest == digest and (item.unfinished or item.active)
            for item in self.campaigns.values()
        )

    # -- a new campaign ---

    def _deliverable(self, request: CampaignRequest) -> Firmware | ConfigFile:
        """What the request wants to deliver. Raises RequestRefused."""
        key = (request.account, request.package)
        if request.kind.lock is Lock.FILE:
            file = self._inventory.files.get(key)
            if file is None or file.version_to != request.version_to:
                raise RequestRefused(
                    f"File {request.package!r} of version {request.version_to!r} is not available"
                )
            return file
        firmware = self._inventory.packages.get(key)
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
        return firmware

    def draft(self, request: CampaignRequest, protocols: Collection[str], now: float) -> Campaign:
        """A campaign after `request`, not taken in yet. Raises RequestRefused."""
        kind = request.kind
        if request.protocol not in protocols or request.protocol not in kind.protocols:
            raise RequestRefused(f"Protocol {request.protocol[:64]!r} is not supported")
        deliverable = self._deliverable(request)
        start, end = rules.check_dates(request, now)
        windows = rules.check_windows(request.windows)
        install_windows = rules.check_windows(request.install_windows)
        devices = rules.check_devices(request)
        number = self._number + 1
        campaign = Campaign(
            id=str(uuid.uuid5(CAMPAIGN_IDS, f"{request.account}/{number}")),
            number=number,
            account=request.account,
            kind=kind,
            title=request.title,
            protocol=request.protocol,
            package=request.package,
            digest=deliverable.digest,
            version_from=request.version_from,
            version_to=request.version_to,
            make=deliverable.make,
            model=deliverable.model,
            start_date=request.start_date,
            end_date=request.end_date,
            windows=windows,
            install_windows=install_windows,
            download_after=request.download_after,
            install_after=request.install_after,
            path=deliverable.path if isinstance(deliverable, ConfigFile) else "",
            created=now,
            starts=rules.first_start(start, now, len(devices), self._timing),
            ends=end,
            concurrency=request.concurrency or DEFAULT_CONCURRENCY,
            auto_assign=request.auto_assign,
            auto_add=request.auto_add,
            plan=kind.plan,
            status=states.REQUEST_PENDING,
        )
        accepted = 0
        for device_id in devices:
            member = self._draft_member(campaign, check_device_id(device_id), request)
            campaign.members[member.device] = member
            if not member.final:
                accepted += 1
                if not kind.device_driven:
                    campaign.ready.append(member)
        account = self._inventory.accounts[request.account]
        rules.check_pilot(request, accepted, account.pilot_waived, self.campaigns.values())
        if not accepted:
            campaign.status = states.REQUEST_FAILED
        self._number = number
        return campaign

    def _rejection(self, campaign: Campaign, device: Device | None) -> str:
        """Why a device cannot take part; empty when it can."""
        kind = campaign.kind
        if device is None:
            return kind.wording.not_found
        if device.protocol != campaign.protocol:
            return kind.wording.not_eligible
        if device.name in self._open[kind.lock]:
            return kind.wording.already
        if (device.make, device.model) != (campaign.make, campaign.model):
            return kind.wording.wrong_make
        if (
            kind.checks_version
            and campaign.version_from
            and device.firmware
            and not same_version(device.firmware, campaign.version_from)
        ):
            return kind.wording.wrong_version
        return ""

    def _draft_member(self, campaign: Campaign, device_id: str, request: CampaignRequest) -> Member:
        device = self._inventory.by_id(campaign.account, device_id)
        reason = self._rejection(campaign, device)
        delivery = "push" if device is None else device.delivery
        if request.deliveries is not None:
            delivery = request.deliveries.get(device_id, delivery)
        member = self._member(campaign, device, device_id, delivery, campaign.created)
        if reason:
            member.status, member.reason, member.position = states.REJECTED, reason, Position.DONE
        return member

    @staticmethod
    def _member(
        campaign: Campaign, device: Device | None, device_id: str, delivery: Delivery, now: float
    ) -> Member:
        return Member(
            campaign,
            device_id if device is None else device.name,
            device_id,
            delivery,
            campaign.kind.accepted,
            reason=campaign.kind.wording.accepted,
            updated=now,
        )


def _runs(device: Device, campaign: Campaign) -> bool:
    """Whether a device that nobody named runs the version that the campaign leads from."""
    if not campaign.version_from:
        return not same_version(device.firmware, campaign.version_to)
    return same_version(device.firmware, campaign.version_from)


def insertion(campaign: Campaign) -> Callable[[Connection], bytes]:
    """What writes a new campaign with all its devices as they are now, and fetches the bytes it
    will send. It may run in another thread, while the campaign goes on."""
    row = campaign_row(campaign)
    members = [member_row(member) for member in campaign.members.values()]

    def insert(connection: Connection) -> bytes:
        connection.execute(store.ADD_CAMPAIGN, row)
        connection.execute(store.ADD_MEMBER, members)
        return store.load_content(connection, campaign.digest)

    return insert
