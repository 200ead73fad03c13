"""API v2: verbose logging of devices, their logs, and the history of their check-ins."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request

from tools.backend.inventory import Account, Device
from tools.backend.refusals import Refusal
from tools.backend.rest import v2_models as shapes
from tools.backend.rest.body import parse_model, read_body, read_model
from tools.backend.rest.common import DeviceIdPath, body_of, device_named
from tools.backend.timing import date_text, rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def add_routes(
    routes: APIRouter, backend: "Backend", account_named: Callable[..., Awaitable[Account]]
) -> None:
    """The routes of `/logging`."""
    Caller = Annotated[Account, Depends(account_named)]

    def http_device(account: Account, text: object) -> Device:
        device = device_named(backend, account, text)
        if device.protocol != "HTTP":
            raise Refusal.NOT_HTTP()
        return device

    def http_devices(account: Account, texts: Iterable[object]) -> list[Device]:
        devices = [http_device(account, text) for text in dict.fromkeys(texts)]
        if not devices:
            raise Refusal.NO_DEVICES()
        return devices

    def statuses(account: Account) -> list[shapes.DeviceLoggingStatus]:
        return [
            shapes.DeviceLoggingStatus(deviceId=device.device_id, expiryDate=date_text(expires))
            for device, expires in backend.logs.logging(account.name)
        ]

    def status(device: Device) -> shapes.DeviceLoggingStatus:
        """Of one device; when logging is off, it ended today."""
        until = backend.logs.until(device.name)
        return shapes.DeviceLoggingStatus(
            deviceId=device.device_id, expiryDate=date_text(until or backend.time.now())
        )

    @routes.get("/logging/{acc}/devices", operation_id="list_devices_with_logging_enabled")
    async def listed(account: Caller) -> list[shapes.DeviceLoggingStatus]:
        return statuses(account)

    @routes.put(
        "/logging/{acc}/devices",
        operation_id="enable_logging_for_devices",
        openapi_extra=body_of(shapes.DeviceLoggingRequest),
    )
    async def enable_some(account: Caller, request: Request) -> list[shapes.DeviceLoggingStatus]:
        asked = await read_model(request, shapes.DeviceLoggingRequest)
        await backend.logs.enable(account.name, http_devices(account, asked.deviceIds))
        return statuses(account)

    # The SDK sends a query, the documentation shows a body; both are read.
    @routes.delete("/logging/{acc}/devices", operation_id="disable_logging_for_devices")
    async def disable_some(
        account: Caller, request: Request, deviceIds: str | None = None
    ) -> list[shapes.DeviceLoggingStatus]:
        body = await read_body(request)
        if deviceIds is not None:
            ids = [text.strip() for text in deviceIds.split(",") if text.strip()]
        else:
            ids = parse_model(body, shapes.DeviceLoggingRequest).deviceIds
        await backend.logs.disable(http_devices(account, ids))
        return statuses(account)

    @routes.put("/logging/{acc}/devices/{device_id}", operation_id="enable_device_logging")
    async def enable(account: Caller, device_id: DeviceIdPath) -> shapes.DeviceLoggingStatus:
        device = http_device(account, device_id)
        await backend.logs.enable(account.name, [device])
        return status(device)

    @routes.delete("/logging/{acc}/devices/{device_id}", operation_id="disable_device_logging")
    async def disable(account: Caller, device_id: DeviceIdPath) -> shapes.DeviceLoggingStatus:
        device = http_device(account, device_id)
        await backend.logs.disable([device])
        return status(device)

    @routes.get("/logging/{acc}/devices/{device_id}/logs", operation_id="list_device_logs")
    async def logs(account: Caller, device_id: DeviceIdPath) -> list[shapes.DeviceLog]:
        device = http_device(account, device_id)
        return [
            shapes.DeviceLog(
                deviceId=device.device_id,
                logTime=row["log_time"],
                logType=row["log_type"],
                eventLog=row["event"],
                binaryLogFileBase64=row["binary"],
                binaryLogFilename=row["filename"],
            )
            for row in await backend.logs.logs(device.name)
        ]

    @routes.get(
        "/logging/{acc}/devices/{device_id}/checkInHistory",
        operation_id="get_device_check_in_history",
    )
    async def check_ins(
        account: Caller, device_id: DeviceIdPath
    ) -> list[shapes.CheckInHistoryItem]:
        device = http_device(account, device_id)
        return [
            shapes.CheckInHistoryItem(
                deviceId=device.device_id,
                clientType=row["client_type"],
                result=row["result"],
                failureType=row["failure"],
                timeCompleted=rfc3339(row["time"]),
            )
            for row in await backend.logs.check_ins(device.name)
        ]
