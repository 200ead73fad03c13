"""The stub on a socket: uvicorn in a task of the test's own loop. Not the backend's listener, so
that a fault there cannot hide in the tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

BACKLOG = 512
GRACE = 2
"""Seconds that requests under way have when the test ends."""


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(app: Any, host: str) -> AsyncIterator[int]:
    """Serves `app` on a free port of `host`; gives the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: without it each answer waits 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.bind((host, 0))
        sock.listen(BACKLOG)  # connections queue here until uvicorn runs
        sock.setblocking(False)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE,
            server_header=False,
        )
        server = _Server(config)
        task = asyncio.get_running_loop().create_task(server.serve([sock]), name="hawkbit-stub")
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task
