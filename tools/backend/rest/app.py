"""The REST side of the backend: one ASGI app; errors always in the API's own form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from tools.backend.admin import health
from tools.backend.admin.request_meter import RequestMeter
from tools.backend.operator_network import rest as operator_rest
from tools.backend.rest import v1, v2, v3
from tools.backend.rest import v3_models as shapes
from tools.backend.rest.answers import answer_errors, openapi_document
from tools.backend.rest.auth import Sessions, Unauthorized, token_answer, wall_clock
from tools.backend.rest.body import read_body, read_model

if TYPE_CHECKING:
    from tools.backend.backend import Backend

MAX_FORM = 4_096
"""Bytes of a token request: a grant type and a scope."""

SECURITY = {
    "accessToken": {"type": "http", "scheme": "bearer"},
    "sessionToken": {"type": "apiKey", "in": "header", "name": "VZ-M2M-Token"},
}
"""What every call of the three versions carries, both at once."""


def build_app(backend: Backend) -> FastAPI:
    """The app of a backend; it may be made before the backend is started."""
    app = FastAPI(
        title="Software Management Services, reference backend", docs_url=None, redoc_url=None
    )
    clock = backend.runtime.clock
    sessions = Sessions(backend.inventory, wall_clock(clock.virtual, clock.now))
    answer_errors(app)
    app.add_middleware(RequestMeter, figures=backend.requests, label="rest", now=clock.now)

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

    app.include_router(health.router(backend))
    app.include_router(operator_rest.router(backend, sessions))
    # Operation names repeat from version to version, so each has a document of its own. What is in
    # none of them, tokens and the operator network, is in this one.
    own = list(app.routes)
    app.openapi = lambda: openapi_document(  # type: ignore[method-assign]
        "Tokens, sessions and operator network, reference backend", "1", own
    )
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
        return openapi_document(app.title, str(version), routes.routes, SECURITY)
