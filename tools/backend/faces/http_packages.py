"""Serving a package over HTTP: ranges, validators, chunks (RFC 9110 sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]

CHUNK = 64 << 10
"""Bytes handed on at once: uvicorn's high-water mark, so that a slow reader holds one of them."""

_RANGE = re.compile(rb"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """What is answered: bytes `start` to `end` (exclusive), under `status`."""

    status: int
    start: int
    end: int


def select_part(headers: Mapping[bytes, bytes], size: int, etag: bytes) -> Part:
    """What a request asks for of a representation of `size` bytes with a strong `etag`."""
    if _matches(headers.get(b"if-none-match"), etag):
        return Part(304, 0, 0)
    whole = Part(200, 0, size)
    field = headers.get(b"range")
    condition = headers.get(b"if-range")
    # A weak tag or a date never matches: the comparison is the strong one, and there are no dates.
    if field is None or (condition is not None and condition.strip() != etag):
        return whole
    found = _RANGE.fullmatch(field)
    if found is None or not (found[1] or found[2]):
        return whole  # several ranges, another unit, nonsense: a server may ignore it
    if not found[1]:
        length = int(found[2])
        return Part(206, max(0, size - length), size) if length else Part(416, 0, 0)
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return whole
    if first >= size:
        return Part(416, 0, 0)
    return Part(206, first, min(last + 1, size))


def _matches(field: bytes | None, etag: bytes) -> bool:
    if field is None:
        return False
    tags = [tag.strip() for tag in field.split(b",")]
    # If-None-Match compares weakly (RFC 9110 section 13.1.2).
    return b"*" in tags or any(tag.removeprefix(b"W/") == etag for tag in tags)


async def serve(
    method: str, headers: Mapping[bytes, bytes], body: bytes, digest: str, send: Send
) -> None:
    """Answer a GET or HEAD of a package."""
    etag = f'"{digest}"'.encode()
    part = select_part(headers, len(body), etag)
    length = part.end - part.start
    fields = [(b"etag", etag), (b"accept-ranges", b"bytes")]
    if part.status != 304:
        fields.append((b"content-length", b"%d" % length))
    if part.status in (200, 206):
        fields.append((b"content-type", b"application/octet-stream"))
    if part.status == 206:
        spec = b"bytes %d-%d/%d" % (part.start, part.end - 1, len(body))
        fields.append((b"content-range", spec))
    elif part.status == 416:
        fields.append((b"content-range", b"bytes */%d" % len(body)))
    await send({"type": "http.response.start", "status": part.status, "headers": fields})
    if method == "HEAD" or not length:
        await send({"type": "http.response.body", "body": b""})
        return
    for offset in range(part.start, part.end, CHUNK):
        end = min(offset + CHUNK, part.end)
        await send(
            {
                "type": "http.response.body",
                "body": body[offset:end],
                "more_body": end < part.end,
            }
        )
