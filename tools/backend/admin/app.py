"""The application of the administrator: its own listener, token and OpenAPI document.

Routes are in one file for each topic. Every one of them asks for the token, but for the two that
say how the backend is (`/healthz`, `/readyz`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI

from tools.backend.admin import (
    accounts,
    callbacks,
    cells,
    clock,
    devices,
    files,
    firmware,
    health,
    metrics,
)
from tools.backend.admin.request_meter import RequestMeter
from tools.backend.admin.token import AdminToken
from tools.backend.page.routes import page_router
from tools.backend.rest.answers import answer_errors, openapi_document

if TYPE_CHECKING:
    from tools.backend.backend import Backend

TITLE = "Software Management Services, reference backend: administration"

TOPICS = (
    accounts.router,
    devices.router,
    firmware.router,
    files.router,
    cells.router,
    callbacks.router,
    clock.router,
)


def build_admin_app(backend: Backend, token: str) -> FastAPI:
    """The app of a backend; it may be made before the backend is started. `app.state.token` is the
    AdminToken, for whoever adds routes."""
    app = FastAPI(
        title=TITLE,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    guard = app.state.token = AdminToken(token)
    answer_errors(app)
    app.add_middleware(
        RequestMeter, figures=backend.requests, label="admin", now=backend.runtime.clock.now
    )
    required = [Depends(guard.required)]
    bearer = {"type": "http", "scheme": "bearer"}
    for topic in TOPICS:
        app.include_router(topic(backend), prefix="/admin", dependencies=required)
    app.include_router(health.router(backend))
    app.include_router(metrics.router(backend, guard, needs_token=not backend.config.open_metrics))
    own = list(app.routes)
    app.include_router(page_router(backend, guard))

    @app.get("/admin/openapi.json", include_in_schema=False, dependencies=required)
    async def document() -> dict[str, Any]:
        return openapi_document(TITLE, "admin", own, {"adminToken": bearer})

    return app
