"""JSON shapes of API v3, named as the official SDK names them. Unset optional fields are absent."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

MAX_DEVICES = 100_000
"""Devices in one request; the documentation names no number."""

MAX_WINDOWS = 24
"""One window an hour; more cannot say anything else."""

Text = Annotated[StrictStr, Field(max_length=128)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore")


class V3TimeWindow(_Shape):
    # Integer hours; strings are accepted, because the SDK types them so elsewhere.
    startTime: int
    endTime: int


class CampaignFirmwareUpgrade(_Shape):
    campaignName: Text | None = None
    firmwareName: Text
    firmwareFrom: StrictStr
    firmwareTo: StrictStr
    protocol: StrictStr
    startDate: StrictStr
    endDate: StrictStr
    campaignTimeWindowList: Annotated[list[V3TimeWindow], Field(max_length=MAX_WINDOWS)] = []
    deviceList: Annotated[list[StrictStr], Field(max_length=MAX_DEVICES)]
    autoAssignLicenseFlag: StrictBool
    autoAddDevicesFlag: StrictBool


class FirmwareCampaign(_Shape):
    id: str
    accountName: str
    campaignName: str | None = None
    firmwareName: str
    firmwareFrom: str
    firmwareTo: str
    protocol: str
    make: str
    model: str
    startDate: str
    endDate: str
    campaignTimeWindowList: list[V3TimeWindow]
    status: str


class Campaign(FirmwareCampaign):
    autoAssignLicenseFlag: bool
    autoAddDevicesFlag: bool


class FotaV3SuccessResult(_Shape):
    success: bool


class V3CampaignHistory(_Shape):
    hasMoreData: bool
    lastSeenCampaignId: str
    campaignList: list[FirmwareCampaign]


class V3DeviceStatus(_Shape):
    deviceId: str
    status: str
    resultReason: str
    updatedTime: str
    recentAttemptTime: str | None = None
    nextAttemptTime: str | None = None


class V3CampaignDevice(_Shape):
    totalDevice: int
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V3DeviceStatus]


class DeviceFirmwareUpgrade(_Shape):
    deviceId: str
    campaignId: str
    accountName: str
    firmwareName: str
    firmwareFrom: str
    firmwareTo: str
    startDate: str
    status: str
    reason: str
    reportUpdatedTime: str


class FirmwarePackage(_Shape):
    firmwareName: str
    firmwareFrom: str
    firmwareTo: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    protocol: str


class V3AccountDevice(_Shape):
    deviceId: str
    mdn: str
    model: str
    make: str
    firmware: str
    fotaEligible: bool
    status: str
    licenseAssigned: bool
    protocol: str
    softwareList: list[dict[str, str]] = []
    fileList: list[dict[str, str]] = []
    createTime: str
    upgradeTime: str
    updateTime: str
    refreshTime: str


class V3AccountDeviceList(_Shape):
    accountName: str
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V3AccountDevice]


class Login(_Shape):
    username: StrictStr
    password: StrictStr
