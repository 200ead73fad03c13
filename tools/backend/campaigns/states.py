"""The state machines of a campaign and of a device in a campaign, as literal tables.

Theory of operation
-------------------
Each version of the API has its own two tables, because its reports show other states; the engine
sends the same events to either and never asks which version it is. An event that may have no cell
in one of them (`checked`, `reachable`, `unreachable`, `fault`) is looked up before it is sent.

*Campaign* (names of API v3, lifecycle of the public documentation)::

    RequestPending -> RequestQueued -> PreScheduled -> Scheduled -> Ended
         |                 `--> Cancelled <--'  |          `--> Aborted
         `-> RequestFailed                     `--> Failed

It is Failed when it should begin and its package cannot be had [documented: when the call that
schedules it failed; that this is the package's bytes, missing from the store or not what was put
there, is ours].

v2 has no PreScheduled, and one that starts today skips RequestQueued. v1 has no PreScheduled
either; its clients read `InProgress` for Scheduled, `Finished` for Ended and `UpgradeFailed` for
Failed.

*Device in a campaign*: the status that a report shows. In v3 a device is looked for
(`NoDeviceDataFromNetwork`), found (`ReceivedDeviceDataFromNetwork`), waits for its turn
(`UpgradePending`), has its turn (`UpgradeScheduled`), and ends. A failed attempt with an ending
that may pass goes back to `UpgradePending`. In v2 a device is `Accepted`, is `UpgradePending` from
its first order on, and ends. In v1 the same, but the server begins: the operator's network keeps a
notification for a device that is off, so nobody asks whether it is there; a network-aware upgrade
that failed may begin again at the next power-up, even when its campaign is over. An aborted device
that was already installing keeps `CampaignAborted` until its real result replaces it.

In v3 `UpgradeScheduled` begins with a place in the device's cell, which may be some time before the
attempt: until that begins it can lose the place again (`unplace`).

*Position*: the attempt of a device that has its turn. From `EXECUTE` on the only way back to
`WAITING` is `requeue`, of a device that reported itself how the attempt ended: one that may still
be installing is never started again by this campaign.

A missing cell is the error: `IllegalTransition`, with the state and the event in its text, and the
state unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from tools.backend.errors import BackendError
from tools.backend.faces.base import Position

__all__ = [
    "CAMPAIGN_FINAL",
    "CAMPAIGN_TABLE",
    "CAMPAIGN_TABLE_V1",
    "CAMPAIGN_TABLE_V2",
    "DEVICE_FINAL",
    "DEVICE_TABLE",
    "DEVICE_TABLE_V1",
    "DEVICE_TABLE_V2",
    "POSITION_TABLE",
    "IllegalTransition",
    "next_state",
]


S = TypeVar("S")
E = TypeVar("E")


class IllegalTransition(BackendError):
    """An event that the table has no cell for."""


# -- campaign ---
REQUEST_PENDING = "CampaignRequestPending"
REQUEST_FAILED = "CampaignRequestFailed"
QUEUED = "CampaignRequestQueued"
PRE_SCHEDULED = "CampaignPreScheduled"
SCHEDULED = "CampaignScheduled"
ENDED = "CampaignEnded"
NOT_SCHEDULED = "CampaignFailed"
CANCELLED = "CampaignCancelled"
ABORTED = "CampaignAborted"

CAMPAIGN_TABLE: dict[str, dict[str, str]] = {
    REQUEST_PENDING: {"accepted": QUEUED, "rejected": REQUEST_FAILED, "cancel": CANCELLED},
    QUEUED: {"checked": PRE_SCHEDULED, "cancel": CANCELLED},
    PRE_SCHEDULED: {"start": SCHEDULED, "fail": NOT_SCHEDULED, "cancel": CANCELLED},
    SCHEDULED: {"end": ENDED, "cancel": ABORTED},
    REQUEST_FAILED: {},
    NOT_SCHEDULED: {},
    ENDED: {},
    CANCELLED: {},
    ABORTED: {},
}
CAMPAIGN_FINAL = frozenset(state for state, cells in CAMPAIGN_TABLE.items() if not cells)

# -- device in a campaign ---
NO_DATA = "NoDeviceDataFromNetwork"
DATA = "ReceivedDeviceDataFromNetwork"
PENDING = "UpgradePending"
STARTED = "UpgradeScheduled"
FAULT = "RequestToFotaServerFailed"
SUCCESS = "UpgradeSuccess"
FAILED = "UpgradeFailed"
REJECTED = "DeviceRejected"

DEVICE_TABLE: dict[str, dict[str, str]] = {
    NO_DATA: {
        "reachable": DATA,
        "reject": REJECTED,
        "cancel": CANCELLED,
        "abort": ABORTED,
        "end": FAILED,
    },
    DATA: {
        "plan": PENDING,
        "unreachable": NO_DATA,
        "reject": REJECTED,
        "cancel": CANCELLED,
        "abort": ABORTED,
        "end": FAILED,
    },
    PENDING: {
        "start": STARTED,
        "unreachable": NO_DATA,
        "cancel": CANCELLED,
        "abort": ABORTED,
        "end": FAILED,
    },
    STARTED: {
        "unplace": PENDING,
        "unreachable": NO_DATA,
        "cancel": CANCELLED,
        "succeed": SUCCESS,
        "fail": FAILED,
        "retry": PENDING,
        "fault": FAULT,
        "abort": ABORTED,
        "end": FAILED,
    },
    FAULT: {"plan": PENDING, "cancel": CANCELLED, "abort": ABORTED, "end": FAILED},
    ABORTED: {"succeed": SUCCESS, "fail": FAILED},
    SUCCESS: {},
    FAILED: {},
    REJECTED: {},
    CANCELLED: {},
}
DEVICE_FINAL = frozenset({SUCCESS, FAILED, REJECTED, CANCELLED, ABORTED})

# -- the same in v2: devices come by themselves, so nothing is known of their reachability ---
ACCEPTED = "Accepted"

CAMPAIGN_TABLE_V2: dict[str, dict[str, str]] = {
    REQUEST_PENDING: {
        "accepted": QUEUED,
        "rejected": REQUEST_FAILED,
        "start": SCHEDULED,
        "fail": NOT_SCHEDULED,
        "cancel": CANCELLED,
    },
    QUEUED: {"start": SCHEDULED, "fail": NOT_SCHEDULED, "cancel": CANCELLED},
    SCHEDULED: {"end": ENDED, "cancel": ABORTED},
    REQUEST_FAILED: {},
    NOT_SCHEDULED: {},
    ENDED: {},
    CANCELLED: {},
    ABORTED: {},
}

DEVICE_TABLE_V2: dict[str, dict[str, str]] = {
    ACCEPTED: {
        "plan": PENDING,
        "reject": REJECTED,
        "cancel": CANCELLED,
        "abort": ABORTED,
        "end": FAILED,
    },
    PENDING: {
        "start": PENDING,
        "cancel": CANCELLED,
        "succeed": SUCCESS,
        "fail": FAILED,
        "retry": PENDING,
        "abort": ABORTED,
        "end": FAILED,
    },
    ABORTED: {"succeed": SUCCESS, "fail": FAILED},
    SUCCESS: {},
    FAILED: {},
    REJECTED: {},
    CANCELLED: {},
}

# -- the same in v1. Its clients cannot abort an upgrade that has begun (400); who runs us can ---
CAMPAIGN_TABLE_V1: dict[str, dict[str, str]] = {
    REQUEST_PENDING: {"accepted": QUEUED, "rejected": REQUEST_FAILED, "cancel": CANCELLED},
    QUEUED: {"start": SCHEDULED, "fail": NOT_SCHEDULED, "cancel": CANCELLED},
    SCHEDULED: {"end": ENDED, "cancel": ABORTED},
    REQUEST_FAILED: {},
    NOT_SCHEDULED: {},
    ENDED: {},
    CANCELLED: {},
    ABORTED: {},
}

DEVICE_TABLE_V1: dict[str, dict[str, str]] = {
    ACCEPTED: {
        "plan": PENDING,
        "reject": REJECTED,
        "cancel": CANCELLED,
        "abort": ABORTED,
        "end": FAILED,
    },
    PENDING: {
        "start": PENDING,
        "cancel": CANCELLED,
        "succeed": SUCCESS,
        "fail": FAILED,
        "retry": PENDING,
        "abort": ABORTED,
        "end": FAILED,
    },
    ABORTED: {"succeed": SUCCESS, "fail": FAILED},
    SUCCESS: {},
    FAILED: {"requeue": PENDING},
    REJECTED: {},
    CANCELLED: {},
}

# -- position of the attempt ---
POSITION_TABLE: dict[Position, dict[str, Position]] = {
    Position.WAITING: {"offer": Position.OFFERED, "finish": Position.DONE},
    Position.OFFERED: {
        "progress": Position.DOWNLOADING,
        "downloaded": Position.DOWNLOADED,
        "retry": Position.WAITING,
        "finish": Position.DONE,
    },
    Position.DOWNLOADING: {
        "downloaded": Position.DOWNLOADED,
        "retry": Position.WAITING,
        "finish": Position.DONE,
    },
    Position.DOWNLOADED: {
        "execute": Position.EXECUTE,
        "retry": Position.WAITING,
        "finish": Position.DONE,
    },
    Position.EXECUTE: {"installing": Position.INSTALLING, "finish": Position.DONE},
    Position.INSTALLING: {"finish": Position.DONE},
    Position.DONE: {"requeue": Position.WAITING},
}


def next_state(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> S:
    """The cell of `table`, or IllegalTransition."""
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(f"no transition from {state} on {event}") from None
