"""HTTP over real sockets: aiohttp's connector and parser, with our own hand on each connection.

aiohttp opens connections (names, Happy Eyeballs, TLS, proxies) and parses what comes. What it would
do per request on top (sessions, cookie jars, URL objects, timers of their own) costs more than the
exchange itself and is left out: a request is one write, an answer is read from the protocol.

An open connection belongs to the client of one device and is kept there, so it cannot change its
identity. Kept ones are closed by one timer for all.

Read in aiohttp 3.14.5: `Connector.connect`, `Connection.protocol`, and of the protocol
`set_response_params`, `read`, `exception`, `should_close`, `transport`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import ClientRequest, ClientTimeout, TCPConnector, http_exceptions
from yarl import URL

from agent.runtime.http import HttpFailed, HttpIdentity, HttpTimeouts, Phase, Why
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from protocols.http.exchange import ExchangeClient, FieldMap, Fields, deadline
from protocols.http.tls import SslContexts
from protocols.http.urls import Site

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import AddrInfoType, Connection
    from aiohttp.streams import StreamReader

__all__ = ["KEEP_ALIVE", "AiohttpTransport"]

KEEP_ALIVE = 15.0
"""Seconds that a connection is kept for the next request; aiohttp's own default. Below what servers
keep (Tomcat 20 s, nginx 75 s), so that it is seldom the server who closes first."""

RECEIVE_BUFFER = 32 * 1024
"""Bytes that the kernel keeps for a connection, instead of growing to megabytes: what a slow device
has not taken must stay with its server, and asyncio takes all there is at once (up to 256 KiB, for
each of a thousand downloads). Microcontrollers have a tenth of it."""

MAX_LINE = 8190
MAX_FIELDS = 128
"""Of the head of an answer, aiohttp's defaults: together they bound it to 1 MiB."""

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))
"""What may be sent again when a kept connection turns out to be dead (RFC 9110 section 9.2.2)."""

_ENDED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_NO_TIMEOUT = ClientTimeout(total=None)
_RESET = struct.pack("ii", 1, 0)
_SOURCE: ContextVar[str | None] = ContextVar("source", default=None)
_USUAL_FIELDS = {
    "user-agent": "User-Agent: fotilla\r\n",
    "accept": "Accept: */*\r\n",
    "accept-encoding": "Accept-Encoding: identity\r\n",
}
_USUAL = "".join(_USUAL_FIELDS.values())


class AiohttpTransport:
    """All real HTTP of one runtime."""

    def __init__(self, runtime: Runtime, *, keep_alive: float = KEEP_ALIVE) -> None:
        self.runtime = runtime
        self.contexts = SslContexts()
        self.connector = TCPConnector(limit=0, force_close=True, socket_factory=_bound_socket)
        self.loop = asyncio.get_running_loop()
        self._keep_alive = keep_alive
        self._kept: dict[_Wire, float] = {}
        self._sweep = Timer(self._sweep_kept)

    def client(self, identity: HttpIdentity) -> AiohttpClient:
        return AiohttpClient(self, identity)

    async def close(self) -> None:
        self.runtime.wheel.disarm(self._sweep)
        for wire in list(self._kept):
            wire.close()
        self._kept.clear()
        await self.connector.close()

    def keep(self, wire: _Wire) -> None:
        """`wire` waits for another request; the oldest is closed first."""
        now = self.runtime.clock.now()
        self._kept[wire] = now + self._keep_alive
        if not self._sweep.armed:
            self.runtime.wheel.arm(self._sweep, now + self._keep_alive)

    def forget(self, wire: _Wire) -> None:
        self._kept.pop(wire, None)

    def _sweep_kept(self, now: float) -> None:
        kept = self._kept
        while kept:
            wire, until = next(iter(kept.items()))
            if until > now:
                self.runtime.wheel.arm(self._sweep, until)
                return
            wire.close()
            kept.pop(wire, None)


