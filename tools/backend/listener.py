"""The REST listener: uvicorn, embedded. It installs no signal handler and logs no request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from tools.backend.errors import ListenerRefused

BACKLOG = 512
"""Connections that may wait to be accepted; a burst of a few hundred clients fits."""

GRACE = 2
"""Seconds that requests under way have when the listener closes."""


class _Server(uvicorn.Server):
    """Leaves the signals to the program that embeds it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RestListener:
    """One listening socket for an app."""

    def __init__(self, app: FastAPI, bind: tuple[str, int]) -> None:
        self._bind = bind
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE,
            server_header=False,
        )
        self._server = _Server(config)

    async def start(self) -> None:
        """Bind and serve; returns when connections are accepted. Raises ListenerRefused."""
        host, port = self._bind
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            reason = error.strerror or str(error)
            raise ListenerRefused(f"REST listener: cannot bind TCP {host}:{port}: {reason}") from (
                error
            )
        sock.setblocking(False)
        self._socket = sock
        # From here on the system queues connections, so nobody is refused before uvicorn runs.
        self._task = asyncio.get_running_loop().create_task(
            self._server.serve(sockets=[sock]), name="backend-rest"
        )

    @property
    def local(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._socket is not None, "the listener is not started"
        name = self._socket.getsockname()
        return (str(name[0]), int(name[1]))

    async def stop(self) -> None:
        """Finish what is under way and close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
            self._task = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
