"""How the backend is, for whoever supervises it: no token, and nothing but yes or no."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, select

from tools.backend.errors import BackendError

if TYPE_CHECKING:
    from tools.backend.backend import Backend

ANSWER_WITHIN = 2.0
"""Seconds in which the database has to answer; supervisors ask every few seconds."""


def router(backend: Backend) -> APIRouter:
    """`/healthz` and `/readyz`."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @routes.get("/readyz", responses={503: {"description": "Not ready"}})
    async def readyz() -> JSONResponse:
        """It is started, and its database answers."""
        problem = await _problem(backend)
        if problem:
            return JSONResponse({"status": problem}, 503)
        return JSONResponse({"status": "ok"})

    return routes


async def _problem(backend: Backend) -> str:
    if not backend.serving:
        return "the backend is not started"
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            await backend.writer.read(_ask)
    except TimeoutError:
        return "the database is busy"
    except BackendError:
        # What exactly is wrong is nobody's business who has no token.
        return "the database does not answer"
    return ""


def _ask(connection: Connection) -> None:
    connection.execute(select(1)).scalar_one()