class AiohttpClient(ExchangeClient):
    """One device's connections."""

    __slots__ = ("_aborts", "_context", "_transport", "wires")

    def __init__(self, transport: AiohttpTransport, identity: HttpIdentity) -> None:
        super().__init__(transport.runtime, identity)
        self._transport = transport
        self._context = transport.contexts.check(identity.credential, verify=identity.verify)
        self._aborts = 0
        self.wires: tuple[_Wire, ...] = ()
        """Open ones, those that carry a request and those that wait for one."""

    async def open(
        self,
        method: str,
        site: Site,
        target: str,
        fields: Fields,
        body: bytes,
        timeouts: HttpTimeouts,
        window: int,
    ) -> _Wire:
        wire = self._idle(site)
        if wire is not None:
            message = _message(method, site, target, fields, body, wire.proxied)
            try:
                return await wire.ask(method, message, timeouts, window)
            except _Stale as stale:
                if method not in IDEMPOTENT:
                    raise stale.failure from None
        wire = await self._connect(site, timeouts)
        message = _message(method, site, target, fields, body, wire.proxied)
        try:
            return await wire.ask(method, message, timeouts, window)
        except _Stale as stale:
            raise stale.failure from None

    def abort(self) -> None:
        self._aborts += 1
        for wire in self.wires:
            wire.cut()
            if wire.idle:
                wire.close()

    def _idle(self, site: Site) -> _Wire | None:
        for wire in self.wires:
            if wire.idle and wire.site == site:
                self._transport.forget(wire)
                if wire.alive:
                    wire.idle = False
                    return wire
                wire.close()
        return None

    async def _connect(self, site: Site, timeouts: HttpTimeouts) -> _Wire:
        transport = self._transport
        identity = self.identity
        proxy = None
        if identity.proxy is not None:
            try:
                proxy = URL(identity.proxy)
            except ValueError:
                raise HttpFailed(Why.BAD_URL, Phase.CONNECT, "the proxy's URL") from None
        if site.scheme == "https" and self._context is None:
            self._context = transport.contexts.client(identity.credential, verify=identity.verify)
        aborts = self._aborts
        token = _SOURCE.set(identity.source)
        try:
            request = ClientRequest(
                "GET",
                URL.build(scheme=site.scheme, host=site.host, port=site.port),
                loop=transport.loop,
                ssl=self._context or True,
                proxy=proxy,
            )
            async with deadline(transport.runtime, timeouts.connect):
                connection = await transport.connector.connect(request, [], _NO_TIMEOUT)
        except TimeoutError:
            raise HttpFailed(
                Why.TIMEOUT, Phase.CONNECT, f"{site.origin}: none in {timeouts.connect:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _not_connected(error, site, identity.source) from None
        finally:
            _SOURCE.reset(token)
        proxied = request.headers if proxy is not None and site.scheme == "http" else None
        wire = _Wire(self, transport, connection, site, proxied)
        if self._aborts != aborts:
            wire.cut()
            wire.close()
            raise HttpFailed(Why.CUT, Phase.CONNECT, "aborted")
        self.wires += (wire,)
        return wire

    def dropped(self, wire: _Wire) -> None:
        self.wires = tuple(one for one in self.wires if one is not wire)


class _Stale(Exception):
    """A connection ended before one byte of an answer came."""

    def __init__(self, failure: HttpFailed) -> None:
        super().__init__(failure)
        self.failure = failure


class _Wire:
    """One connection of one client, and the exchange it carries."""

    __slots__ = (
        "_client",
        "_connection",
        "_late",
        "_payload",
        "_proto",
        "_timeout",
        "_timer",
        "_transport",
        "_unsent",
        "_window",
        "headers",
        "idle",
        "proxied",
        "site",
        "status",
    )

    status: int
    headers: FieldMap

    def __init__(
        self,
        client: AiohttpClient,
        transport: AiohttpTransport,
        connection: Connection,
        site: Site,
        proxied: Mapping[str, str] | None,
    ) -> None:
        protocol = connection.protocol
        assert protocol is not None
        self._client = client
        self._transport = transport
        self._connection = connection
        self._proto: ResponseHandler = protocol
        self._payload: StreamReader | None = None
        self._timer = Timer(self._expired)
        self._timeout = 0.0
        self._late = False
        self._unsent = 0
        """Bytes of the request in our buffer when its timer was last armed, and one more."""
        self._window = 0
        self.site = site
        self.proxied = proxied
        """The fields for a proxy that requests are addressed to; None: there is no such proxy."""
        self.idle = False

    @property
    def alive(self) -> bool:
        return self._proto.is_connected() and not self._proto.should_close

    async def ask(self, method: str, message: bytes, timeouts: HttpTimeouts, window: int) -> _Wire:
        proto = self._proto
        stream = proto.transport
        if stream is None:
            self.close()
            raise _Stale(HttpFailed(Why.CUT, Phase.SEND, f"{self.site.origin} closed"))
        if method == "HEAD" or self._window != window:
            # A parser lives as long as the connection, unless it must do something else.
            self._window = 0 if method == "HEAD" else window
            proto.set_response_params(
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=window,
                max_line_size=MAX_LINE,
                max_field_size=MAX_LINE,
                max_headers=MAX_FIELDS,
            )
        try:
            stream.write(message)
            self._unsent = stream.get_write_buffer_size() + 1
            self._timeout = timeouts.answer
            self._arm()
            while True:
                head, payload = await proto.read()
                if not 100 <= head.code < 200:
                    break
                if head.code == 101:
                    raise HttpFailed(
                        Why.VIOLATION, Phase.WAIT, "the server switched protocols unasked"
                    )
        except HttpFailed:
            self.close()
            raise
        except Exception as error:
            failure = self._failure(error, Phase.WAIT)
            nothing = isinstance(error, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError))
            stale = nothing and failure.why is Why.CUT
            self.close()
            if stale:
                raise _Stale(failure) from None
            raise failure from None
        except BaseException:
            self.close()
            raise
        self._transport.runtime.wheel.disarm(self._timer)
        self._timeout = timeouts.idle
        self.status = head.code
        self.headers = FieldMap(head.headers)
        self._payload = payload
        return self

    async def read_some(self, size: int) -> bytes:
        payload = self._payload
        if payload is None:
            return b""
        if payload.is_eof():
            return payload.read_nowait(size) if not payload.at_eof() else b""
        try:
            self._arm()
            return await payload.read(size)
        except Exception as error:
            # What arrived before the connection broke was received, and counts.
            buffered = payload._buffer and b"".join(payload._buffer)[payload._buffer_offset :]
            if buffered and not isinstance(error, RuntimeError):
                payload._buffer.clear()
                return bytes(buffered)
            failure = self._failure(error, Phase.BODY)
            self.close()
            raise failure from None
        except BaseException:
            self.close()
            raise
        finally:
            self._transport.runtime.wheel.disarm(self._timer)

    def cut(self) -> None:
        """Reset, so that the peer sees at once that nobody is there."""
        stream = self._proto.transport
        if stream is not None:
            plug = stream.get_extra_info("socket")
            if plug is not None:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            stream.abort()

    def done(self) -> None:
        if self.idle:
            return
        payload, self._payload = self._payload, None
        if payload is not None and payload.is_eof() and not payload.at_eof():
            payload.read_nowait()  # of a redirect, say: all here, and of no interest
        if payload is None or not payload.at_eof() or not self.alive:
            self.close()
            return
        self.idle = True
        self._transport.keep(self)

    def close(self) -> None:
        self._transport.runtime.wheel.disarm(self._timer)
        self._timer.callback = _nothing  # the wheel may hold the timer for a while yet
        self._transport.forget(self)
        self._payload = None
        self.idle = False
        self._client.dropped(self)
        self._connection.close()

    def _arm(self) -> None:
        runtime = self._transport.runtime
        runtime.wheel.arm(self._timer, runtime.clock.now() + self._timeout)

    def _expired(self, now: float) -> None:
        stream = self._proto.transport
        unsent = 0 if stream is None else stream.get_write_buffer_size()
        if 0 < unsent < self._unsent:
            # A long body on its way out: the time for the answer begins behind it.
            self._unsent = unsent
            self._arm()
            return
        self._late = True
        self._unsent = unsent
        if stream is not None:
            stream.abort()

    def _failure(self, error: Exception, phase: Phase) -> HttpFailed:
        """What aiohttp raised, in our terms; its own words may repeat parts of the answer."""
        where = self.site.origin
        if self._late:
            if phase is Phase.WAIT and self._unsent:
                phase = Phase.SEND
            return HttpFailed(Why.TIMEOUT, phase, f"{where}: silent for {self._timeout:g} s")
        broken: BaseException | None = self._proto.exception()
        if not isinstance(broken, http_exceptions.HttpProcessingError):
            broken = error
        if isinstance(broken, http_exceptions.HttpProcessingError):
            kind: Any = broken.__cause__ or broken
            long = isinstance(kind, http_exceptions.LineTooLong)
            detail = "the head is too long" if long else "the answer is not HTTP"
            return HttpFailed(Why.VIOLATION, phase, f"{where}: {detail}")
        return _cut(error, phase, where)


