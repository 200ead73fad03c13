"""A TCP relay that reads along: which downloads were asked for, and from where they were given."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DOWNLOAD = re.compile(rb"GET (\S+/download) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)
PARTIAL = re.compile(
    rb"HTTP/1\.1 206 [^\r]*\r\n(?:[^\r]+\r\n)*?content-range: bytes (\d+)-\d+/(\d+)", re.IGNORECASE
)
RANGE = re.compile(rb"^range: bytes=(\d+)-", re.IGNORECASE | re.MULTILINE)


@dataclass
class Relay:
    url: str
    downloads: list[tuple[str, int]] = field(default_factory=list)
    """Path and first byte of every download that was asked for."""
    parts: list[tuple[int, int]] = field(default_factory=list)
    """First byte and size of the file, of every partial answer (206)."""


@contextlib.asynccontextmanager
async def relay_to(url: str) -> AsyncIterator[Relay]:
    parts = urlsplit(url)
    relay = Relay("")
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            inner, outer = await asyncio.open_connection(parts.hostname, parts.port)
            with contextlib.closing(writer), contextlib.closing(outer):
                await asyncio.gather(asked(reader, outer), answered(inner, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)

    async def asked(reader: asyncio.StreamReader, outer: asyncio.StreamWriter) -> None:
        heads = b""
        while data := await reader.read(65536):
            heads += data
            for found in DOWNLOAD.finditer(heads):
                at = RANGE.search(found[2])
                relay.downloads.append((found[1].decode(), int(at[1]) if at else 0))
                heads = heads[found.end() :]
            outer.write(data)
            await outer.drain()
        outer.close()

    async def answered(inner: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await inner.read(65536):
            for found in PARTIAL.finditer(data):  # heads come in one piece: they fill no packet
                relay.parts.append((int(found[1]), int(found[2])))
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    relay.url = f"http://{host}:{port}"
    try:
        yield relay
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
