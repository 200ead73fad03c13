"""API v3: firmware campaigns for LwM2M devices, their reports, the catalogue and the devices."""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from tools.backend import campaign_records as records
from tools.backend import rest_models as shapes
from tools.backend.campaign_states import CAMPAIGN_TABLE
from tools.backend.errors import RequestRefused
from tools.backend.inventory import (
    ACCOUNT_NAME,
    PAGE,
    Account,
    Device,
    check_device_id,
)
from tools.backend.rest_auth import Sessions
from tools.backend.rest_body import read_model
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

LWM2M = "LWM2M"
FIRMWARE_PROTOCOLS = frozenset({LWM2M, "OMD-DM", "HTTP", "all"})
DEVICE_PROTOCOLS = frozenset({LWM2M, "OMD-DM", "OMDADM", "OMADM", "OMA", "HTTP", "all", "NONE"})
"""Every spelling that the SDK and the documentation use."""

SERVED = frozenset({LWM2M, "all"})
"""Protocols that devices and packages of this backend can have so far."""

STATUSES = frozenset(CAMPAIGN_TABLE) | {"CampaignFailed", "CampaignQueued"}
ALIASES = {"CampaignQueued": "CampaignRequestQueued"}

NEVER = "01/01/1900 0:0:0"
"""What the API serves for a device that was never upgraded."""

LastSeen = Annotated[str, Query()]


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI entry of a body that we parse ourselves, whatever its Content-Type."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _windows(campaign: records.Campaign) -> list[shapes.V3TimeWindow]:
    return [shapes.V3TimeWindow(startTime=start, endTime=end) for start, end in campaign.windows]


def campaign_summary(campaign: records.Campaign) -> dict[str, Any]:
    """The fields that every campaign shape has."""
    return {
        "id": campaign.id,
        "accountName": campaign.account,
        "campaignName": campaign.title or None,
        "firmwareName": campaign.package,
        "firmwareFrom": campaign.version_from,
        "firmwareTo": campaign.version_to,
        "protocol": campaign.protocol,
        "make": campaign.make,
        "model": campaign.model,
        "startDate": campaign.start_date,
        "endDate": campaign.end_date,
        "campaignTimeWindowList": _windows(campaign),
        "status": campaign.status,
    }


def device_status(member: records.Member) -> shapes.V3DeviceStatus:
    return shapes.V3DeviceStatus(
        deviceId=member.device_id,
        status=member.status,
        resultReason=member.reason,
        updatedTime=rfc3339(member.updated),
        recentAttemptTime=None if member.recent is None else rfc3339(member.recent),
        nextAttemptTime=None if member.next is None else rfc3339(member.next),
    )


def account_device(device: Device) -> shapes.V3AccountDevice:
    return shapes.V3AccountDevice(
        deviceId=device.device_id,
        mdn="",
        model=device.model,
        make=device.make,
        firmware=device.firmware,
        fotaEligible=True,
        status="active",
        licenseAssigned=True,
        protocol=LWM2M,
        createTime=rfc3339(device.created),
        upgradeTime=NEVER if device.upgraded is None else rfc3339(device.upgraded),
        updateTime=rfc3339(device.updated),
        refreshTime=rfc3339(device.updated),
    )


def page_of(items: Iterable[Any]) -> tuple[list[Any], bool]:
    """The first page, and whether there is another one."""
    page = list(islice(items, PAGE + 1))
    return page[:PAGE], len(page) > PAGE


