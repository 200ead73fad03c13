"""API v3: the devices of the account, their firmware, and the catalogue."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from tools.backend.firmware_sync import FAILED, NOT_UPDATED, UPDATED
from tools.backend.inventory import PAGE, Account, Device, check_device_id
from tools.backend.refusals import Refusal
from tools.backend.rest import v3_models as shapes
from tools.backend.rest.body import read_model
from tools.backend.rest.common import (
    LastSeenDevice,
    RequestIds,
    body_of,
    device_named,
    last_seen_device,
    page_of,
)
from tools.backend.rest.device_views import (
    DISTRIBUTION_OF,
    files_on,
    software_on,
    time_text,
    upgrade_time,
)
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

FirmwareProtocol = Annotated[
    Literal["LWM2M", "OMD-DM", "HTTP", "all"],
    Query(description="The SDK's values, and `HTTP` of the documentation."),
]
DeviceProtocol = Annotated[
    Literal["LWM2M", "OMDADM", "OMD-DM", "OMADM", "OMA", "HTTP", "NONE", "all"],
    Query(description="Every spelling that the SDK and the documentation use."),
]
PROTOCOL_OF = {
    "LWM2M": "LWM2M",
    "OMD-DM": "OMADM",
    "OMDADM": "OMADM",
    "OMADM": "OMADM",
    "OMA": "OMADM",
    "HTTP": "HTTP",
    "NONE": "NONE",
}
"""The spellings, and what devices have."""

ALL = "all"

# In an answer about several devices; the same words as in v3's rejections.
NOT_FOUND = "Device Not Found."


def add_routes(
    routes: APIRouter, backend: "Backend", account_named: Callable[..., Awaitable[Account]]
) -> None:
    """The routes of `/devices` and `/firmware`."""
    Caller = Annotated[Account, Depends(account_named)]
    request_ids = RequestIds()

    def common(device: Device) -> dict[str, Any]:
        """What both shapes of a device have."""
        return {
            "deviceId": device.device_id,
            "mdn": device.mdn,
            "model": device.model,
            "make": device.make,
            "firmware": device.firmware,
            "fotaEligible": True,
            "status": device.line,
            "licenseAssigned": backend.licences.holds(device.device_id),
            "protocol": device.protocol,
            "softwareList": [
                shapes.V3SoftwareInfo(**item) for item in software_on(backend, device)
            ],
            "fileList": [shapes.V3SoftwareInfo(**item) for item in files_on(backend, device)],
            "createTime": time_text(device.created),
            "updateTime": time_text(device.updated),
            "refreshTime": time_text(device.updated),
        }

    def listed(device: Device) -> shapes.V3AccountDevice:
        return shapes.V3AccountDevice(**common(device), upgradeTime=upgrade_time(device))

    def asked_for(account: Account, device_id: str) -> shapes.V3Device:
        device = backend.inventory.by_id(account.name, device_id)
        if device is None:
            return shapes.V3Device(deviceId=device_id, requestStatus=FAILED, resultReason=NOT_FOUND)
        request = backend.firmware_sync.latest(device)
        told: dict[str, Any] = {}
        if request is not None:
            changed = request.requested if request.finished is None else request.finished
            told = {
                "requestStatus": request.status,
                "resultReason": request.reason,
                "statusTime": rfc3339(changed),
            }
        contact = backend.lwm2m.last_contact(device.name)
        if contact is not None:
            told["lastConnectionTime"] = rfc3339(contact)
        return shapes.V3Device(**common(device), **told)

    @routes.get("/firmware/{acc}", operation_id="list_available_firmware")
    async def firmware(account: Caller, protocol: FirmwareProtocol) -> list[shapes.FirmwarePackage]:
        wanted = PROTOCOL_OF.get(protocol)
        return [
            shapes.FirmwarePackage(
                firmwareName=item.name,
                firmwareFrom=item.version_from,
                firmwareTo=item.version_to,
                launchDate=rfc3339(item.launched),
                releaseNote=item.release_note,
                model=item.model,
                make=item.make,
                protocol=DISTRIBUTION_OF[item.protocol],
            )
            for item in backend.inventory.packages.values()
            if item.account == account.name and (protocol == ALL or item.protocol == wanted)
        ]

    @routes.get("/devices/{acc}", operation_id="get_account_device_information")
    async def devices(
        account: Caller,
        lastSeenDeviceId: LastSeenDevice = "0",
        protocol: DeviceProtocol = "LWM2M",
    ) -> shapes.V3AccountDeviceList:
        wanted = PROTOCOL_OF.get(protocol)
        page, more = page_of(
            device
            for device in backend.inventory.after(account.name, last_seen_device(lastSeenDeviceId))
            if protocol == ALL or device.protocol == wanted
        )
        return shapes.V3AccountDeviceList(
            accountName=account.name,
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[listed(device) for device in page],
        )

    # One page of the documentation shows the queries of the GET here too.
    @routes.post(
        "/devices/{acc}",
        operation_id="list_account_devices_information",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.DeviceIMEI),
    )
    async def some_devices(
        account: Caller,
        request: Request,
        lastSeenDeviceId: LastSeenDevice = "0",
        protocol: DeviceProtocol = "all",
    ) -> shapes.DeviceListResult:
        wanted = PROTOCOL_OF.get(protocol)
        after = last_seen_device(lastSeenDeviceId)
        ids = await listed_ids(request, shapes.DeviceIMEI)
        shown = [asked_for(account, device_id) for device_id in ids if device_id > after]
        shown = [item for item in shown if protocol == ALL or item.protocol == wanted]
        return shapes.DeviceListResult(
            accountName=account.name, deviceCount=len(shown), deviceList=shown
        )

    async def listed_ids(
        request: Request, model: type[shapes.FirmwareIMEI] | type[shapes.DeviceIMEI]
    ) -> list[str]:
        """The device ids of a body, each once."""
        asked = await read_model(request, model)
        if not asked.deviceList:
            raise Refusal.NO_DEVICES()
        return list(dict.fromkeys(check_device_id(item) for item in asked.deviceList))

    @routes.put(
        "/firmware/{acc}/devices",
        operation_id="synchronize_device_firmware",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.FirmwareIMEI),
    )
    async def synchronise(account: Caller, request: Request) -> shapes.DeviceFirmwareList:
        ids = await listed_ids(request, shapes.FirmwareIMEI)
        known = {
            device_id: device
            for device_id in ids
            if (device := backend.inventory.by_id(account.name, device_id)) is not None
        }
        readings = await backend.firmware_sync.read(known.values())
        found = []
        for device_id in ids:
            device = known.get(device_id)
            if device is None:
                found.append(
                    shapes.DeviceFirmwareVersion(
                        deviceId=device_id, status=NOT_UPDATED, reason=NOT_FOUND, firmwareVersion=""
                    )
                )
                continue
            reading = readings[device.name]
            # Of one that could not be read, the last known version and when it was learnt.
            read = backend.time.now() if reading.status == UPDATED else device.updated
            found.append(
                shapes.DeviceFirmwareVersion(
                    deviceId=device_id,
                    status=reading.status,
                    reason=reading.reason,
                    firmwareVersion=device.firmware,
                    firmwareVersionUpdateTime=rfc3339(read) if device.firmware else None,
                )
            )
        return shapes.DeviceFirmwareList(accountName=account.name, deviceFirmwarVersionList=found)

    @routes.put("/firmware/{acc}/async/{device_id}", operation_id="report_device_firmware")
    async def synchronise_later(
        account: Caller, device_id: str
    ) -> shapes.DeviceFirmwareVersionUpdateResult:
        device = device_named(backend, account, device_id)
        if device.protocol != "LWM2M":
            raise Refusal.NOT_LWM2M()
        request_id = request_ids.next(backend.time.now())
        await backend.firmware_sync.request(device, request_id)
        return shapes.DeviceFirmwareVersionUpdateResult(
            accountName=account.name, requestId=request_id
        )
