"""API v1: firmware upgrades of OMA-DM and LwM2M devices."""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from tools.backend.rest.auth import Sessions

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 1


def router(backend: "Backend", sessions: Sessions) -> APIRouter:
    """The routes of `/api/fota/v1`."""
    return APIRouter(prefix="/api/fota/v1")
