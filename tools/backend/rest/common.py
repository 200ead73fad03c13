"""What the versions of the REST API share: whose account it is, paging, documents of bodies."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import Path, Query, Request
from pydantic import BaseModel

from tools.backend.campaigns.records import Campaign, Member
from tools.backend.inventory import (
    ACCOUNT_NAME,
    DEVICE_ID,
    PAGE,
    Account,
    Device,
    check_device_id,
)
from tools.backend.refusals import Refusal
from tools.backend.rest.auth import Sessions
from tools.backend.rest.fields import AskedWindow
from tools.backend.timing import Windows

if TYPE_CHECKING:
    from tools.backend.backend import Backend

T = TypeVar("T")

CAMPAIGN_ALIASES = {"CampaignQueued": "CampaignRequestQueued"}
"""The lifecycle text writes one name, the enumeration another."""

NEVER_FIRST = ("", "0")
"""What a caller sends as the last seen id to get the first page."""

NEVER = "01/01/1900 0:0:0"
"""What the API serves as the time of an upgrade that never was."""

MAX_ORDERS = 8
"""Campaigns whose devices are kept sorted for somebody who turns pages."""

CampaignStatus = Annotated[
    Literal[
        "CampaignRequestPending",
        "CampaignRequestFailed",
        "CampaignRequestQueued",
        "CampaignQueued",
        "CampaignCancelled",
        "CampaignAborted",
        "CampaignFailed",
        "CampaignPreScheduled",
        "CampaignScheduled",
        "CampaignEnded",
    ],
    Query(description="One enumeration for v2 and v3, with the two names of the lifecycle text."),
]

# For the documents only: what is of another form is refused in the API's own words.
CampaignId = Annotated[str, Path(json_schema_extra={"format": "uuid"})]
DeviceIdPath = Annotated[
    str, Path(json_schema_extra={"pattern": "^[0-9]{15}$"}, description="IMEI")
]
AccountName = Annotated[str, Path(json_schema_extra={"pattern": "^[0-9]{10}-[0-9]{5}$"})]

LastSeenDevice = Annotated[
    str, Query(description="The id that the page before ended with; `0` for the first page.")
]
LastSeenCampaign = Annotated[
    str, Query(description="The id that the page before ended with; `0` for the first page.")
]


def own_account(caller: Account, name: str) -> Account:
    """The caller's account, if that is the one it names. Raises RequestRefused."""
    if name != caller.name:
        if not ACCOUNT_NAME.fullmatch(name):
            raise Refusal.ACCOUNT_FORMAT()
        # Somebody else's account answers as one that does not exist.
        raise Refusal.ACCOUNT_UNKNOWN()
    return caller


def account_named(sessions: Sessions) -> Callable[..., Awaitable[Account]]:
    """The dependency that turns the path's `acc` into the caller's account."""

    # A coroutine: FastAPI runs plain functions in a thread, which costs more than this does and
    # cannot be in virtual time.
    async def find(acc: AccountName, request: Request) -> Account:
        return own_account(sessions.caller(request), acc)

    return find


def campaign_named(backend: Backend, account: Account, text: str, version: int) -> Campaign:
    """A campaign of the account in this version of the API. Raises RequestRefused."""
    campaign = backend.engine.book.campaigns.get(text)
    if campaign is None or campaign.account != account.name or campaign.kind.version != version:
        raise Refusal.CAMPAIGN_UNKNOWN()
    return campaign


def device_named(backend: Backend, account: Account, text: object) -> Device:
    """A device of the account. Raises RequestRefused."""
    device = backend.inventory.by_id(account.name, check_device_id(text))
    if device is None:
        raise Refusal.DEVICE_UNKNOWN()
    return device


def page_of(items: Iterable[T]) -> tuple[list[T], bool]:
    """The first page, and whether there is another one."""
    page = list(islice(items, PAGE + 1))
    return page[:PAGE], len(page) > PAGE


def last_seen_device(text: str) -> str:
    """The id after which a page begins. The device itself may be gone. Raises RequestRefused."""
    if text in NEVER_FIRST:
        return ""
    if not DEVICE_ID.fullmatch(text):
        raise Refusal.LAST_SEEN()
    return text


def campaign_page(
    backend: Backend, account: Account, version: int, status: str, last_seen: str
) -> tuple[list[Campaign], bool]:
    """A page of the campaigns in one status, by creation. Raises RequestRefused."""
    status = CAMPAIGN_ALIASES.get(status, status)
    seen = 0
    if last_seen not in NEVER_FIRST:
        seen = campaign_named(backend, account, last_seen, version).number
    return page_of(
        item
        for item in backend.engine.book.of_account(account.name, version)
        if item.number > seen and item.status == status
    )


_DEVICE_ID = attrgetter("device_id")


class MemberPages:
    """The devices of campaigns in pages, by id.

    Sorting 100,000 devices for each page would cost more than the page; so the order of the
    campaigns asked for last is kept."""

    def __init__(self) -> None:
        self._orders: dict[str, tuple[Member | None, list[Member]]] = {}

    def page(self, campaign: Campaign, last_seen: str) -> tuple[list[Member], bool]:
        """The page after `last_seen`, and whether there is another. Raises RequestRefused."""
        order = self._order(campaign)
        start = bisect_right(order, last_seen_device(last_seen), key=_DEVICE_ID)
        return page_of(islice(order, start, None))

    def _order(self, campaign: Campaign) -> list[Member]:
        members = campaign.members
        # A device that is added comes last and one that is removed makes them fewer: as long as
        # number and last are the same, so are all.
        last = next(reversed(members.values()), None)
        known = self._orders.pop(campaign.id, None)
        if known is None or known[0] is not last or len(known[1]) != len(members):
            known = (last, sorted(members.values(), key=_DEVICE_ID))
        self._orders[campaign.id] = known
        while len(self._orders) > MAX_ORDERS:
            del self._orders[next(iter(self._orders))]
        return known[1]


REQUEST_IDS = uuid.UUID("0c3c1f6e-52ab-5b0c-8d0e-9a4ff1d0a6b2")


class RequestIds:
    """Ids of requests: never the same twice, and the same in two equal runs of virtual time."""

    def __init__(self) -> None:
        self._number = 0

    def next(self, now: float) -> str:
        """Another one; `now` is the backend's time, which no restart turns back."""
        self._number += 1
        return str(uuid.uuid5(REQUEST_IDS, f"{now!r}/{self._number}"))


def asked_windows(asked: Iterable[AskedWindow] | None, stored: Windows) -> Windows:
    """The time windows of a request, in the order they were sent; what it leaves out stays."""
    if asked is None:
        return stored
    return tuple((window.startTime, window.endTime) for window in asked)


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI entry of a body that we parse ourselves, whatever its Content-Type. The schemas
    that it refers to stand under its `$defs`, from where `openapi_document` takes them."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
