"""API v3: firmware campaigns for LwM2M devices, and their reports."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request

from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.reasons import REASONS
from tools.backend.campaigns.records import (
    Campaign,
    CampaignDates,
    CampaignRequest,
    EditResult,
    Member,
)
from tools.backend.campaigns.states import ACCEPTED, PENDING
from tools.backend.inventory import PAGE, Account
from tools.backend.refusals import Refusal
from tools.backend.rest import callbacks, licences, v3_devices
from tools.backend.rest import v3_models as shapes
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import parse_json, read_body, read_model, shaped
from tools.backend.rest.common import (
    CampaignId,
    CampaignStatus,
    DeviceIdPath,
    LastSeenCampaign,
    LastSeenDevice,
    MemberPages,
    account_named,
    asked_windows,
    body_of,
    campaign_named,
    campaign_page,
    device_named,
)
from tools.backend.rest.device_views import time_text
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 3

# The words of the other two spellings; v1 and v3 have only the one.
PROTOCOL_OF = {
    "LWM2M": "LWM2M",
    "HTTP": "HTTP",
    "OMA": "OMADM",
    "OMADM": "OMADM",
    "OMD-DM": "OMADM",
}

# (type, whether it was done) -> status of an item. The first is the SDK's example; no other is
# public.
EDITED = {
    ("append", True): "AddDeviceSucceed",
    ("append", False): "AddDeviceFailed",
    ("remove", True): "RemoveDeviceSucceed",
    ("remove", False): "RemoveDeviceFailed",
}


def _is_listed(campaign: Campaign) -> bool:
    """Whether it is in the histories of v3: every firmware campaign of an LwM2M device is."""
    return campaign.protocol == "LWM2M" and campaign.kind.lock is Lock.FIRMWARE


def _own_words(member: Member) -> tuple[str, str]:
    """Status and reason of a device, in the words of v3 also when v1 made the campaign."""
    if member.campaign.kind.version == VERSION:
        return member.status, member.reason
    status = PENDING if member.status == ACCEPTED else member.status
    return status, member.reason if member.ending is None else REASONS[member.ending].v3


def _summary(campaign: Campaign) -> dict[str, Any]:
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
        "campaignTimeWindowList": [
            shapes.V3TimeWindow(startTime=start, endTime=end) for start, end in campaign.windows
        ],
        "status": campaign.status,
    }


def _status(member: Member) -> shapes.V3DeviceStatus:
    return shapes.V3DeviceStatus(
        deviceId=member.device_id,
        status=member.status,
        resultReason=member.reason,
        updatedTime=time_text(member.updated),
        recentAttemptTime=None if member.recent is None else time_text(member.recent),
        nextAttemptTime=None if member.next is None else time_text(member.next),
    )


def _edited(change: str, result: EditResult) -> shapes.V3DeviceListItem:
    return shapes.V3DeviceListItem(
        deviceId=result.device_id, status=EDITED[change, result.ok], Reason=result.reason
    )


def _parse_change(body: bytes) -> shapes.V3AddOrRemoveDeviceRequest:
    """A change as the SDK sends it, or wrapped in a list as one page of the documentation shows."""
    value = parse_json(body)
    if isinstance(value, dict) and "addOrRemoveDevice" in value:
        value = value["addOrRemoveDevice"]
        # Two changes could not be both applied or both refused.
        if not isinstance(value, list) or len(value) != 1:
            raise Refusal.ONE_CHANGE()
        value = value[0]
    return shaped(value, shapes.V3AddOrRemoveDeviceRequest)


def router(backend: "Backend", sessions: Sessions) -> APIRouter:
    """The routes of `/api/fota/v3`."""
    routes = APIRouter(prefix="/api/fota/v3")
    Caller = Annotated[Account, Depends(account_named(sessions))]
    pages = MemberPages()

    def named(account: Account, campaign_id: str) -> Campaign:
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
            CampaignRequest(
                account=account.name,
                title=asked.campaignName or "",
                package=asked.firmwareName,
                version_from=asked.firmwareFrom,
                version_to=asked.firmwareTo,
                start_date=asked.startDate,
                end_date=asked.endDate,
                devices=tuple(asked.deviceList),
                windows=asked_windows(asked.campaignTimeWindowList, ()),
                protocol=PROTOCOL_OF[asked.protocol],
                auto_assign=asked.autoAssignLicenseFlag,
                auto_add=asked.autoAddDevicesFlag,
            )
        )
        return shapes.FirmwareCampaign(**_summary(campaign))

    @routes.get(
        "/campaigns/{acc}/{campaign_id}",
        operation_id="get_campaign_information",
        response_model_exclude_none=True,
    )
    async def read(account: Caller, campaign_id: CampaignId) -> shapes.Campaign:
        campaign = named(account, campaign_id)
        return shapes.Campaign(
            **_summary(campaign),
            autoAssignLicenseFlag=campaign.auto_assign,
            autoAddDevicesFlag=campaign.auto_add,
        )

    async def edit(
        account: Caller, campaign_id: CampaignId, request: Request
    ) -> shapes.V3AddOrRemoveDeviceResult:
        campaign = named(account, campaign_id)
        asked = _parse_change(await read_body(request))
        change = backend.engine.append if asked.change == "append" else backend.engine.remove
        results = await change(campaign, asked.deviceList)
        return shapes.V3AddOrRemoveDeviceResult(
            accountName=account.name,
            campaignId=campaign.id,
            deviceList=[_edited(asked.change, result) for result in results],
        )

    async def redate(
        account: Caller, campaign_id: CampaignId, request: Request
    ) -> shapes.FirmwareCampaign:
        campaign = named(account, campaign_id)
        asked = await read_model(request, shapes.V3ChangeCampaignDatesRequest)
        await backend.engine.redate(
            campaign,
            CampaignDates(
                start_date=asked.startDate,
                end_date=asked.endDate,
                windows=asked_windows(asked.campaignTimeWindowList, campaign.windows),
            ),
        )
        return shapes.FirmwareCampaign(**_summary(campaign))

    # The SDK's paths, and those of a page of the documentation, which leaves `/firmware` out.
    routes.put(
        "/campaigns/firmware/{acc}/{campaign_id}",
        operation_id="update_campaign_firmware_devices",
        openapi_extra=body_of(shapes.V3AddOrRemoveDeviceRequest),
    )(edit)
    routes.put("/campaigns/{acc}/{campaign_id}", include_in_schema=False)(edit)
    routes.put(
        "/campaigns/firmware/{acc}/{campaign_id}/dates",
        operation_id="update_campaign_dates",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.V3ChangeCampaignDatesRequest),
    )(redate)
    routes.put(
        "/campaigns/{acc}/{campaign_id}/dates",
        include_in_schema=False,
        response_model_exclude_none=True,
    )(redate)

    @routes.delete("/campaigns/{acc}/{campaign_id}", operation_id="cancel_campaign")
    async def cancel(account: Caller, campaign_id: CampaignId) -> shapes.FotaV3SuccessResult:
        await backend.engine.cancel(named(account, campaign_id))
        return shapes.FotaV3SuccessResult(success=True)

    @routes.get(
        "/reports/{acc}/campaigns/{campaign_id}/devices",
        operation_id="get_campaign_device_status",
        response_model_exclude_none=True,
    )
    async def campaign_devices(
        account: Caller, campaign_id: CampaignId, lastSeenDeviceId: LastSeenDevice = "0"
    ) -> shapes.V3CampaignDevice:
        campaign = named(account, campaign_id)
        page, more = pages.page(campaign, lastSeenDeviceId)
        return shapes.V3CampaignDevice(
            totalDevice=len(campaign.members),
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[_status(member) for member in page],
        )

    async def history(
        account: Caller, campaignStatus: CampaignStatus, lastSeenCampaignId: LastSeenCampaign = "0"
    ) -> shapes.V3CampaignHistory:
        page, more = campaign_page(backend, account, VERSION, campaignStatus, lastSeenCampaignId)
        return shapes.V3CampaignHistory(
            hasMoreData=more,
            lastSeenCampaignId=page[-1].id if more else "0",
            campaignList=[shapes.V3CampaignMetaInfo(**_summary(item)) for item in page],
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
    async def device_history(
        account: Caller, device_id: DeviceIdPath
    ) -> list[shapes.DeviceFirmwareUpgrade]:
        device = device_named(backend, account, device_id)
        return [
            shapes.DeviceFirmwareUpgrade(
                deviceId=device.device_id,
                campaignId=member.campaign.id,
                accountName=account.name,
                firmwareName=member.campaign.package,
                firmwareFrom=member.campaign.version_from,
                firmwareTo=member.campaign.version_to,
                startDate=member.campaign.start_date,
                status=status,
                reason=reason,
                reportUpdatedTime=rfc3339(member.updated),
            )
            for member in backend.engine.book.members_of(device.name)
            if _is_listed(member.campaign)
            for status, reason in [_own_words(member)]
        ]

    v3_devices.add_routes(routes, backend, account_named(sessions))
    licences.add_v3(routes, backend, account_named(sessions))
    callbacks.add_v3(routes, backend, account_named(sessions))
    return routes
