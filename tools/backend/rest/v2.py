"""API v2: campaigns of software and configuration files for HTTP devices, and their reports."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request

from tools.backend.campaigns.kinds import FILE_V2, FILES_V2, SOFTWARE_V2, CampaignKind, Lock
from tools.backend.campaigns.records import Campaign, CampaignDates, CampaignRequest, Member
from tools.backend.inventory import PAGE, Account
from tools.backend.rest import callbacks, licences, v2_devices, v2_files, v2_logging
from tools.backend.rest import v2_models as shapes
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import read_model
from tools.backend.rest.common import (
    CampaignId,
    CampaignStatus,
    LastSeenCampaign,
    LastSeenDevice,
    MemberPages,
    RequestIds,
    account_named,
    asked_windows,
    body_of,
    campaign_named,
    campaign_page,
)
from tools.backend.rest.device_views import DISTRIBUTION_OF
from tools.backend.timing import Windows

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 2
PREFIX = "/api/fota/v2"


def _windows(windows: Windows) -> list[shapes.V2TimeWindow]:
    return [shapes.V2TimeWindow(startTime=start, endTime=end) for start, end in windows]


def _window_texts(windows: Windows) -> list[shapes.DownloadTimeWindow]:
    return [
        shapes.DownloadTimeWindow(startTime=str(start), endTime=str(end)) for start, end in windows
    ]


def _summary(campaign: Campaign) -> dict[str, Any]:
    """What every shape of a campaign has. A file's name and version stand in the software's
    members, and it comes from no version."""
    return {
        "id": campaign.id,
        "accountName": campaign.account,
        "campaignName": campaign.title or None,
        "softwareName": campaign.package,
        "softwareFrom": campaign.version_from,
        "softwareTo": campaign.version_to,
        "distributionType": DISTRIBUTION_OF[campaign.protocol],
        "make": campaign.make,
        "model": campaign.model,
        "startDate": campaign.start_date,
        "endDate": campaign.end_date,
        "downloadAfterDate": campaign.download_after or None,
        "installAfterDate": campaign.install_after or None,
        "status": campaign.status,
    }


def _meta(campaign: Campaign) -> dict[str, Any]:
    return {
        **_summary(campaign),
        "downloadTimeWindowList": _windows(campaign.windows),
        "installTimeWindowList": _windows(campaign.install_windows),
    }


def _newer(campaign: Campaign) -> shapes.UploadAndScheduleFileResponse:
    """The answer of the newer campaign calls."""
    is_file = campaign.kind.lock is Lock.FILE
    return shapes.UploadAndScheduleFileResponse(
        **_summary(campaign),
        fileName=campaign.package if is_file else None,
        fileVersion=campaign.version_to if is_file else None,
        downloadTimeWindowList=_window_texts(campaign.windows),
        installTimeWindowList=_window_texts(campaign.install_windows),
        deviceList=[member.device_id for member in campaign.members.values()],
    )


def _status(member: Member) -> shapes.V2DeviceStatus:
    return shapes.V2DeviceStatus(
        deviceId=member.device_id, status=member.status, resultReason=member.reason
    )


def router(backend: "Backend", sessions: Sessions) -> APIRouter:
    """The routes of `/api/fota/v2`."""
    routes = APIRouter(prefix=PREFIX)
    Caller = Annotated[Account, Depends(account_named(sessions))]
    pages = MemberPages()
    request_ids = RequestIds()

    def named(account: Account, campaign_id: str) -> Campaign:
        return campaign_named(backend, account, campaign_id, VERSION)

    async def schedule(
        account: Account,
        kind: CampaignKind,
        name: str,
        version_from: str,
        version_to: str,
        asked: shapes.CampaignSoftwareUpgrade | shapes.UploadAndScheduleFileRequest,
    ) -> Campaign:
        return await backend.engine.create(
            CampaignRequest(
                account=account.name,
                title=asked.campaignName or "",
                package=name,
                version_from=version_from,
                version_to=version_to,
                start_date=asked.startDate,
                end_date=asked.endDate,
                devices=tuple(asked.deviceList),
                windows=asked_windows(asked.downloadTimeWindowList, ()),
                kind=kind,
                install_windows=asked_windows(asked.installTimeWindowList, ()),
                download_after=asked.downloadAfterDate or "",
                install_after=asked.installAfterDate or "",
                protocol=v2_devices.PROTOCOL_OF[asked.distributionType],
            )
        )

    async def schedule_software(
        account: Account, asked: shapes.CampaignSoftwareUpgrade
    ) -> Campaign:
        return await schedule(
            account,
            SOFTWARE_V2,
            asked.softwareName,
            asked.softwareFrom,
            asked.softwareTo,
            asked,
        )

    @routes.post(
        "/campaigns/software/{acc}",
        operation_id="schedule_sw_upgrade_http_devices",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.SchedulesSoftwareUpgradeRequest),
    )
    async def newer_software(
        account: Caller, request: Request
    ) -> shapes.UploadAndScheduleFileResponse:
        asked = await read_model(request, shapes.SchedulesSoftwareUpgradeRequest)
        return _newer(await schedule_software(account, asked))

    @routes.post(
        "/campaigns/files/{acc}",
        operation_id="schedule_file_upgrade",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.UploadAndScheduleFileRequest),
    )
    async def file(account: Caller, request: Request) -> shapes.UploadAndScheduleFileResponse:
        asked = await read_model(request, shapes.UploadAndScheduleFileRequest)
        return _newer(
            await schedule(
                account,
                # LwM2M has none: the kind refuses it.
                FILES_V2.get(v2_devices.PROTOCOL_OF[asked.distributionType], FILE_V2),
                asked.fileName,
                "",
                asked.fileVersion,
                asked,
            )
        )

    @routes.post(
        "/campaigns/{acc}",
        operation_id="schedule_campaign_firmware_upgrade",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.CampaignSoftwareUpgrade),
    )
    async def software(account: Caller, request: Request) -> shapes.CampaignSoftware:
        asked = await read_model(request, shapes.CampaignSoftwareUpgrade)
        return shapes.CampaignSoftware(**_meta(await schedule_software(account, asked)))

    @routes.get(
        "/campaigns/{acc}/{campaign_id}",
        operation_id="get_campaign_information",
        response_model_exclude_none=True,
    )
    async def read(account: Caller, campaign_id: CampaignId) -> shapes.CampaignSoftware:
        campaign = named(account, campaign_id)
        page, _more = pages.page(campaign, "0")
        return shapes.CampaignSoftware(
            **_meta(campaign), deviceList=[_status(member) for member in page]
        )

    @routes.put(
        "/campaigns/{acc}/{campaign_id}",
        operation_id="update_campaign_firmware_devices",
        openapi_extra=body_of(shapes.V2AddOrRemoveDeviceRequest),
    )
    async def edit(
        account: Caller, campaign_id: CampaignId, request: Request
    ) -> shapes.V2AddOrRemoveDeviceResult:
        campaign = named(account, campaign_id)
        asked = await read_model(request, shapes.V2AddOrRemoveDeviceRequest)
        change = backend.engine.append if asked.change == "append" else backend.engine.remove
        # What became of each device is in the report of the campaign: the answer has no room.
        await change(campaign, asked.deviceList)
        # The public service works on it later, under this id; ours has done it by now.
        return shapes.V2AddOrRemoveDeviceResult(
            accountName=account.name,
            campaignId=campaign.id,
            requestId=request_ids.next(backend.time.now()),
        )

    @routes.put(
        "/campaigns/{acc}/{campaign_id}/dates",
        operation_id="update_campaign_dates",
        response_model_exclude_none=True,
        openapi_extra=body_of(shapes.V2ChangeCampaignDatesRequest),
    )
    async def redate(
        account: Caller, campaign_id: CampaignId, request: Request
    ) -> shapes.CampaignSoftware:
        campaign = named(account, campaign_id)
        asked = await read_model(request, shapes.V2ChangeCampaignDatesRequest)
        await backend.engine.redate(
            campaign,
            CampaignDates(
                start_date=asked.startDate,
                end_date=asked.endDate,
                windows=asked_windows(asked.downloadTimeWindowList, campaign.windows),
                install_windows=asked_windows(
                    asked.installTimeWindowList, campaign.install_windows
                ),
                download_after=asked.downloadAfterDate or campaign.download_after,
                install_after=asked.installAfterDate or campaign.install_after,
            ),
        )
        return shapes.CampaignSoftware(**_meta(campaign))

    @routes.delete("/campaigns/{acc}/{campaign_id}", operation_id="cancel_campaign")
    async def cancel(account: Caller, campaign_id: CampaignId) -> shapes.FotaV2SuccessResult:
        await backend.engine.cancel(named(account, campaign_id))
        return shapes.FotaV2SuccessResult(success=True)

    @routes.get(
        "/reports/{acc}/campaigns",
        operation_id="get_campaign_history_by_status",
        response_model_exclude_none=True,
    )
    async def history(
        account: Caller, campaignStatus: CampaignStatus, lastSeenCampaignId: LastSeenCampaign = "0"
    ) -> shapes.V2CampaignHistory:
        page, more = campaign_page(backend, account, VERSION, campaignStatus, lastSeenCampaignId)
        return shapes.V2CampaignHistory(
            hasMoreData=more,
            lastSeenCampaignId=page[-1].id if more else "0",
            campaignList=[shapes.V2CampaignMetaInfo(**_meta(item)) for item in page],
        )

    @routes.get(
        "/reports/{acc}/campaigns/{campaign_id}/devices",
        operation_id="get_campaign_device_status",
    )
    async def campaign_devices(
        account: Caller, campaign_id: CampaignId, lastSeenDeviceId: LastSeenDevice = "0"
    ) -> shapes.V2CampaignDevice:
        campaign = named(account, campaign_id)
        page, more = pages.page(campaign, lastSeenDeviceId)
        return shapes.V2CampaignDevice(
            totalDevice=len(campaign.members),
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[_status(member) for member in page],
        )

    v2_devices.add_routes(routes, backend, account_named(sessions))
    v2_files.add_routes(routes, backend, account_named(sessions))
    v2_logging.add_routes(routes, backend, account_named(sessions))
    licences.add_v2(routes, backend, account_named(sessions))
    callbacks.add_v2(routes, backend, account_named(sessions))
    return routes
