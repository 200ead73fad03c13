"""The firmware catalogue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request

from tools.backend.admin import rows
from tools.backend.admin.common import account_of, campaign_with
from tools.backend.admin.models import PRINTED, Protocol
from tools.backend.administration import MAX_PACKAGE
from tools.backend.errors import RequestRefused, StoreError
from tools.backend.inventory import Firmware
from tools.backend.loading import DEFAULT_MAKE, DEFAULT_MODEL
from tools.backend.removal import conflict
from tools.backend.rest.body import read_body
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/firmware`."""
    routes = APIRouter()

    @routes.put("/firmware")
    async def upload_firmware(
        request: Request,
        name: Annotated[str, Query(pattern=PRINTED)],
        version: Annotated[str, Query(pattern=PRINTED)],
        account: str | None = None,
        versionFrom: Annotated[str, Query(pattern=PRINTED)] = "",
        make: Annotated[str, Query(max_length=64, pattern=PRINTED)] = DEFAULT_MAKE,
        model: Annotated[str, Query(max_length=64, pattern=PRINTED)] = DEFAULT_MODEL,
        protocol: Protocol = "LWM2M",
        releaseNote: Annotated[str, Query(max_length=512, pattern=PRINTED)] = "",
    ) -> dict[str, Any]:
        owner = account_of(backend, account)
        firmware = await backend.add_package(
            await read_body(request, MAX_PACKAGE),
            name=name,
            version=version,
            version_from=versionFrom,
            account=owner.name,
            make=make,
            model=model,
            protocol=protocol,
            release_note=releaseNote,
        )
        return shown(firmware)

    @routes.get("/firmware")
    async def list_firmware(account: str | None = None) -> dict[str, Any]:
        owner = account_of(backend, account)
        found = sorted(key for key in backend.inventory.packages if key[0] == owner.name)
        packages = [shown(backend.inventory.packages[key]) for key in found]
        return {"account": owner.name, "firmware": packages}

    @routes.delete("/firmware/{name:path}")
    async def delete_firmware(name: str, account: str | None = None) -> dict[str, Any]:
        owner = account_of(backend, account)
        key = (owner.name, name)
        firmware = backend.inventory.packages.get(key)
        if firmware is None:
            raise RequestRefused("Firmware does not exist")
        campaign = campaign_with(backend, owner.name, name)
        if campaign is not None:
            raise conflict(f"The firmware is in use by campaign {campaign.id}")
        # At once: whoever makes a campaign from now on does not find it. One that was made before
        # was found above, or has queued what it reads before this.
        del backend.inventory.packages[key]
        try:
            await backend.writer.submit(
                partial(rows.drop_package, account=owner.name, name=name, digest=firmware.digest)
            )
        except StoreError:
            backend.inventory.packages.setdefault(key, firmware)
            raise
        return shown(firmware)

    return routes


def shown(firmware: Firmware) -> dict[str, Any]:
    """A package of the catalogue, without its bytes."""
    return {
        "account": firmware.account,
        "firmwareName": firmware.name,
        "firmwareFrom": firmware.version_from,
        "firmwareTo": firmware.version_to,
        "make": firmware.make,
        "model": firmware.model,
        "protocol": firmware.protocol,
        "releaseNote": firmware.release_note,
        "launchDate": rfc3339(firmware.launched),
        "size": firmware.size,
        "sha256": firmware.digest,
    }
