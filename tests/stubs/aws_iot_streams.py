"""The stream half of the AWS IoT stub: which blocks a GetStream is answered with."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from tests.stubs import aws_iot_schema as schema

MIN_BLOCK, MAX_BLOCK = 256, 131_072
MAX_OFFSET = MAX_COUNT = 98_304
MAX_BITMAP = 12_288
MAX_ANSWER = 131_072
"""Bytes that one request is answered with at most."""


class StreamError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code, self.message = code, message


@dataclass(slots=True)
class Stream:
    stream_id: str
    version: int
    files: dict[int, bytes]


def describe(stream: Stream | None, token: str | None) -> schema.StreamDescription:
    if stream is None:
        raise StreamError("ResourceNotFound", "no such stream")
    files = [schema.StreamFile(f=number, z=len(data)) for number, data in stream.files.items()]
    return schema.StreamDescription(c=token, s=stream.version, d="a stream", r=files)


def blocks_of(
    stream: Stream | None, request: schema.GetStream, encoding: str
) -> Iterator[schema.Block]:
    """Raises StreamError before the first block."""
    if stream is None or request.f not in stream.files:
        raise StreamError("ResourceNotFound", "no such stream or file")
    if request.s is not None and request.s != stream.version:
        raise StreamError("VersionMismatch", f"the version is {stream.version}")
    if not MIN_BLOCK <= request.l <= MAX_BLOCK:
        raise StreamError("BlockSizeOutOfBounds", f"l is {request.l}")
    if not 0 <= request.o <= MAX_OFFSET:
        raise StreamError("OffsetOutOfBounds", f"o is {request.o}")
    if request.n is not None and not 0 < request.n <= MAX_COUNT:
        raise StreamError("BlockCountLimitExceeded", f"n is {request.n}")
    if request.n is None and request.b is None:
        raise StreamError("InvalidRequest", "neither n nor b")
    data = stream.files[request.f]
    if request.o * request.l >= len(data):
        raise StreamError("OffsetOutOfBounds", f"block {request.o} is behind the end")
    return _blocks(data, request, _indexes(request, encoding), encoding)


def _indexes(request: schema.GetStream, encoding: str) -> list[int]:
    count = request.n if request.n is not None else MAX_ANSWER // request.l
    if request.b is None:
        return list(range(request.o, request.o + count))
    if encoding == "cbor":
        if not isinstance(request.b, bytes):
            raise StreamError("InvalidRequest", "b is no byte string")
        bitmap = request.b
    else:
        try:
            bitmap = bytes.fromhex(str(request.b).removeprefix("0x"))
        except ValueError:
            raise StreamError("InvalidRequest", "b is no hexadecimal number") from None
    if not 0 < len(bitmap) < MAX_BITMAP:
        raise StreamError("BlockBitmapLimitExceeded", f"{len(bitmap)} bytes")
    bits = int.from_bytes(bitmap, "little")
    wanted = [request.o + bit for bit in range(bits.bit_length()) if bits >> bit & 1]
    return wanted[:count]


def _blocks(
    data: bytes, request: schema.GetStream, indexes: list[int], encoding: str
) -> Iterator[schema.Block]:
    sent = 0
    for index in indexes:
        piece = data[index * request.l : (index + 1) * request.l]
        sent += len(piece)
        if not piece or sent > MAX_ANSWER:
            return
        payload = piece if encoding == "cbor" else base64.b64encode(piece).decode()
        yield schema.Block(c=request.c, f=request.f, l=len(piece), i=index, p=payload)
