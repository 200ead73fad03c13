"""What every HTTP adapter does alike: redirects, cookies, limits, and a link that slows and cuts.

An adapter knows how to send one request and read one answer (`Exchange`). `ExchangeClient` makes
the `HttpClient` of the interface of it, so that sockets and memory behave the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin

from multidict import MultiMapping

from agent.runtime.http import (
    DEFAULT_TIMEOUTS,
    MAX_BODY,
    PLAIN_LINK,
    HttpFailed,
    HttpIdentity,
    HttpLink,
    HttpResponse,
    HttpTimeouts,
    Phase,
    Why,
)
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from protocols.http.urls import BadUrl, Site, locate

if TYPE_CHECKING:
    from aiohttp import CookieJar

__all__ = ["WINDOW", "BodyStream", "Exchange", "ExchangeClient", "FieldMap", "Fields", "deadline"]

Fields = Sequence[tuple[str, str]]

WINDOW = 32 * 1024
"""Bytes of a body that may wait for their reader; what is more stays with the sender."""
WHOLE_TIME = 300.0
"""Seconds that an answer may take that is read whole: the idle timeout alone would let a server
trickle a megabyte for a year."""
PIECE = 16 * 1024
"""Bytes that a stream hands out at most at once: a link's rate and cuts are exact to the byte, and
this bounds how far one chunk overshoots."""

REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SECRET_FIELDS = frozenset(("authorization", "cookie", "proxy-authorization"))
_BREAKS_OUT = re.compile(r"[\r\n\0]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RANGE_START = re.compile(r"\s*bytes\s+(\d{1,18})-", re.IGNORECASE)


class Exchange(Protocol):
    """One answer, as far as it has come. Between calls nothing is read."""

    status: int
    headers: FieldMap

    async def read_some(self, size: int) -> bytes:
        """Up to `size` bytes of the body, as they came; empty at its end. Raises HttpFailed."""
        ...

    def cut(self) -> None:
        """Abort the connection."""
        ...

    def done(self) -> None:
        """Nobody reads on: keep the connection if the answer is complete, else close it."""
        ...


class ExchangeClient(ABC):
    """One device's client over an adapter."""

    __slots__ = ("_jar", "identity", "runtime")

    def __init__(self, runtime: Runtime, identity: HttpIdentity) -> None:
        self.runtime = runtime
        self.identity = identity
        self._jar: CookieJar | None = None

    @abstractmethod
    async def open(
        self,
        method: str,
        site: Site,
        target: str,
        fields: Fields,
        body: bytes,
        timeouts: HttpTimeouts,
        window: int,
    ) -> Exchange:
        """Send one request and read the head of its answer; `window` bytes of the body may wait for
        their reader. Raises HttpFailed."""

    @abstractmethod
    def abort(self) -> None:
        """Drop every connection at once."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Fields = (),
        body: bytes = b"",
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        limit: int = MAX_BODY,
        redirects: int = 0,
    ) -> HttpResponse:
        if timeouts.total is None:
            return await self._whole(method, url, headers, body, timeouts, limit, redirects)
        try:
            async with deadline(self.runtime, timeouts.total):
                return await self._whole(method, url, headers, body, timeouts, limit, redirects)
        except TimeoutError:
            raise HttpFailed(
                Why.TIMEOUT, Phase.WAIT, f"no whole answer in {timeouts.total:g} s"
            ) from None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Fields = (),
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        link: HttpLink = PLAIN_LINK,
        redirects: int = 0,
    ) -> AsyncIterator[BodyStream]:
        piece = PIECE
        if link.bandwidth is not None:
            # What may wait for its reader crossed the link faster than the link allows: keep it to
            # a quarter of a second, and at least to what one segment holds.
            piece = max(1024, min(PIECE, int(link.bandwidth / 4)))
        exchange, url = await self._follow(
            method, url, headers, b"", timeouts, redirects, WINDOW if piece == PIECE else piece
        )
        try:
            yield BodyStream(self.runtime, exchange, url, link, piece)
        finally:
            exchange.done()

    # -- internals ------------------------------------------------------------------------------

    async def _whole(
        self,
        method: str,
        url: str,
        headers: Fields,
        body: bytes,
        timeouts: HttpTimeouts,
        limit: int,
        redirects: int,
    ) -> HttpResponse:
        exchange, url = await self._follow(method, url, headers, body, timeouts, redirects, WINDOW)
        try:
            fields = exchange.headers
            data = b"" if method == "HEAD" else await self._read_whole(exchange, limit)
            self.runtime.metrics.counters["bytes_in"] += len(data)
            if "content-encoding" in fields:
                data = _decoded(data, fields["content-encoding"], limit)
            return HttpResponse(exchange.status, fields, data, url)
        finally:
            exchange.done()

    async def _read_whole(self, exchange: Exchange, limit: int) -> bytes:
        text = exchange.headers.get("content-length", "")
        length = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        if length is not None and length > limit:
            raise HttpFailed(Why.TOO_LARGE, Phase.BODY, f"{length} bytes, at most {limit} are read")
        data = await exchange.read_some(limit + 1)
        if len(data) == length:
            return data
        chunks = []
        size = 0
        until = self.runtime.clock.now() + WHOLE_TIME
        while data:
            chunks.append(data)
            size += len(data)
            if size > limit:
                raise HttpFailed(Why.TOO_LARGE, Phase.BODY, f"more than {limit} bytes")
            if self.runtime.clock.now() > until:
                raise HttpFailed(Why.TIMEOUT, Phase.BODY, f"not all of it in {WHOLE_TIME:g} s")
            data = await exchange.read_some(limit + 1 - size)
        return b"".join(chunks)

    async def _follow(
        self,
        method: str,
        url: str,
        fields: Fields,
        body: bytes,
        timeouts: HttpTimeouts,
        redirects: int,
        window: int,
    ) -> tuple[Exchange, str]:
        """The answer after so many redirects, and its URL."""
        try:
            site, target = locate(url)
        except BadUrl as error:
            raise HttpFailed(Why.BAD_URL, Phase.RESOLVE, str(error)) from None
        _check(method, fields)
        counters = self.runtime.metrics.counters
        followed = 0
        while True:
            sent = fields if self._jar is None else self._with_cookies(fields, url)
            counters["requests"] += 1
            counters["bytes_out"] += len(body)
            exchange = await self.open(method, site, target, sent, body, timeouts, window)
            if self.identity.cookies and "set-cookie" in exchange.headers:
                self._keep_cookies(exchange, url)
            if not redirects or exchange.status not in REDIRECTS:
                return exchange, url
            location = exchange.headers.get("location")
            if location is None:
                return exchange, url
            exchange.done()
            if followed == redirects:
                raise HttpFailed(Why.REDIRECTS, Phase.WAIT, f"more than {redirects}")
            followed += 1
            try:
                url = urljoin(url, location)
                there, target = locate(url)
            except ValueError as error:
                detail = str(error) if isinstance(error, BadUrl) else "the URL cannot be read"
                raise HttpFailed(
                    Why.BAD_URL, Phase.RESOLVE, f"in a redirect from {site.origin}: {detail}"
                ) from None
            if there != site:
                fields = [one for one in fields if one[0].lower() not in _SECRET_FIELDS]
                site = there
            # RFC 9110 sections 15.4.2 to 15.4.4: what everybody does with these three.
            if exchange.status == 303 or (exchange.status in (301, 302) and method == "POST"):
                if method != "HEAD":
                    method = "GET"
                body = b""
                fields = [one for one in fields if not one[0].lower().startswith("content-")]

    def _with_cookies(self, fields: Fields, url: str) -> Fields:
        from yarl import URL

        assert self._jar is not None
        cookies = self._jar.filter_cookies(URL(url))
        if not cookies:
            return fields
        text = "; ".join(f"{name}={morsel.coded_value}" for name, morsel in cookies.items())
        return [*fields, ("Cookie", text)]

    def _keep_cookies(self, exchange: Exchange, url: str) -> None:
        from aiohttp import CookieJar
        from yarl import URL

        if self._jar is None:
            self._jar = CookieJar(unsafe=True)  # servers on bare addresses may set cookies too
        self._jar.update_cookies_from_headers(exchange.headers.each("set-cookie"), URL(url))


class FieldMap(Mapping[str, str]):
    """The fields of an answer as they came; names without regard to case, repeated ones joined
    when they are looked at (RFC 9110 section 5.3)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: MultiMapping[str]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._fields.getall(name))

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name in self._fields))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def each(self, name: str) -> list[str]:
        """The values of a field that must not be joined, such as Set-Cookie."""
        return list(self._fields.getall(name, ()))


