"""API v1: firmware that is available, devices of the account, reports and histories."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.publication import last_publication
from tools.backend.campaigns.reasons import V1_FAILED, V1_SUCCESS
from tools.backend.campaigns.records import Campaign, Member
from tools.backend.inventory import DEVICE_ID, Account, Device
from tools.backend.refusals import Refusal
from tools.backend.rest import v1_models as shapes
from tools.backend.rest import v1_words as words
from tools.backend.rest.common import DeviceIdPath, device_named, page_of
from tools.backend.rest.v1_stream import report_parts, streamed
from tools.backend.timing import DAY, rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 1

REPORT_PAGE = 100
"""Upgrades in one report by status; ours, each comes with all its devices."""

SIX_MONTHS = 183 * DAY
"""How far reports and histories go back [documented: six months]."""

SHOWN_VERSIONS = (1, 3)
"""The versions whose campaigns a history of v1 lists: those that update its devices' firmware."""

ClientType = Annotated[
    str | None,
    Query(
        description="What the devices speak. Other spellings of OMADM are read as well.",
        json_schema_extra={"enum": sorted(words.V1_PROTOCOLS)},
    ),
]
LastSeen = Annotated[
    str,
    Path(
        description="`lastSeenDeviceId` of the page before; `0` for the first one.",
        json_schema_extra={"pattern": "^[0-9]{1,15}$"},
    ),
]
Offset = Annotated[
    str,
    Path(
        description="The number of the first record, from 0.",
        json_schema_extra={"pattern": "^[0-9]{1,15}$"},
    ),
]
UpgradeStatus = Annotated[str, Path(json_schema_extra={"enum": sorted(words.REPORTED)})]


def check_client_type(text: str | None) -> frozenset[str]:
    """What the wanted devices speak. Raises RequestRefused."""
    if text is None:
        return words.V1_PROTOCOLS
    if text not in words.CLIENT_TYPES:
        raise Refusal.CLIENT_TYPE(value=text)
    return frozenset({words.CLIENT_TYPES[text]})


def check_offset(text: str) -> int:
    """The number of the first record. Raises RequestRefused."""
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise Refusal.INDEX()
    return int(text)


def check_last_seen(backend: "Backend", account: Account, text: str) -> str:
    """The device after which a page begins. Raises RequestRefused."""
    if text == "0":
        return text
    # It comes as a number, which has lost the zeros that an IMEI may begin with.
    if (
        not (text.isascii() and DEVICE_ID.fullmatch(text.zfill(15)))
        or backend.inventory.by_id(account.name, text.zfill(15)) is None
    ):
        raise Refusal.LAST_SEEN()
    return text.zfill(15)


def device_item(device: Device, *, licensed: bool) -> shapes.DeviceListQueryItem:
    return shapes.DeviceListQueryItem(
        deviceId=device.device_id,
        mdn=device.mdn,
        model=device.model,
        make=device.make,
        firmware=device.firmware,
        fotaEligible=device.protocol in words.V1_PROTOCOLS,
        licenseAssigned=licensed,
        upgradeTime=words.upgrade_time(device.upgraded),
        clientType=device.protocol,
        status=device.line,
    )


def attempt_item(
    member: Member, started: float, status: str, version_from: str
) -> shapes.DeviceUpgradeHistory:
    """One attempt that has ended, in the words of v1 whichever version made the campaign."""
    campaign = member.campaign
    good = status == states.SUCCESS
    return shapes.DeviceUpgradeHistory(
        deviceId=member.device_id,
        id=campaign.id,
        accountName=campaign.account,
        firmwareFrom=version_from or campaign.version_from,
        firmwareTo=campaign.version_to,
        startDate=campaign.start_date,
        upgradeStartTime=rfc3339(started),
        status=words.ATTEMPT_SUCCESS if good else words.ATTEMPT_FAILED,
        reason=V1_SUCCESS if good else V1_FAILED,
    )


