"""The JSON shapes of the API as one literal table, and a walker that holds an answer against them.

The table is section 3.4 of the API reference in its own notation: `!` after a name is a field that
the public SDK's model requires, `[T]` an array. The SDK validates nothing itself, so whoever wants
to know whether an answer is right asks here.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MODELS: dict[str, str] = {
    "Firmware": (
        "firmwareName:string, participantName:string, launchDate:datetime, releaseNote:string, "
        "model:string, make:string, fromVersion:string, toVersion:string"
    ),
    "FirmwareUpgradeRequest": (
        "accountName!:string, firmwareName!:string, firmwareTo!:string, startDate!:date, "
        "endDate!:date, deviceList!:[string]"
    ),
    "FirmwareUpgrade": (
        "id:string, accountName:string, firmwareName:string, firmwareTo:string, startDate:string, "
        "status:string, deviceList:[FirmwareUpgradeDeviceListItem]"
    ),
    "FirmwareUpgradeChangeRequest": "type!:FirmwareTypeListEnum, deviceList!:[string]",
    "FirmwareUpgradeChangeResult": "accountName:string, id:string, deviceList:[V1DeviceListItem]",
    "FotaV1SuccessResult": "success:bool",
    "V1AccountSubscription": (
        "accountName:string, purchaseType:string, licenseCount:int, licenseUsedCount:int, "
        "updateTime:string"
    ),
    "AccountLicenseInfo": (
        "accountName:string, totalLicenses:int, assignedLicenses:int, hasMoreData:bool, "
        "lastSeenDeviceId:int, deviceList:[AccountLicenseDeviceListItem]"
    ),
    "V1LicensesAssignedRemovedRequest": "deviceList!:[string]",
    "V1LicensesAssignedRemovedResult": (
        "accountName:string, licCount:int, licUsedCount:int, deviceList:[V1DeviceListItem]"
    ),
    "V1ListOfLicensesToRemoveRequest": "type:string, deviceList!:[string]",
    "V1ListOfLicensesToRemoveResult": "count:int, deviceList:[string]",
    "V1ListOfLicensesToRemove": (
        "count:int, hasMoreData:bool, updateTime:datetime, deviceList:[string]"
    ),
    "RegisteredCallbacks": (
        "aname:string, name:string, url:string, username:string, password:string"
    ),
    "FotaV1CallbackRegistrationRequest": (
        "name!:string, url!:string, username:string, password:string"
    ),
    "FotaV1CallbackRegistrationResult": "accountName:string, serviceName:string",
    "DeviceListQueryResult": (
        "accountName:string, hasMoreData:bool, lastSeenDeviceId:int, "
        "deviceList:[DeviceListQueryItem]"
    ),
    "UpgradeListQueryResult": (
        "hasMoreFlag:bool, lastSeenUpgradeId:int, reportList:[FirmwareUpgrade]"
    ),
    "DeviceUpgradeHistory": (
        "deviceId:string, id:string, accountName:string, firmwareFrom:string, firmwareTo:string, "
        "startDate:string, upgradeStartTime:string, status:string, reason:string"
    ),
    "FotaV2Subscription": (
        "accountName:string, purchaseType:string, licenseCount:int, licenseUsedCount:int, "
        "updateTime:string"
    ),
    "V2LicenseSummary": (
        "accountName!:string, totalLicense:int, assignedLicenses!:int, hasMoreData!:bool, "
        "lastSeenDeviceId:string, maxPageSize!:int, deviceList:[V2LicenseDevice]"
    ),
    "V2LicenseIMEI": "accountName:string, deviceList!:[string]",
    "V2LicensesAssignedRemovedResult": (
        "accountName!:string, licTotalCount!:int, licUsedCount!:int, deviceList!:[V2DeviceStatus]"
    ),
    "V2ListOfLicensesToRemove": (
        "count!:int, hasMoreData!:bool, updateTime!:string, deviceList!:[string]"
    ),
    "V2ListOfLicensesToRemoveRequest": "type:string, count:int, deviceList!:[string]",
    "V2ListOfLicensesToRemoveResult": "count!:int, deviceList!:[string]",
    "FotaV2SuccessResult": "success!:bool",
    "CampaignSoftwareUpgrade": (
        "campaignName:string, softwareName!:string, softwareFrom!:string, softwareTo!:string, "
        "distributionType!:string, startDate!:date, endDate!:date, downloadAfterDate:date, "
        "downloadTimeWindowList:[V2TimeWindow], installAfterDate:date, "
        "installTimeWindowList:[V2TimeWindow], deviceList!:[string]"
    ),
    "CampaignSoftware": (
        "id!:string, accountName!:string, campaignName:string, softwareName!:string, "
        "distributionType!:string, make!:string, model!:string, softwareFrom!:string, "
        "softwareTo!:string, startDate!:date, endDate!:date, downloadAfterDate:date, "
        "downloadTimeWindowList:[V2TimeWindow], installAfterDate:date, "
        "installTimeWindowList:[V2TimeWindow], status!:string"
    ),
    "V2AddOrRemoveDeviceRequest": "Type!:string, deviceList!:[string]",
    "V2AddOrRemoveDeviceResult": "accountName!:string, campaignId!:string, requestId!:string",
    "V2ChangeCampaignDatesRequest": (
        "startDate!:date, endDate!:date, downloadAfterDate:date, "
        "downloadTimeWindowList:[V2TimeWindow], installAfterDate:date, "
        "installTimeWindowList:[V2TimeWindow]"
    ),
    "UploadAndScheduleFileRequest": (
        "campaignName:string, fileName:string, fileVersion:string, distributionType:string, "
        "startDate:string, endDate:string, downloadAfterDate:string, "
        "downloadTimeWindowList:[DownloadTimeWindow], installAfterDate:string, "
        "installTimeWindowList:[DownloadTimeWindow], deviceList:[string]"
    ),
    "UploadAndScheduleFileResponse": (
        "id:string, accountName:string, campaignName:string, softwareName:string, "
        "softwareFrom:string, softwareTo:string, fileName:string, fileVersion:string, "
        "distributionType:string, make:string, model:string, startDate:string, endDate:string, "
        "downloadAfterDate:string, downloadTimeWindowList:[DownloadTimeWindow], "
        "installAfterDate:string, installTimeWindowList:[DownloadTimeWindow], deviceList:[string], "
        "status:string"
    ),
    "SchedulesSoftwareUpgradeRequest": (
        "campaignName:string, softwareName:string, softwareFrom:string, softwareTo:string, "
        "distributionType:string, startDate:string, endDate:string, downloadAfterDate:string, "
        "downloadTimeWindowList:[DownloadTimeWindow], installAfterDate:string, "
        "installTimeWindowList:[DownloadTimeWindow], deviceList:[string]"
    ),
    "CallbackSummary": "url:string",
    "FotaV2CallbackRegistrationRequest": "url:string",
    "FotaV2CallbackRegistrationResult": "url:string",
    "SoftwarePackage": (
        "softwareName!:string, launchDate!:date, releaseNote:string, model!:string, make!:string, "
        "distributionType!:string, devicePlatformId!:string"
    ),
    "V2AccountDeviceList": (
        "accountName!:string, hasMoreData!:bool, lastSeenDeviceId:string, maxPageSize!:int, "
        "deviceList!:[V2AccountDevice]"
    ),
    "DeviceSoftwareUpgrade": (
        "deviceId!:string, id!:string, accountName!:string, softwareName:string, startDate!:date, "
        "status!:string, reason!:string"
    ),
    "V2CampaignHistory": (
        "hasMoreData!:bool, lastSeenCampaignId:string, campaignList!:[V2CampaignMetaInfo]"
    ),
    "V2CampaignDevice": (
        "totalDevice:int, hasMoreData!:bool, lastSeenDeviceId:string, maxPageSize!:int, "
        "deviceList!:[V2DeviceStatus]"
    ),
    "DeviceLoggingStatus": "deviceId!:string, expiryDate!:date",
    "DeviceLoggingRequest": "deviceIds!:[string]",
    "DeviceLog": (
        "deviceId!:string, logTime!:datetime, logType!:string, eventLog!:string, "
        "binaryLogFileBase64!:string, binaryLogFilename!:string"
    ),
    "CheckInHistoryItem": (
        "deviceId!:string, clientType!:string, result!:string, failureType!:string, "
        "timeCompleted!:datetime"
    ),
    "RetrievesAvailableFilesResponseList": (
        "AvailableFilesResponse:[RetrievesAvailableFilesResponse]"
    ),
    "UploadConfigurationFilesResponse": (
        "fileName:string, fileVersion:string, launchDate:date, releaseNote:string, model:string, "
        "make:string, distributionType:string, devicePlatformId:string, localTargetPath:string"
    ),
    "FotaV3Subscription": (
        "accountName:string, purchaseType:string, licenseCount:int, licenseUsedCount:int, "
        "updateTime:string"
    ),
    "V3LicenseSummary": (
        "accountName!:string, totalLicenses:int, assignedLicenses!:int, hasMoreData!:bool, "
        "lastSeenDeviceId:string, maxPageSize!:int, deviceList:[V3LicenseDevice]"
    ),
    "V3LicenseIMEI": "deviceList!:[string]",
    "V3LicenseAssignedRemovedResult": (
        "accountName!:string, licCount!:int, licUsedCount!:int, deviceList!:[V3DeviceStatus]"
    ),
    "CampaignFirmwareUpgrade": (
        "campaignName:string, firmwareName!:string, firmwareFrom!:string, firmwareTo!:string, "
        "protocol!:string, startDate!:date, endDate!:date, campaignTimeWindowList:[V3TimeWindow], "
        "deviceList!:[string], autoAssignLicenseFlag!:bool, autoAddDevicesFlag!:bool"
    ),
    "FirmwareCampaign": (
        "id!:string, accountName!:string, campaignName:string, firmwareName:string, "
        "firmwareFrom!:string, firmwareTo!:string, protocol!:string, make!:string, model!:string, "
        "startDate!:date, endDate!:date, campaignTimeWindowList:[V3TimeWindow], status!:string"
    ),
    "V3AddOrRemoveDeviceRequest": "Type!:string, deviceList!:[string]",
    "V3AddOrRemoveDeviceResult": (
        "accountName!:string, campaignId!:string, deviceList!:[V3DeviceListItem]"
    ),
    "V3ChangeCampaignDatesRequest": (
        "startDate!:date, endDate!:date, campaignTimeWindowList:[V3TimeWindow]"
    ),
    "Campaign": (
        "id!:string, accountName!:string, campaignName:string, firmwareName:string, "
        "firmwareFrom:string, firmwareTo:string, protocol!:string, make!:string, model!:string, "
        "startDate!:date, endDate!:date, campaignTimeWindowList:[V3TimeWindow], status!:string, "
        "autoAssignLicenseFlag!:bool, autoAddDevicesFlag!:bool"
    ),
    "FotaV3SuccessResult": "success!:bool",
    "V3CampaignHistory": (
        "hasMoreData!:bool, lastSeenCampaignId:string, campaignList!:[V3CampaignMetaInfo]"
    ),
    "DeviceFirmwareUpgrade": (
        "deviceId!:string, campaignId!:string, accountName!:string, firmwareName:string, "
        "firmwareFrom:string, firmwareTo:string, startDate!:date, status!:string, reason!:string, "
        "reportUpdatedTime:string"
    ),
    "V3CampaignDevice": (
        "totalDevice:int, hasMoreData!:bool, lastSeenDeviceId:string, maxPageSize!:int, "
        "deviceList!:[V3DeviceStatus]"
    ),
    "FirmwarePackage": (
        "firmwareName!:string, firmwareFrom!:string, firmwareTo!:string, launchDate!:datetime, "
        "releaseNote!:string, model!:string, make!:string, protocol!:CampaignMetaInfoProtocolEnum"
    ),
    "FirmwareIMEI": "deviceList!:[string]",
    "DeviceFirmwareList": "accountName!:string, deviceFirmwarVersionList:[DeviceFirmwareVersion]",
    "DeviceFirmwareVersionUpdateResult": "accountName!:string, requestId!:string",
    "V3AccountDeviceList": (
        "accountName!:string, hasMoreData!:bool, lastSeenDeviceId:string, maxPageSize!:int, "
        "deviceList!:[V3AccountDevice]"
    ),
    "DeviceIMEI": "deviceList!:[string]",
    "DeviceListResult": "accountName!:string, deviceCount!:int, deviceList!:[V3Device]",
    "FotaV3CallbackSummary": "url:string",
    "FotaV3CallbackRegistrationRequest": "url:string",
    "FotaV3CallbackRegistrationResult": "url:string",
    "FirmwareUpgradeDeviceListItem": "deviceId:string, status:string, resultReason:string",
    "V1DeviceListItem": "deviceId:string, status:string, Reason:string",
    "AccountLicenseDeviceListItem": "deviceId:string, assignmentTime:datetime",
    "DeviceListQueryItem": (
        "deviceId:string, mdn:string, model:string, make:string, firmware:string, "
        "fotaEligible:bool, licenseAssigned:bool, upgradeTime:string"
    ),
    "V2LicenseDevice": "deviceId!:string, assignmentTime:string",
    "V2DeviceStatus": "deviceId!:string, status!:string, resultReason:string",
    "V2TimeWindow": "startTime!:int, endTime!:int",
    "DownloadTimeWindow": "startTime:string, endTime:string",
    "V2AccountDevice": (
        "deviceId!:string, mdn!:string, model!:string, make!:string, fotaEligible!:bool, "
        "appFotaEligible!:bool, licenseAssigned!:bool, distributionType!:string, "
        "softwareList!:[V2SoftwareInfo], createTime:string, upgradeTime:string, updateTime:string, "
        "refreshTime:string"
    ),
    "V2CampaignMetaInfo": (
        "accountName!:string, id!:string, campaignName:string, softwareName!:string, "
        "distributionType!:string, softwareFrom!:string, softwareTo!:string, make!:string, "
        "model!:string, startDate!:date, endDate!:date, downloadAfterDate:date, "
        "downloadTimeWindowList:[V2TimeWindow], installAfterDate:date, "
        "installTimeWindowList:[V2TimeWindow], status!:string"
    ),
    "RetrievesAvailableFilesResponse": (
        "fileName:string, fileVersion:string, releaseNote:string, make:string, model:string, "
        "localTargetPath:string, distributionType:string, devicePlatformId:string"
    ),
    "V3LicenseDevice": "deviceId!:string, assignmentTime:string",
    "V3DeviceStatus": (
        "deviceId!:string, status!:string, resultReason:string, updatedTime:datetime, "
        "recentAttemptTime:datetime, nextAttemptTime:datetime"
    ),
    "V3TimeWindow": "startTime!:int, endTime!:int",
    "V3DeviceListItem": "deviceId:string, status:string, Reason:string",
    "V3CampaignMetaInfo": (
        "accountName!:string, id!:string, campaignName:string, firmwareName:string, "
        "firmwareFrom:string, firmwareTo:string, protocol:CampaignMetaInfoProtocolEnum, "
        "make!:string, model!:string, startDate!:date, endDate!:date, "
        "campaignTimeWindowList:[V3TimeWindow], status!:string"
    ),
    "DeviceFirmwareVersion": (
        "status:string, reason:string, deviceId!:string, firmwareVersion!:string, "
        "firmwareVersionUpdateTime:datetime"
    ),
    "V3AccountDevice": (
        "deviceId!:string, mdn!:string, model!:string, make!:string, firmware!:string, "
        "fotaEligible!:bool, status!:string, licenseAssigned!:bool, protocol!:string, "
        "softwareList!:[V3SoftwareInfo], fileList:[V3SoftwareInfo], createTime:string, "
        "upgradeTime:string, updateTime:string, refreshTime:string"
    ),
    "V3Device": (
        "deviceId!:string, requestStatus:string, resultReason:string, mdn:string, model:string, "
        "make:string, firmware:string, fotaEligible:bool, status:string, licenseAssigned:bool, "
        "protocol:string, softwareList:[V3SoftwareInfo], fileList:[V3SoftwareInfo], "
        "createTime:string, statusTime:string, updateTime:string, refreshTime:string, "
        "lastConnectionTime:datetime"
    ),
    "V2SoftwareInfo": "name!:string, version!:string, upgradeTime!:string",
    "V3SoftwareInfo": "name!:string, version!:string, upgradeTime!:string",
}

# What our answers have beside the table, and where it is said. Anything else is a misspelt key.
EXTRA: dict[str, dict[str, str]] = {
    # Release notes 2.10: each firmware and device names its client type; 2.9: the line's status.
    "Firmware": {"clientType": "string"},
    "DeviceListQueryItem": {"clientType": "string", "status": "string"},
    # Section 3.1: GET of an upgrade shows its end date.
    "FirmwareUpgrade": {"endDate": "string"},
    # Section 3.3: the documentation's table has other names for the total and for the reason.
    "V3LicenseAssignedRemovedResult": {"licTotalCount": "int"},
    "V3DeviceStatus": {"Reason": "string"},
    # Release notes 2.33: the status of the upgrade per device; ours, by the rules page.
    "CampaignSoftware": {"deviceList": "[V2DeviceStatus]"},
}

ENUMS: dict[str, frozenset[str]] = {
    "FirmwareTypeListEnum": frozenset({"append", "remove"}),
    "CampaignMetaInfoProtocolEnum": frozenset({"LWM2M", "OMD-DM", "OMADM", "HTTP"}),
}

# RFC 3339, as the SDK's parser needs it; a date alone is one of its datetimes too.
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _is_date(value: Any, shape: re.Pattern[str]) -> bool:
    if not isinstance(value, str) or not shape.fullmatch(value):
        return False
    try:
        dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


SCALARS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "date": lambda value: _is_date(value, _DATE),
    "datetime": lambda value: _is_date(value, _DATETIME),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model."""

    name: str
    kind: str
    required: bool


