"""JSON shapes of API v1, named as the official SDK names them."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, ConfigDict, Field, StrictStr
from pydantic.json_schema import SkipJsonSchema

from tools.backend.rest.fields import Date, DeviceIds, Shape, Text


class Firmware(Shape):
    firmwareName: str
    participantName: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    fromVersion: str
    toVersion: str
    clientType: str
    """Since 2.10; not in the SDK."""


class DeviceListQueryItem(Shape):
    deviceId: str
    mdn: str
    model: str
    make: str
    firmware: str
    fotaEligible: bool
    licenseAssigned: bool
    upgradeTime: str
    clientType: str
    """Since 2.10; not in the SDK."""
    status: str
    """Of the line of service, since 2.9; not in the SDK."""


class DeviceListQueryResult(Shape):
    accountName: str
    hasMoreData: bool
    lastSeenDeviceId: int
    deviceList: list[DeviceListQueryItem]


class FirmwareUpgradeRequest(Shape):
    # What is missing of the last two is answered with the API's own words and not with ours, so
    # they are optional here and required in the document.
    model_config = ConfigDict(
        json_schema_extra={
            "required": ["accountName", "firmwareName", "firmwareTo", "startDate", "deviceList"]
        }
    )

    accountName: StrictStr
    firmwareName: Text
    firmwareTo: StrictStr
    startDate: Date | SkipJsonSchema[None] = None
    endDate: Date | None = None
    deviceList: DeviceIds | SkipJsonSchema[None] = None


class FirmwareUpgradeDeviceListItem(Shape):
    deviceId: str
    status: str
    resultReason: str


class FirmwareUpgrade(Shape):
    id: str
    accountName: str
    firmwareName: str
    firmwareTo: str
    startDate: str
    endDate: str
    status: str
    deviceList: list[FirmwareUpgradeDeviceListItem]


class FirmwareUpgradeChangeRequest(Shape):
    model_config = ConfigDict(json_schema_extra={"required": ["type", "deviceList"]})

    type: Literal["append", "remove"]
    # The documentation's example misspells the key.
    deviceList: DeviceIds | SkipJsonSchema[None] = Field(
        None, validation_alias=AliasChoices("deviceList", "devicelist")
    )


class V1DeviceListItem(Shape):
    deviceId: str
    status: str
    Reason: str


class FirmwareUpgradeChangeResult(Shape):
    accountName: str
    id: str
    deviceList: list[V1DeviceListItem]


class FotaV1SuccessResult(Shape):
    success: bool


class UpgradeListQueryResult(Shape):
    hasMoreFlag: bool
    lastSeenUpgradeId: int
    reportList: list[FirmwareUpgrade]


class DeviceUpgradeHistory(Shape):
    deviceId: str
    id: str
    accountName: str
    firmwareFrom: str
    firmwareTo: str
    startDate: str
    upgradeStartTime: str
    status: str
    reason: str
