"""What the versions of the REST API share: whose account it is, paging, documents of bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from tools.backend.campaigns.records import Campaign, Member
from tools.backend.errors import RequestRefused
from tools.backend.inventory import ACCOUNT_NAME, PAGE, Account, Device, check_device_id
from tools.backend.rest.auth import Sessions

if TYPE_CHECKING:
    from tools.backend.backend import Backend

T = TypeVar("T")

CAMPAIGN_ALIASES = {"CampaignQueued": "CampaignRequestQueued"}
"""The lifecycle text writes one name, the enumeration another."""

NEVER_FIRST = ("", "0")
"""What a caller sends as the last seen id to get the first page."""


def own_account(caller: Account, name: str) -> Account:
    """The caller's account, if that is the one it names. Raises RequestRefused."""
    if name != caller.name:
        if not ACCOUNT_NAME.fullmatch(name):
            raise RequestRefused("Invalid account name format")
        # Somebody else's account answers as one that does not exist.
        raise RequestRefused("Account does not exist")
    return caller


def account_named(sessions: Sessions) -> Callable[..., Awaitable[Account]]:
    """The dependency that turns the path's `acc` into the caller's account."""

    # A coroutine: FastAPI runs plain functions in a thread, which costs more than this does and
    # cannot be in virtual time.
    async def find(acc: str, request: Request) -> Account:
        return own_account(sessions.caller(request), acc)

    return find


def campaign_named(backend: Backend, account: Account, text: str, version: int) -> Campaign:
    """A campaign of the account in this version of the API. Raises RequestRefused."""
    campaign = backend.engine.book.campaigns.get(text)
    if campaign is None or campaign.account != account.name or campaign.kind.version != version:
        raise RequestRefused("Campaign does not exist")
    return campaign


def device_named(backend: Backend, account: Account, text: object) -> Device:
    """A device of the account. Raises RequestRefused."""
    device = backend.inventory.by_id(account.name, check_device_id(text))
    if device is None:
        raise RequestRefused("Device does not exist.")
    return device


def page_of(items: Iterable[T]) -> tuple[list[T], bool]:
    """The first page, and whether there is another one."""
    page = list(islice(items, PAGE + 1))
    return page[:PAGE], len(page) > PAGE


def campaign_page(
    backend: Backend,
    account: Account,
    version: int,
    status: str,
    last_seen: str,
    statuses: frozenset[str],
) -> tuple[list[Campaign], bool]:
    """A page of the campaigns in one status, by creation. Raises RequestRefused."""
    if status not in statuses:
        raise RequestRefused(f"Invalid campaignStatus {status[:64]!r}")
    status = CAMPAIGN_ALIASES.get(status, status)
    seen = 0
    if last_seen not in NEVER_FIRST:
        seen = campaign_named(backend, account, last_seen, version).number
    return page_of(
        item
        for item in backend.engine.book.of_account(account.name, version)
        if item.number > seen and item.status == status
    )


def member_page(campaign: Campaign, last_seen: str) -> tuple[list[Member], bool]:
    """A page of the devices of a campaign, by id."""
    return page_of(
        sorted(
            (item for item in campaign.members.values() if item.device_id > last_seen),
            key=lambda item: item.device_id,
        )
    )


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI entry of a body that we parse ourselves, whatever its Content-Type."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
