"""Listeners of ASGI applications: uvicorn, embedded. It installs no signal handler and logs no
request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from tools.backend.errors import ListenerRefused
from tools.backend.faces.base import TlsFiles
from tools.backend.faces.http_app import CLIENT_NAME

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol
else:
    # With httptools where that is installed, and both have the attributes used here.
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as _Protocol

BACKLOG = 2_048
"""Connections that may wait to be accepted; the burst of a fleet that powers up fits. The system
may grant less."""

GRACE = 2
"""Seconds that requests under way have when the listener closes."""

KEEP_ALIVE = 75
"""Seconds a connection without requests stays open: nginx' default, longer than clients keep
theirs in a pool, so that a request seldom meets a closing connection."""

STALLED = 30.0
"""Seconds between two looks at a connection: one that has shown no complete request head in
between is closed. uvicorn itself waits for ever."""


UNREAD = 10
"""Looks at a connection whose client takes nothing of an answer, before it is cut: five minutes,
in which the slowest link that devices have takes some hundred KiB."""


MAX_HEAD = 64 << 10
"""Bytes of a request's head. One of the two parsers that uvicorn may use has no bound."""


class _Server(uvicorn.Server):
    """Leaves the signals to the program that embeds it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(_Protocol):
    """A connection that tells who its client is, and that waits for ever neither for a request
    nor for somebody to read an answer.

    uvicorn does not hand the certificate of the client to applications. Its CN goes into the
    state that every request of the connection gets a copy of.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        name = common_name(certificate) if certificate else None
        if name is not None:
            self.app_state = {**self.app_state, CLIENT_NAME: name}
        self._head = 0
        self._stalled: object = None
        self._unsent = 0
        self._unmoved = 0
        self._watchdog = self.loop.call_later(STALLED, self._watch)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if cycle is not before or (cycle is not None and not cycle.response_complete):
            self._head = 0
        else:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.transport.close()

    def _watch(self) -> None:
        cycle = self.cycle
        # A request under way is the application's to bound, an idle connection the keep-alive
        # timer's. What is left is a head that does not come to its end, since the last look.
        idle = self.timeout_keep_alive_task is not None
        waiting = not idle and (cycle is None or cycle.response_complete)
        if waiting and self._stalled is cycle:
            self.transport.close()
            return
        self._stalled = cycle if waiting else self
        unsent = self.transport.get_write_buffer_size()
        self._unmoved = self._unmoved + 1 if unsent and unsent == self._unsent else 0
        self._unsent = unsent
        if self._unmoved >= UNREAD:
            self.transport.abort()  # `close` would wait for what nobody reads
            return
        self._watchdog = self.loop.call_later(STALLED, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watchdog.cancel()
        super().connection_lost(exc)


def common_name(certificate: dict[str, Any]) -> str | None:
    """The CN of a certificate's subject, as `ssl` reports it."""
    for attributes in certificate.get("subject", ()):
        for key, value in attributes:
            if key == "commonName":
                return str(value)
    return None


class AsgiListener:
    """One listening socket for an ASGI application. `label` names it in errors."""

    def __init__(
        self, app: Any, bind: tuple[str, int], label: str = "REST", tls: TlsFiles | None = None
    ) -> None:
        self._bind = bind
        self._label = label
        self._tls = tls
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        # A certificate is asked for and need not be there: a device may have a token instead.
        asks = tls is not None and tls.client_ca is not None
        self._config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            server_header=False,
            ssl_certfile=None if tls is None else str(tls.cert),
            ssl_keyfile=None if tls is None else str(tls.key),
            ssl_ca_certs=None if tls is None or tls.client_ca is None else str(tls.client_ca),
            ssl_cert_reqs=ssl.CERT_OPTIONAL if asks else ssl.CERT_NONE,
        )
        self._server = _Server(self._config)

    async def start(self) -> None:
        """Bind and serve; returns when connections are accepted. Raises ListenerRefused."""
        host, port = self._bind
        self._load()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer of two
        # writes waits 40 ms for the client's delayed acknowledgement.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            reason = error.strerror or str(error)
            raise ListenerRefused(
                f"{self._label} listener: cannot bind TCP {host}:{port}: {reason}"
            ) from error
        sock.setblocking(False)
        self._socket = sock
        # From here on the system queues connections, so nobody is refused before uvicorn runs.
        self._task = asyncio.get_running_loop().create_task(
            self._server.serve(sockets=[sock]), name=f"backend-{self._label}"
        )

    def _load(self) -> None:
        """Read the TLS files. The error names the file, which ssl itself does not."""
        tls = self._tls
        for path in () if tls is None else (tls.cert, tls.key, tls.client_ca):
            try:
                if path is not None:
                    path.open("rb").close()
            except OSError as error:
                raise ListenerRefused(
                    f"{self._label} listener: {path}: {error.strerror}"
                ) from error
        try:
            self._config.load()
        except ssl.SSLError as error:
            assert tls is not None
            files = f"{tls.cert}, {tls.key}: not a certificate and its key"
            if tls.client_ca is not None:
                files += f", or {tls.client_ca}: not an authority"
            raise ListenerRefused(
                f"{self._label} listener: {files}: {error.reason or error}"
            ) from error

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
