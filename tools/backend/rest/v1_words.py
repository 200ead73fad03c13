"""What API v1 calls things: statuses and client types. Literal tables.

Campaigns and their devices keep one set of names inside the backend; this is how v1 shows them.
"""

from __future__ import annotations

import datetime as dt

from tools.backend.campaigns import states
from tools.backend.campaigns.publication import published
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.rest.common import NEVER
from tools.backend.timing import CampaignTiming

UPGRADE_STATUSES = {
    states.REQUEST_PENDING: "RequestPending",
    states.QUEUED: "Queued",
    states.SCHEDULED: "InProgress",
    states.ENDED: "Finished",
    states.REQUEST_FAILED: "RequestFailed",
    # A queued upgrade that was not run to its end [documented]; only who runs the backend can
    # stop one that has begun.
    states.ABORTED: "UpgradeFailed",
    # One that the server failed to schedule [documented].
    states.NOT_SCHEDULED: "UpgradeFailed",
    # v1 documents no word for it, only that it leaves the queue; ours, and in no report by status.
    states.CANCELLED: "Cancelled",
}
"""Campaign status inside -> upgrade status of v1."""

REPORTED = frozenset(
    shown for inside, shown in UPGRADE_STATUSES.items() if inside != states.CANCELLED
)
"""The statuses that can be asked for: the SDK's enumeration."""

DEVICE_STATUSES = {
    states.ACCEPTED: "Device Accepted",
    states.REJECTED: "Device Rejected",
}
"""Device status inside -> in v1, where the two differ."""

ATTEMPT_SUCCESS = "UpgradeSuccess"
ATTEMPT_FAILED = "UpgradeFailed"
"""How a history names the end of an attempt: one or the other [documented]."""

CLIENT_TYPES = {
    "OMADM": "OMADM",
    "LWM2M": "LWM2M",
    "OMD-DM": "OMADM",
    "OMDADM": "OMADM",
    "OMA": "OMADM",
}
"""Every spelling of a client type that the documentation has -> what devices and firmware have."""

V1_PROTOCOLS = frozenset(CLIENT_TYPES.values())
"""What the devices of v1 speak; those that speak HTTP belong to v2."""

# (status, reason) of the items of a change; those of a success are the SDK's example, the others
# are ours, because no failure is public.
ADDED = ("AddDeviceSucceed", "Device added Successfully")
NOT_ADDED = "AddDeviceFailed"
REMOVED = ("RemoveDeviceSucceed", "Device removed Successfully")
NOT_REMOVED = "RemoveDeviceFailed"


def upgrade_status(campaign: Campaign) -> str:
    """The status of an upgrade; it is live."""
    return UPGRADE_STATUSES[campaign.status]


def device_status(member: Member, now: float, timing: CampaignTiming) -> tuple[str, str]:
    """Status and reason of a device in an upgrade, as they were published last."""
    status, reason = published(member, now, timing)
    if status == states.ACCEPTED and member.campaign.status == states.REQUEST_PENDING:
        # As in the SDK's example: nobody has looked at the device yet.
        return UPGRADE_STATUSES[states.REQUEST_PENDING], ""
    return DEVICE_STATUSES.get(status, status), reason


def upgrade_time(instant: float | None) -> str:
    """When a device was upgraded last, in the form of the device list."""
    if instant is None:
        return NEVER
    moment = dt.datetime.fromtimestamp(instant, dt.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} +0000 UTC"
