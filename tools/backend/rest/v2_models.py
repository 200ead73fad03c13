"""The JSON shapes of API v2, by the names of the public SDK."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, StrictStr

from tools.backend.rest.fields import AskedWindows, Date, DeviceIds, Shape, Text

Distribution = Literal["LWM2M", "OMD-DM", "OMA", "HTTP"]
"""As the SDK and the pages spell it."""


class V2TimeWindow(Shape):
    startTime: int
    endTime: int


class DownloadTimeWindow(Shape):
    """The same in the answers of the newer campaign calls, where the SDK types strings."""

    startTime: str
    endTime: str


class _AskedDates(Shape):
    startDate: Date
    endDate: Date
    downloadAfterDate: Date | None = None
    downloadTimeWindowList: AskedWindows | None = None
    installAfterDate: Date | None = None
    installTimeWindowList: AskedWindows | None = None


class V2ChangeCampaignDatesRequest(_AskedDates):
    """What is left out stays as it is; the documentation asks for the full payload."""


class _Schedule(_AskedDates):
    campaignName: Text | None = None
    distributionType: Distribution
    deviceList: DeviceIds


class CampaignSoftwareUpgrade(_Schedule):
    softwareName: Text
    softwareFrom: StrictStr
    softwareTo: StrictStr


class SchedulesSoftwareUpgradeRequest(CampaignSoftwareUpgrade):
    """The newer path's name for the same request."""


class UploadAndScheduleFileRequest(_Schedule):
    fileName: Annotated[StrictStr, Field(max_length=300)]
    fileVersion: StrictStr


class V2AddOrRemoveDeviceRequest(Shape):
    # The SDK's key; v1 spells it in lower case, and that is read too.
    change: Literal["append", "remove"] = Field(validation_alias=AliasChoices("Type", "type"))
    deviceList: DeviceIds


class V2AddOrRemoveDeviceResult(Shape):
    accountName: str
    campaignId: str
    requestId: str


class _Dates(Shape):
    startDate: str
    endDate: str
    downloadAfterDate: str | None = None
    downloadTimeWindowList: list[V2TimeWindow]
    installAfterDate: str | None = None
    installTimeWindowList: list[V2TimeWindow]


class V2DeviceStatus(Shape):
    deviceId: str
    status: str
    resultReason: str


class V2CampaignMetaInfo(_Dates):
    id: str
    accountName: str
    campaignName: str | None = None
    softwareName: str
    distributionType: str
    make: str
    model: str
    softwareFrom: str
    softwareTo: str
    status: str


class CampaignSoftware(V2CampaignMetaInfo):
    # Only in the answer to GET; the release notes of 2.33 speak of the status per device.
    deviceList: list[V2DeviceStatus] | None = None


class UploadAndScheduleFileResponse(Shape):
    id: str
    accountName: str
    campaignName: str | None = None
    softwareName: str
    softwareFrom: str
    softwareTo: str
    fileName: str | None = None
    fileVersion: str | None = None
    distributionType: str
    make: str
    model: str
    startDate: str
    endDate: str
    downloadAfterDate: str | None = None
    downloadTimeWindowList: list[DownloadTimeWindow]
    installAfterDate: str | None = None
    installTimeWindowList: list[DownloadTimeWindow]
    deviceList: list[str]
    status: str


class FotaV2SuccessResult(Shape):
    success: bool


class V2CampaignHistory(Shape):
    hasMoreData: bool
    lastSeenCampaignId: str
    campaignList: list[V2CampaignMetaInfo]


class V2CampaignDevice(Shape):
    totalDevice: int
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V2DeviceStatus]


class DeviceSoftwareUpgrade(Shape):
    deviceId: str
    id: str
    accountName: str
    softwareName: str
    startDate: str
    status: str
    reason: str


class SoftwarePackage(Shape):
    softwareName: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    distributionType: str
    devicePlatformId: str


class V2SoftwareInfo(Shape):
    name: str
    version: str
    upgradeTime: str


class V2AccountDevice(Shape):
    deviceId: str
    mdn: str
    model: str
    make: str
    fotaEligible: bool
    appFotaEligible: bool
    licenseAssigned: bool
    distributionType: str
    softwareList: list[V2SoftwareInfo]
    createTime: str
    upgradeTime: str
    updateTime: str
    refreshTime: str


class V2AccountDeviceList(Shape):
    accountName: str
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V2AccountDevice]


class UploadConfigurationFilesResponse(Shape):
    fileName: str
    fileVersion: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    distributionType: str
    devicePlatformId: str
    localTargetPath: str


class RetrievesAvailableFilesResponse(Shape):
    fileName: str
    fileVersion: str
    releaseNote: str
    make: str
    model: str
    localTargetPath: str
    distributionType: str
    devicePlatformId: str


class RetrievesAvailableFilesResponseList(Shape):
    # A bare array makes the SDK fail; the odd capital is the SDK's.
    AvailableFilesResponse: list[RetrievesAvailableFilesResponse]


class DeviceLoggingRequest(Shape):
    deviceIds: DeviceIds


class DeviceLoggingStatus(Shape):
    deviceId: str
    expiryDate: str


class DeviceLog(Shape):
    deviceId: str
    logTime: str
    logType: str
    eventLog: str
    binaryLogFileBase64: str
    binaryLogFilename: str


class CheckInHistoryItem(Shape):
    deviceId: str
    clientType: str
    result: str
    failureType: str
    timeCompleted: str
