"""HTTP in memory and in virtual time: ASGI applications behind a modelled link.

::

    client            wire                      application
    open      ------  latency  ---------------> scope, http.request
    read_some <-----  latency, rate, window  -- http.response.start, http.response.body
    cut, done ------------------------------->  http.disconnect

A body travels chunk by chunk: each arrives a latency after it was sent and after the one before it
has crossed the link; an application that sends waits while its reader is more than a window behind.
Every request opens a connection, which takes a round trip.
`https` is taken as verified: nothing here could be attacked. Time is the runtime's clock, so that
the same adapter also runs with the wall.

Made after the ASGI specification, HTTP 2.4 and the TLS extension 0.2.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from multidict import CIMultiDict

from agent.runtime.http import HttpFailed, HttpIdentity, HttpTimeouts, Phase, Why
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from protocols.http.exchange import WINDOW, ExchangeClient, FieldMap, Fields, deadline
from protocols.http.tls import SslContexts
from protocols.http.urls import Site, locate

__all__ = ["AsgiApp", "MemoryHttp"]

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]

FIRST_PORT = 49152
"""Of clients, counted up per request: the ephemeral range of RFC 6335."""

_NO_BODY = frozenset((204, 304))


class MemoryHttp:
    """All HTTP of one runtime, without a socket. `apps` maps origins (`http://host:port`) to ASGI
    applications and may be changed: an origin that is missing refuses connections."""

    def __init__(
        self,
        runtime: Runtime,
        apps: Mapping[str, AsgiApp] | None = None,
        *,
        latency: float = 0.02,
        bandwidth: float | None = None,
    ) -> None:
        """`latency` in seconds for each direction, `bandwidth` of each answer in bytes a second."""
        self.runtime = runtime
        self.apps: dict[str, AsgiApp] = {}
        for origin, app in (apps or {}).items():
            self.serve(origin, app)
        self.latency = latency
        self.bandwidth = bandwidth
        # Dicts, for sets have no order and the same seed must give the same run.
        self.clients: dict[MemoryClient, None] = {}
        """Those with requests under way."""
        self.tasks: dict[asyncio.Task[None], None] = {}
        self._contexts = SslContexts()
        self._ports = 0

    def serve(self, origin: str, app: AsgiApp) -> None:
        """Let `app` answer what is asked of `origin` from now on."""
        self.apps[locate(origin)[0].origin] = app

    def refuse(self, origin: str) -> None:
        """Let nobody answer there any more."""
        self.apps.pop(locate(origin)[0].origin, None)

    def client(self, identity: HttpIdentity) -> MemoryClient:
        self._contexts.check(identity.credential, verify=identity.verify)
        return MemoryClient(self, identity)

    def port(self) -> int:
        """Another client port."""
        self._ports = (self._ports + 1) % (65536 - FIRST_PORT)
        return FIRST_PORT + self._ports

    async def close(self) -> None:
        for client in list(self.clients):
            client.abort()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class MemoryClient(ExchangeClient):
    """One device's exchanges."""

    __slots__ = ("_open", "transport")

    def __init__(self, transport: MemoryHttp, identity: HttpIdentity) -> None:
        super().__init__(transport.runtime, identity)
        self.transport = transport
        self._open: dict[_MemoryExchange, None] = {}

    async def open(
        self,
        method: str,
        site: Site,
        target: str,
        fields: Fields,
        body: bytes,
        timeouts: HttpTimeouts,
        window: int,
    ) -> _MemoryExchange:
        transport = self.transport
        clock = self.runtime.clock
        where = site.origin
        # How long it takes is known before: a deadline of its own would cost more than the rest.
        await clock.sleep(min(2 * transport.latency, timeouts.connect))
        if 2 * transport.latency > timeouts.connect:
            raise HttpFailed(Why.TIMEOUT, Phase.CONNECT, f"{where}: none in {timeouts.connect:g} s")
        app = transport.apps.get(where)
        if app is None:
            raise HttpFailed(Why.UNREACHABLE, Phase.CONNECT, f"{where}: Connection refused")
        exchange = _MemoryExchange(self, site, method, timeouts, min(window, WINDOW))
        self._open[exchange] = None
        transport.clients[self] = None
        scope = self._scope(method, site, target, fields, body)
        exchange.start(app, scope, body)
        await exchange.head(timeouts.answer)
        return exchange

    def abort(self) -> None:
        for exchange in list(self._open):
            exchange.cut()

    def ended(self, exchange: _MemoryExchange) -> None:
        self._open.pop(exchange, None)
        if not self._open:
            self.transport.clients.pop(self, None)

    def _scope(
        self, method: str, site: Site, target: str, fields: Fields, body: bytes
    ) -> dict[str, Any]:
        identity = self.identity
        path, _, query = target.partition("?")
        given = {name.lower() for name, _ in fields}
        usual = (("user-agent", "fotilla"), ("accept", "*/*"), ("accept-encoding", "identity"))
        sent = [("host", site.authority)]
        sent += [(name, value) for name, value in usual if name not in given]
        sent += [(name.lower(), value) for name, value in fields]
        if body or method in ("POST", "PUT", "PATCH"):
            sent.append(("content-length", str(len(body))))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": site.scheme,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent],
            "client": (identity.source or "127.0.0.1", self.transport.port()),
            "server": (site.host, site.port),
            "state": {},
            "extensions": {},
        }
        if site.scheme == "https":
            chain = identity.credential.certificate
            end = b"-----END CERTIFICATE-----"
            scope["extensions"]["tls"] = {
                "server_cert": None,
                "client_cert_chain": [
                    (one.strip() + end).decode() + "\n" for one in chain.split(end) if one.strip()
                ],
                "client_cert_name": _subject(chain),
                "client_cert_error": None,
                "tls_version": 0x0304,
                "cipher_suite": None,
            }
        return scope


