"""What the page is told, as JSON. Instants are seconds since the epoch in the backend's own time;
`null` stands for what has not happened or is not known.

Texts that a device or a client supplied go out as they are: the page shows them as text, never as
markup.
"""

from __future__ import annotations

from pydantic import BaseModel

__all__ = [
    "Attached",
    "CallbackRow",
    "Callbacks",
    "CampaignDetail",
    "CampaignEvent",
    "CampaignPage",
    "CampaignRow",
    "CellRow",
    "Cells",
    "DeviceCampaign",
    "DeviceDetail",
    "DevicePage",
    "DeviceRow",
    "History",
    "MemberPage",
    "MemberRow",
    "Seen",
    "StatusChange",
    "Summary",
    "TimelineEntry",
]


class Summary(BaseModel):
    """The backend at a glance."""

    now: float
    timing: str
    accounts: list[str]
    devices: int
    campaigns: dict[str, int]
    """How many there are in each status."""


class CampaignRow(BaseModel):
    """A campaign in a list."""

    id: str
    number: int
    account: str
    title: str
    kind: str
    protocol: str
    package: str
    versionFrom: str
    versionTo: str
    status: str
    final: bool
    created: float
    starts: float
    ends: float
    active: int
    """Attempts under way."""
    devices: int
    counts: dict[str, int]
    """Devices by status."""


class CampaignEvent(CampaignRow):
    """How a campaign is after a change."""

    now: float


class CampaignPage(BaseModel):
    """Campaigns, newest first."""

    campaigns: list[CampaignRow]
    next: int | None
    """`before` of the next page."""


class History(BaseModel):
    """Devices by status over time; column `k` of every list belongs to `times[k]`."""

    times: list[float]
    counts: dict[str, list[int]]


class StatusChange(BaseModel):
    """A campaign came to another status."""

    time: float
    status: str


class CampaignDetail(CampaignRow):
    """One campaign."""

    make: str
    model: str
    digest: str
    startDate: str
    endDate: str
    windows: list[tuple[int, int]]
    """Hours of the day, UTC; none means all day."""
    installWindows: list[tuple[int, int]]
    downloadAfter: str
    installAfter: str
    path: str
    concurrency: int
    plan: str
    autoAdd: bool
    autoAssign: bool
    history: History
    changes: list[StatusChange]
    since: float
    """Nothing of before is in `history` and `changes`: that of a database which is older than
    they are begins with its migration."""


class MemberRow(BaseModel):
    """A device in a campaign."""

    deviceId: str
    known: bool
    """Whether the inventory has it."""
    status: str
    position: str
    reason: str
    said: str
    attempts: int
    updated: float
    recent: float | None
    next: float | None


class MemberPage(BaseModel):
    """Devices of a campaign, in the order in which they were taken in."""

    members: list[MemberRow]
    next: int | None
    """`offset` of the next page."""


class DeviceRow(BaseModel):
    """A device in a list."""

    deviceId: str
    name: str
    account: str
    make: str
    model: str
    firmware: str
    protocol: str
    line: str


class DevicePage(BaseModel):
    """Devices by account and id."""

    devices: list[DeviceRow]
    next: str | None
    """`after` of the next page."""


class Attached(BaseModel):
    """Where a device is in the operator's network."""

    cell: str
    push: str
    """Empty for one that takes no pushed datagrams."""
    since: float


class Seen(BaseModel):
    """What a device said last to the server that it talks to."""

    state: str
    result: str
    version: str
    source: str


class DeviceCampaign(BaseModel):
    """A campaign that a device is or was in."""

    campaign: str
    title: str
    package: str
    versionTo: str
    kind: str
    status: str
    """Of the campaign."""
    member: MemberRow


class TimelineEntry(BaseModel):
    """Something that happened to a device, or is to happen."""

    time: float
    kind: str
    title: str
    detail: str = ""
    status: str = ""
    """A status of the API, for the colour."""
    campaign: str = ""
    since: float | None = None
    """When the first of several equal things happened; `time` is the last."""


class DeviceDetail(DeviceRow):
    """One device."""

    mdn: str
    delivery: str
    created: float
    updated: float
    upgraded: float | None
    loggingUntil: float | None
    licensed: bool
    attached: Attached | None
    waitingMessages: int
    seen: Seen | None
    campaigns: list[DeviceCampaign]
    """Newest first."""
    timeline: list[TimelineEntry]
    """Newest first."""
    truncated: bool
    """Whether older entries were left out."""


class CellRow(BaseModel):
    """A cell of the operator's network."""

    name: str
    attached: int
    active: int
    """Devices that hold one of its places."""
    waiting: int
    """Devices that wait for one."""
    capacity: int


class Cells(BaseModel):
    """All cells, by name."""

    cells: list[CellRow]
    truncated: bool


class CallbackRow(BaseModel):
    """A callback message."""

    number: int
    account: str
    version: int
    kind: str
    campaign: str
    state: str
    tries: int
    created: float
    due: float
    finished: float | None
    error: str


class Callbacks(BaseModel):
    """The newest callback messages, newest first."""

    callbacks: list[CallbackRow]
