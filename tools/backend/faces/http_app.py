"""The device wire as a plain ASGI application: paths, credentials, bodies, answers.

No framework: a check-in is the request that a fleet makes most, and a router with its middleware
costs as much as the check-in itself. Everything that a stranger can send is bounded here, in size
and in time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from tools.backend.faces import http_packages
from tools.backend.faces.http_wire import (
    MAX_CHECK_IN,
    MAX_LOG,
    MAX_STATUS,
    VERSION,
    CheckIn,
    DeviceLog,
    Refused,
    Report,
    not_now,
    parse,
    unauthorized,
)

if TYPE_CHECKING:
    from tools.backend.faces.http import HttpFace

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

BODY_TIME = 30.0
"""Seconds that a body may take: 64 KiB at 20 kbit/s, the slowest link that such devices have."""

MAX_WAITING = 4_096
"""Requests under way; beyond that the store is what everybody waits for, and more only wait
longer."""

OVERLOAD_WAIT = 5.0
"""Seconds of Retry-After under overload."""

CLIENT_NAME = "client_name"
"""Where a listener with TLS leaves the CN of the verified client certificate, in the ASGI state."""

JSON = (b"content-type", b"application/json")
PACKAGES = f"/device/{VERSION}/packages/"


# Made once: `json.dumps` with separators makes an encoder for every call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Gone(Exception):
    """The client has hung up: there is nobody to answer."""


class DeviceApp:
    """The ASGI application of an `HttpFace`."""

    def __init__(self, face: HttpFace) -> None:
        self._face = face
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the device wire is HTTP, not {scope['type']}")
        # A download may take hours and waits for nobody; only what is to be stored counts.
        counts = scope["method"] == "POST"
        self._waiting += counts
        try:
            if self._waiting > MAX_WAITING:
                raise not_now(OVERLOAD_WAIT, "OVERLOAD", "too many requests")
            await self._route(scope, receive, send)
        except Refused as refusal:
            fields = [*refusal.headers, (b"content-length", b"%d" % len(refusal.body))]
            if refusal.body:
                fields.append(JSON)
            await answer_with(send, refusal.status, refusal.body, fields, scope["method"])
        except Gone:
            pass
        finally:
            self._waiting -= counts

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = scope["path"].split("/")
        if len(parts) < 4 or parts[:2] != ["", "device"]:
            raise _unknown()
        if parts[2] != VERSION:
            raise Refused(
                400, "UNSUPPORTED_VERSION", f"version {parts[2][:16]!r}: only {VERSION} is served"
            )
        match parts[3:]:
            case ["checkin"]:
                await self._check_in(scope, receive, send)
            case ["campaigns", campaign, "status"]:
                await self._status(campaign, scope, receive, send)
            case ["logs"]:
                await self._log(scope, receive, send)
            case ["packages", digest]:
                await self._package(digest, scope, send)
            case _:
                raise _unknown()

    async def _check_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        headers = dict(scope["headers"])
        face = self._face
        device = face.identify(_token(headers), _client_name(scope))
        body = await read_body(headers, receive, MAX_CHECK_IN)
        asked = parse(CheckIn, body)
        answer = await face.check_in(device, asked, origin_of(scope, headers) + PACKAGES)
        content = _encode(answer).encode()
        fields = [JSON, (b"content-length", b"%d" % len(content))]
        await answer_with(send, 200, content, fields)

    async def _status(self, campaign: str, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        headers = dict(scope["headers"])
        face = self._face
        device = face.identify(_token(headers), _client_name(scope))
        report = parse(Report, await read_body(headers, receive, MAX_STATUS))
        await face.report(device, campaign, report)
        await answer_with(send, 204, b"", [])

    async def _log(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        headers = dict(scope["headers"])
        face = self._face
        device = face.identify(_token(headers), _client_name(scope))
        entry = parse(DeviceLog, await read_body(headers, receive, MAX_LOG))
        await face.log(device, entry)
        await answer_with(send, 204, b"", [])

    async def _package(self, digest: str, scope: Scope, send: Send) -> None:
        only(scope, "GET", "HEAD")
        headers = dict(scope["headers"])
        face = self._face
        device = face.identify(_token(headers), _client_name(scope))
        body = face.package(device, digest, begins=scope["method"] == "GET")
        await http_packages.serve(scope["method"], headers, body, digest, send)


def _unknown() -> Refused:
    return Refused(404, "RESOURCE_NOT_FOUND", "no such resource")


def only(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        allow = (b"allow", ", ".join(methods).encode())
        raise Refused(405, "METHOD_NOT_ALLOWED", "method not allowed", allow)


def _token(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The bearer token; None without any. Another scheme is a wrong credential."""
    field = headers.get(b"authorization")
    if field is None:
        return None
    scheme, _, token = field.partition(b" ")
    if scheme.lower() != b"bearer":
        raise unauthorized()
    return token.strip()


def _client_name(scope: Scope) -> str | None:
    state = scope.get("state")
    return state.get(CLIENT_NAME) if state else None


def origin_of(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """Where the device found us, which is where it finds the package; a relative reference when it
    did not say."""
    host = headers.get(b"host")
    return f"{scope.get('scheme', 'http')}://{host.decode('latin-1')}" if host else ""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The whole body. Raises Refused when it is too long (before it is read, if it says so) or
    too slow."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limit:
        raise _too_long(limit)
    try:
        async with asyncio.timeout(BODY_TIME):
            event = await receive()
            body: bytes = event.get("body", b"")
            if event["type"] == "http.request" and not event.get("more_body", False):
                if len(body) > limit:
                    raise _too_long(limit)
                return body
            parts = [body]
            size = len(body)
            while event["type"] == "http.request" and event.get("more_body", False):
                if size > limit:
                    raise _too_long(limit)
                event = await receive()
                parts.append(event.get("body", b""))
                size += len(parts[-1])
    except TimeoutError:
        close = (b"connection", b"close")
        raise Refused(408, "TIMEOUT", "the body came too slowly", close) from None
    if event["type"] != "http.request":
        raise Gone
    if size > limit:
        raise _too_long(limit)
    return b"".join(parts)


def _too_long(limit: int) -> Refused:
    return Refused(
        413,
        "REQUEST_ENTITY_TOO_LARGE",
        f"the body is larger than {limit} bytes",
        (b"connection", b"close"),
    )


async def answer_with(
    send: Send, status: int, body: bytes, fields: list[tuple[bytes, bytes]], method: str = ""
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
