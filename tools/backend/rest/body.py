"""Reading request bodies: bounded, and as JSON whatever the Content-Type says."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, TypeAdapter, ValidationError

from tools.backend.errors import RequestRefused

MAX_JSON = 8 << 20
"""Bytes of a JSON body; 100,000 device ids take a quarter of it."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


async def read_body(request: Request, limit: int = MAX_JSON) -> bytes:
    """The whole body. Raises RequestRefused (413) as soon as it is too long."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise RequestRefused(
                f"The request body is larger than {limit} bytes",
                code="REQUEST_ENTITY_TOO_LARGE",
                status=413,
            )
        parts.append(part)
    return b"".join(parts)


def _refusal(error: ValidationError) -> RequestRefused:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return RequestRefused(f"{where}: {first['msg']}" if where else str(first["msg"]))


async def read_model(request: Request, model: type[M]) -> M:
    """The body as one JSON object. Raises RequestRefused that names the field."""
    return parse_model(await read_body(request), model)


def parse_model(body: bytes, model: type[M]) -> M:
    """The same for a body that has been read."""
    if not body:
        raise RequestRefused("Input binding error")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


async def read_list(request: Request, item: type[T], limit: int) -> list[T]:
    """The body as a JSON array."""
    body = await read_body(request)
    try:
        items = TypeAdapter(list[item]).validate_json(body)  # type: ignore[valid-type]
    except ValidationError as error:
        raise _refusal(error) from None
    if len(items) > limit:
        raise RequestRefused(f"More than {limit} items")
    return items
