"""Accounts: who the customers of the backend are, and what they have subscribed to."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tools.backend.admin import models, rows
from tools.backend.admin.common import NO_STORE, account_of
from tools.backend.errors import RequestRefused
from tools.backend.inventory import EVENT_BILLED, Account
from tools.backend.rest.body import read_model
from tools.backend.rest.common import body_of
from tools.backend.store import rows as store
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

MAX_ACCOUNTS = 10_000
"""Ours: each is held in memory and listed in one answer."""


def new_secret() -> str:
    """A fresh secret of an account."""
    return secrets.token_urlsafe(24)


def flagged(account: Account, asked: models.Flags) -> Account:
    """The account with the flags that are given."""
    if asked.pilotWaived is not None:
        account = replace(account, pilot_waived=asked.pilotWaived)
    if asked.omadmMode is not None:
        account = replace(account, omadm_mode=asked.omadmMode)
    if asked.v3Abort is not None:
        account = replace(account, v3_abort=asked.v3Abort)
    return account


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/accounts`."""
    routes = APIRouter()
    accounts = backend.inventory.accounts
    being_made: set[str] = set()

    def shown(account: Account) -> dict[str, Any]:
        return {
            "name": account.name,
            "purchaseType": account.purchase_type,
            "licenseCount": account.licence_count,
            "licensesUsed": backend.licences.used(account.name),
            "subscribed": rfc3339(account.subscribed) if account.subscribed else None,
            "pilotWaived": account.pilot_waived,
            "omadmMode": account.omadm_mode,
            "v3Abort": account.v3_abort,
            "deviceCount": backend.inventory.count(account.name),
        }

    def with_secret(account: Account) -> JSONResponse:
        """The one time that the secret can be read."""
        return JSONResponse({**shown(account), "secret": account.secret}, headers=NO_STORE)

    @routes.get("/accounts")
    async def list_accounts() -> dict[str, Any]:
        return {"accounts": [shown(accounts[name]) for name in sorted(accounts)]}

    @routes.post("/accounts", openapi_extra=body_of(models.NewAccount))
    async def create_account(request: Request) -> JSONResponse:
        asked = await read_model(request, models.NewAccount)
        if asked.name in accounts or asked.name in being_made:
            raise RequestRefused("The account exists already", code="CONFLICT", status=409)
        if len(accounts) + len(being_made) >= MAX_ACCOUNTS:
            raise RequestRefused(f"There are {MAX_ACCOUNTS} accounts already")
        now = backend.time.now()
        account = flagged(Account(asked.name, new_secret(), False, subscribed=now), asked)
        being_made.add(account.name)
        try:
            row = store.row_of(account)
            await backend.writer.submit(
                lambda connection: connection.execute(store.PUT_ACCOUNT, row)
            )
        finally:
            being_made.discard(account.name)
        accounts[account.name] = account
        return with_secret(account)

    @routes.get("/accounts/{name}")
    async def show_account(name: str) -> dict[str, Any]:
        return shown(account_of(backend, name))

    @routes.patch("/accounts/{name}", openapi_extra=body_of(models.Flags))
    async def change_account(request: Request, name: str) -> dict[str, Any]:
        account_of(backend, name)
        asked = await read_model(request, models.Flags)
        # At once, so that of two requests each changes what it names; answered after the commit.
        changed = accounts[name] = flagged(accounts[name], asked)
        row = {
            "b_name": name,
            "b_pilot_waived": changed.pilot_waived,
            "b_omadm_mode": changed.omadm_mode,
            "b_v3_abort": changed.v3_abort,
        }
        await backend.writer.submit(lambda connection: connection.execute(rows.SET_FLAGS, row))
        return shown(accounts[name])

    @routes.delete("/accounts/{name}")
    async def delete_account(name: str, everything: bool = False) -> dict[str, Any]:
        """Refused while a campaign has not ended, and unless `everything`, while there is anything
        that would go with it."""
        account = account_of(backend, name)
        answer = shown(account)
        await backend.removal.account(account, everything=everything)
        return answer

    @routes.post("/accounts/{name}/secret")
    async def rotate_secret(name: str) -> JSONResponse:
        """Tokens that were given out live on until they expire."""
        account_of(backend, name)
        secret = new_secret()
        row = {"b_name": name, "b_secret": secret}
        await backend.writer.submit(lambda connection: connection.execute(rows.SET_SECRET, row))
        # After the commit: until it is durable the old one is right.
        accounts[name] = replace(accounts[name], secret=secret)
        return with_secret(accounts[name])

    @routes.put("/accounts/{name}/subscription", openapi_extra=body_of(models.Subscription))
    async def subscribe(request: Request, name: str) -> dict[str, Any]:
        account_of(backend, name)
        asked = await read_model(request, models.Subscription)
        await backend.licences.set_subscription(name, asked.purchaseType, asked.licenseCount)
        return shown(accounts[name])

    @routes.delete("/accounts/{name}/subscription")
    async def unsubscribe(name: str) -> dict[str, Any]:
        """What a new account has: billed by the event, no licence."""
        account_of(backend, name)
        await backend.licences.set_subscription(name, EVENT_BILLED, 0)
        return shown(accounts[name])

    return routes
