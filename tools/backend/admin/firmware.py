"""The firmware catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from tools.backend.admin.common import account_of
from tools.backend.administration import DEFAULT_MAKE, DEFAULT_MODEL, MAX_PACKAGE
from tools.backend.rest.body import read_body

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/firmware`."""
    routes = APIRouter()

    @routes.put("/firmware")
    async def upload_firmware(
        request: Request,
        name: str,
        version: str,
        account: str | None = None,
        versionFrom: str = "",
        make: Annotated[str, Query(max_length=64)] = DEFAULT_MAKE,
        model: Annotated[str, Query(max_length=64)] = DEFAULT_MODEL,
        protocol: Literal["LWM2M", "HTTP", "OMADM"] = "LWM2M",
        releaseNote: Annotated[str, Query(max_length=512)] = "",
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
        return {
            "firmwareName": firmware.name,
            "firmwareTo": firmware.version_to,
            "size": firmware.size,
            "sha256": firmware.digest,
        }

    return routes
