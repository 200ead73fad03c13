"""The REST side of the backend: one ASGI app; errors always in the API's own form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from tools.backend.errors import BackendError, RequestRefused
from tools.backend.operator_network import rest as operator_rest
from tools.backend.rest import admin, v1, v2, v3
from tools.backend.rest import v3_models as shapes
from tools.backend.rest.auth import Sessions, Unauthorized, token_answer, wall_clock
from tools.backend.rest.body import read_body, read_model

if TYPE_CHECKING:
    from tools.backend.backend import Backend

MAX_FORM = 4_096
"""Bytes of a token request: a grant type and a scope."""

ERROR_SCHEMA = {
    "type": "object",
    "required": ["errorCode", "errorMessage"],
    "properties": {"errorCode": {"type": "string"}, "errorMessage": {"type": "string"}},
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
    return _error(500, "INTERNAL_ERROR", "The backend could not store the change")


def build_app(backend: Backend) -> FastAPI:
    """The app of a backend; it may be made before the backend is started."""
    app = FastAPI(title="Software Management Services, reference backend", docs_url=None)
    clock = backend.runtime.clock
    sessions = Sessions(backend.inventory, wall_clock(clock.virtual, clock.now))
    for kind, handler in (
        (RequestRefused, _refused),
        (Unauthorized, _unauthorized),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        (BackendError, _failed),
        (Exception, _broken),
    ):
        app.add_exception_handler(kind, handler)

    @app.post("/api/ts/v1/oauth2/token")
    async def token(request: Request) -> Response:
        return token_answer(sessions, request, await read_body(request, MAX_FORM))

    @app.post("/api/m2m/v1/session/login")
    async def login(request: Request) -> dict[str, str]:
        owner = sessions.bearer(request)
        asked = await read_model(request, shapes.Login)
        account = sessions.account(asked.username, asked.password)
        if account is None or account.name != owner.name:
            raise Unauthorized(
                {
                    "errorCode": "M2M.REQUEST_FAILED.Unauthorized",
                    "errorMessage": "Unknown user name or wrong password",
                }
            )
        return {"sessionToken": sessions.open_session(account)}

    @app.post("/api/m2m/v1/session/logout")
    async def logout(request: Request) -> dict[str, str]:
        sessions.caller(request)
        session = request.headers["vz-m2m-token"]
        sessions.close_session(session)
        return {"sessionToken": session}

    app.include_router(admin.router(backend, sessions))
    app.include_router(operator_rest.router(backend, sessions))
    # Operation names repeat from version to version, so each has a document of its own. What is in
    # none of them, tokens and administration, is in this one.
    own = list(app.routes)
    app.openapi = lambda: _openapi(app.title, "admin", own)  # type: ignore[method-assign]
    versions = {
        1: v1.router(backend, sessions),
        2: v2.router(backend, sessions),
        3: v3.router(backend, sessions),
    }
    for version, routes in versions.items():
        _add_document(app, version, routes)
        app.include_router(routes)
    return app


def _add_document(app: FastAPI, version: int, routes: APIRouter) -> None:
    @app.get(f"/api/fota/v{version}/openapi.json", include_in_schema=False)
    async def document() -> dict[str, Any]:
        return _openapi(app.title, str(version), routes.routes)


def _openapi(title: str, version: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """FastAPI's document with our one error form instead of its 422."""
    document = get_openapi(title=title, version=version, routes=routes)
    error = {"application/json": {"schema": ERROR_SCHEMA}}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["400"] = {"description": "Refused", "content": error}
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document
