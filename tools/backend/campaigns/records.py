"""Campaigns and their devices as the engine holds them, and how they look in the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from agent.runtime.wheel import Timer
from tools.backend.campaigns import trail
from tools.backend.campaigns.kinds import FIRMWARE_V3, KINDS, CampaignKind
from tools.backend.campaigns.plans import PLANS, Plan
from tools.backend.campaigns.states import CAMPAIGN_FINAL, DEVICE_FINAL
from tools.backend.faces.base import Delivery, Ending, Position
from tools.backend.store.rows import windows_of, windows_text
from tools.backend.timing import Windows


class Rider(Protocol):
    """What is in force in memory and stored in one transaction with something else, or undone with
    it."""

    def write(self, connection: Connection) -> None:
        """Its part of the transaction; again, when that is run again."""

    def settled(self, error: Exception | None) -> None:
        """The transaction is committed, or with an error it is not."""


class NothingMore:
    """A rider without anything to store."""

    __slots__ = ()

    def write(self, connection: Connection) -> None:
        """Nothing."""

    def settled(self, error: Exception | None) -> None:
        """Nothing."""


NOTHING_MORE = NothingMore()


@dataclass(slots=True, eq=False)
class Member:
    """A device in a campaign."""

    campaign: Campaign
    device: str
    device_id: str
    delivery: Delivery
    status: str
    position: Position = Position.WAITING
    attempts: int = 0
    executed: bool = False
    ending: Ending | None = None
    said: str = ""
    reason: str = ""
    updated: float = 0.0
    recent: float | None = None
    next: float | None = None
    shown_status: str = ""
    """What v1 shows until its next daily publication; empty when it shows the truth."""
    shown_reason: str = ""
    queued: bool = False
    """Waits in the network for its next power-up, although its campaign may be over."""
    cell: str = ""
    """The cell in which it has a place; not stored."""
    waits: str = ""
    """The cell in which it waits for one; not stored."""
    told: str = ""
    """The status that observers know; not stored."""
    ran: str = ""
    """What the device ran when its attempt began; not stored."""
    heard: float = 0.0
    """When a device that drives itself last came because of this attempt; not stored."""

    @property
    def final(self) -> bool:
        return self.status in DEVICE_FINAL

    @property
    def active(self) -> bool:
        """Whether an attempt is under way; such a member holds one of the campaign's places."""
        return Position.OFFERED <= self.position <= Position.INSTALLING

    @property
    def cells(self) -> Mapping[str, str]:
        """What can happen to it now."""
        return self.campaign.kind.device_table[self.status]

    def __repr__(self) -> str:
        return f"<Member {self.device} {self.status} {self.position.name} {self.attempts}>"


@dataclass(slots=True, eq=False)
class Campaign:
    """A campaign and everything the scheduler keeps for it."""

    id: str
    number: int
    account: str
    kind: CampaignKind
    title: str
    protocol: str
    package: str
    digest: str
    version_from: str
    version_to: str
    make: str
    model: str
    start_date: str
    end_date: str
    windows: Windows
    """When a download may begin; in v3, when anything may."""
    install_windows: Windows
    download_after: str
    """A date, or empty; likewise `install_after`. v2 only."""
    install_after: str
    path: str
    """Where a configuration file goes on the device."""
    created: float
    starts: float
    ends: float
    concurrency: int
    auto_assign: bool
    auto_add: bool
    plan: str
    """How its devices are tried: a name of `plans.PLANS`."""
    status: str
    trail: str = ""
    """How it came there, see `campaigns.trail`."""
    members: dict[str, Member] = field(default_factory=dict)
    ready: deque[Member] = field(default_factory=deque)
    """Members whose turn may come now, in order."""
    later: list[tuple[float, int, Member]] = field(default_factory=list)
    """A heap of (instant, sequence, member): when to look at a member again."""
    unchecked: deque[Member] = field(default_factory=deque)
    """Members whose checks are still to come; not claimed and not counted yet."""
    unplanned: deque[Member] = field(default_factory=deque)
    """Members that have not been told yet when their turn is expected."""
    expiring: deque[Member] = field(default_factory=deque)
    """Members that the end has not been brought to yet, once it has come."""
    planned: int = 0
    """How many have been told."""
    planned_in: dict[str, int] = field(default_factory=dict)
    """The same by cell."""
    slots: list[float] = field(default_factory=list)
    """When the slots of the campaign begin, as far as anybody asked."""
    was_open: bool = False
    """Whether attempts could begin when we looked last."""
    cells_waited: set[str] = field(default_factory=set)
    """Cells in which its members wait for places."""
    active: int = 0
    unfinished: int = 0
    timer: Timer | None = None

    @property
    def final(self) -> bool:
        return self.status in CAMPAIGN_FINAL

    @property
    def cells(self) -> Mapping[str, str]:
        """What can happen to it now."""
        return self.kind.campaign_table[self.status]

    @property
    def schedule(self) -> Plan:
        """How its devices are tried."""
        return PLANS[self.plan]

    def __repr__(self) -> str:
        return f"<Campaign {self.id} {self.status} {self.unfinished} unfinished>"