class BodyStream:
    """An answer whose body comes over a link."""

    __slots__ = (
        "_cuts",
        "_exchange",
        "_link",
        "_offset",
        "_piece",
        "_ready",
        "_runtime",
        "headers",
        "status",
        "url",
    )

    def __init__(
        self, runtime: Runtime, exchange: Exchange, url: str, link: HttpLink, piece: int
    ) -> None:
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.headers
        self.url = url
        self._runtime = runtime
        self._exchange = exchange
        self._link = link
        self._piece = piece
        self._offset = 0
        if self.status == 206:
            start = _RANGE_START.match(self.headers.get("content-range", ""))
            if start is not None:
                self._offset = int(start[1])
        self._cuts = sorted((one for one in link.cuts if one >= self._offset), reverse=True)
        self._ready = runtime.clock.now()

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self._next():
            yield data

    async def read(self, limit: int = MAX_BODY) -> bytes:
        whole = bytearray()
        while data := await self._next():
            if len(whole) + len(data) > limit:
                raise HttpFailed(Why.TOO_LARGE, Phase.BODY, f"more than {limit} bytes")
            whole += data
        return bytes(whole)

    async def _next(self) -> bytes:
        size = self._piece
        cuts = self._cuts
        if cuts and self._offset < cuts[-1]:
            size = min(size, cuts[-1] - self._offset)
        data = await self._exchange.read_some(size)
        if not data:
            return b""
        if cuts and self._offset == cuts[-1]:
            self._exchange.cut()
            if self._link.cut is not None:
                self._link.cut(cuts[-1])
            raise HttpFailed(Why.CUT, Phase.BODY, f"at byte {self._offset}, as planned")
        self._offset += len(data)
        self._runtime.metrics.counters["bytes_in"] += len(data)
        bandwidth = self._link.bandwidth
        if bandwidth is not None:
            clock = self._runtime.clock
            now = clock.now()
            # From when the link was free: time spent by the reader is not made up for.
            self._ready = max(self._ready, now) + len(data) / bandwidth
            await clock.sleep(self._ready - now)
        return data