async def history_of(backend: "Backend", device: Device) -> list[shapes.DeviceUpgradeHistory]:
    """The attempts of six months that were published, newest first, as in the SDK's example."""
    now = backend.time.now()
    until = last_publication(now, backend.timing)
    found: list[tuple[float, shapes.DeviceUpgradeHistory]] = []
    tried: set[str] = set()
    members = {
        member.campaign.id: member
        for member in backend.engine.book.members_of(device.name)
        if member.campaign.kind.lock is Lock.FIRMWARE
        and member.campaign.kind.version in SHOWN_VERSIONS
    }
    for attempt in await backend.engine.attempts(device.name):
        member = members.get(attempt.campaign.id)
        if member is None:
            continue
        tried.add(attempt.campaign.id)
        if attempt.finished is not None and attempt.finished <= until:
            item = attempt_item(member, attempt.started, attempt.status, attempt.version_from)
            found.append((attempt.started, item))
    for member in members.values():
        # It was never asked and has failed; that is an entry too.
        failed = member.status == states.FAILED and member.updated <= until
        if failed and member.campaign.id not in tried:
            started = member.campaign.starts
            found.append((started, attempt_item(member, started, member.status, device.firmware)))
    found.sort(key=lambda entry: entry[0], reverse=True)
    return [item for started, item in found if started >= now - SIX_MONTHS]


def add_routes(
    routes: APIRouter, backend: "Backend", owner: Callable[..., Awaitable[Account]]
) -> None:
    """The routes of `/firmware`, `/devices` and `/reports`."""
    Owner = Annotated[Account, Depends(owner)]

    @routes.get("/firmware/{acc}", operation_id="list_available_firmware")
    async def firmware(account: Owner, clientType: ClientType = None) -> list[shapes.Firmware]:
        wanted = check_client_type(clientType)
        return [
            shapes.Firmware(
                firmwareName=item.name,
                participantName=item.account,
                launchDate=rfc3339(item.launched),
                releaseNote=item.release_note,
                model=item.model,
                make=item.make,
                fromVersion=item.version_from,
                toVersion=item.version_to,
                clientType=item.protocol,
            )
            for item in backend.inventory.packages.values()
            if item.account == account.name and item.protocol in wanted
        ]

    def listed(account: Account, start_index: str, clientType: str | None) -> Response:
        wanted = check_client_type(clientType)
        last_seen = check_last_seen(backend, account, start_index)
        page, more = page_of(
            device
            for device in backend.inventory.after(account.name, last_seen)
            if device.protocol in wanted
        )
        answer = shapes.DeviceListQueryResult(
            accountName=account.name,
            hasMoreData=more,
            lastSeenDeviceId=int(page[-1].device_id) if more else 0,
            deviceList=[
                device_item(device, licensed=backend.licences.holds(device.device_id))
                for device in page
            ],
        )
        return Response(answer.model_dump_json(), media_type="application/json")

    @routes.get(
        "/devices/{acc}/index/{start_index}",
        operation_id="list_account_devices",
        response_model=shapes.DeviceListQueryResult,
    )
    async def devices(
        account: Owner, start_index: LastSeen, clientType: ClientType = None
    ) -> Response:
        return listed(account, start_index, clientType)

    # As the release notes write it.
    @routes.get("/devices/{acc}", include_in_schema=False)
    async def first_devices(account: Owner, clientType: ClientType = None) -> Response:
        return listed(account, "0", clientType)

    @routes.get(
        "/reports/{acc}/status/{upgrade_status}/index/{start_index}",
        operation_id="list_upgrades_for_specified_status",
        response_model=shapes.UpgradeListQueryResult,
    )
    async def upgrades(
        account: Owner, upgrade_status: UpgradeStatus, start_index: Offset
    ) -> Response:
        if upgrade_status not in words.REPORTED:
            raise Refusal.UPGRADE_STATUS(value=upgrade_status)
        offset = check_offset(start_index)
        now = backend.time.now()
        found: list[Campaign] = [
            campaign
            for campaign in backend.engine.book.of_account(account.name, VERSION)
            if words.upgrade_status(campaign) == upgrade_status
            and campaign.starts >= now - SIX_MONTHS
        ]
        page = found[offset : offset + REPORT_PAGE]
        more = len(found) > offset + REPORT_PAGE
        following = offset + REPORT_PAGE if more else 0
        return streamed(report_parts(page, more, following, now, backend.timing))

    async def history(account: Owner, device_id: DeviceIdPath) -> list[shapes.DeviceUpgradeHistory]:
        return await history_of(backend, device_named(backend, account, device_id))

    # The SDK's path, and the one of the documentation's example.
    routes.get(
        "/reports/{acc}/devices/{device_id}", operation_id="get_device_firmware_upgrade_history"
    )(history)
    routes.get("/reports/{acc}/device/{device_id}", include_in_schema=False)(history)
