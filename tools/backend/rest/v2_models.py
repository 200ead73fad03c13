"""The JSON shapes of API v2, by the names of the public SDK."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from tools.backend.rest.v3_models import MAX_DEVICES, MAX_WINDOWS, Text


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore")


class V2TimeWindow(_Shape):
    # Integer hours; the SDK types them as strings in some requests, and both are read.
    startTime: int
    endTime: int


class DownloadTimeWindow(_Shape):
    """The same in the answers of the newer campaign calls, where the SDK types strings."""

    startTime: str
    endTime: str


Windows = Annotated[list[V2TimeWindow], Field(max_length=MAX_WINDOWS)]
DeviceIds = Annotated[list[StrictStr], Field(max_length=MAX_DEVICES)]


class _Schedule(_Shape):
    campaignName: Text | None = None
    distributionType: StrictStr
    startDate: StrictStr
    endDate: StrictStr
    downloadAfterDate: StrictStr | None = None
    downloadTimeWindowList: Windows | None = None
    installAfterDate: StrictStr | None = None
    installTimeWindowList: Windows | None = None
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


class _Dates(_Shape):
    startDate: str
    endDate: str
    downloadAfterDate: str | None = None
    downloadTimeWindowList: list[V2TimeWindow]
    installAfterDate: str | None = None
    installTimeWindowList: list[V2TimeWindow]


class V2DeviceStatus(_Shape):
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


class UploadAndScheduleFileResponse(_Shape):
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


class FotaV2SuccessResult(_Shape):
    success: bool


class V2CampaignHistory(_Shape):
    hasMoreData: bool
    lastSeenCampaignId: str
    campaignList: list[V2CampaignMetaInfo]


class V2CampaignDevice(_Shape):
    totalDevice: int
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V2DeviceStatus]


class SoftwarePackage(_Shape):
    softwareName: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    distributionType: str
    devicePlatformId: str


class UploadConfigurationFilesResponse(_Shape):
    fileName: str
    fileVersion: str
    launchDate: str
    releaseNote: str
    model: str
    make: str
    distributionType: str
    devicePlatformId: str
    localTargetPath: str


class RetrievesAvailableFilesResponse(_Shape):
    fileName: str
    fileVersion: str
    releaseNote: str
    make: str
    model: str
    localTargetPath: str
    distributionType: str
    devicePlatformId: str


class RetrievesAvailableFilesResponseList(_Shape):
    # A bare array makes the SDK fail; the odd capital is the SDK's.
    AvailableFilesResponse: list[RetrievesAvailableFilesResponse]


class DeviceLoggingRequest(_Shape):
    deviceIds: DeviceIds


class DeviceLoggingStatus(_Shape):
    deviceId: str
    expiryDate: str


class DeviceLog(_Shape):
    deviceId: str
    logTime: str
    logType: str
    eventLog: str
    binaryLogFileBase64: str
    binaryLogFilename: str


class CheckInHistoryItem(_Shape):
    deviceId: str
    clientType: str
    result: str
    failureType: str
    timeCompleted: str
