"""The compressions of Mender artifacts, told by the end of a file name: none, gzip and xz.

Nothing is ever decompressed further than one piece ahead of whoever takes the pieces, so a bomb
costs no more memory than what it is refused for.
"""

from __future__ import annotations

import enum
import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

from firmware_images.errors import PackageRefused, Reason

__all__ = ["Compression", "Decompressor", "compress", "decompressor"]

PIECE_SIZE = 16 << 10
"""Bytes decompressed at a time."""
XZ_MEMORY_LIMIT = 66 << 20
"""What one decoder may ask for. `mender-artifact` declares a dictionary of 64 MiB whatever the
payload; the pages of it that a small payload never reaches are never touched."""

_GZIP = zlib.MAX_WBITS | 16


class Compression(enum.Enum):
    """The value is what follows `.tar` in a file name."""

    NONE = ""
    GZIP = ".gz"
    LZMA = ".xz"


class Decompressor(Protocol):
    def feed(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """What `data` brought, in pieces. Raises `PackageRefused`."""
        ...

    def finish(self) -> None:
        """Everything was fed: raises `PackageRefused` unless the stream has ended."""
        ...


def decompressor(compression: Compression, what: str) -> Decompressor:
    """A new one; `what` is how an error calls the stream."""
    match compression:
        case Compression.NONE:
            return _Plain()
        case Compression.GZIP:
            return _Gzip(what)
        case Compression.LZMA:
            return _Xz(what)


def compress(data: bytes, compression: Compression) -> bytes:
    """The same data gives the same bytes: no name and no time goes into the stream."""
    match compression:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            deflater = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
            return deflater.compress(data) + deflater.flush()
        case Compression.LZMA:
            return lzma.compress(data)


class _Plain:
    __slots__ = ()

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        yield data

    def finish(self) -> None:
        pass


class _Gzip:
    __slots__ = ("_inflater", "_what")

    def __init__(self, what: str) -> None:
        self._inflater = zlib.decompressobj(_GZIP)
        self._what = what

    def feed(self, data: memoryview) -> Iterator[bytes]:
        rest: bytes | memoryview = data
        while True:
            if self._inflater.eof:
                if rest:
                    raise _behind(self._what)
                return
            try:
                piece = self._inflater.decompress(rest, PIECE_SIZE)
            except zlib.error as error:
                raise _broken(self._what) from error
            rest = self._inflater.unconsumed_tail or self._inflater.unused_data
            if piece:
                yield piece
            elif not rest:
                return

    def finish(self) -> None:
        if not self._inflater.eof:
            raise _short(self._what)


class _Xz:
    __slots__ = ("_decoder", "_what")

    def __init__(self, what: str) -> None:
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_LIMIT)
        self._what = what

    def feed(self, data: memoryview) -> Iterator[bytes]:
        rest: bytes | memoryview = data
        while True:
            if self._decoder.eof:
                if rest or self._decoder.unused_data:
                    raise _behind(self._what)
                return
            try:
                piece = self._decoder.decompress(rest, PIECE_SIZE)
            except (lzma.LZMAError, MemoryError) as error:
                raise _broken(self._what) from error
            rest = b""
            if piece:
                yield piece
            elif self._decoder.needs_input:
                return

    def finish(self) -> None:
        if not self._decoder.eof:
            raise _short(self._what)


def _broken(what: str) -> PackageRefused:
    return PackageRefused(Reason.BAD_STRUCTURE, f"{what} cannot be decompressed")


def _behind(what: str) -> PackageRefused:
    return PackageRefused(Reason.BAD_STRUCTURE, f"{what} has data behind its compressed end")


def _short(what: str) -> PackageRefused:
    return PackageRefused(Reason.TRUNCATED, f"{what} ends in the middle of its compressed data")
