"""Resources that do not go into the update engine: verified, measured, or kept in memory.

They are received as `download.py` says, and none is resumed after a reboot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.outcome import Outcome
from protocols.http.download import (
    DEFAULT_DOWNLOAD,
    DownloadFailed,
    DownloadTuning,
    Resource,
    Transfer,
)

if TYPE_CHECKING:
    from protocols.http.carrier import Carries

__all__ = ["Content", "check", "fetch", "measure"]


class _Nowhere:
    """Keeps nothing, of a resource that there would be room for."""

    def __init__(self, room: int | None) -> None:
        self.room = room

    def restart(self, etag: str, size: int | None) -> None:
        self.described(etag, size)

    def described(self, etag: str, size: int | None) -> None:
        if self.room is not None and size is not None and size > self.room:
            raise DownloadFailed(Outcome.NO_SPACE, f"{size} bytes, room for {self.room}")

    def take(self, data: bytes) -> None: ...


class _Memory:
    """Keeps all of it, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.body = bytearray()

    def restart(self, etag: str, size: int | None) -> None:
        self.body.clear()
        self.described(etag, size)

    def described(self, etag: str, size: int | None) -> None:
        if size is not None and size > self.limit:
            raise DownloadFailed(Outcome.OUT_OF_MEMORY, f"{size} bytes, room for {self.limit}")

    def take(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > self.limit:
            raise DownloadFailed(Outcome.OUT_OF_MEMORY, f"more than {self.limit} bytes")


class _Measured(_Nowhere):
    """Keeps nothing but the measure of what comes."""

    def __init__(self, room: int | None) -> None:
        super().__init__(room)
        self.size = 0
        self.sha256 = hashlib.sha256()

    def restart(self, etag: str, size: int | None) -> None:
        self.size, self.sha256 = 0, hashlib.sha256()
        super().restart(etag, size)

    def take(self, data: bytes) -> None:
        self.size += len(data)
        self.sha256.update(data)


@dataclass(frozen=True, slots=True)
class Content:
    """What a resource was."""

    size: int
    """Bytes that arrived."""
    sha256: str
    """Of these, in hex."""


async def measure(
    poller: Carries,
    resource: Resource,
    *,
    tuning: DownloadTuning = DEFAULT_DOWNLOAD,
    room: int | None = None,
) -> Content:
    """As `check`, for a resource whose digest nobody has announced. Raises DownloadFailed."""
    sink = _Measured(room)
    await Transfer(poller, resource, sink, tuning).run()
    return Content(sink.size, sink.sha256.hexdigest())


async def check(
    poller: Carries,
    resource: Resource,
    *,
    tuning: DownloadTuning = DEFAULT_DOWNLOAD,
    room: int | None = None,
) -> None:
    """Download a resource, compare it with what was announced, keep nothing; NO_SPACE for one that
    says it has more than `room` bytes. Raises DownloadFailed."""
    await Transfer(poller, resource, _Nowhere(room), tuning).run()


async def fetch(
    poller: Carries,
    resource: Resource,
    limit: int,
    *,
    tuning: DownloadTuning = DEFAULT_DOWNLOAD,
) -> bytes:
    """Download a resource of at most `limit` bytes into memory. Raises DownloadFailed."""
    sink = _Memory(limit)
    await Transfer(poller, resource, sink, tuning).run()
    return bytes(sink.body)
