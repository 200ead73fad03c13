"""What each version of the API says about how an attempt ended: one literal table.

v1 has one text for every failure, whatever the cause [documented by an example]. v2 names the step
that failed, in words of its documentation. v3 gives a reason for each; its success text and the
text of UNREACHABLE are public, the others are ours, because the public table ends before the
failures.
"""

from __future__ import annotations

from typing import NamedTuple

from tools.backend.faces.base import Ending

__all__ = ["REASONS", "RETRYABLE", "Reasons"]


class Reasons(NamedTuple):
    """The reason texts of one ending."""

    v1: str
    v2: str
    v3: str


V1_SUCCESS = "Upgrade completed successfully"
V1_FAILED = "Firmware update failed to device"

# Public words of v2, complete; what is not in this list is `unknown device error` or `other`.
V2_SUCCESS = "DownloadInstallSucceeded"
V2_SILENT = "RovaClientDidNotReportStatus"
V2_DOWNLOAD = "RovaClientDownloadFailed"
V2_INSTALL = "RovaClientDownloadedInstallFailed"
V2_NOT_INSTALLED = "RovaClientDownloadNotInstalledYet"
V2_UNKNOWN = "unknown device error"

# Faults in the transfer are the download's in v2, all later ones the installation's: an image that
# arrived and was refused is an installation that failed.
REASONS: dict[Ending, Reasons] = {
    Ending.SUCCESS: Reasons(V1_SUCCESS, V2_SUCCESS, "Upgrade completed successfully"),
    Ending.CANCELLED: Reasons(
        V1_FAILED, V2_DOWNLOAD, "The device reports the upgrade was cancelled."
    ),
    Ending.DEFERRED: Reasons(V1_FAILED, V2_NOT_INSTALLED, "The device deferred the upgrade."),
    Ending.NO_SPACE: Reasons(
        V1_FAILED, V2_DOWNLOAD, "The device reports not enough flash memory for the firmware."
    ),
    Ending.OUT_OF_MEMORY: Reasons(
        V1_FAILED, V2_DOWNLOAD, "The device ran out of memory during the download."
    ),
    Ending.CONNECTION_LOST: Reasons(
        V1_FAILED, V2_DOWNLOAD, "The connection was lost during the download."
    ),
    Ending.INTEGRITY: Reasons(
        V1_FAILED, V2_INSTALL, "The device reports the integrity check of the firmware failed."
    ),
    Ending.SIGNATURE: Reasons(
        V1_FAILED, V2_INSTALL, "The device reports the signature of the firmware is not trusted."
    ),
    Ending.WRONG_DEVICE: Reasons(
        V1_FAILED, V2_INSTALL, "The device reports the firmware is for another device."
    ),
    Ending.DOWNGRADE: Reasons(
        V1_FAILED, V2_INSTALL, "The device refuses a firmware older than its own."
    ),
    Ending.DEPENDENCY: Reasons(
        V1_FAILED, V2_INSTALL, "The device reports an unmet dependency of the firmware."
    ),
    Ending.UNSUPPORTED_PACKAGE: Reasons(
        V1_FAILED, V2_INSTALL, "The device reports an unsupported package type."
    ),
    Ending.BAD_URI: Reasons(V1_FAILED, V2_DOWNLOAD, "The device reports an invalid package URI."),
    Ending.UNSUPPORTED_PROTOCOL: Reasons(
        V1_FAILED, V2_DOWNLOAD, "The device does not support the download protocol."
    ),
    Ending.INSTALL_FAILED: Reasons(
        V1_FAILED, V2_INSTALL, "The device reports the installation failed."
    ),
    Ending.REVERTED: Reasons(
        V1_FAILED, V2_INSTALL, "The device returned to its previous firmware."
    ),
    Ending.UNREACHABLE: Reasons(
        V1_FAILED, V2_SILENT, "The network reports the device is not reachable."
    ),
    Ending.TIMEOUT: Reasons(V1_FAILED, V2_SILENT, "The device did not answer in time."),
    Ending.REFUSED: Reasons(V1_FAILED, V2_UNKNOWN, "The device refused the request."),
    Ending.NONSENSE: Reasons(
        V1_FAILED, V2_UNKNOWN, "The device sent an answer that the protocol does not allow."
    ),
    Ending.WRONG_VERSION: Reasons(
        V1_FAILED,
        V2_INSTALL,
        "The device reports success but does not run the expected version.",
    ),
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
