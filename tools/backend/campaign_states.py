"""The state machines of a campaign and of a device in a campaign, as literal tables.

Theory of operation
-------------------
*Campaign* (names of API v3, lifecycle of the public documentation)::

    RequestPending -> RequestQueued -> PreScheduled -> Scheduled -> Ended
         |                 `--> Cancelled <--'             `--> Aborted
         `-> RequestFailed

*Device in a campaign*: the status that a report shows. A device is looked for
(`NoDeviceDataFromNetwork`), found (`ReceivedDeviceDataFromNetwork`), waits for its turn
(`UpgradePending`), has its turn (`UpgradeScheduled`), and ends. A failed attempt with an ending
that may pass goes back to `UpgradePending`. An aborted device that was already installing keeps
`CampaignAborted` until its real result replaces it.

*Position*: the attempt of a device that has its turn. From `EXECUTE` on there is no way back to
`WAITING`: a device that may have been told to install is never started again by this campaign.

A missing cell is the error: `IllegalTransition`, with the state and the event in its text, and the
state unchanged.
"""

from __future__ import annotations

from typing import TypeVar

from tools.backend.errors import BackendError
from tools.backend.faces.base import Ending, Position

__all__ = [
    "CAMPAIGN_FINAL",
    "CAMPAIGN_TABLE",
    "DEVICE_FINAL",
    "DEVICE_TABLE",
    "POSITION_TABLE",
    "REASONS",
    "RETRYABLE",
    "IllegalTransition",
    "next_state",
]


S = TypeVar("S")


class IllegalTransition(BackendError):
    """An event that the table has no cell for."""


# -- campaign ---
REQUEST_PENDING = "CampaignRequestPending"
REQUEST_FAILED = "CampaignRequestFailed"
QUEUED = "CampaignRequestQueued"
PRE_SCHEDULED = "CampaignPreScheduled"
SCHEDULED = "CampaignScheduled"
ENDED = "CampaignEnded"
CANCELLED = "CampaignCancelled"
ABORTED = "CampaignAborted"

CAMPAIGN_TABLE: dict[str, dict[str, str]] = {
    REQUEST_PENDING: {"accepted": QUEUED, "rejected": REQUEST_FAILED, "cancel": CANCELLED},
    QUEUED: {"checked": PRE_SCHEDULED, "cancel": CANCELLED},
    PRE_SCHEDULED: {"start": SCHEDULED, "cancel": CANCELLED},
    SCHEDULED: {"end": ENDED, "cancel": ABORTED},
    REQUEST_FAILED: {},
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
    NO_DATA: {"reachable": DATA, "cancel": CANCELLED, "abort": ABORTED, "end": FAILED},
    DATA: {
        "plan": PENDING,
        "unreachable": NO_DATA,
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
        "succeed": SUCCESS,
        "fail": FAILED,
        "retry": PENDING,
        "fault": FAULT,
        "abort": ABORTED,
        "end": FAILED,
    },
    FAULT: {"plan": PENDING, "abort": ABORTED, "end": FAILED},
    ABORTED: {"succeed": SUCCESS, "fail": FAILED},
    SUCCESS: {},
    FAILED: {},
    REJECTED: {},
    CANCELLED: {},
}
DEVICE_FINAL = frozenset({SUCCESS, FAILED, REJECTED, CANCELLED, ABORTED})

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
    Position.DONE: {},
}

RETRYABLE = frozenset(
    {
        Ending.CONNECTION_LOST,
        Ending.TIMEOUT,
        Ending.UNREACHABLE,
        Ending.OUT_OF_MEMORY,
        Ending.DEFERRED,
    }
)
"""Endings that another attempt may cure; every other one is final. Ours."""

# Reason texts of API v3. The success text is the public example; the rest is ours, because the
# public table ends before the failures.
REASONS: dict[Ending, str] = {
    Ending.SUCCESS: "Upgrade completed successfully",
    Ending.CANCELLED: "The device reports the upgrade was cancelled.",
    Ending.DEFERRED: "The device deferred the upgrade.",
    Ending.NO_SPACE: "The device reports not enough flash memory for the firmware.",
    Ending.OUT_OF_MEMORY: "The device ran out of memory during the download.",
    Ending.CONNECTION_LOST: "The connection was lost during the download.",
    Ending.INTEGRITY: "The device reports the integrity check of the firmware failed.",
    Ending.SIGNATURE: "The device reports the signature of the firmware is not trusted.",
    Ending.WRONG_DEVICE: "The device reports the firmware is for another device.",
    Ending.DOWNGRADE: "The device refuses a firmware older than its own.",
    Ending.DEPENDENCY: "The device reports an unmet dependency of the firmware.",
    Ending.UNSUPPORTED_PACKAGE: "The device reports an unsupported package type.",
    Ending.BAD_URI: "The device reports an invalid package URI.",
    Ending.UNSUPPORTED_PROTOCOL: "The device does not support the download protocol.",
    Ending.INSTALL_FAILED: "The device reports the installation failed.",
    Ending.REVERTED: "The device returned to its previous firmware.",
    Ending.UNREACHABLE: "The network reports the device is not reachable.",
    Ending.TIMEOUT: "The device did not answer in time.",
    Ending.REFUSED: "The device refused the request.",
    Ending.NONSENSE: "The device sent an answer that the protocol does not allow.",
    Ending.WRONG_VERSION: "The device reports success but does not run the expected version.",
}


def next_state(table: dict[S, dict[str, S]], state: S, event: str) -> S:
    """The cell of `table`, or IllegalTransition."""
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(f"no transition from {state} on {event}") from None
