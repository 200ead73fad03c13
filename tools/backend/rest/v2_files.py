"""API v2: configuration files."""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from tools.backend.administration import MAX_NAME, MAX_PACKAGE
from tools.backend.inventory import Account, ConfigFile
from tools.backend.refusals import Refusal
from tools.backend.rest import v2_models as shapes
from tools.backend.rest.body import read_body
from tools.backend.rest.device_views import DISTRIBUTION_OF
from tools.backend.rest.fields import has_control
from tools.backend.rest.multipart import Field, basename, parse_multipart
from tools.backend.rest.v2_devices import PLATFORM, PROTOCOL_OF
from tools.backend.timing import date_text

if TYPE_CHECKING:
    from tools.backend.backend import Backend

UPLOADS = {"HTTP": "HTTP", "OMD-DM": "OMADM", "OMA": "OMADM"}
"""Whom files can be for: HTTP devices when an upload says nothing, OMA-DM devices through SCOMO.
LwM2M devices would need Object 9."""

MAX_FILES = 100
"""Files in one answer [documented]."""

FORM_SLACK = 64 << 10
"""Bytes of an upload that are not the file: some text fields and the boundaries."""

MAX_TEXT = {
    "fileVersion": 255,
    "make": 64,
    "model": 64,
    "localTargetPath": 255,
    "fileName": 300,
    "distributionType": 16,
}

_TEXTS = {name: {"type": "string", "maxLength": limit} for name, limit in MAX_TEXT.items()}
_FILE = {"type": "string", "format": "binary"}


def _form(required: list[str], texts: list[str]) -> dict[str, Any]:
    """The OpenAPI entry of a form."""
    properties = {"fileupload": _FILE, **{name: _TEXTS[name] for name in texts}}
    schema = {"type": "object", "required": required, "properties": properties}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


NEW_FILE = _form(
    ["fileupload", "fileVersion", "make", "model"],
    ["fileVersion", "make", "model", "localTargetPath", "distributionType"],
)
CHANGED_FILE = _form(
    ["fileupload", "fileVersion"], ["fileVersion", "make", "model", "localTargetPath", "fileName"]
)


def _text(form: dict[str, Field], name: str, default: str | None = None) -> str:
    """A text of a form; one without a default is required. Raises RequestRefused."""
    field = form.get(name)
    if field is None:
        if default is None:
            raise Refusal.INVALID_FIELD(field=name, problem="Field required")
        return default
    try:
        text = field.content.decode()
    except UnicodeDecodeError:
        raise Refusal.INVALID_FIELD(field=name, problem="not UTF-8") from None
    if len(text) > MAX_TEXT[name] or (default is None and not text):
        raise Refusal.INVALID_FIELD(field=name, problem=f"1 to {MAX_TEXT[name]} characters")
    if has_control(text):
        raise Refusal.INVALID_FIELD(field=name, problem="control characters are not allowed")
    return text


def _upload(form: dict[str, Field]) -> tuple[bytes, str]:
    """Content and name of the file. Some clients send their whole path, and none is trusted."""
    upload = form.get("fileupload")
    if upload is None or upload.filename is None:
        raise Refusal.FILE_MISSING()
    name = basename(upload.filename)
    if not 0 < len(name) <= MAX_NAME or has_control(name) or not name.strip("."):
        raise Refusal.FILE_NAME(limit=MAX_NAME)
    return upload.content, name


def _same(form: dict[str, Field], name: str, stored: str) -> None:
    """A change may repeat make and model, and cannot change them: they are in the name."""
    if _text(form, name, stored) != stored:
        raise Refusal.INVALID_FIELD(field=name, problem="not that of the file")


def _answer(file: ConfigFile) -> dict[str, Any]:
    return {
        "fileName": file.name,
        "fileVersion": file.version_to,
        "releaseNote": "",
        "make": file.make,
        "model": file.model,
        "localTargetPath": file.path,
        "distributionType": DISTRIBUTION_OF[file.protocol],
        "devicePlatformId": PLATFORM,
    }


def _stored(file: ConfigFile) -> shapes.UploadConfigurationFilesResponse:
    return shapes.UploadConfigurationFilesResponse(
        **_answer(file), launchDate=date_text(file.launched)
    )


def add_routes(
    routes: APIRouter, backend: "Backend", account_named: Callable[..., Awaitable[Account]]
) -> None:
    """The routes of `/files`."""
    Caller = Annotated[Account, Depends(account_named)]

    async def read_form(request: Request) -> dict[str, Field]:
        content_type = request.headers.get("content-type", "")
        body = await read_body(request, MAX_PACKAGE + FORM_SLACK)
        return parse_multipart(content_type, body)

    @routes.post("/files/{acc}", operation_id="upload_config_file", openapi_extra=NEW_FILE)
    async def upload(account: Caller, request: Request) -> shapes.UploadConfigurationFilesResponse:
        form = await read_form(request)
        content, filename = _upload(form)
        distribution = _text(form, "distributionType", "HTTP")
        if distribution not in UPLOADS:
            raise Refusal.FILE_PROTOCOL(value=distribution)
        file = await backend.add_file(
            content,
            filename=filename,
            version=_text(form, "fileVersion"),
            account=account.name,
            make=_text(form, "make"),
            model=_text(form, "model"),
            path=_text(form, "localTargetPath", ""),
            protocol=UPLOADS[distribution],
        )
        return _stored(file)

    # Known from the release notes of 2.39 only, so its shape and its name here are ours: the same
    # form, with the name of the file in it or in the query.
    @routes.put("/files/{acc}", operation_id="update_config_file", openapi_extra=CHANGED_FILE)
    async def replace(
        account: Caller,
        request: Request,
        fileName: Annotated[str | None, Query(max_length=MAX_TEXT["fileName"])] = None,
    ) -> shapes.UploadConfigurationFilesResponse:
        form = await read_form(request)
        name = fileName or _text(form, "fileName")
        known = backend.inventory.files.get((account.name, name))
        if known is None:
            raise Refusal.FILE_UNKNOWN(name=name)
        content, filename = _upload(form)
        _same(form, "make", known.make)
        _same(form, "model", known.model)
        file = await backend.add_file(
            content,
            filename=filename,
            version=_text(form, "fileVersion"),
            account=account.name,
            make=known.make,
            model=known.model,
            path=_text(form, "localTargetPath", known.path),
            name=known.name,
            protocol=known.protocol,
        )
        return _stored(file)

    @routes.get("/files/{acc}", operation_id="get_list_of_files")
    async def listed(
        account: Caller, distributionType: shapes.Distribution
    ) -> shapes.RetrievesAvailableFilesResponseList:
        wanted = PROTOCOL_OF[distributionType]
        files = (
            file
            for file in backend.inventory.files.values()
            if file.account == account.name and file.protocol == wanted
        )
        return shapes.RetrievesAvailableFilesResponseList(
            AvailableFilesResponse=[
                shapes.RetrievesAvailableFilesResponse(**_answer(file))
                for file in islice(files, MAX_FILES)
            ]
        )
