"""What every application of the backend answers alike: errors, and the documents of its routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from tools.backend.errors import BackendError, RequestRefused, StoreUnavailable
from tools.backend.rest.auth import Unauthorized

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["errorCode", "errorMessage"],
    "properties": {"errorCode": {"type": "string"}, "errorMessage": {"type": "string"}},
}

# The gateway's form, which has ours beside it; a bad session token has only ours.
UNAUTHORIZED_SCHEMA: dict[str, Any] = {
    **ERROR_SCHEMA,
    "properties": {
        **ERROR_SCHEMA["properties"],
        "fault": {
            "type": "object",
            "required": ["code", "message", "description"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "description": {"type": "string"},
            },
        },
    },
}


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"errorCode": code, "errorMessage": message}, status)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return _error(error.status, error.code, error.message)


async def _unauthorized(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Unauthorized)
    return JSONResponse(error.body, 401)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = str(first["loc"][-1]) if first["loc"] else "request"
    return _error(400, "INVALID_PARAMETER", f"{where}: {first['msg']}")


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "RESOURCE_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(
        error.status_code, "INVALID_PARAMETER"
    )
    response = _error(error.status_code, code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _broken(_request: Request, _fault: Exception) -> Response:
    """A fault of ours; what it is goes to the log and not to the caller."""
    return _error(500, "INTERNAL_ERROR", "The backend failed to answer")


async def _failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BackendError)
    if isinstance(error, StoreUnavailable):
        return _error(503, "SERVICE_UNAVAILABLE", "The backend cannot reach its database now")
    return _error(500, "INTERNAL_ERROR", "The backend could not store the change")


def answer_errors(app: FastAPI) -> None:
    """Let `app` answer every error in the API's own form."""
    for kind, handler in (
        (RequestRefused, _refused),
        (Unauthorized, _unauthorized),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        (BackendError, _failed),
        (Exception, _broken),
    ):
        app.add_exception_handler(kind, handler)


def openapi_document(
    title: str,
    version: str,
    routes: Sequence[BaseRoute],
    security: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """FastAPI's document with our one error form instead of its 422. All schemes of `security`
    are asked for together; without them the document says nothing of 401."""
    document = get_openapi(title=title, version=version, routes=routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            answers.pop("422", None)
            answers["400"] = _answer("Refused", ERROR_SCHEMA)
            if security is not None:
                answers["401"] = _answer("Not logged in", UNAUTHORIZED_SCHEMA)
            if "requestBody" in operation:
                answers["413"] = _answer("Too large", ERROR_SCHEMA)
                for content in operation["requestBody"]["content"].values():
                    _take_definitions(content["schema"], schemas)
    if security is not None:
        components["securitySchemes"] = dict(security)
        document["security"] = [{name: [] for name in security}]
    return document


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _take_definitions(schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move what a body's schema refers to where its references point."""
    for name, definition in schema.pop("$defs", {}).items():
        if schemas.setdefault(name, definition) != definition:
            raise ValueError(f"two schemas are named {name}")