@dataclass(frozen=True, slots=True)
class CampaignRequest:
    """What somebody asks for, already parsed; the engine checks it."""

    account: str
    title: str
    package: str
    version_from: str
    version_to: str
    start_date: str
    end_date: str
    devices: tuple[str, ...]
    """Device ids."""
    windows: Windows = ()
    kind: CampaignKind = FIRMWARE_V3
    install_windows: Windows = ()
    download_after: str = ""
    install_after: str = ""
    protocol: str = "LWM2M"
    auto_assign: bool = False
    auto_add: bool = False
    concurrency: int | None = None
    deliveries: Mapping[str, Delivery] | None = None
    """By device id; a device not named here has the delivery of the inventory."""


@dataclass(frozen=True, slots=True)
class CampaignDates:
    """What `redate` may change; the whole of it, also what stays."""

    start_date: str
    end_date: str
    windows: Windows = ()
    install_windows: Windows = ()
    download_after: str = ""
    install_after: str = ""


@dataclass(frozen=True, slots=True)
class EditResult:
    """What became of one device of an edit; `reason` says why not."""

    device_id: str
    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to update a device, of a history."""

    campaign: Campaign
    number: int
    started: float
    finished: float | None
    """None while it runs."""
    status: str
    """How it ended; empty while it runs."""
    ending: Ending | None
    version_from: str


_CAMPAIGN_COLUMNS = (
    "id",
    "number",
    "account",
    "title",
    "protocol",
    "package",
    "digest",
    "version_from",
    "version_to",
    "make",
    "model",
    "start_date",
    "end_date",
    "download_after",
    "install_after",
    "path",
    "created",
    "starts",
    "ends",
    "concurrency",
    "auto_assign",
    "auto_add",
    "plan",
    "status",
    "trail",
)


def campaign_row(campaign: Campaign) -> dict[str, Any]:
    """The row of a new campaign."""
    row = {name: getattr(campaign, name) for name in _CAMPAIGN_COLUMNS}
    row["kind"] = campaign.kind.name
    row["windows"] = windows_text(campaign.windows)
    row["install_windows"] = windows_text(campaign.install_windows)
    return row


def campaign_of(row: Mapping[Any, Any]) -> Campaign:
    """The reverse of `campaign_row`."""
    values = {name: row[name] for name in _CAMPAIGN_COLUMNS}
    return Campaign(
        **values,
        kind=KINDS[row["kind"]],
        windows=windows_of(row["windows"]),
        install_windows=windows_of(row["install_windows"]),
    )


def member_row(member: Member) -> dict[str, Any]:
    """The row of a new member."""
    return {
        "campaign": member.campaign.id,
        "device": member.device,
        "device_id": member.device_id,
        "delivery": member.delivery,
        "status": member.status,
        "position": int(member.position),
        "attempts": member.attempts,
        "executed": member.executed,
        "outcome": None if member.ending is None else member.ending.value,
        "said": member.said,
        "reason": member.reason,
        "updated": member.updated,
        "recent_attempt": member.recent,
        "next_attempt": member.next,
        "shown_status": member.shown_status,
        "shown_reason": member.shown_reason,
        "queued": member.queued,
        "trail": trail.step(member.status, member.updated),
    }


def member_change(member: Member) -> dict[str, Any]:
    """The parameters of store.SET_MEMBER; store.MOVE_MEMBER has one more."""
    # Spelt out beside `member_row`: this is written for every step of every device.
    return {
        "b_campaign": member.campaign.id,
        "b_device": member.device,
        "b_status": member.status,
        "b_position": int(member.position),
        "b_attempts": member.attempts,
        "b_executed": member.executed,
        "b_outcome": None if member.ending is None else member.ending.value,
        "b_said": member.said,
        "b_reason": member.reason,
        "b_updated": member.updated,
        "b_recent_attempt": member.recent,
        "b_next_attempt": member.next,
        "b_shown_status": member.shown_status,
        "b_shown_reason": member.shown_reason,
        "b_queued": member.queued,
    }


def member_of(campaign: Campaign, row: Mapping[Any, Any]) -> Member:
    """The reverse of `member_row`."""
    return Member(
        campaign=campaign,
        device=row["device"],
        device_id=row["device_id"],
        delivery=row["delivery"],
        status=row["status"],
        position=Position(row["position"]),
        attempts=row["attempts"],
        executed=row["executed"],
        ending=None if row["outcome"] is None else Ending(row["outcome"]),
        said=row["said"],
        reason=row["reason"],
        updated=row["updated"],
        recent=row["recent_attempt"],
        next=row["next_attempt"],
        shown_status=row["shown_status"],
        shown_reason=row["shown_reason"],
        queued=row["queued"],
        told=row["status"],
    )
