"""What reading an archive piece by piece has in common, whatever the archive."""

from __future__ import annotations

from typing import Protocol

from firmware_images.errors import PackageRefused, Reason
from firmware_images.package import PackageLimits

__all__ = ["Entries", "Gather", "MemberSink", "refuse_name"]


class MemberSink(Protocol):
    """Told of an archive's members in their order, each piece as it arrives."""

    def begin(self, name: str, size: int) -> None: ...

    def data(self, piece: memoryview) -> None: ...

    def end(self) -> None: ...


class Gather:
    """Bytes that are needed together: a header, a small file. Never more than were asked for."""

    __slots__ = ("_buffer", "_wanted")

    def __init__(self, wanted: int = 0) -> None:
        self._buffer = bytearray()
        self._wanted = wanted

    def ask(self, wanted: int) -> None:
        self._buffer.clear()
        self._wanted = wanted

    def take(self, data: memoryview) -> memoryview:
        """Keep what is missing of `data`; the rest is given back."""
        count = self._wanted - len(self._buffer)
        self._buffer += data[:count]
        return data[count:]

    @property
    def complete(self) -> bool:
        return len(self._buffer) == self._wanted

    def bytes(self) -> bytes:
        return bytes(self._buffer)


class Entries:
    """The names seen so far in one archive: bounded, each once."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def add(self, name: str) -> None:
        if name in self._seen:
            raise PackageRefused(Reason.BAD_STRUCTURE, f"has two members called {name!r}")
        if len(self._seen) == self._limit:
            raise PackageRefused(Reason.BAD_STRUCTURE, f"has more than {self._limit} members")
        self._seen.add(name)


def refuse_name(name: str, limits: PackageLimits) -> None:
    """Refuse names that nobody could write to a disk safely, though nothing here does."""
    if len(name) > limits.name_size:
        raise PackageRefused(Reason.BAD_STRUCTURE, f"a member's name has {len(name)} bytes")
    unsafe = any(part in ("", ".", "..") for part in name.split("/"))
    if unsafe or "\\" in name or not name.isprintable():
        raise PackageRefused(Reason.BAD_STRUCTURE, f"unsafe member name {name!r}")
