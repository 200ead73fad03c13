"""The same application behind both adapters: on a socket with uvicorn, and in memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from agent import Runtime
from agent.runtime.http import HttpIdentity, HttpTimeouts
from protocols.http.aiohttp_transport import AiohttpTransport
from protocols.http.exchange import ExchangeClient
from protocols.http.memory_transport import MemoryHttp
from tools.backend.listener import AsgiListener

RATE = 4.0
"""Runtimes of these tests run so many times as fast: the wall must not matter to them."""

SHORT = HttpTimeouts(connect=60, answer=1, idle=1)
PATIENT = HttpTimeouts(connect=60, answer=60, idle=60)

App = Callable[[Any, Any, Any], Awaitable[None]]


class House:
    """A runtime with one adapter, and the application on two origins."""

    def __init__(self, runtime: Runtime, origin: str, other: str) -> None:
        self.runtime = runtime
        self.origin = origin
        self.other = other

    def client(self, name: str = "dev-0", **identity: Any) -> ExchangeClient:
        assert self.runtime.http is not None
        client = self.runtime.http.client(HttpIdentity(name, **identity))
        assert isinstance(client, ExchangeClient)
        return client


@asynccontextmanager
async def sockets(app: App) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.real(rate=RATE))
        runtime.http = AiohttpTransport(runtime)
        origins = []
        listeners: list[AsgiListener] = []
        for _ in range(2):
            listener = AsgiListener(app, ("127.0.0.1", 0))
            await listener.start()
            listeners.append(listener)
            origins.append("http://{}:{}".format(*listener.local))
        yield House(runtime, *origins)
        await runtime.aclose()
        await asyncio.gather(*(listener.stop() for listener in listeners))


@asynccontextmanager
async def memory(app: App) -> AsyncIterator[House]:
    async with Runtime.real(rate=RATE) as runtime:
        origins = ("http://10.0.0.1:8080", "http://10.0.0.2:8080")
        runtime.http = MemoryHttp(runtime, dict.fromkeys(origins, app))
        yield House(runtime, *origins)


HOUSES = {"sockets": sockets, "memory": memory}


@asynccontextmanager
async def raw_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A server that writes whatever a test wants; its origin."""
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, as some tests want it
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{'http' if tls is None else 'https'}://{host}:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def saying(head: bytes, *, hang: bool = False) -> Callable[..., Awaitable[None]]:
    """Answers every request with these bytes and closes, or goes silent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await writer.drain()
        if hang:
            await asyncio.sleep(3600)

    return answer