@contextlib.asynccontextmanager
async def deadline(runtime: Runtime, seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` on the runtime's clock: raises TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        timer = Timer(lambda now: scope.reschedule(loop.time()))
        runtime.arm(timer, seconds)
        try:
            yield
        finally:
            runtime.wheel.disarm(timer)
            timer.callback = _nothing  # the wheel may hold the timer for a while yet


def _nothing(now: float) -> None:
    pass


def _check(method: str, fields: Fields) -> None:
    """Nothing that was handed in can break out of its place: tokens come from servers, too."""
    if _TOKEN.fullmatch(method) is None:
        raise HttpFailed(Why.VIOLATION, Phase.SEND, "the method is not a token")
    for name, value in fields:
        if _TOKEN.fullmatch(name) is None or _BREAKS_OUT.search(value):
            raise HttpFailed(Why.VIOLATION, Phase.SEND, f"the field {name!r} cannot be sent")


def _decoded(data: bytes, coding: str, limit: int) -> bytes:
    """`identity` was asked for, yet some servers compress whatever is asked (RFC 9110 section
    12.5.3 lets them). Bounded: a small body may unfold into gigabytes."""
    coding = coding.strip().lower()
    if not data or coding in ("", "identity"):
        return data
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise HttpFailed(Why.VIOLATION, Phase.BODY, "a content coding that was not asked for")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, told by the first bytes
    try:
        whole = inflater.decompress(data, limit + 1)
    except zlib.error:
        raise HttpFailed(Why.VIOLATION, Phase.BODY, f"the body is not {coding}") from None
    if len(whole) > limit:
        raise HttpFailed(Why.TOO_LARGE, Phase.BODY, f"more than {limit} bytes, unpacked")
    if not inflater.eof:
        raise HttpFailed(Why.CUT, Phase.BODY, f"the {coding} body ends too early")
    return whole
