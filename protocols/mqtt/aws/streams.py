"""MQTT-based file delivery: one file of a stream, fetched in windows of blocks. Sans-IO.

After the AWS IoT developer guide, "Using AWS IoT MQTT-based file delivery in devices". A request
asks for blocks by offset and count, or by a bitmap of those that are missing; each block comes in a
message of its own, in any order, twice, or never. What arrived out of order waits here, never more
than one window; what is missing when the time is up is asked for again.

In JSON the payload of a block is taken as base64: FreeRTOS's MQTT file streams library decodes it
so, while the guide's text says hexadecimal. [unverified against the service]
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Any

import cbor2

from protocols.mqtt.aws.messages import BadMessage

__all__ = ["MAX_BLOCK", "MAX_REQUEST", "MIN_BLOCK", "StreamDownload", "stream_rejection"]

MIN_BLOCK, MAX_BLOCK = 256, 131_072
"""Bytes of one block (AWS IoT Core service quotas, MQTT-based file delivery)."""
MAX_REQUEST = 131_072
"""Bytes that the service sends for one request, whatever was asked for."""
MAX_MESSAGE = 2 * MAX_BLOCK
"""Bytes of a message with one block, in base64 with its members."""


class StreamDownload:
    """The file `file_id` of `size` bytes, from `offset` on."""

    __slots__ = (
        "_block",
        "_held",
        "_missing",
        "_token",
        "_window",
        "encoding",
        "file_id",
        "offset",
        "size",
        "stream",
    )

    def __init__(
        self,
        stream: str,
        file_id: int,
        size: int,
        *,
        offset: int = 0,
        block: int,
        window: int,
        encoding: str,
        token: str,
    ) -> None:
        """`block` in bytes, `window` in blocks; `encoding` is json or cbor. Raises ValueError for a
        block size that the service does not know."""
        if not MIN_BLOCK <= block <= MAX_BLOCK:
            raise ValueError(f"blocks of {block} bytes: {MIN_BLOCK} to {MAX_BLOCK} are there")
        self.stream = stream
        self.file_id = file_id
        self.size = size
        self.offset = offset
        """Bytes that were given out, in order."""
        self.encoding = encoding
        self._block = block
        self._window = max(1, min(window, MAX_REQUEST // block))
        self._token = token
        self._held: dict[int, bytes] = {}
        self._missing: set[int] = set()

    @property
    def complete(self) -> bool:
        return self.offset == self.size

    @property
    def answered(self) -> bool:
        """Every block of the last request is here."""
        return not self._missing

    def request(self) -> bytes:
        """Ask for what is missing in the window that begins at `offset`."""
        first = self.offset // self._block
        end = min(first + self._window, -(-self.size // self._block))
        missing = [index for index in range(first, end) if index not in self._held]
        self._missing = set(missing)
        message: dict[str, Any] = {"c": self._token, "f": self.file_id, "l": self._block}
        message["o"] = missing[0]
        message["n"] = len(missing)
        if missing[-1] - missing[0] >= len(missing):
            bits = sum(1 << index - missing[0] for index in missing)
            bitmap = bits.to_bytes(bits.bit_length() + 7 >> 3, "little")
            # Bit 0 of the first byte is the block at the offset; JSON has it in hexadecimal.
            message["b"] = bitmap if self.encoding == "cbor" else f"0x{bitmap.hex()}"
        if self.encoding == "cbor":
            return cbor2.dumps(message)
        return json.dumps(message, separators=(",", ":")).encode()

    def block(self, payload: bytes) -> bytes:
        """Take one block; returns the bytes of the file that come next, if they are here now.

        Raises :class:`~protocols.mqtt.aws.messages.BadMessage` for what is no block of this file; a
        block that is not wanted (again, or beyond the window) gives nothing."""
        message = _decode(payload, self.encoding)
        if message.get("c", self._token) != self._token:
            return b""
        index, length, data = message.get("i"), message.get("l"), message.get("p")
        if message.get("f") != self.file_id or not isinstance(index, int) or index < 0:
            raise BadMessage("f, i: no block of this file")
        if self.encoding == "json":
            data = _base64(data)
        start = index * self._block
        expected = min(self._block, self.size - start)
        if not isinstance(data, bytes) or len(data) != expected or length != expected:
            raise BadMessage(f"block {index} has not the {expected} bytes that it must have")
        first = self.offset // self._block
        if not first <= index < first + self._window:
            return b""
        self._missing.discard(index)
        self._held[index] = data
        return self._ordered()

    def _ordered(self) -> bytes:
        pieces = []
        while (index := self.offset // self._block) in self._held:
            piece = self._held.pop(index)[self.offset % self._block :]
            pieces.append(piece)
            self.offset += len(piece)
            if self.complete:
                break
        return b"".join(pieces)


def stream_rejection(payload: bytes, encoding: str) -> str:
    """The error code of a rejected request. The service may write `code` for `o`."""
    message = _decode(payload, encoding)
    code = message.get("o", message.get("code"))
    return code if isinstance(code, str) else ""


def _decode(payload: bytes, encoding: str) -> dict[str, Any]:
    if encoding == "json":
        if len(payload) > MAX_MESSAGE:
            raise BadMessage(f"{len(payload)} bytes")
        try:
            message: object = json.loads(payload)
        except (ValueError, RecursionError):
            raise BadMessage("no JSON") from None
    else:
        try:
            reader = io.BytesIO(payload)
            message = cbor2.load(reader)
        except (cbor2.CBORDecodeError, ValueError, RecursionError, OverflowError, MemoryError):
            raise BadMessage("no CBOR") from None
        if reader.read(1):
            raise BadMessage("something behind the CBOR")
    if not isinstance(message, dict):
        raise BadMessage("no object")
    return message


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raise BadMessage("p: no base64") from None
