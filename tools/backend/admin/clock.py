"""The clock of the backend: read it, let it jump ahead, let it pass faster or slower."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from tools.backend.admin import models
from tools.backend.errors import RequestRefused
from tools.backend.rest.body import read_model
from tools.backend.rest.common import body_of
from tools.backend.store import rows as store
from tools.backend.timing import TimeRefused, rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/clock`."""
    routes = APIRouter()

    def shown() -> dict[str, Any]:
        time = backend.time
        return {
            "now": rfc3339(time.now()),
            "rate": time.rate,
            # Since when it goes so: it was `now` when the machine's clock said `at`.
            "origin": {"now": rfc3339(time.origin.instant), "at": rfc3339(time.origin.utc)},
        }

    @routes.get("/clock")
    async def show_clock() -> dict[str, Any]:
        return shown()

    @routes.post("/clock", openapi_extra=body_of(models.ClockChange))
    async def set_clock(request: Request) -> dict[str, Any]:
        asked = await read_model(request, models.ClockChange)
        if len(asked.model_fields_set) != 1:
            raise RequestRefused("One of rate, advanceBy and advanceTo is needed")
        try:
            if asked.rate is not None:
                backend.time.set_rate(asked.rate)
            elif asked.advanceBy is not None:
                backend.time.advance(asked.advanceBy)
            else:
                backend.time.advance_to(_instant(asked.advanceTo))
        except TimeRefused as error:
            raise RequestRefused(str(error)) from None
        await backend.writer.submit(partial(store.put_origin, origin=backend.time.origin))
        return shown()

    return routes


def _instant(moment: dt.datetime | None) -> float:
    if moment is None:
        raise RequestRefused("One of rate, advanceBy and advanceTo is needed")
    if moment.tzinfo is None:
        # The API's times are UTC throughout.
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()
