"""Cells of the operator network: who is there, and how many may be upgraded at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from tools.backend.admin import models
from tools.backend.inventory import PAGE
from tools.backend.operator_network.cells import check_cell
from tools.backend.rest.body import read_model
from tools.backend.rest.common import body_of

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/cells`."""
    routes = APIRouter()

    def shown(name: str, attached: int) -> dict[str, Any]:
        places, capacities = backend.engine.cells, backend.operator.cells
        return {
            "name": name,
            "capacity": capacities.limit(name),
            "isDefault": name not in capacities.own(),
            "attached": attached,
            "active": places.active(name),
            "waiting": places.waiting(name),
        }

    @routes.get("/cells")
    async def list_cells(after: str = "") -> dict[str, Any]:
        """Cells that serve somebody, or have a capacity of their own, by name."""
        serving = backend.operator.serving()
        names = sorted(name for name in {*serving, *backend.operator.cells.own()} if name > after)
        return {
            "cells": [shown(name, serving[name]) for name in names[:PAGE]],
            "hasMoreData": len(names) > PAGE,
        }

    @routes.get("/cells/{name:path}")
    async def show_cell(name: str) -> dict[str, Any]:
        return shown(check_cell(name), backend.operator.serving()[name])

    @routes.put("/cells/{name:path}", openapi_extra=body_of(models.Capacity))
    async def set_capacity(request: Request, name: str) -> dict[str, Any]:
        asked = await read_model(request, models.Capacity)
        await backend.operator.cells.set(name, asked.capacity)
        return shown(name, backend.operator.serving()[name])

    @routes.delete("/cells/{name:path}")
    async def reset_capacity(name: str) -> dict[str, Any]:
        await backend.operator.cells.reset(name)
        return shown(name, backend.operator.serving()[name])

    return routes