def router(backend: "Backend", sessions: Sessions) -> APIRouter:
    """The routes of `/api/fota/v3`."""
    routes = APIRouter(prefix="/api/fota/v3")

    def account_named(acc: str, request: Request) -> Account:
        caller = sessions.caller(request)
        if acc != caller.name:
            if not ACCOUNT_NAME.fullmatch(acc):
                raise RequestRefused("Invalid account name format")
            # Somebody else's account answers as one that does not exist.
            raise RequestRefused("Account does not exist")
        return caller

    Caller = Annotated[Account, Depends(account_named)]

    def campaign_named(account: Account, campaign_id: str) -> records.Campaign:
        campaign = backend.engine.book.campaigns.get(campaign_id)
        if campaign is None or campaign.account != account.name:
            raise RequestRefused("Campaign does not exist")
        return campaign

    @routes.post(
        "/campaigns/firmware/{acc}",
        operation_id="schedule_campaign_firmware_upgrade",
        response_model_exclude_none=True,
        openapi_extra=_body(shapes.CampaignFirmwareUpgrade),
    )
    async def create(account: Caller, request: Request) -> shapes.FirmwareCampaign:
        asked = await read_model(request, shapes.CampaignFirmwareUpgrade)
        campaign = await backend.engine.create(
            records.CampaignRequest(
                account=account.name,
                title=asked.campaignName or "",
                package=asked.firmwareName,
                version_from=asked.firmwareFrom,
                version_to=asked.firmwareTo,
                start_date=asked.startDate,
                end_date=asked.endDate,
                devices=tuple(asked.deviceList),
                windows=tuple(
                    (window.startTime, window.endTime) for window in asked.campaignTimeWindowList
                ),
                protocol=asked.protocol,
                auto_assign=asked.autoAssignLicenseFlag,
                auto_add=asked.autoAddDevicesFlag,
            )
        )
        return shapes.FirmwareCampaign(**campaign_summary(campaign))

    @routes.get(
        "/campaigns/{acc}/{campaign_id}",
        operation_id="get_campaign_information",
        response_model_exclude_none=True,
    )
    async def read(account: Caller, campaign_id: str) -> shapes.Campaign:
        campaign = campaign_named(account, campaign_id)
        return shapes.Campaign(
            **campaign_summary(campaign),
            autoAssignLicenseFlag=campaign.auto_assign,
            autoAddDevicesFlag=campaign.auto_add,
        )

    @routes.delete("/campaigns/{acc}/{campaign_id}", operation_id="cancel_campaign")
    async def cancel(account: Caller, campaign_id: str) -> shapes.FotaV3SuccessResult:
        await backend.engine.cancel(campaign_named(account, campaign_id))
        return shapes.FotaV3SuccessResult(success=True)

    @routes.get(
        "/reports/{acc}/campaigns/{campaign_id}/devices",
        operation_id="get_campaign_device_status",
        response_model_exclude_none=True,
    )
    async def campaign_devices(
        account: Caller, campaign_id: str, lastSeenDeviceId: LastSeen = "0"
    ) -> shapes.V3CampaignDevice:
        campaign = campaign_named(account, campaign_id)
        after = sorted(
            (item for item in campaign.members.values() if item.device_id > lastSeenDeviceId),
            key=lambda item: item.device_id,
        )
        page, more = page_of(after)
        return shapes.V3CampaignDevice(
            totalDevice=len(campaign.members),
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[device_status(member) for member in page],
        )

    async def history(
        account: Caller, campaignStatus: str, lastSeenCampaignId: LastSeen = "0"
    ) -> shapes.V3CampaignHistory:
        if campaignStatus not in STATUSES:
            raise RequestRefused(f"Invalid campaignStatus {campaignStatus[:64]!r}")
        status = ALIASES.get(campaignStatus, campaignStatus)
        seen = 0
        if lastSeenCampaignId not in ("", "0"):
            seen = campaign_named(account, lastSeenCampaignId).number
        page, more = page_of(
            item
            for item in backend.engine.book.of_account(account.name, 3)
            if item.number > seen and item.status == status
        )
        return shapes.V3CampaignHistory(
            hasMoreData=more,
            lastSeenCampaignId=page[-1].id if more else "0",
            campaignList=[shapes.FirmwareCampaign(**campaign_summary(item)) for item in page],
        )

    # The SDK's path, and the one that the documentation shows.
    routes.get(
        "/reports/{acc}/firmware/campaigns",
        operation_id="get_campaign_history_by_status",
        response_model_exclude_none=True,
    )(history)
    routes.get(
        "/reports/{acc}/campaigns", include_in_schema=False, response_model_exclude_none=True
    )(history)

    @routes.get(
        "/reports/{acc}/devices/{device_id}", operation_id="get_device_firmware_upgrade_history"
    )
    async def device_history(account: Caller, device_id: str) -> list[shapes.DeviceFirmwareUpgrade]:
        device = backend.inventory.by_id(account.name, check_device_id(device_id))
        if device is None:
            raise RequestRefused("Device does not exist.")
        found = []
        for campaign in backend.engine.book.of_account(account.name, 3):
            member = campaign.members.get(device.name)
            if member is None:
                continue
            found.append(
                shapes.DeviceFirmwareUpgrade(
                    deviceId=device_id,
                    campaignId=campaign.id,
                    accountName=account.name,
                    firmwareName=campaign.package,
                    firmwareFrom=campaign.version_from,
                    firmwareTo=campaign.version_to,
                    startDate=campaign.start_date,
                    status=member.status,
                    reason=member.reason,
                    reportUpdatedTime=rfc3339(member.updated),
                )
            )
        return found

    @routes.get("/firmware/{acc}", operation_id="list_available_firmware")
    async def firmware(account: Caller, protocol: str) -> list[shapes.FirmwarePackage]:
        if protocol not in FIRMWARE_PROTOCOLS:
            raise RequestRefused(f"Invalid protocol {protocol[:64]!r}")
        return [
            shapes.FirmwarePackage(
                firmwareName=item.name,
                firmwareFrom=item.version_from,
                firmwareTo=item.version_to,
                launchDate=rfc3339(item.launched),
                releaseNote=item.release_note,
                model=item.model,
                make=item.make,
                protocol=item.protocol,
            )
            for item in backend.inventory.packages.values()
            if item.account == account.name and protocol in ("all", item.protocol)
        ]

    @routes.get("/devices/{acc}", operation_id="get_account_device_information")
    async def devices(
        account: Caller, lastSeenDeviceId: LastSeen = "0", protocol: str = LWM2M
    ) -> shapes.V3AccountDeviceList:
        if protocol not in DEVICE_PROTOCOLS:
            raise RequestRefused(f"Invalid protocol {protocol[:64]!r}")
        served = protocol in SERVED
        after = backend.inventory.after(account.name, lastSeenDeviceId) if served else ()
        page, more = page_of(after)
        return shapes.V3AccountDeviceList(
            accountName=account.name,
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[account_device(device) for device in page],
        )

    return routes
