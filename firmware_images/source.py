"""Where the bytes of an image come from: a file in memory, a flash slot, a shared rope of pages.

A verifier reads little pieces (header, records) and runs once over the rest to hash it. It never
asks for the whole, so that a slot which shares its pages with ten thousand others stays shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["CHUNK_SIZE", "ByteSource", "as_source"]

CHUNK_SIZE = 64 * 1024
"""Piece size of an in-memory source. SHA-256 gains nothing from larger ones."""


class ByteSource(Protocol):
    """Random access to immutable bytes."""

    def __len__(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`, or fewer where the source ends."""
        ...

    def chunks(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """The bytes from `start` up to `end` in pieces of any size, without joining them."""
        ...


class _MemorySource:
    __slots__ = ("_data", "_view")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def chunks(self, start: int, end: int) -> Iterator[memoryview]:
        for offset in range(start, min(end, len(self._data)), CHUNK_SIZE):
            yield self._view[offset : min(offset + CHUNK_SIZE, end)]


def as_source(data: bytes | bytearray | memoryview) -> ByteSource:
    """A source over bytes in memory. `bytes` are used as they are; anything mutable is copied."""
    return _MemorySource(bytes(data))
