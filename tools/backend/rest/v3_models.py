"""JSON shapes of API v3, named as the official SDK names them. Unset optional fields are absent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, StrictBool, StrictStr

from tools.backend.rest.fields import AskedWindows, Date, DeviceId, DeviceIds, Shape, Text

MAX_LISTED = 1_000
"""Devices in one question about them [documented]."""

CampaignProtocol = Literal["LWM2M", "OMA", "OMADM", "OMD-DM", "HTTP"]


class V3TimeWindow(Shape):
    startTime: int
    endTime: int


class V3ChangeCampaignDatesRequest(Shape):
    """Windows that are left out stay as they are."""

    startDate: Date
    endDate: Date
    campaignTimeWindowList: AskedWindows | None = None


class CampaignFirmwareUpgrade(Shape):
    campaignName: Text | None = None
    firmwareName: Text
    firmwareFrom: StrictStr
    firmwareTo: StrictStr
    # LWM2M is the only one that can be served; the others are words of the API.
    protocol: CampaignProtocol = "LWM2M"
    startDate: Date
    endDate: Date
    campaignTimeWindowList: AskedWindows | None = None
    deviceList: DeviceIds
    autoAssignLicenseFlag: StrictBool
    autoAddDevicesFlag: StrictBool


class FirmwareCampaign(Shape):
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


class V3CampaignMetaInfo(FirmwareCampaign):
    """The same in a history."""


class Campaign(FirmwareCampaign):
    autoAssignLicenseFlag: bool
    autoAddDevicesFlag: bool


class V3AddOrRemoveDeviceRequest(Shape):
    # The SDK's key; one page spells it in lower case, and that is read too.
    change: Literal["append", "remove"] = Field(validation_alias=AliasChoices("Type", "type"))
    deviceList: DeviceIds


class V3DeviceListItem(Shape):
    deviceId: str
    status: str
    Reason: str


class V3AddOrRemoveDeviceResult(Shape):
    accountName: str
    campaignId: str
    deviceList: list[V3DeviceListItem]


class FotaV3SuccessResult(Shape):
    success: bool


class V3CampaignHistory(Shape):
    hasMoreData: bool
    lastSeenCampaignId: str
    campaignList: list[V3CampaignMetaInfo]


class V3DeviceStatus(Shape):
    deviceId: str
    status: str
    resultReason: str
    updatedTime: str
    recentAttemptTime: str | None = None
    nextAttemptTime: str | None = None


class V3CampaignDevice(Shape):
    totalDevice: int
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V3DeviceStatus]


class DeviceFirmwareUpgrade(Shape):
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


class FirmwarePackage(Shape):
    firmwareName: str
    firmwareFrom: str
    firmwareTo: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    protocol: str


class _ListedDevices(Shape):
    deviceList: Annotated[list[DeviceId], Field(max_length=MAX_LISTED)]


class FirmwareIMEI(_ListedDevices):
    """Devices whose firmware is to be read."""


class DeviceIMEI(_ListedDevices):
    """Devices that are to be shown."""


class DeviceFirmwareVersion(Shape):
    status: str
    reason: str
    deviceId: str
    firmwareVersion: str
    firmwareVersionUpdateTime: str | None = None


class DeviceFirmwareList(Shape):
    accountName: str
    # The misspelt key is the SDK's.
    deviceFirmwarVersionList: list[DeviceFirmwareVersion]


class DeviceFirmwareVersionUpdateResult(Shape):
    accountName: str
    requestId: str


class V3SoftwareInfo(Shape):
    name: str
    version: str
    upgradeTime: str


class V3AccountDevice(Shape):
    deviceId: str
    mdn: str
    model: str
    make: str
    firmware: str
    fotaEligible: bool
    status: str
    licenseAssigned: bool
    protocol: str
    softwareList: list[V3SoftwareInfo]
    fileList: list[V3SoftwareInfo]
    createTime: str
    upgradeTime: str
    updateTime: str
    refreshTime: str


class V3AccountDeviceList(Shape):
    accountName: str
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V3AccountDevice]


class V3Device(Shape):
    """A device that was asked for by id; one that is not found has no more than the first three."""

    deviceId: str
    requestStatus: str | None = None
    resultReason: str | None = None
    mdn: str | None = None
    model: str | None = None
    make: str | None = None
    firmware: str | None = None
    fotaEligible: bool | None = None
    status: str | None = None
    licenseAssigned: bool | None = None
    protocol: str | None = None
    softwareList: list[V3SoftwareInfo] | None = None
    fileList: list[V3SoftwareInfo] | None = None
    createTime: str | None = None
    statusTime: str | None = None
    updateTime: str | None = None
    refreshTime: str | None = None
    lastConnectionTime: str | None = None


class DeviceListResult(Shape):
    accountName: str
    deviceCount: int
    deviceList: list[V3Device]


class Login(Shape):
    username: StrictStr
    password: StrictStr
