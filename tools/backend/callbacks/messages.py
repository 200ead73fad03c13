"""What a callback message says.

Public is only this [documented]: there are two structures, that of v1 and that of v2; members that
do not apply are present and empty; v1 has `accountName`, `participantName`, `type`, `firmwareList`
and `upgradeScheduled`, and the types `upgradeScheduled` and `upgradeProgress`; since 2.9 no message
carries a user name or a password. **Everything else is ours**, made of the shapes that the reports
have: what `upgradeProgress` holds, the type `newFirmware`, and the whole of v2's and v3's messages.
A client of the real service must not be tested against them.

A status that changes twice within the second in which changes are gathered is in the message
twice, in order: every change is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tools.backend.callbacks.rows import Change
from tools.backend.campaigns import states
from tools.backend.campaigns.records import Campaign
from tools.backend.inventory import Firmware
from tools.backend.rest.v1_words import DEVICE_STATUSES, UPGRADE_STATUSES
from tools.backend.timing import date_text, rfc3339

MAX_DEVICES = 1_000
"""Devices in one message, as on a page of a report; ours."""

SCHEDULED, PROGRESS = "upgradeScheduled", "upgradeProgress"
"""Types of v1 [documented]."""

NEW_FIRMWARE = "newFirmware"
"""Ours, in v1 and in v3."""

CAMPAIGN_PROGRESS, NEW_SOFTWARE = "campaignProgress", "newSoftware"
"""Ours: `upgradeProgress` in the words of v2 and v3, and new firmware in those of v2."""

ANNOUNCED = {"OMADM": (1,), "LWM2M": (1, 3), "HTTP": (2,)}
"""Which versions of the API have firmware of a protocol in their catalogue."""

_time = lru_cache(maxsize=256)(rfc3339)


@dataclass(slots=True)
class Draft:
    """A message to be: a campaign in one status, and devices that have changed under it."""

    campaign: str
    status: str
    kind: str
    devices: list[Change] = field(default_factory=list)


def drafts_of(version: int, changes: Iterable[Change], now: Mapping[str, str]) -> list[Draft]:
    """Changes of one listener, in order, as messages. `now` has the status of each campaign at the
    end of them."""
    changes = list(changes)
    status = dict(now)
    for change in reversed(changes):
        if not change.device_id:
            status[change.campaign] = change.reason  # what it was before
    kind = PROGRESS if version == 1 else CAMPAIGN_PROGRESS
    drafts: list[Draft] = []
    current: dict[str, Draft] = {}
    for change in changes:
        campaign = change.campaign
        if not change.device_id:
            if version == 1 and (change.reason, change.status) == _ACCEPTED:
                drafts.append(Draft(campaign, change.status, SCHEDULED))
            status[campaign] = change.status
            draft = current[campaign] = Draft(campaign, change.status, kind)
            drafts.append(draft)
            continue
        found = current.get(campaign)
        if found is None or len(found.devices) == MAX_DEVICES:
            found = current[campaign] = Draft(campaign, status[campaign], kind)
            drafts.append(found)
        found.devices.append(change)
    return drafts


# The upgrade has passed its checks [documented: when `upgradeScheduled` is sent].
_ACCEPTED = (states.REQUEST_PENDING, states.QUEUED)


def body_of(version: int, account: str, draft: Draft, campaign: Campaign | None) -> str:
    """The JSON text of a message."""
    if version == 1:
        return _dumps(_v1(account, draft, campaign))
    devices = [_device(change, version) for change in draft.devices]
    return _dumps(
        _newer(version, account, draft.kind, draft.campaign, draft.status, devices=devices)
    )


def announcement_of(version: int, firmware: Firmware) -> tuple[str, str]:
    """Type and JSON text of the message that firmware is new in the catalogue."""
    account = firmware.account
    if version == 1:
        message = _v1_frame(account, NEW_FIRMWARE)
        message["firmwareList"] = [_firmware_v1(firmware)]
        return NEW_FIRMWARE, _dumps(message)
    kind = NEW_SOFTWARE if version == 2 else NEW_FIRMWARE
    item = _software(firmware) if version == 2 else _firmware_v3(firmware)
    return kind, _dumps(_newer(version, account, kind, "", "", firmware=[item]))


def _dumps(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


# -- v1 ---


def _v1_frame(account: str, kind: str) -> dict[str, Any]:
    return {
        "accountName": account,
        "participantName": account,
        "type": kind,
        "firmwareList": [],
        "upgradeScheduled": {},
        "upgradeProgress": {},
    }


def _v1(account: str, draft: Draft, campaign: Campaign | None) -> dict[str, Any]:
    message = _v1_frame(account, draft.kind)
    if draft.kind == SCHEDULED:
        message["upgradeScheduled"] = {
            "firmwareName": "" if campaign is None else campaign.package,
            "upgradeId": draft.campaign,
            "startDate": "" if campaign is None else campaign.start_date,
        }
    else:
        message["upgradeProgress"] = {
            "upgradeId": draft.campaign,
            "status": UPGRADE_STATUSES.get(draft.status, draft.status),
            "deviceList": [
                {
                    "deviceId": change.device_id,
                    "status": DEVICE_STATUSES.get(change.status, change.status),
                    "resultReason": change.reason,
                }
                for change in draft.devices
            ],
        }
    return message


def _firmware_v1(firmware: Firmware) -> dict[str, str]:
    return {
        "firmwareName": firmware.name,
        "participantName": firmware.account,
        "launchDate": rfc3339(firmware.launched),
        "releaseNote": firmware.release_note,
        "model": firmware.model,
        "make": firmware.make,
        "fromVersion": firmware.version_from,
        "toVersion": firmware.version_to,
    }


# -- v2 and v3 ---


def _newer(
    version: int,
    account: str,
    kind: str,
    campaign: str,
    status: str,
    *,
    devices: list[dict[str, str]] | None = None,
    firmware: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    return {
        "accountName": account,
        "type": kind,
        "campaignId": campaign,
        "status": status,
        "deviceList": devices or [],
        "softwareList" if version == 2 else "firmwareList": firmware or [],
    }


def _device(change: Change, version: int) -> dict[str, str]:
    """V2DeviceStatus, and V3DeviceStatus with its three instants."""
    device = {
        "deviceId": change.device_id,
        "status": change.status,
        "resultReason": change.reason,
    }
    if version == 3:
        device["updatedTime"] = _time(change.time)
        if change.recent_attempt is not None:
            device["recentAttemptTime"] = _time(change.recent_attempt)
        if change.next_attempt is not None:
            device["nextAttemptTime"] = _time(change.next_attempt)
    return device


def _software(firmware: Firmware) -> dict[str, str]:
    """SoftwarePackage, without the platform that only its catalogue has."""
    return {
        "softwareName": firmware.name,
        "launchDate": date_text(firmware.launched),
        "releaseNote": firmware.release_note,
        "model": firmware.model,
        "make": firmware.make,
        "distributionType": firmware.protocol,
    }


def _firmware_v3(firmware: Firmware) -> dict[str, str]:
    """FirmwarePackage."""
    return {
        "firmwareName": firmware.name,
        "firmwareFrom": firmware.version_from,
        "firmwareTo": firmware.version_to,
        "launchDate": rfc3339(firmware.launched),
        "releaseNote": firmware.release_note,
        "model": firmware.model,
        "make": firmware.make,
        "protocol": firmware.protocol,
    }
