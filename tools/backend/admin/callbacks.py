"""What was sent to callback listeners, and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query

from tools.backend.callbacks.rows import Message
from tools.backend.callbacks.service import MAX_LISTED
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend


def router(backend: Backend) -> APIRouter:
    """The routes of `/admin/callbacks`."""
    routes = APIRouter()

    @routes.get("/callbacks")
    async def list_callbacks(
        account: str | None = None,
        state: Literal["waiting", "delivered", "dropped"] | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    ) -> dict[str, Any]:
        found = await backend.callbacks.recent(limit, account=account, state=state)
        return {"callbacks": [shown(message) for message in found]}

    return routes


def shown(message: Message) -> dict[str, Any]:
    """A message without its body."""
    finished = message.finished
    return {
        "number": message.number,
        "account": message.account,
        "version": message.version,
        "type": message.kind,
        "campaignId": message.campaign or None,
        "state": message.state,
        "tries": message.tries,
        "created": rfc3339(message.created),
        "due": rfc3339(message.due) if finished is None else None,
        "finished": None if finished is None else rfc3339(finished),
        "error": message.error or None,
    }
