"""API v2: configuration files."""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request

from tools.backend.administration import MAX_PACKAGE
from tools.backend.errors import RequestRefused
from tools.backend.inventory import Account, ConfigFile
from tools.backend.rest import v2_models as shapes
from tools.backend.rest.body import read_body
from tools.backend.rest.multipart import Field, basename, parse_multipart
from tools.backend.timing import date_text

if TYPE_CHECKING:
    from tools.backend.backend import Backend

DISTRIBUTIONS = {"HTTP": "HTTP", "LWM2M": "LWM2M", "OMD-DM": "OMADM", "OMA": "OMADM"}
"""distributionType as the SDK and the pages spell it, and what campaigns are called after."""

MAX_FILES = 100
"""Files in one answer [documented]."""

FORM_SLACK = 64 << 10
"""Bytes of an upload that are not the file: some text fields and the boundaries."""

MAX_TEXT = {"fileVersion": 255, "make": 64, "model": 64, "localTargetPath": 255, "fileName": 300}

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["fileupload", "fileVersion", "make", "model"],
                    "properties": {
                        "fileupload": {"type": "string", "format": "binary"},
                        "fileVersion": {"type": "string"},
                        "make": {"type": "string"},
                        "model": {"type": "string"},
                        "localTargetPath": {"type": "string"},
                    },
                }
            }
        },
    }
}


def _text(form: dict[str, Field], name: str, *, required: bool = True) -> str:
    field = form.get(name)
    if field is None:
        if required:
            raise RequestRefused(f"{name}: Field required")
        return ""
    try:
        text = field.content.decode()
    except UnicodeDecodeError:
        raise RequestRefused(f"{name}: not UTF-8") from None
    if len(text) > MAX_TEXT[name] or (required and not text):
        raise RequestRefused(f"{name}: 1 to {MAX_TEXT[name]} characters")
    return text


def _answer(file: ConfigFile, platform: str) -> dict[str, Any]:
    return {
        "fileName": file.name,
        "fileVersion": file.version_to,
        "releaseNote": "",
        "make": file.make,
        "model": file.model,
        "localTargetPath": file.path,
        "distributionType": file.protocol,
        "devicePlatformId": platform,
    }


def add_routes(
    routes: APIRouter,
    backend: "Backend",
    account_named: Callable[..., Awaitable[Account]],
    platform: str,
) -> None:
    """The routes of `/files`."""
    Caller = Annotated[Account, Depends(account_named)]

    async def read_form(request: Request) -> dict[str, Field]:
        content_type = request.headers.get("content-type", "")
        body = await read_body(request, MAX_PACKAGE + FORM_SLACK)
        return parse_multipart(content_type, body)

    async def store(
        account: Account, form: dict[str, Field], name: str | None
    ) -> shapes.UploadConfigurationFilesResponse:
        upload = form.get("fileupload")
        if upload is None or upload.filename is None:
            raise RequestRefused("fileupload: a file is required")
        file = await backend.add_file(
            upload.content,
            filename=basename(upload.filename),
            version=_text(form, "fileVersion"),
            account=account.name,
            make=_text(form, "make"),
            model=_text(form, "model"),
            path=_text(form, "localTargetPath", required=False),
            name=name,
        )
        return shapes.UploadConfigurationFilesResponse(
            **_answer(file, platform), launchDate=date_text(file.launched)
        )

    @routes.post("/files/{acc}", operation_id="upload_config_file", openapi_extra=_FORM)
    async def upload(account: Caller, request: Request) -> shapes.UploadConfigurationFilesResponse:
        return await store(account, await read_form(request), None)

    # Known from the release notes only; ours: the same form with the name of the file.
    @routes.put("/files/{acc}", openapi_extra=_FORM)
    async def replace(
        account: Caller, request: Request, fileName: str | None = None
    ) -> shapes.UploadConfigurationFilesResponse:
        form = await read_form(request)
        name = fileName or _text(form, "fileName")
        if (account.name, name) not in backend.inventory.files:
            raise RequestRefused(f"File {name[:128]!r} does not exist")
        return await store(account, form, name)

    @routes.get("/files/{acc}", operation_id="get_list_of_files")
    async def listed(
        account: Caller, distributionType: str
    ) -> shapes.RetrievesAvailableFilesResponseList:
        if distributionType not in DISTRIBUTIONS:
            raise RequestRefused(f"Invalid distributionType {distributionType[:64]!r}")
        wanted = DISTRIBUTIONS[distributionType]
        files = (
            file
            for file in backend.inventory.files.values()
            if file.account == account.name and file.protocol == wanted
        )
        return shapes.RetrievesAvailableFilesResponseList(
            AvailableFilesResponse=[
                shapes.RetrievesAvailableFilesResponse(**_answer(file, platform))
                for file in islice(files, MAX_FILES)
            ]
        )
