"""API v1: firmware upgrades, from the request to the cancellation."""

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request, Response

from tools.backend.campaigns.kinds import FIRMWARE_V1, FIRMWARE_V1_LWM2M
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.inventory import Account
from tools.backend.refusals import Refusal
from tools.backend.rest import v1_models as shapes
from tools.backend.rest import v1_words as words
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import read_model
from tools.backend.rest.common import CampaignId, body_of, own_account
from tools.backend.rest.v1_stream import streamed, upgrade_parts
from tools.backend.timing import DAY, date_text, day_start

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 1

KIND_OF = {"OMADM": FIRMWARE_V1, "LWM2M": FIRMWARE_V1_LWM2M}

DEFAULT_DAYS = 3
"""Days from the start date to an end date that the request does not give, as with older clients.
Ours: it leaves room for the three days in which v1 tries an LwM2M device [documented]."""


def start_date(text: str | None, now: float) -> str:
    """The start date, `YYYY-MM-DD`; of an instant, as older clients send it, the UTC day.
    Raises RequestRefused."""
    try:
        moment = dt.datetime.fromisoformat(text or "")
        date = text or ""
        if "T" in date:
            date = moment.astimezone(dt.UTC).date().isoformat() if moment.tzinfo else date[:10]
        day_start(date)
    except (ValueError, OverflowError):
        raise Refusal.START_DATE() from None
    if date < date_text(now):
        raise Refusal.START_DATE()
    return date


def end_date(text: str | None, start: str) -> str:
    """The end date, or the default; a date is checked later, with the rest of the request."""
    if text is not None:
        return text
    try:
        return date_text(day_start(start) + DEFAULT_DAYS * DAY)
    except (ValueError, OverflowError):
        # The last days that a date can name.
        raise Refusal.START_DATE() from None


def upgrade_named(backend: "Backend", account: Account, text: str) -> Campaign:
    """An upgrade of the account. Raises RequestRefused."""
    try:
        upgrade_id = str(uuid.UUID(text))
    except ValueError:
        raise Refusal.UPGRADE_UUID() from None
    campaign = backend.engine.book.campaigns.get(upgrade_id)
    if campaign is None or campaign.account != account.name or campaign.kind.version != VERSION:
        raise Refusal.UPGRADE_UNKNOWN()
    return campaign


def check_active(account: Account) -> Account:
    """The account, if it has subscribed to anything; what makes one inactive is ours."""
    if not account.purchase_type:
        raise Refusal.ACCOUNT_INACTIVE()
    return account


def add_routes(
    routes: APIRouter,
    backend: "Backend",
    sessions: Sessions,
    owner: Callable[..., Awaitable[Account]],
) -> None:
    """The routes of `/upgrades`."""
    Owner = Annotated[Account, Depends(owner)]

    async def caller(request: Request) -> Account:
        return sessions.caller(request)

    Caller = Annotated[Account, Depends(caller)]

    def shown(campaign: Campaign) -> Response:
        return streamed(upgrade_parts(campaign, backend.time.now(), backend.timing))

    @routes.post(
        "/upgrades",
        operation_id="schedule_firmware_upgrade",
        response_model=shapes.FirmwareUpgrade,
        openapi_extra=body_of(shapes.FirmwareUpgradeRequest),
    )
    async def schedule(whose: Caller, request: Request) -> Response:
        asked = await read_model(request, shapes.FirmwareUpgradeRequest)
        account = check_active(own_account(whose, asked.accountName))
        if not asked.deviceList:
            raise Refusal.NO_DEVICES()
        start = start_date(asked.startDate, backend.time.now())
        firmware = backend.inventory.packages.get((account.name, asked.firmwareName))
        if firmware is None or firmware.protocol not in KIND_OF:
            raise Refusal.FIRMWARE_UNKNOWN(name=asked.firmwareName)
        campaign = await backend.engine.create(
            CampaignRequest(
                account=account.name,
                title="",
                package=firmware.name,
                version_from=firmware.version_from,
                version_to=asked.firmwareTo,
                start_date=start,
                end_date=end_date(asked.endDate, start),
                devices=tuple(asked.deviceList),
                kind=KIND_OF[firmware.protocol],
                protocol=firmware.protocol,
            )
        )
        return shown(campaign)

    @routes.get(
        "/upgrades/{acc}/upgrade/{upgrade_id}",
        operation_id="list_firmware_upgrade_details",
        response_model=shapes.FirmwareUpgrade,
    )
    async def read(account: Owner, upgrade_id: CampaignId) -> Response:
        return shown(upgrade_named(backend, account, upgrade_id))

    @routes.put(
        "/upgrades/{acc}/upgrade/{upgrade_id}",
        operation_id="update_firmware_upgrade_devices",
        openapi_extra=body_of(shapes.FirmwareUpgradeChangeRequest),
    )
    async def change(
        account: Owner, upgrade_id: CampaignId, request: Request
    ) -> shapes.FirmwareUpgradeChangeResult:
        campaign = upgrade_named(backend, account, upgrade_id)
        asked = await read_model(request, shapes.FirmwareUpgradeChangeRequest)
        if not asked.deviceList:
            raise Refusal.NO_DEVICES()
        if asked.type == "append":
            results = await backend.engine.append(campaign, asked.deviceList)
            done, failed = words.ADDED, words.NOT_ADDED
        else:
            results = await backend.engine.remove(campaign, asked.deviceList)
            done, failed = words.REMOVED, words.NOT_REMOVED
        return shapes.FirmwareUpgradeChangeResult(
            accountName=account.name,
            id=campaign.id,
            deviceList=[
                shapes.V1DeviceListItem(
                    deviceId=item.device_id,
                    status=done[0] if item.ok else failed,
                    Reason=done[1] if item.ok else item.reason,
                )
                for item in results
            ],
        )

    @routes.delete(
        "/upgrades/{acc}/upgrade/{upgrade_id}", operation_id="cancel_scheduled_firmware_upgrade"
    )
    async def cancel(account: Owner, upgrade_id: CampaignId) -> shapes.FotaV1SuccessResult:
        await backend.engine.cancel(upgrade_named(backend, account, upgrade_id))
        return shapes.FotaV1SuccessResult(success=True)
