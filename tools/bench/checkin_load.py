"""Those who check in: connections that are kept alive, each with one request under way always.

usage: python -m tools.bench.checkin_load

A process of its own, and no HTTP library in it: what it takes is taken from the server, where both
have to share a processor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial

from tools.bench.control import answer_commands

PATIENCE = 30.0
"""Seconds in which every connection must have had an answer."""


class Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.answered = 0
        self.refused = 0
        self.running = True
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0 or len(received) < end + 4 + content_length(received[:end]):
            return
        self._received = b""
        if received.startswith(b"HTTP/1.1 200 "):
            self.answered += 1
        else:
            self.refused += 1
        assert self._transport is not None
        if self.running:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)


def content_length(head: bytes) -> int:
    """The length of the body after a head, 0 where it does not say."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class Load:
    """Everybody, as told by the driver."""

    def __init__(self) -> None:
        self._askers: list[Asker] = []

    async def begin(self, address: list[object], requests: list[str]) -> Mapping[str, object]:
        """Open a connection for each request; returns when each has had an answer."""
        host, port = address
        loop = asyncio.get_running_loop()
        for request in requests:
            make = partial(Asker, request.encode())
            _, asker = await loop.create_connection(make, str(host), int(str(port)))
            self._askers.append(asker)
        until = time.monotonic() + PATIENCE
        while not all(asker.answered for asker in self._askers) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return await self.counts()

    async def counts(self) -> Mapping[str, object]:
        """Answers until now."""
        return {
            "at": time.monotonic(),
            "answered": sum(asker.answered for asker in self._askers),
            "refused": sum(asker.refused for asker in self._askers),
            "lost": sum(asker.over.done() for asker in self._askers),
        }

    async def end(self) -> Mapping[str, object]:
        """Let what is under way be answered, and close."""
        for asker in self._askers:
            asker.running = False
        await asyncio.wait([asker.over for asker in self._askers], timeout=PATIENCE)
        counted = await self.counts()
        self._askers.clear()
        return counted


if __name__ == "__main__":
    load = Load()
    asyncio.run(answer_commands({"begin": load.begin, "counts": load.counts, "end": load.end}))
