"""All campaigns in memory, indexed by what is asked of them; and how a new one is drafted."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import Connection, Executable

from tools.backend.campaigns import pilots, rules, states, trail
from tools.backend.campaigns.kinds import FIRMWARE_V1, Lock
from tools.backend.campaigns.pilots import Pilots
from tools.backend.campaigns.records import (
    NOTHING_MORE,
    Campaign,
    CampaignRequest,
    Member,
    Rider,
    campaign_of,
    campaign_row,
    member_of,
    member_row,
)
from tools.backend.errors import StoreError
from tools.backend.faces.base import Delivery, same_version
from tools.backend.inventory import ACTIVE, ConfigFile, Device, Firmware, Inventory
from tools.backend.refusals import Refusal
from tools.backend.store import rows as store
from tools.backend.store.statements import execute_rows
from tools.backend.timing import DEFAULT_CONCURRENCY, PILOT_SIZE, CampaignTiming

CAMPAIGN_IDS = uuid.UUID("6b2a7a52-0b1e-5f0e-9d6e-3d1f5b0c7a11")
"""Ids are derived from the campaign's number: the same run gives the same ids."""


class CampaignBook:
    """Every campaign, and which device is in which."""

    def __init__(self, inventory: Inventory, timing: CampaignTiming) -> None:
        self._inventory = inventory
        self._timing = timing
        self._open: dict[Lock, dict[str, Member]] = {lock: {} for lock in Lock}
        self._latest: dict[str, Member] = {}
        self._of_device: dict[str, list[Member]] = {}
        self._adding: list[Campaign] = []
        self._pilots = Pilots()
        self._number = 0
        self.campaigns: dict[str, Campaign] = {}
        self.queued: dict[str, Member] = {}
        """Devices that wait in the network for their next power-up, by name."""
        self._queued_digests: Counter[str] = Counter()
        self.barred: Callable[[Device], str] = lambda _device: ""
        """Why a device has no licence that it needs; empty when it has, or needs none."""

    def load(self, connection: Connection) -> dict[str, bytes]:
        """Read every campaign; returns the contents that unfinished ones need, by digest, as far as
        they are sound."""
        self._number = store.campaign_number(connection)
        for row in store.load_campaigns(connection):
            campaign = campaign_of(row)
            self.campaigns[campaign.id] = campaign
            self._number = max(self._number, campaign.number)
        # Devices of a large campaign are written before it is; a request that was not answered may
        # have left some.
        connection.execute(store.DROP_ORPHANS)
        for row in store.load_members(connection):
            campaign = self.campaigns[row["campaign"]]
            member = member_of(campaign, row)
            campaign.members[member.device] = member
        for campaign in sorted(self.campaigns.values(), key=lambda item: item.number):
            if campaign.status == states.REQUEST_PENDING:
                # The checks were not over, and are made again from the beginning.
                campaign.unchecked.extend(
                    item for item in campaign.members.values() if item.status != states.REJECTED
                )
                for member in campaign.members.values():
                    if member.status == states.REJECTED:
                        self.claim(member)
            else:
                for member in campaign.members.values():
                    self.claim(member)
                    if member.queued:
                        self.enqueue(member)
            if campaign.auto_add:
                self._adding.append(campaign)
        for name in [name for name, held in self._of_device.items() if self._is_former(held)]:
            self.disown(name)
        needed = {item.digest for item in self.campaigns.values() if item.unfinished or item.active}
        needed |= {item.digest for item in self.campaigns.values() if item.unchecked}
        needed |= set(self._queued_digests)
        found = {digest: _sound_content(connection, digest) for digest in sorted(needed)}
        return {digest: body for digest, body in found.items() if body is not None}

    def add(self, campaign: Campaign) -> None:
        """Take in a draft with its members; those that are checked are claimed."""
        self.campaigns[campaign.id] = campaign
        if not campaign.unchecked:
            for member in campaign.members.values():
                self.claim(member)
        if campaign.auto_add:
            self._adding.append(campaign)

    def add_member(self, member: Member) -> None:
        """Take in one more device, checked."""
        member.campaign.members[member.device] = member
        self.claim(member)

    def claim(self, member: Member) -> None:
        """Count a member whose checks are over, and keep its device from other campaigns."""
        campaign = member.campaign
        self._of_device.setdefault(member.device, []).append(member)
        if member.status == states.REJECTED:
            return
        if campaign.kind.lock is Lock.FIRMWARE:
            self._latest[member.device] = member
        if not member.final and not member.queued:
            campaign.unfinished += 1
        if member.active:
            campaign.active += 1
        if not member.final or member.active:  # aborted while installing: final and active
            self._open[campaign.kind.lock][member.device] = member

    def reopen(self, member: Member) -> None:
        """A device of the queue begins again."""
        self._latest[member.device] = member
        self._open[member.campaign.kind.lock][member.device] = member

    def holds(self, member: Member) -> bool:
        """Whether the device is kept for this campaign."""
        return self._open[member.campaign.kind.lock].get(member.device) is member

    def is_free(self, device: str, lock: Lock) -> bool:
        """Whether no unfinished campaign has the device."""
        return device not in self._open[lock]

    def enqueue(self, member: Member) -> None:
        """The device waits in the network for its next power-up."""
        former = self.queued.get(member.device)
        if former is not None:
            self._queued_digests[former.campaign.digest] -= 1
        self.queued[member.device] = member
        self._queued_digests[member.campaign.digest] += 1

    def dequeue(self, device: str) -> Member | None:
        """It waits no more; returns what it waited for."""
        member = self.queued.pop(device, None)
        if member is not None:
            self._queued_digests[member.campaign.digest] -= 1
            self._queued_digests += Counter()  # drops what has come to nothing
        return member

    def adopt(
        self, device: Device, now: float, assign: Callable[[str, Sequence[Device]], Rider | None]
    ) -> tuple[Member, Rider] | None:
        """Take a device into the first campaign that adds devices by itself and that it matches;
        `assign` gives it a licence, if the campaign does that, which is to be stored with it."""
        if not self._adding:
            return None
        self._adding = [item for item in self._adding if rules.adds_devices(item, now)]
        for campaign in self._adding:
            if (
                campaign.account == device.account
                and device.name not in campaign.members
                and not campaign.unchecked
                and not self.rejection(campaign, device)
                and _runs(device, campaign)
                and self._has_room(campaign)
            ):
                licence = assign(campaign.account, [device]) if campaign.auto_assign else None
                if licence is None and campaign.auto_assign:
                    continue
                member = self.member(campaign, device, device.device_id, device.delivery, now)
                self.add_member(member)
                return member, licence or NOTHING_MORE
        return None

    def needs_pilot(self, wanted: CampaignRequest | Campaign) -> bool:
        """Whether a campaign may have no more devices than a pilot yet."""
        waived = self._inventory.accounts[wanted.account].pilot_waived
        return not waived and self._pilots.needed(wanted, self.campaigns.values())

    def _has_room(self, campaign: Campaign) -> bool:
        """Whether one more device may join; counted only where that matters."""
        return (
            len(campaign.members) < PILOT_SIZE
            or not self.needs_pilot(campaign)
            or pilots.taken(campaign) < PILOT_SIZE
        )

    def watches(self, device: Device, now: float) -> bool:
        """Whether somebody wants to know when the device comes and goes: a campaign that goes on
        and has accepted it, or could take it in by itself, or the queue in the network."""
        return (
            device.name in self.queued
            or any(
                item.active or not item.campaign.final
                for item in self._of_device.get(device.name, ())
                if item.status not in (states.REJECTED, states.CANCELLED)
            )
            or any(
                item.account == device.account
                and rules.adds_devices(item, now)
                and not self.rejection(item, device)
                for item in self._adding
            )
        )

    def remove(self, campaign: Campaign) -> None:
        """Undo `add`; or a campaign that has ended is gone."""
        del self.campaigns[campaign.id]
        self._adding = [item for item in self._adding if item is not campaign]
        for member in list(campaign.members.values()):
            self.forget(member)

    def forget(self, member: Member) -> None:
        """The device is not in the campaign and never was."""
        member.campaign.members.pop(member.device, None)
        self._pilots.look_again(member.campaign)
        self.close(member)
        held = self._of_device.pop(member.device, [])
        held = [item for item in held if item is not member]
        if held:
            self._of_device[member.device] = held
        if self._latest.get(member.device) is member:
            earlier = [
                item
                for item in held
                if item.campaign.kind.lock is Lock.FIRMWARE and item.status != states.REJECTED
            ]
            if earlier:
                self._latest[member.device] = earlier[-1]
            else:
                del self._latest[member.device]

    def disown(self, name: str) -> None:
        """A device is gone, or is another one than that of these campaigns; they keep their record
        of it."""
        device = self._inventory.devices.get(name)
        held = [item for item in self._of_device.pop(name, ()) if not _is_former(item, device)]
        if held:
            self._of_device[name] = held
        latest = self._latest.get(name)
        if latest is not None and not any(item is latest for item in held):
            del self._latest[name]
            accepted = [
                item
                for item in held
                if item.campaign.kind.lock is Lock.FIRMWARE and item.status != states.REJECTED
            ]
            if accepted:
                self._latest[name] = accepted[-1]

    def _is_former(self, held: Sequence[Member]) -> bool:
        """Whether one of these was a device that is not there any more."""
        device = self._inventory.devices.get(held[0].device)
        return any(_is_former(member, device) for member in held)

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

    def occupied(self, member: Member) -> bool:
        """Whether an attempt of another campaign is under way with its device."""
        return any(
            other.active for other in self.open_members(member.device) if other is not member
        )

    def members_of(self, device: str) -> list[Member]:
        """The device in every campaign that has it, also in those that rejected it; oldest
        first."""
        return list(self._of_device.get(device, ()))

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
        return digest in self._queued_digests or any(
            item.digest == digest and (item.unfinished or item.active or item.unchecked)
            for item in self.campaigns.values()
        )

    # -- a new campaign ---

    def _deliverable(self, request: CampaignRequest) -> Firmware | ConfigFile:
        """What the request wants to deliver. Raises RequestRefused."""
        key = (request.account, request.package)
        if request.kind.lock is Lock.FILE:
            file = self._inventory.files.get(key)
            asked = (request.protocol, request.version_to)
            if file is None or (file.protocol, file.version_to) != asked:
                raise Refusal.FILE_VERSION(name=request.package, version=request.version_to)
            return file
        firmware = self._inventory.packages.get(key)
        if firmware is None or firmware.protocol != request.protocol:
            raise Refusal.FIRMWARE_UNKNOWN(name=request.package)
        if (firmware.version_from, firmware.version_to) != (
            request.version_from,
            request.version_to,
        ):
            raise Refusal.FIRMWARE_VERSIONS(
                name=request.package, older=request.version_from, newer=request.version_to
            )
        return firmware

    def draft(self, request: CampaignRequest, protocols: Collection[str], now: float) -> Campaign:
        """A campaign after `request`, without its devices, not taken in yet. Raises
        RequestRefused."""
        kind = request.kind
        if request.protocol not in protocols or request.protocol not in kind.protocols:
            raise Refusal.PROTOCOL(value=request.protocol)
        deliverable = self._deliverable(request)
        start, end = rules.check_dates(request, now)
        windows = rules.check_windows(request.windows)
        install_windows = rules.check_windows(request.install_windows)
        account = self._inventory.accounts[request.account]
        self._number += 1
        number = self._number
        return Campaign(
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
            starts=rules.first_start(start, now, rules.lead(request, self._timing)),
            ends=end,
            concurrency=request.concurrency or DEFAULT_CONCURRENCY,
            auto_assign=request.auto_assign,
            auto_add=request.auto_add,
            plan=account.omadm_mode if kind is FIRMWARE_V1 else kind.plan,
            status=states.REQUEST_PENDING,
            trail=trail.step(states.REQUEST_PENDING, now),
        )

    def rejection(self, campaign: Campaign, device: Device | None) -> str:
        """Why a device cannot take part; empty when it can."""
        kind = campaign.kind
        if device is None:
            return kind.wording.not_found
        if device.protocol != campaign.protocol:
            return kind.wording.not_eligible
        if device.line != ACTIVE:
            return kind.wording.not_active
        if device.name in self._open[kind.lock]:
            return kind.wording.already
        if (device.make, device.model) != (campaign.make, campaign.model):
            return kind.wording.wrong_make
        if (
            kind.wrong_version
            and campaign.version_from
            and device.firmware
            and not same_version(device.firmware, campaign.version_from)
        ):
            return kind.wrong_version
        # Licences of a campaign that assigns them by itself are looked at all together.
        return "" if campaign.auto_assign else self.barred(device)

    def member_for(
        self,
        campaign: Campaign,
        device_id: str,
        deliveries: Mapping[str, Delivery] | None,
        now: float,
    ) -> Member:
        """A device of a request, not checked and not taken in yet."""
        device = self._inventory.by_id(campaign.account, device_id)
        delivery = "push" if device is None else device.delivery
        if deliveries is not None:
            delivery = deliveries.get(device_id, delivery)
        return self.member(campaign, device, device_id, delivery, now)

    @staticmethod
    def member(
        campaign: Campaign, device: Device | None, device_id: str, delivery: Delivery, now: float
    ) -> Member:
        kind = campaign.kind
        return Member(
            campaign,
            device_id if device is None else device.name,
            device_id,
            delivery,
            kind.accepted,
            reason=kind.wording.accepted,
            updated=now,
        )