def _cut(error: BaseException, phase: Phase, where: str) -> HttpFailed:
    refusal: BaseException | None = error
    while refusal is not None and not isinstance(refusal, ssl.SSLError):
        refusal = refusal.__cause__
    if refusal is not None and "ALERT" in (refusal.reason or ""):
        # TLS 1.3: a server judges our certificate after our handshake has ended.
        return HttpFailed(Why.UNTRUSTED, Phase.TLS, f"{where} refused us: {refusal.reason}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return HttpFailed(Why.CUT, phase, f"{where} closed before the announced end")
    return HttpFailed(Why.CUT, phase, f"{where} closed the connection")


def _not_connected(error: Exception, site: Site, source: str | None) -> HttpFailed:
    where = site.origin
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return HttpFailed(Why.UNREACHABLE, Phase.CONNECT, f"the proxy answered {error.status}")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", "") or "the certificate is not for this host"
        return HttpFailed(Why.UNTRUSTED, Phase.TLS, f"{where}: {reason}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return HttpFailed(Why.UNREACHABLE, Phase.RESOLVE, f"{where}: no such host")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        refusal = error.os_error
        reason = getattr(refusal, "reason", None) or "broken off"
        why = Why.UNTRUSTED if "ALERT" in reason else Why.VIOLATION
        return HttpFailed(why, Phase.TLS, f"{where}: {reason}")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = getattr(cause, "errno", None)
    if site.scheme == "https" and isinstance(cause, _ENDED):
        return HttpFailed(Why.CUT, Phase.TLS, f"{where} closed the connection")
    reason = os.strerror(number) if number else "no connection"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        where = "the proxy"
    if number == errno.EADDRNOTAVAIL and source is not None:
        where = f"{where} from {source}"
    return HttpFailed(Why.UNREACHABLE, Phase.CONNECT, f"{where}: {reason}")


def _bound_socket(info: AddrInfoType) -> socket.socket:
    """A socket that connects from the source address of the client that is connecting."""
    family, kind, proto, _, _ = info
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    source = _SOURCE.get()
    if source is not None:
        try:
            option = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", None)
            if option is not None and family == socket.AF_INET:
                # The port is chosen with the destination known: 28,000 for each, not in all.
                made.setsockopt(socket.IPPROTO_IP, option, 1)
            made.bind((source, 0))
        except OSError as error:
            made.close()
            if isinstance(error, socket.gaierror):  # an address of the other family
                raise OSError(errno.EADDRNOTAVAIL, "not of this family") from None
            raise
    return made


def _message(
    method: str,
    site: Site,
    target: str,
    fields: Fields,
    body: bytes,
    proxied: Mapping[str, str] | None,
) -> bytes:
    """A request as it goes over the wire (RFC 9112 section 3)."""
    if proxied is not None:
        target = f"{site.origin}{target}"
    usual = _USUAL
    given = ""
    for name, value in fields:
        given += f"{name}: {value}\r\n"
        usual = usual.replace(_USUAL_FIELDS.get(name.lower(), "\n\n"), "")
    text = f"{method} {target} HTTP/1.1\r\nHost: {site.authority}\r\n{usual}{given}"
    if proxied is not None and "Proxy-Authorization" in proxied:
        text += f"Proxy-Authorization: {proxied['Proxy-Authorization']}\r\n"
    if body or method in ("POST", "PUT", "PATCH"):
        text += f"Content-Length: {len(body)}\r\n"
    return f"{text}\r\n".encode() + body


def _nothing(now: float) -> None:
    pass
