"""Reading request bodies: bounded, and as JSON whatever the Content-Type says."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from tools.backend.errors import RequestRefused
from tools.backend.refusals import Refusal

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
            raise Refusal.BODY_TOO_LARGE(limit=limit)
        parts.append(part)
    return b"".join(parts)


def _refusal(error: ValidationError) -> RequestRefused:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    problem = first["msg"]
    if first["type"] == "model_type":
        problem = "Input should be an object"  # pydantic's own text names a class of ours
    elif first["type"] == "too_long":
        problem = f"More than {first['ctx']['max_length']} items"  # its own speaks of validation
    if not where:
        return Refusal.INVALID_BODY(problem=problem)
    return Refusal.INVALID_FIELD(field=where, problem=problem)


def parse_json(body: bytes) -> Any:
    """The value of a JSON text (RFC 8259: no NaN and no Infinity). Raises RequestRefused."""
    if not body.strip():
        raise Refusal.EMPTY_BODY()
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal.BROKEN_JSON(problem=str(error)) from None


async def read_model(request: Request, model: type[M]) -> M:
    """The body as one JSON object. Raises RequestRefused that names the field."""
    return parse_model(await read_body(request), model)


def parse_model(body: bytes, model: type[M]) -> M:
    """The same for a body that has been read."""
    return shaped(parse_json(body), model)


def shaped(value: Any, model: type[M]) -> M:
    """The same for a value that has been parsed."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refusal(error) from None


async def read_list(request: Request, item: type[T], limit: int) -> list[T]:
    """The body as a JSON array."""
    value = parse_json(await read_body(request))
    if isinstance(value, list) and len(value) > limit:
        raise Refusal.TOO_MANY_ITEMS(limit=limit)
    try:
        items: list[T] = TypeAdapter(list[item]).validate_python(value)  # type: ignore[valid-type]
    except ValidationError as error:
        raise _refusal(error) from None
    return items