def fields_of(model: str) -> list[Field]:
    """The fields of a model as the table has them, without our additions."""
    found = []
    for part in MODELS[model].split(", "):
        name, _, kind = part.partition(":")
        found.append(Field(name.removesuffix("!"), kind, name.endswith("!")))
    return found


def problems(kind: str, value: Any, *, every: bool = False, where: str = "$") -> list[str]:
    """What is wrong with `value` as a `kind` of the table (`[V2DeviceStatus]`, `date`, ...), one
    line each; nothing when it is right. `every` asks for each field of the table and not only for
    the required ones: the models of v1 mark none."""
    if kind.startswith("["):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no array"]
        return [
            problem
            for index, item in enumerate(value)
            for problem in problems(kind[1:-1], item, every=every, where=f"{where}[{index}]")
        ]
    if kind in SCALARS:
        return [] if SCALARS[kind](value) else [f"{where}: {value!r} is no {kind}"]
    if kind in ENUMS:
        return [] if value in ENUMS[kind] else [f"{where}: {value!r} is no {kind}"]
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no {kind}"]
    fields = {field.name: field for field in fields_of(kind)}
    for name, extra in EXTRA.get(kind, {}).items():
        fields[name] = Field(name, extra, False)
    found = [f"{where}.{name}: unknown key" for name in value if name not in fields]
    for field in fields.values():
        path = f"{where}.{field.name}"
        if field.name in value:
            found += problems(field.kind, value[field.name], every=every, where=path)
        elif field.required or (every and field.name not in EXTRA.get(kind, {})):
            found.append(f"{path}: missing")
    return found


def check(kind: str, value: Any, *, every: bool = False) -> None:
    """Fail with every problem of `value` as a `kind`."""
    found = problems(kind, value, every=every)
    assert not found, "\n".join(found)
