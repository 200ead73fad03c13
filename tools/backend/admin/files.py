"""Configuration files that accounts have uploaded; they come by the public API alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from tools.backend.admin import rows
from tools.backend.admin.common import account_of, campaign_with
from tools.backend.errors import RequestRefused, StoreError
from tools.backend.inventory import ConfigFile
from tools.backend.removal import conflict
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/files`."""
    routes = APIRouter()
    files = backend.inventory.files

    @routes.get("/files")
    async def list_files(account: str | None = None) -> dict[str, Any]:
        owner = account_of(backend, account)
        found = [shown(files[key]) for key in sorted(files) if key[0] == owner.name]
        return {"account": owner.name, "files": found}

    @routes.delete("/files/{name:path}")
    async def delete_file(name: str, account: str | None = None) -> dict[str, Any]:
        owner = account_of(backend, account)
        key = (owner.name, name)
        file = files.get(key)
        if file is None:
            raise RequestRefused("File does not exist")
        campaign = campaign_with(backend, owner.name, name)
        if campaign is not None:
            raise conflict(f"The file is in use by campaign {campaign.id}")
        # At once, as with firmware: who makes a campaign from now on does not find it.
        del files[key]
        try:
            await backend.writer.submit(
                partial(rows.drop_file, account=owner.name, name=name, digest=file.digest)
            )
        except StoreError:
            files.setdefault(key, file)
            raise
        return shown(file)

    return routes


def shown(file: ConfigFile) -> dict[str, Any]:
    """A file of the catalogue, without its bytes."""
    return {
        "account": file.account,
        "fileName": file.name,
        "fileVersion": file.version_to,
        "make": file.make,
        "model": file.model,
        "protocol": file.protocol,
        "localTargetPath": file.path,
        "launchDate": rfc3339(file.launched),
        "size": file.size,
        "sha256": file.digest,
    }
