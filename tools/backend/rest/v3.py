"""API v3: firmware campaigns for LwM2M devices, their reports, the catalogue and the devices."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from tools.backend.campaigns import records
from tools.backend.campaigns.states import CAMPAIGN_TABLE
from tools.backend.errors import RequestRefused
from tools.backend.inventory import PAGE, Account, Device
from tools.backend.rest import v3_models as shapes
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import read_model
from tools.backend.rest.common import (
    account_named,
    body_of,
    campaign_named,
    campaign_page,
    device_named,
    member_page,
    page_of,
)
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 3
LWM2M = "LWM2M"
FIRMWARE_PROTOCOLS = frozenset({LWM2M, "OMD-DM", "HTTP", "all"})
DEVICE_PROTOCOLS = {
    LWM2M: LWM2M,
    "OMD-DM": "OMADM",
    "OMDADM": "OMADM",
    "OMADM": "OMADM",
    "OMA": "OMADM",
    "HTTP": "HTTP",
    "NONE": "NONE",
    "all": "all",
}
"""Every spelling that the SDK and the documentation use, and what devices have."""

STATUSES = frozenset(CAMPAIGN_TABLE) | {"CampaignFailed", "CampaignQueued"}

NEVER = "01/01/1900 0:0:0"
"""What the API serves for a device that was never upgraded."""

LastSeen = Annotated[str, Query()]


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
        protocol=device.protocol,
        createTime=rfc3339(device.created),
        upgradeTime=NEVER if device.upgraded is None else rfc3339(device.upgraded),
        updateTime=rfc3339(device.updated),
        refreshTime=rfc3339(device.updated),
    )


def router(backend: "Backend", sessions: Sessions) -> APIRouter:
    """The routes of `/api/fota/v3`."""
    routes = APIRouter(prefix="/api/fota/v3")

    Caller = Annotated[Account, Depends(account_named(sessions))]

    def named(account: Account, campaign_id: str) -> records.Campaign:
        return campaign_named(backend, account, campaign_id, VERSION)

    @routes.post(
        "/campaigns/firmware/{acc}",
        operation_id="schedule_campaign_firmware_upgrade",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.CampaignFirmwareUpgrade),
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
        campaign = named(account, campaign_id)
        return shapes.Campaign(
            **campaign_summary(campaign),
            autoAssignLicenseFlag=campaign.auto_assign,
            autoAddDevicesFlag=campaign.auto_add,
        )

    @routes.delete("/campaigns/{acc}/{campaign_id}", operation_id="cancel_campaign")
    async def cancel(account: Caller, campaign_id: str) -> shapes.FotaV3SuccessResult:
        await backend.engine.cancel(named(account, campaign_id))
        return shapes.FotaV3SuccessResult(success=True)

    @routes.get(
        "/reports/{acc}/campaigns/{campaign_id}/devices",
        operation_id="get_campaign_device_status",
        response_model_exclude_none=True,
    )
    async def campaign_devices(
        account: Caller, campaign_id: str, lastSeenDeviceId: LastSeen = "0"
    ) -> shapes.V3CampaignDevice:
        campaign = named(account, campaign_id)
        page, more = member_page(campaign, lastSeenDeviceId)
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
        page, more = campaign_page(
            backend, account, VERSION, campaignStatus, lastSeenCampaignId, STATUSES
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
        device = device_named(backend, account, device_id)
        found = []
        for campaign in backend.engine.book.of_account(account.name, VERSION):
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
        wanted = DEVICE_PROTOCOLS[protocol]
        page, more = page_of(
            device
            for device in backend.inventory.after(account.name, lastSeenDeviceId)
            if wanted in ("all", device.protocol)
        )
        return shapes.V3AccountDeviceList(
            accountName=account.name,
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[account_device(device) for device in page],
        )

    return routes
