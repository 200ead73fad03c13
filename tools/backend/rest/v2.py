"""API v2: campaigns of software and configuration files for HTTP devices, and their reports."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from tools.backend.campaigns.kinds import FILE_V2, SOFTWARE_V2, CampaignKind, Lock
from tools.backend.campaigns.records import Campaign, CampaignRequest, Member
from tools.backend.campaigns.states import CAMPAIGN_TABLE
from tools.backend.errors import RequestRefused
from tools.backend.inventory import PAGE, Account
from tools.backend.rest import v2_files, v2_logging
from tools.backend.rest import v2_models as shapes
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import read_model
from tools.backend.rest.common import (
    account_named,
    body_of,
    campaign_named,
    campaign_page,
    member_page,
)
from tools.backend.timing import Windows, date_text

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 2
PREFIX = "/api/fota/v2"

# The enumeration of campaignStatus is one for v2 and v3.
STATUSES = frozenset(CAMPAIGN_TABLE) | {"CampaignFailed", "CampaignQueued"}

PLATFORM = "IoT"
"""`devicePlatformId`; the public pages give no other value. [unverified]"""

LastSeen = Annotated[str, Query()]


def check_distribution(text: str) -> str:
    """The distribution type as campaigns call it. Raises RequestRefused."""
    if text not in v2_files.DISTRIBUTIONS:
        raise RequestRefused(f"Invalid distributionType {text[:64]!r}")
    return v2_files.DISTRIBUTIONS[text]


def _windows(windows: Windows) -> list[shapes.V2TimeWindow]:
    return [shapes.V2TimeWindow(startTime=start, endTime=end) for start, end in windows]


def _window_texts(windows: Windows) -> list[shapes.DownloadTimeWindow]:
    return [
        shapes.DownloadTimeWindow(startTime=str(start), endTime=str(end)) for start, end in windows
    ]


def _pairs(windows: list[shapes.V2TimeWindow] | None) -> Windows:
    return tuple((window.startTime, window.endTime) for window in windows or ())


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
        "distributionType": campaign.protocol,
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
                windows=_pairs(asked.downloadTimeWindowList),
                kind=kind,
                install_windows=_pairs(asked.installTimeWindowList),
                download_after=asked.downloadAfterDate or "",
                install_after=asked.installAfterDate or "",
                protocol=check_distribution(asked.distributionType),
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
            await schedule(account, FILE_V2, asked.fileName, "", asked.fileVersion, asked)
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
    async def read(account: Caller, campaign_id: str) -> shapes.CampaignSoftware:
        campaign = named(account, campaign_id)
        page, _more = member_page(campaign, "0")
        return shapes.CampaignSoftware(
            **_meta(campaign), deviceList=[_status(member) for member in page]
        )

    @routes.delete("/campaigns/{acc}/{campaign_id}", operation_id="cancel_campaign")
    async def cancel(account: Caller, campaign_id: str) -> shapes.FotaV2SuccessResult:
        await backend.engine.cancel(named(account, campaign_id))
        return shapes.FotaV2SuccessResult(success=True)

    @routes.get(
        "/reports/{acc}/campaigns",
        operation_id="get_campaign_history_by_status",
        response_model_exclude_none=True,
    )
    async def history(
        account: Caller, campaignStatus: str, lastSeenCampaignId: LastSeen = "0"
    ) -> shapes.V2CampaignHistory:
        page, more = campaign_page(
            backend, account, VERSION, campaignStatus, lastSeenCampaignId, STATUSES
        )
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
        account: Caller, campaign_id: str, lastSeenDeviceId: LastSeen = "0"
    ) -> shapes.V2CampaignDevice:
        campaign = named(account, campaign_id)
        page, more = member_page(campaign, lastSeenDeviceId)
        return shapes.V2CampaignDevice(
            totalDevice=len(campaign.members),
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[_status(member) for member in page],
        )

    @routes.get("/software/{acc}", operation_id="list_available_software")
    async def catalogue(
        account: Caller, distributionType: str | None = None
    ) -> list[shapes.SoftwarePackage]:
        wanted = "HTTP" if distributionType is None else check_distribution(distributionType)
        return [
            shapes.SoftwarePackage(
                softwareName=item.name,
                launchDate=date_text(item.launched),
                releaseNote=item.release_note,
                model=item.model,
                make=item.make,
                distributionType=item.protocol,
                devicePlatformId=PLATFORM,
            )
            for item in backend.inventory.packages.values()
            if item.account == account.name and item.protocol == wanted
        ]

    v2_files.add_routes(routes, backend, account_named(sessions), PLATFORM)
    v2_logging.add_routes(routes, backend, account_named(sessions))
    return routes
