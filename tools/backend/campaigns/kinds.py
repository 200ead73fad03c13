"""The kinds of campaign: what one engine needs to know to run those of every API version.

A kind names its tables, its words and its rules; the engine and the book ask it and never look at a
version. Kinds are stored by name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tools.backend.campaigns import states
from tools.backend.campaigns.reasons import REASONS, V1_FAILED, V2_NOT_INSTALLED, V2_SILENT
from tools.backend.faces.base import Ending, Position
from tools.backend.timing import PILOT_SIZE, rfc822

if TYPE_CHECKING:
    from tools.backend.campaigns.records import Member

__all__ = [
    "FILES_V2",
    "FILE_V2",
    "FILE_V2_OMADM",
    "FIRMWARE_V1",
    "FIRMWARE_V1_LWM2M",
    "FIRMWARE_V3",
    "KINDS",
    "SOFTWARE_V2",
    "CampaignKind",
    "Lock",
    "Wording",
]


class Lock(enum.StrEnum):
    """What a device can be in only one unfinished campaign of; over all API versions."""

    FIRMWARE = "firmware"
    FILE = "file"


class Wording(Protocol):
    """The reason texts of a device in a campaign."""

    accepted: str
    reachable: str
    unreachable: str
    not_found: str
    already: str
    wrong_make: str
    not_eligible: str
    not_active: str
    no_licences: str
    crowded: str
    """No turn is expected before the campaign ends."""
    no_package: str
    """The campaign could not be scheduled."""
    no_pilot: str
    """It is one more than a pilot may have."""

    def planned(self, start: float) -> str:
        """Its turn is expected at `start`."""

    def begun(self, now: float, end: float) -> str:
        """It has been asked to start."""

    def fault(self, again: float) -> str:
        """We could not ask it."""

    def scheduled(self, start: float, end: float) -> str:
        """It has a place, and is asked to start at `start`."""

    def expired(self, member: Member) -> str:
        """The campaign ended before it did."""


class WordingV3:
    """API v3. Texts of the public table where it has one."""

    accepted = REASONS[Ending.UNREACHABLE].v3
    unreachable = REASONS[Ending.UNREACHABLE].v3
    reachable = "Reachability information received from the network."
    not_found = "Device Not Found."
    already = (
        "Device scheduled for firmware upgrade previously, needs to be completed before another "
        "upgrade is scheduled."
    )
    wrong_make = "Device make or model does not meet the prerequisite of the firmware."
    not_eligible = "Device is not eligible for this upgrade."
    not_active = "Device is not active or not connected."
    no_licences = "Not enough licenses are available for the devices of the campaign."
    crowded = "Upgrade pending, no place in the cell is expected before the campaign ends."
    no_package = "The upgrade could not be scheduled, its firmware is not available."
    no_pilot = f"More than {PILOT_SIZE} devices need a pilot campaign that has succeeded."

    def planned(self, start: float) -> str:
        return (
            f"Upgrade pending, the device upgrade is estimated to be scheduled for {rfc822(start)}"
        )

    def scheduled(self, start: float, end: float) -> str:
        return (
            f"The upgrade is scheduled to begin on {rfc822(start)}, "
            f"and the estimated completion is {rfc822(end)}."
        )

    begun = scheduled

    def fault(self, again: float) -> str:
        return f"Request to FOTA server failed, estimated retry time on {rfc822(again)}."

    def expired(self, member: Member) -> str:
        if member.status == states.NO_DATA:
            return (
                "The network does not report this device is reachable, no retry available, "
                f"try count {member.attempts}."
            )
        if member.attempts:
            return f"The campaign ended before the upgrade did, try count {member.attempts}."
        return "The campaign ended before a place in the cell of the device was free, try count 0."


class WordingV2:
    """API v2. The public table is complete for rejections and failures; the rest is ours."""

    accepted = "Device passed all checks."
    unreachable = accepted
    reachable = accepted
    not_found = "Device not found."
    already = WordingV3.already
    wrong_make = "Device make or model does not meet the prerequisite."
    not_eligible = "Device is not eligible, it is not FOTA capable over HTTP."
    not_active = WordingV3.not_active
    no_licences = WordingV3.no_licences
    crowded = accepted
    no_package = "other"
    no_pilot = WordingV3.no_pilot

    def planned(self, start: float) -> str:
        return "The device takes the upgrade at a check-in."

    def begun(self, now: float, end: float) -> str:
        return "The device has taken the upgrade."

    def scheduled(self, start: float, end: float) -> str:
        return self.planned(start)

    def fault(self, again: float) -> str:
        return "internal error"

    def expired(self, member: Member) -> str:
        if member.position == Position.DOWNLOADED:
            return V2_NOT_INSTALLED
        if member.position == Position.WAITING and member.ending is not None:
            return REASONS[member.ending].v2
        return V2_SILENT


class WordingV2Notified(WordingV2):
    """API v2, devices that are notified."""

    not_eligible = "Device is not eligible, it is not FOTA capable over OMA-DM."

    def planned(self, start: float) -> str:
        return "The device is notified."

    def begun(self, now: float, end: float) -> str:
        return "The device has been notified."


class WordingV1(WordingV2):
    """API v1. Few of its texts are public; the rest is ours."""

    not_found = "Device not found."
    wrong_make = WordingV3.wrong_make
    not_eligible = "Device is not eligible for service."
    no_package = V1_FAILED

    def planned(self, start: float) -> str:
        return "The device is notified."

    def begun(self, now: float, end: float) -> str:
        return "The device has been notified."

    def expired(self, member: Member) -> str:
        return V1_FAILED


@dataclass(frozen=True, slots=True)
class CampaignKind:
    """One kind of campaign."""

    name: str
    version: int
    """Of the API whose clients see such campaigns."""
    lock: Lock
    protocols: frozenset[str]
    campaign_table: Mapping[str, Mapping[str, str]]
    device_table: Mapping[str, Mapping[str, str]]
    accepted: str
    """The first status of a device."""
    preparation: tuple[str, ...]
    """Events between the request and the start."""
    queued_today: bool
    """Whether one that starts today goes through the preparation as well."""
    device_driven: bool
    """Devices come by themselves and install by themselves; nothing can be sent to them."""
    wording: Wording
    reasons: Mapping[Ending, str]
    plan: str
    """How its devices are tried, unless the account says otherwise: a name of `plans.PLANS`."""
    wrong_version: str = ""
    """Why a device is rejected that runs another version than `versionFrom`. Empty: it is not, and
    refuses the package itself if it must; the public tables of v1 and v3 name no such cause."""

    def __repr__(self) -> str:
        return f"<CampaignKind {self.name}>"


def _v2(name: str, lock: Lock, wrong_version: str = "") -> CampaignKind:
    return CampaignKind(
        name=name,
        version=2,
        lock=lock,
        protocols=frozenset({"HTTP"}),
        campaign_table=states.CAMPAIGN_TABLE_V2,
        device_table=states.DEVICE_TABLE_V2,
        accepted=states.ACCEPTED,
        preparation=("accepted",),
        queued_today=False,
        device_driven=True,
        wording=WordingV2(),
        reasons={ending: reasons.v2 for ending, reasons in REASONS.items()},
        plan="pull",
        wrong_version=wrong_version,
    )


FIRMWARE_V1 = CampaignKind(
    name="v1 firmware",
    version=1,
    lock=Lock.FIRMWARE,
    protocols=frozenset({"OMADM"}),
    campaign_table=states.CAMPAIGN_TABLE_V1,
    device_table=states.DEVICE_TABLE_V1,
    accepted=states.ACCEPTED,
    preparation=("accepted",),
    queued_today=True,
    device_driven=False,
    wording=WordingV1(),
    reasons={ending: reasons.v1 for ending, reasons in REASONS.items()},
    plan="network_aware",
)
FIRMWARE_V1_LWM2M = replace(
    FIRMWARE_V1, name="v1 LwM2M", protocols=frozenset({"LWM2M"}), plan="nightly"
)
FIRMWARE_V3 = CampaignKind(
    name="v3 firmware",
    version=3,
    lock=Lock.FIRMWARE,
    protocols=frozenset({"LWM2M"}),
    campaign_table=states.CAMPAIGN_TABLE,
    device_table=states.DEVICE_TABLE,
    accepted=states.NO_DATA,
    preparation=("accepted", "checked"),
    queued_today=True,
    device_driven=False,
    wording=WordingV3(),
    reasons={ending: reasons.v3 for ending, reasons in REASONS.items()},
    plan="windows",
)
SOFTWARE_V2 = _v2(
    "v2 software", Lock.FIRMWARE, "Current software version does not meet the prerequisite."
)
# A configuration file has no prerequisite version [documented].
FILE_V2 = _v2("v2 file", Lock.FILE)
# The same over OMA-DM, where the server begins.
FILE_V2_OMADM = replace(
    FILE_V2,
    name="v2 file OMA-DM",
    protocols=frozenset({"OMADM"}),
    device_driven=False,
    wording=WordingV2Notified(),
    plan="notified_files",
)

FILES_V2 = {protocol: kind for kind in (FILE_V2, FILE_V2_OMADM) for protocol in kind.protocols}
"""By protocol."""

KINDS = {
    kind.name: kind
    for kind in (
        FIRMWARE_V1,
        FIRMWARE_V1_LWM2M,
        FIRMWARE_V3,
        SOFTWARE_V2,
        FILE_V2,
        FILE_V2_OMADM,
    )
}