def _is_former(member: Member, device: Device | None) -> bool:
    """Whether a member that came to its end was another device than the one that has its identity
    now, or none. Who is still wanted is never removed, and an identity that was unknown when it was
    rejected was nobody's."""
    if not member.final or member.active or member.queued:
        return False
    if device is None:
        return member.status != states.REJECTED
    other = device.account != member.campaign.account
    return other or (member.status != states.REJECTED and member.updated < device.created)


def _runs(device: Device, campaign: Campaign) -> bool:
    """Whether a device that nobody named runs the version that the campaign leads from."""
    if not campaign.version_from:
        return not same_version(device.firmware, campaign.version_to)
    return same_version(device.firmware, campaign.version_from)


def insertion(
    campaign: Campaign, members: Sequence[Member], riders: Sequence[Rider] = ()
) -> Callable[[Connection], bytes | None]:
    """What writes a new campaign with `members` as they are now and with what `riders` have, and
    fetches the bytes that it will send; None when they are not sound. It may run in another thread,
    while the campaign goes on: the rows are made here."""
    row = campaign_row(campaign)
    rows = [member_row(member) for member in members]

    def insert(connection: Connection) -> bytes | None:
        connection.execute(store.ADD_CAMPAIGN, row)
        if rows:
            execute_rows(connection, store.ADD_MEMBER, rows)
        for rider in riders:
            rider.write(connection)
        return _sound_content(connection, campaign.digest)

    return insert


def addition(
    statement: Executable, members: Sequence[Member], rider: Rider
) -> Callable[[Connection], None]:
    """What writes devices that join a campaign, as they are now, with what `rider` has."""
    rows = [member_row(member) for member in members]

    def add(connection: Connection) -> None:
        execute_rows(connection, statement, rows)
        rider.write(connection)

    return add


def _sound_content(connection: Connection, digest: str) -> bytes | None:
    """The bytes of that digest; None when they are missing or are others by now."""
    try:
        body = store.load_content(connection, digest)
    except StoreError:
        return None
    return body if hashlib.sha256(body).hexdigest() == digest else None


def part(members: Sequence[Member]) -> Callable[[Connection], None]:
    """What writes some devices of a campaign that is not written yet, and that nobody knows."""

    def insert(connection: Connection) -> None:
        execute_rows(connection, store.ADD_MEMBER, [member_row(member) for member in members])

    return insert


def removal(campaign: Campaign) -> Callable[[Connection], None]:
    """What undoes every `part` of a campaign that could not be written."""

    def remove(connection: Connection) -> None:
        connection.execute(store.DROP_MEMBERS, {"b_campaign": campaign.id})

    return remove
