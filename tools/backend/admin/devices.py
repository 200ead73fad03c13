"""The inventory: devices, their credentials, what is held to be so of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from tools.backend.admin import models
from tools.backend.admin.common import account_of, device_of
from tools.backend.errors import RequestRefused
from tools.backend.faces.omadm_accounts import SERVER_ID
from tools.backend.inventory import PAGE, check_device_id
from tools.backend.rest.body import read_list, read_model
from tools.backend.rest.common import body_of

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/devices`."""
    routes = APIRouter()

    @routes.put("/devices")
    async def load_devices(request: Request, account: str | None = None) -> dict[str, int]:
        owner = account_of(backend, account)
        items = await read_list(request, models.InventoryDevice, models.MAX_DEVICES)
        loaded = []
        for index, item in enumerate(items):
            if item.deviceId is None and item.name is None:
                raise RequestRefused(f"{index}: deviceId or name is needed")
            if item.deviceId is not None:
                check_device_id(item.deviceId)
            loaded.append({**item.model_dump(exclude_none=True), "account": owner.name})
        return {"deviceCount": len(await backend.load_devices(loaded))}

    @routes.post("/devices/tokens", openapi_extra=body_of(models.InventoryNames))
    async def mint_tokens(request: Request) -> dict[str, dict[str, str]]:
        asked = await read_model(request, models.InventoryNames)
        return {"tokens": await backend.mint_tokens(asked.names)}

    @routes.post("/devices/dm-accounts", openapi_extra=body_of(models.DmAccounts))
    async def mint_dm_accounts(request: Request) -> dict[str, Any]:
        asked = await read_model(request, models.DmAccounts)
        minted = await backend.mint_dm_accounts(asked.names, asked.auth)
        return {
            "serverId": SERVER_ID,
            "auth": asked.auth,
            "accounts": {
                name: {
                    "username": one.username,
                    "password": one.password,
                    "serverPassword": one.token,
                }
                for name, one in minted.items()
            },
        }

    @routes.get("/devices/unknown")
    async def unknown_identities(after: str = "") -> dict[str, Any]:
        names = [name for name in backend.unknown_identities() if name > after]
        return {"identities": names[:PAGE], "hasMoreData": len(names) > PAGE}

    @routes.get("/devices/{name:path}/belief")
    async def belief(name: str) -> dict[str, Any]:
        device = device_of(backend, name)
        seen = backend.seen(device.name)
        held = backend.belief(device.name)
        return {
            "name": device.name,
            "deviceId": device.device_id,
            "registered": seen is not None,
            "state": "" if seen is None else seen.state,
            "result": "" if seen is None else seen.result,
            "firmware": device.firmware,
            "source": "" if seen is None else seen.source,
            "verdict": held.verdict,
            "detail": held.detail,
        }

    return routes
