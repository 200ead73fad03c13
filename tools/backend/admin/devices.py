"""The inventory: devices, their lines and credentials, what is held to be so of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from tools.backend.admin import models, tabular
from tools.backend.admin.common import NO_STORE, account_of, device_of
from tools.backend.errors import RequestRefused
from tools.backend.faces.omadm_accounts import SERVER_ID
from tools.backend.inventory import PAGE, Account, Device, check_device_id
from tools.backend.rest.body import read_body, read_model, shaped
from tools.backend.rest.common import body_of
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

MAX_INVENTORY = 32 << 20
"""Bytes of an inventory: the largest has 100,000 rows of some 300."""

PART = 500
"""Rows that are read or written in one go, before others have their turn: a few ms."""

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "maxItems": models.MAX_DEVICES,
                    "items": models.InventoryDevice.model_json_schema(),
                }
            },
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/devices`."""
    routes = APIRouter()

    @routes.put("/devices", openapi_extra=UPLOAD)
    async def load_devices(request: Request, account: str | None = None) -> dict[str, int]:
        owner = account_of(backend, account)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await read_body(request, MAX_INVENTORY)
        rows = tabular.csv_rows(body) if kind == "text/csv" else tabular.json_rows(body)
        records = await _records(rows, owner.name)
        return {"deviceCount": len(await backend.load_devices(records))}

    @routes.get("/devices")
    async def list_devices(
        account: str | None = None,
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
    ) -> dict[str, Any]:
        owner = account_of(backend, account)
        page = list(islice(backend.inventory.after(owner.name, after), limit + 1))
        return {
            "account": owner.name,
            "devices": [tabular.record_of(device) for device in page[:limit]],
            "hasMoreData": len(page) > limit,
            "lastSeenDeviceId": page[limit - 1].device_id if len(page) > limit else "0",
        }

    @routes.get("/devices.csv", response_class=StreamingResponse)
    async def download_csv(account: str | None = None) -> StreamingResponse:
        owner = account_of(backend, account)
        parts = _parts(backend, owner, tabular.csv_text, tabular.csv_header())
        return _download(parts, "text/csv; charset=utf-8", "devices.csv")

    @routes.get("/devices.json", response_class=StreamingResponse)
    async def download_json(account: str | None = None) -> StreamingResponse:
        owner = account_of(backend, account)
        parts = _json_parts(_parts(backend, owner, _json_text, ""))
        return _download(parts, "application/json", "devices.json")

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

    # Names of devices may hold a slash, therefore `path`.

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

    @routes.put("/devices/{name:path}/line", openapi_extra=body_of(models.LineChange))
    async def set_line(request: Request, name: str) -> dict[str, Any]:
        device = device_of(backend, name)
        asked = await read_model(request, models.LineChange)
        record = {"name": device.name, "account": device.account, "line": asked.status}
        if asked.mdn is not None:
            record["mdn"] = asked.mdn
        await backend.load_devices([record])
        return _shown(backend.inventory.devices[device.name])

    @routes.delete("/devices/{name:path}/queue")
    async def unqueue(name: str) -> dict[str, bool]:
        """Take a device out of the network queue of a failed OMA-DM upgrade."""
        return {"wasQueued": await backend.engine.unqueue(device_of(backend, name).name)}

    @routes.delete("/devices/{name:path}")
    async def delete_device(name: str) -> dict[str, Any]:
        """Refused while a campaign wants something of it. Its licence is free again."""
        device = device_of(backend, name)
        answer = _shown(device)
        await backend.removal.device(device)
        return answer

    @routes.get("/devices/{name:path}")
    async def show_device(name: str) -> dict[str, Any]:
        return _shown(device_of(backend, name))

    def _shown(device: Device) -> dict[str, Any]:
        attachment = backend.operator.attachment(device.device_id)
        return {
            "account": device.account,
            **tabular.record_of(device),
            "hasToken": bool(device.token),
            "created": rfc3339(device.created),
            "updated": rfc3339(device.updated),
            "upgraded": None if device.upgraded is None else rfc3339(device.upgraded),
            "cell": None if attachment is None else attachment.cell,
            "waitingMessages": backend.operator.waiting(device.device_id),
        }

    return routes


async def _records(rows: Iterator[tabular.Row], account: str) -> list[dict[str, Any]]:
    """What an upload says of its devices, all of it checked. Raises RequestRefused."""
    records: list[dict[str, Any]] = []
    places: dict[tuple[str, str], str] = {}
    while part := list(islice(rows, PART)):
        for where, row in part:
            try:
                records.append(_record(row, account))
            except RequestRefused as error:
                raise RequestRefused(f"{where}: {error.message}") from None
            for column in ("deviceId", "name"):
                text = row.get(column)
                if text is None:
                    continue
                former = places.setdefault((column, text), where)
                if former is not where:
                    raise RequestRefused(f"{where}: {column} {text[:64]!r} is in {former} already")
        if len(records) > models.MAX_DEVICES:
            raise RequestRefused(f"More than {models.MAX_DEVICES} devices")
        await asyncio.sleep(0)
    return records


def _record(row: dict[str, Any], account: str) -> dict[str, Any]:
    item = shaped(row, models.InventoryDevice)
    if item.deviceId is None and item.name is None:
        raise RequestRefused("deviceId or name is needed")
    if item.deviceId is not None:
        check_device_id(item.deviceId)
    return {**item.model_dump(exclude_none=True), "account": account}


async def _parts(
    backend: Backend,
    account: Account,
    text_of: Callable[[Iterable[dict[str, str]]], str],
    head: str,
) -> AsyncIterator[str]:
    """The devices of an account as text. Those that are there throughout are in it once, whatever
    comes and goes meanwhile."""
    yield head
    last = ""
    while part := list(islice(backend.inventory.after(account.name, last), PART)):
        yield text_of(tabular.record_of(device) for device in part)
        last = part[-1].device_id
        await asyncio.sleep(0)


def _json_text(records: Iterable[dict[str, str]]) -> str:
    return ",\n".join(json.dumps(record) for record in records)


async def _json_parts(parts: AsyncIterator[str]) -> AsyncIterator[str]:
    """An array of them."""
    separator = "[\n"
    async for part in parts:
        if part:
            yield separator + part
            separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _download(parts: AsyncIterator[str], media_type: str, filename: str) -> StreamingResponse:
    headers = {
        **NO_STORE,
        "Content-Disposition": f'attachment; filename="{filename}"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(parts, media_type=media_type, headers=headers)
