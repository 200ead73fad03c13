"""The bytes of a pushed package, out of whatever wraps them.

A Write to 5/0/0 carries the image bare (opaque), as a TLV record, as base64 in text, or as one
CBOR byte string. Whatever it is, it is unwrapped as it arrives: an image does not fit the memory
that other bodies may have.
"""

from __future__ import annotations

import base64
import binascii

from protocols.lwm2m.codecs import CBOR, OPAQUE, TEXT, TLV, CodecError, UnsupportedFormat
from protocols.lwm2m.codecs.tlv import read_header

__all__ = ["PackageStream", "stream_for"]

PACKAGE_RESOURCE = 0
_BYTE_STRING = 2  # CBOR major type


class PackageStream:
    """Feed the body's bytes in order; get the package's. ``finish`` checks that all came."""

    __slots__ = ("_format", "_left", "_pending")

    def __init__(self, content_format: int) -> None:
        self._format = content_format
        self._pending = b""
        self._left = -1  # bytes of the package still to come; -1 while the header is incomplete

    def feed(self, data: bytes) -> bytes:
        """Raises :class:`CodecError` when the wrapping is wrong."""
        if self._format == TEXT:
            return self._feed_text(data)
        if self._left < 0:
            data = self._pending + data
            header = self._header(data)
            if header is None:
                self._pending = data
                return b""
            start, self._left = header
            self._pending = b""
            data = data[start:]
        if len(data) > self._left:
            raise CodecError("bytes follow the package inside its record")
        self._left -= len(data)
        return data

    def finish(self) -> None:
        if self._left > 0 or self._pending or (self._left < 0 and self._format != TEXT):
            raise CodecError("the record that holds the package is cut short")

    def _header(self, data: bytes) -> tuple[int, int] | None:
        if not data:
            return None
        if self._format == TLV:
            header = read_header(data)
            if header is None:
                return None
            if header.id != PACKAGE_RESOURCE:
                raise CodecError(f"the record is for resource {header.id}, not the package")
            return header.size, header.length
        head = data[0]
        if head >> 5 != _BYTE_STRING or head & 31 > 27:
            raise CodecError("the package must be one CBOR byte string of definite length")
        extra = 0 if head & 31 < 24 else 1 << (head & 31) - 24
        if len(data) < 1 + extra:
            return None
        size = head & 31 if not extra else int.from_bytes(data[1 : 1 + extra], "big")
        return 1 + extra, size

    def _feed_text(self, data: bytes) -> bytes:
        data = self._pending + data
        whole = len(data) & ~3
        self._pending = data[whole:]
        try:
            return base64.b64decode(data[:whole], validate=True)
        except binascii.Error as error:
            raise CodecError(f"the package is no base64: {error}") from None


def stream_for(content_format: int | None) -> PackageStream | None:
    """None when the bytes are the package itself. Raises :class:`UnsupportedFormat`."""
    if content_format is None or content_format == OPAQUE:
        return None
    if content_format in (TEXT, TLV, CBOR):
        return PackageStream(content_format)
    raise UnsupportedFormat(f"content format {content_format} cannot carry a package")
