"""The yardsticks: as many tasks as there are devices, each asking and parsing as fast as it can.

usage: python -m tools.bench.http_bare LIBRARY URL CONNECTIONS   (LIBRARY: aiohttp or httpx)

aiohttp: one session, one connector, a connection per task. httpx: one shared client.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import httpx

from tools.bench.control import answer_commands
from tools.fleet.limits import ensure_descriptors

Ask = Callable[[], Awaitable[object]]


@asynccontextmanager
async def with_aiohttp(url: str, connections: int) -> AsyncIterator[Ask]:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3600.0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask() -> object:
            async with session.get(url) as answer:
                return json.loads(await answer.read())

        yield ask


@asynccontextmanager
async def with_httpx(url: str, connections: int) -> AsyncIterator[Ask]:
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=None
    )
    async with httpx.AsyncClient(limits=limits, timeout=60.0, trust_env=False) as client:

        async def ask() -> object:
            return json.loads((await client.get(url)).content)

        yield ask


LIBRARIES = {"aiohttp": with_aiohttp, "httpx": with_httpx}


def cpu() -> Mapping[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"user": usage.ru_utime, "sys": usage.ru_stime}


class Load:
    """Tasks that ask while they are told to."""

    def __init__(self, ask: Ask, connections: int) -> None:
        self._ask = ask
        self._connections = connections
        self._done = 0
        self._running = False

    async def load(self, seconds: float) -> Mapping[str, object]:
        # The connections are open before anything counts, as those of the devices are.
        await asyncio.gather(*(self._ask() for _ in range(self._connections)))
        self._running = True
        tasks = [asyncio.ensure_future(self._loop()) for _ in range(self._connections)]
        await asyncio.sleep(seconds / 5)  # all of them are busy
        begun, before = cpu(), self._done
        await asyncio.sleep(seconds)
        ended, done = cpu(), self._done - before
        self._running = False
        await asyncio.gather(*tasks)
        return {"begun": begun, "ended": ended, "done": done, "lost": 0}

    async def _loop(self) -> None:
        while self._running:
            await self._ask()
            self._done += 1


async def main(library: str, url: str, connections: int) -> None:
    ensure_descriptors(connections)
    async with LIBRARIES[library](url, connections) as ask:
        await answer_commands({"load": Load(ask, connections).load})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
