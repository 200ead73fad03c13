"""The admin API, ours: firmware upload, inventory, unknown identities, belief of a device.

It asks for the access token only, no session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from tools.backend.administration import DEFAULT_MAKE, DEFAULT_MODEL, MAX_PACKAGE
from tools.backend.errors import RequestRefused
from tools.backend.faces.omadm_accounts import SERVER_ID
from tools.backend.inventory import PAGE, Account, check_device_id
from tools.backend.rest import v3_models as shapes
from tools.backend.rest.auth import Sessions
from tools.backend.rest.body import read_body, read_list, read_model

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend, sessions: Sessions) -> APIRouter:
    """The routes of `/admin`."""
    routes = APIRouter(prefix="/admin")

    @routes.put("/firmware")
    async def upload(
        request: Request,
        name: str,
        version: str,
        versionFrom: str = "",
        make: Annotated[str, Query(max_length=64)] = DEFAULT_MAKE,
        model: Annotated[str, Query(max_length=64)] = DEFAULT_MODEL,
        protocol: Literal["LWM2M", "HTTP", "OMADM"] = "LWM2M",
        releaseNote: Annotated[str, Query(max_length=512)] = "",
    ) -> dict[str, Any]:
        account = sessions.bearer(request)
        firmware = await backend.add_package(
            await read_body(request, MAX_PACKAGE),
            name=name,
            version=version,
            version_from=versionFrom,
            account=account.name,
            make=make,
            model=model,
            protocol=protocol,
            release_note=releaseNote,
        )
        return {
            "firmwareName": firmware.name,
            "firmwareTo": firmware.version_to,
            "size": firmware.size,
            "sha256": firmware.digest,
        }

    @routes.put("/devices")
    async def load(request: Request) -> dict[str, int]:
        account = sessions.bearer(request)
        items = await read_list(request, shapes.InventoryDevice, shapes.MAX_DEVICES)
        loaded = []
        for index, item in enumerate(items):
            if item.deviceId is None and item.name is None:
                raise RequestRefused(f"{index}: deviceId or name is needed")
            if item.deviceId is not None:
                check_device_id(item.deviceId)
            loaded.append({**item.model_dump(exclude_none=True), "account": account.name})
        return {"deviceCount": len(await backend.load_devices(loaded))}

    def check_owner(account: Account, names: list[str]) -> None:
        for name in names:
            device = backend.inventory.devices.get(name)
            if device is None or device.account != account.name:
                raise RequestRefused(f"Device {name[:64]!r} does not exist.")

    @routes.post("/devices/tokens")
    async def mint(request: Request) -> dict[str, dict[str, str]]:
        account = sessions.bearer(request)
        asked = await read_model(request, shapes.InventoryNames)
        check_owner(account, asked.names)
        return {"tokens": await backend.mint_tokens(asked.names)}

    @routes.post("/devices/dm-accounts")
    async def mint_dm_accounts(request: Request) -> dict[str, Any]:
        account = sessions.bearer(request)
        asked = await read_model(request, shapes.DmAccounts)
        check_owner(account, asked.names)
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
    async def unknown(request: Request, after: str = "") -> dict[str, Any]:
        sessions.bearer(request)
        names = [name for name in backend.unknown_identities() if name > after]
        return {"identities": names[:PAGE], "hasMoreData": len(names) > PAGE}

    @routes.get("/devices/{name}/belief")
    async def belief(request: Request, name: str) -> dict[str, Any]:
        account = sessions.bearer(request)
        device = backend.inventory.devices.get(name)
        if device is None or device.account != account.name:
            raise RequestRefused("Device does not exist.")
        seen = backend.seen(name)
        held = backend.belief(name)
        return {
            "name": name,
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
