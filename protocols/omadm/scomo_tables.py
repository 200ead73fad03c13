"""SCOMO 1.0 as tables: operations, what they do to a component, and result codes.

A component is a software package or a configuration file. The device has no file system: it fetches
a component, checks it, and keeps what its inventory says of it. Status of a node is what its last
operation left (`STATUS`); while one runs the node shows the progressing value.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from agent.outcome import Outcome
from protocols.omadm.fumo_tables import Trouble

__all__ = ["ALERT_TYPE", "OPERATIONS", "RESULTS", "Kind", "Operation", "Plan", "result_code"]

ALERT_TYPE = "urn:oma:at:scomo:1.0:OperationComplete"

IDLE = "10"
INACTIVE = "10"
ACTIVE = "20"
DELIVERED = "10"
INSTALLED = "20"


class Kind(enum.Enum):
    """Where a node with operations stands, below the management object."""

    DOWNLOAD = "Download"
    DELIVERED = "Inventory/Delivered"
    DEPLOYED = "Inventory/Deployed"


class Operation(enum.Enum):
    """The value is the node's name."""

    DOWNLOAD = "Download"
    DOWNLOAD_INSTALL = "DownloadInstall"
    DOWNLOAD_INSTALL_INACTIVE = "DownloadInstallInactive"
    INSTALL = "Install"
    INSTALL_INACTIVE = "InstallInactive"
    REMOVE = "Remove"
    ACTIVATE = "Activate"
    DEACTIVATE = "Deactivate"


class Plan(NamedTuple):
    """What an operation does, and what Status its node shows in the course of it."""

    fetches: bool = False
    delivers: bool = False
    """The component is in Delivered afterwards."""
    deploys: str | None = None
    """It is in Deployed afterwards, in this State."""
    removes: bool = False
    progressing: str = "30"
    done: str = IDLE
    failed: str = "20"


OPERATIONS: dict[Kind, dict[Operation, Plan]] = {
    Kind.DOWNLOAD: {
        Operation.DOWNLOAD: Plan(fetches=True, delivers=True, done="40"),
        Operation.DOWNLOAD_INSTALL: Plan(fetches=True, delivers=True, deploys=ACTIVE, done="40"),
        Operation.DOWNLOAD_INSTALL_INACTIVE: Plan(
            fetches=True, delivers=True, deploys=INACTIVE, done="40"
        ),
    },
    Kind.DELIVERED: {
        Operation.INSTALL: Plan(deploys=ACTIVE, progressing="40", failed="50"),
        Operation.INSTALL_INACTIVE: Plan(deploys=INACTIVE, progressing="40", failed="50"),
        Operation.REMOVE: Plan(removes=True),
    },
    Kind.DEPLOYED: {
        Operation.REMOVE: Plan(removes=True),
        Operation.ACTIVATE: Plan(deploys=ACTIVE, progressing="50", failed="40"),
        Operation.DEACTIVATE: Plan(deploys=INACTIVE, progressing="70", failed="60"),
    },
}

RESULTS: dict[Outcome, int | None] = {
    Outcome.SUCCESS: 1200,
    Outcome.CANCELLED: 1401,
    Outcome.DEFERRED: None,
    Outcome.NO_SPACE: 1404,
    Outcome.OUT_OF_MEMORY: 1406,
    Outcome.CONNECTION_LOST: 1402,
    Outcome.INTEGRITY: 1407,
    Outcome.SIGNATURE: 1407,
    Outcome.WRONG_DEVICE: 1407,
    Outcome.DOWNGRADE: 1407,
    Outcome.DEPENDENCY: 1407,
    Outcome.UNSUPPORTED_PACKAGE: 1407,
    Outcome.BAD_URI: 1402,
    Outcome.UNSUPPORTED_PROTOCOL: 1402,
    Outcome.INSTALL_FAILED: 1405,
    Outcome.REVERTED: 1405,
}
"""The result code of every outcome; None: it is not over. Only 1200 and 1405 are sure, the others
are a secondary source's [unverified]."""

AUTHENTICATION = 1403
REMOVE_FAILED = 1408
ACTIVATE_FAILED = 1409
DEACTIVATE_FAILED = 1410


def result_code(outcome: Outcome, trouble: Trouble = Trouble.NONE) -> int:
    """Of an operation that ended in `outcome`."""
    if trouble is Trouble.AUTHENTICATION and outcome in (
        Outcome.BAD_URI,
        Outcome.CONNECTION_LOST,
    ):
        return AUTHENTICATION
    code = RESULTS[outcome]
    assert code is not None  # nothing here is put off
    return code
