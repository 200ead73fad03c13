"""API v1: firmware upgrades of OMA-DM and LwM2M devices."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from tools.backend.inventory import Account
from tools.backend.rest import callbacks, licences, v1_reports, v1_upgrades
from tools.backend.rest.auth import Sessions
from tools.backend.rest.common import AccountName, own_account

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 1


def router(backend: "Backend", sessions: Sessions) -> APIRouter:
    """The routes of `/api/fota/v1`."""
    routes = APIRouter(prefix="/api/fota/v1")

    async def owner(acc: AccountName, request: Request) -> Account:
        return v1_upgrades.check_active(own_account(sessions.caller(request), acc))

    v1_upgrades.add_routes(routes, backend, sessions, owner)
    v1_reports.add_routes(routes, backend, owner)
    licences.add_v1(routes, backend, owner)
    callbacks.add_v1(routes, backend, owner)
    return routes
