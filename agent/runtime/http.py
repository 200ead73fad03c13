"""How devices speak HTTP: the interface, its data and its errors. The adapters live elsewhere.

A runtime has one `HttpTransport`; a device asks it for an `HttpClient` under an `HttpIdentity` and
makes requests with that. A connection that was opened under one identity never carries the requests
of another one. Everything is awaited in the tasks of a protocol client: a request belongs to a
story that a person would tell, a check-in or a download.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from agent.credentials import NO_CREDENTIAL, Credential

__all__ = [
    "DEFAULT_TIMEOUTS",
    "MAX_BODY",
    "PLAIN_LINK",
    "Headers",
    "HttpClient",
    "HttpFailed",
    "HttpIdentity",
    "HttpLink",
    "HttpResponse",
    "HttpStream",
    "HttpTimeouts",
    "HttpTransport",
    "Phase",
    "Why",
]

MAX_BODY = 1 << 20
"""Bytes of an answer that is read whole. Update servers' answers are some kilobytes; what is larger
is a download and is streamed."""


class Phase(enum.Enum):
    """Where a request was when it failed."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "TLS handshake"
    SEND = "send"
    WAIT = "wait for the answer"
    BODY = "body"


class Why(enum.Enum):
    """Why a request has no answer."""

    BAD_URL = "bad URL"
    UNREACHABLE = "unreachable"
    """No address, refused, no route."""
    UNTRUSTED = "untrusted"
    """The server's certificate was refused, or the server refused ours."""
    TIMEOUT = "timeout"
    CUT = "connection cut"
    """Closed before the answer was complete, by either side or by the link's plan."""
    VIOLATION = "protocol violation"
    """What came is not HTTP, or contradicts itself."""
    TOO_LARGE = "too large"
    REDIRECTS = "too many redirects"


class HttpFailed(Exception):
    """A request that got no usable answer. `str` holds no secret: the URL is shown without query
    and user information."""

    def __init__(self, why: Why, phase: Phase, detail: str) -> None:
        super().__init__(f"{why.value} ({phase.value}): {detail}")
        self.why = why
        self.phase = phase
        self.detail = detail


@dataclass(frozen=True, slots=True)
class HttpTimeouts:
    """Seconds of the runtime's clock, per phase. A body that trickles ends at `idle`."""

    connect: float = 10.0
    """Resolve, connect and TLS handshake together."""
    answer: float = 30.0
    """From the request's last byte to the head of the answer."""
    idle: float = 30.0
    """Between two chunks of a body."""
    total: float | None = None
    """The whole of a request that is read whole; a stream has no such end."""


DEFAULT_TIMEOUTS = HttpTimeouts()


@dataclass(frozen=True, slots=True)
class HttpLink:
    """The link of a device, as far as HTTP bodies are concerned."""

    bandwidth: float | None = None
    """Bytes a second that a body may arrive with."""
    cuts: tuple[int, ...] = ()
    """Offsets of a resource (a Range counts from its first byte's place) at which the connection is
    aborted: the reader gets the bytes before it and then `HttpFailed(CUT)`."""
    cut: Callable[[int], None] | None = None
    """Told each offset where that was done, so that whoever owns the plan cuts there only once."""


PLAIN_LINK = HttpLink()


@dataclass(frozen=True, slots=True)
class HttpIdentity:
    """Who opens a connection, and from where."""

    name: str
    """The device's name; two identities of one name share nothing either."""
    source: str | None = None
    """Local address; None leaves it to the system."""
    credential: Credential = NO_CREDENTIAL
    """Its certificate and authorities; a token is a header and the client's own business."""
    proxy: str | None = None
    """`http://host:port` of a proxy that requests go through."""
    cookies: bool = False
    """Keep cookies, for this identity alone. Devices seldom do."""
    verify: bool = True
    """Verify the server's certificate. Switched off only by a person who says so."""


class Headers(Mapping[str, str]):
    """Header fields without regard to case; repeated ones are joined by a comma (RFC 9110 5.3)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Sequence[tuple[str, str]] = ()) -> None:
        joined: dict[str, str] = {}
        for name, value in fields:
            key = name.lower()
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
        self._fields = joined

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str = field(repr=False)
    """Where it came from in the end, after redirects."""


class HttpStream(Protocol):
    """An answer whose body comes chunk by chunk. Leaving its context drops what is left."""

    status: int
    headers: Mapping[str, str]
    url: str

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, never empty chunks. Raises `HttpFailed` when it ends before the
        announced length."""
        ...

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """The rest of the body; `HttpFailed(TOO_LARGE)` beyond `limit`."""
        ...


class HttpClient(Protocol):
    """One device's way to servers. Requests may run side by side; each has its own connection."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        limit: int = MAX_BODY,
        redirects: int = 0,
    ) -> HttpResponse:
        """Ask and read the answer whole. `redirects` are followed so many times, with none an
        answer that redirects is an answer; Authorization and Cookie stay behind when the origin
        changes. Raises `HttpFailed`."""
        ...

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeouts: HttpTimeouts = DEFAULT_TIMEOUTS,
        link: HttpLink = PLAIN_LINK,
        redirects: int = 0,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Ask and read the body as it comes. Entering raises `HttpFailed`."""
        ...

    def abort(self) -> None:
        """The power is gone: drop every connection at once, without a goodbye. The client may be
        used again afterwards."""
        ...


class HttpTransport(Protocol):
    """All HTTP of one runtime."""

    def client(self, identity: HttpIdentity) -> HttpClient:
        """A client for a device; cheap, and nothing is opened before its first request. Raises
        UnusableSettings when the identity's certificates do not load."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