def _subject(chain: bytes) -> str | None:
    """The name in the first certificate (RFC 4514), as a server would have verified it."""
    return x509.load_pem_x509_certificate(chain).subject.rfc4514_string() if chain else None


class _MemoryExchange:
    """One request under way, with the task of the application that answers it."""

    __slots__ = (
        "_arrived",
        "_client",
        "_crossed",
        "_disconnected",
        "_ended",
        "_expected",
        "_failure",
        "_idle",
        "_method",
        "_progress",
        "_request",
        "_sent",
        "_started",
        "_task",
        "_waiting",
        "_window",
        "headers",
        "site",
        "status",
    )

    status: int
    headers: FieldMap

    def __init__(
        self, client: MemoryClient, site: Site, method: str, timeouts: HttpTimeouts, window: int
    ) -> None:
        self._client = client
        self._method = method
        self._idle = timeouts.idle
        self._window = window
        self._arrived: deque[tuple[float, bytes]] = deque()
        """What was sent and not read, with when it is here."""
        self._waiting = 0
        """Bytes of that."""
        self._crossed = 0.0
        """When the link is free."""
        self._sent = 0
        self._expected: int | None = None
        self._started = False
        self._ended = False
        self._failure: HttpFailed | None = None
        self._disconnected = False
        self._progress: list[asyncio.Future[None]] = []
        self._request: bytes | None = b""
        self._task: asyncio.Task[None] | None = None
        self.site = site

    # -- towards the application ----------------------------------------------------------------

    def start(self, app: AsgiApp, scope: dict[str, Any], body: bytes) -> None:
        self._request = body
        tasks = self._client.transport.tasks
        self._task = asyncio.get_running_loop().create_task(self._serve(app, scope))
        tasks[self._task] = None
        self._task.add_done_callback(lambda task: tasks.pop(task, None))

    async def _serve(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        transport = self._client.transport
        await transport.runtime.clock.sleep(transport.latency)
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            # What a server does with a broken application: 500, or the answer breaks off.
            if not self._started and not self._disconnected:
                await self._send({"type": "http.response.start", "status": 500, "headers": []})
                await self._send({"type": "http.response.body", "body": b"Internal Server Error"})
        finally:
            if not self._ended:
                self._fail(Why.CUT, "closed before the announced end")

    async def _receive(self) -> Message:
        body, self._request = self._request, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        while not (self._disconnected or self._ended):
            await self._moved()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._disconnected:
            raise OSError("the client is gone")  # as ASGI 2.4 says
        runtime = self._client.runtime
        if message["type"] == "http.response.start":
            if self._started:
                raise RuntimeError("a second http.response.start")
            self._started = True
            self.status = message["status"]
            fields: CIMultiDict[str] = CIMultiDict()
            for name, value in message.get("headers", ()):
                fields.add(bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
            self.headers = FieldMap(fields)
            length = fields.get("content-length")
            self._expected = int(length) if length is not None and length.isdigit() else None
            if self._method == "HEAD" or self.status in _NO_BODY:
                self._expected = 0
            self._crossed = runtime.clock.now()
            self._move()
            return
        if message["type"] != "http.response.body":
            return
        if not self._started:
            raise RuntimeError("http.response.body before http.response.start")
        body = bytes(message.get("body", b""))
        if self._method == "HEAD" or self.status in _NO_BODY:
            body = b""
        if self._expected is not None and self._sent + len(body) > self._expected:
            raise RuntimeError("more body than Content-Length says")
        self._sent += len(body)
        await self._travel(body)
        if not message.get("more_body", False):
            if self._expected is not None and self._sent < self._expected:
                self._fail(Why.CUT, "closed before the announced end")
            self._ended = True
            self._move()

    async def _travel(self, body: bytes) -> None:
        """Put `body` on the wire, piece by piece as the window opens."""
        transport = self._client.transport
        clock = transport.runtime.clock
        longest = self._window
        if transport.bandwidth is not None:
            # A quarter of a second, and not less than a segment that anybody would send.
            longest = min(longest, max(64, int(transport.bandwidth / 4)))
        at = 0
        while at < len(body):
            while self._waiting >= self._window and not self._disconnected:
                await self._moved()
            if self._disconnected:
                raise OSError("the client is gone")
            piece = body[at : at + min(longest, self._window - self._waiting)]
            at += len(piece)
            self._crossed = max(self._crossed, clock.now())
            if transport.bandwidth is not None:
                self._crossed += len(piece) / transport.bandwidth
            self._arrived.append((self._crossed + transport.latency, piece))
            self._waiting += len(piece)
            self._move()

    # -- towards the device ---------------------------------------------------------------------

    async def head(self, timeout: float) -> None:
        """Wait for the status and the fields."""
        try:
            await self._until(lambda: self._started, timeout, Phase.WAIT)
            await self._client.runtime.clock.sleep(self._client.transport.latency)
            if self._disconnected:
                raise self._failure or HttpFailed(Why.CUT, Phase.WAIT, "aborted")
        except BaseException:
            self.cut()
            raise

    async def read_some(self, size: int) -> bytes:
        try:
            await self._until(lambda: bool(self._arrived) or self._ended, self._idle, Phase.BODY)
            if not self._arrived:
                self.done()
                return b""
            clock = self._client.runtime.clock
            here, piece = self._arrived[0]
            if here > clock.now():
                async with deadline(self._client.runtime, self._idle):
                    await clock.sleep(here - clock.now())
            if self._disconnected:
                raise HttpFailed(Why.CUT, Phase.BODY, "aborted")
        except TimeoutError:
            self.cut()
            raise self._silent(Phase.BODY, self._idle) from None
        except BaseException:
            self.cut()
            raise
        if len(piece) > size:
            self._arrived[0] = (here, piece[size:])
            piece = piece[:size]
        else:
            self._arrived.popleft()
        self._waiting -= len(piece)
        self._move()
        return piece

    def cut(self) -> None:
        self._disconnected = True
        self._arrived.clear()
        self._client.ended(self)
        self._move()

    def done(self) -> None:
        whole = self._ended or (self._expected is not None and self._sent >= self._expected)
        if whole and not self._arrived:
            self._client.ended(self)
        else:
            self.cut()

    # -- internals ------------------------------------------------------------------------------

    async def _until(self, ready: Callable[[], bool], timeout: float, phase: Phase) -> None:
        """Raises the failure, once what came before it was read."""
        if ready() and self._failure is None:
            return
        timer = Timer(lambda now: self._late(phase, timeout))
        self._client.runtime.arm(timer, timeout)
        try:
            while not ready() and self._failure is None and not self._disconnected:
                await self._moved()
        finally:
            self._client.runtime.wheel.disarm(timer)
        if self._failure is not None and not self._arrived:
            raise HttpFailed(self._failure.why, phase, self._failure.detail)
        if self._disconnected:
            raise HttpFailed(Why.CUT, phase, "aborted")

    def _late(self, phase: Phase, timeout: float) -> None:
        self._failure = self._silent(phase, timeout)
        self._move()

    def _silent(self, phase: Phase, timeout: float) -> HttpFailed:
        return HttpFailed(Why.TIMEOUT, phase, f"{self.site.origin}: silent for {timeout:g} s")

    def _fail(self, why: Why, detail: str) -> None:
        if self._failure is None:
            self._failure = HttpFailed(why, Phase.BODY, f"{self.site.origin} {detail}")
        self._ended = True
        self._move()

    def _move(self) -> None:
        """Something changed: whoever waits looks again."""
        waiting, self._progress = self._progress, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _moved(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._progress.append(future)
        await future
