"""Requests and answers on bare ASGI: bodies, media types, HAL, ETags, and the table of routes.

No framework routes here, so that what is refused is refused as hawkBit does it and in its order:
security before the path, the path before the method, the media type before the body.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from tests.stubs.hawkbit.errors import Framework, Plain, Refused, invalid, unreadable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HAL = "application/hal+json"
JSON = "application/json"
CHUNK = 16 * 1024
"""Bytes of a response body that are handed to the transport at a time."""


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    base: str
    """Scheme and authority as the client wrote them: the start of every link."""
    client: str

    def json(self) -> Any:
        """The body. Raises Framework(415) for another media type, Refused(400) when broken."""
        media = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in (JSON, HAL):
            raise Framework(415, "Unsupported Media Type")

        def constant(name: str) -> None:
            raise ValueError(name)

        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=constant)
        except (ValueError, RecursionError):
            raise unreadable() from None

    def number(self, name: str, default: int) -> int:
        text = self.query.get(name)
        if text is None:
            return default
        try:
            return int(text)
        except ValueError:
            raise invalid(f"{name} is not a number") from None


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resource:
    """A HAL answer; the media type is agreed on where the Accept header is known."""

    content: Any
    status: int = 200


Answer = Response | Resource | None
Handler = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, template: str, handler: Handler) -> Route:
    """`{name}` stands for one segment, `{name:int}` for a number."""
    pattern = re.sub(r"\{(\w+):int\}", r"(?P<\1>-?[0-9]{1,18})", template)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
    return Route(method, re.compile(pattern), handler)


def dispatch(routes: tuple[Route, ...], request: Request, path: str) -> Answer:
    """Raises Framework(404) or Framework(405) when no route fits."""
    known = False
    for candidate in routes:
        match = candidate.pattern.fullmatch(path)
        if match is None:
            continue
        known = True
        if candidate.method == request.method or (
            candidate.method == "GET" and request.method == "HEAD"
        ):
            arguments: dict[str, Any] = {}
            for name, text in match.groupdict().items():
                digits = f"(?P<{name}>-?[0-9]" in candidate.pattern.pattern
                arguments[name] = int(text) if digits else unquote(text)
            return candidate.handler(request, **arguments)
    raise Framework(405, "Method Not Allowed") if known else Framework(404, "Not Found")


def _dumped(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _agreed(request: Request) -> str:
    """The media type of a resource. Raises Framework(406)."""
    accept = request.headers.get("accept", "*/*")
    wanted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if wanted & {"*/*", "application/*", HAL, ""}:
        return HAL
    if JSON in wanted:
        return JSON
    raise Framework(406, "Not Acceptable")


def render(request: Request, answer: Answer) -> Response:
    if answer is None:
        return Response(200)
    if isinstance(answer, Response):
        return answer
    body = _dumped(answer.content)
    response = Response(answer.status, body, {"content-type": f"{_agreed(request)};charset=UTF-8"})
    if request.method in ("GET", "HEAD") and answer.status == 200:
        # Spring's ShallowEtagHeaderFilter: a zero and the MD5 of the body.
        etag = f'"0{hashlib.md5(body).hexdigest()}"'
        held = {part.strip() for part in request.headers.get("if-none-match", "").split(",")}
        if held & {etag, f"W/{etag}", "*"}:
            return Response(304, b"", {"etag": etag})
        response.headers["etag"] = etag
        if "." in request.path.rpartition("/")[2]:
            # Spring's guard against reflected file downloads, for paths that end in an extension.
            response.headers["content-disposition"] = "inline;filename=f.txt"
    return response


def refusal(error: Refused | Plain | Framework, now: float) -> Response:
    if isinstance(error, Plain):
        return Response(error.status, b"", dict(error.headers))
    if isinstance(error, Refused):
        content = error.body
    else:
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        content = {"timestamp": moment, "status": error.status, "error": error.error}
    headers = {"content-type": f"{JSON};charset=UTF-8"}
    return Response(error.status, _dumped(content), headers)


async def read_request(scope: Scope, receive: Receive, limit: int) -> Request:
    """Raises Framework(413) for a body beyond `limit`, Plain(400) when the client went away."""
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Plain(400)
        body += event.get("body", b"")
        if len(body) > limit:
            raise Framework(413, "Payload Too Large")
        if not event.get("more_body", False):
            break
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    host, port = (scope.get("server") or ("localhost", 80))[:2]
    client = (scope.get("client") or ("127.0.0.1", 0))[0]
    return Request(
        scope["method"],
        raw.partition(b"?")[0].decode("latin-1"),
        {name: values[-1] for name, values in query.items()},
        headers,
        bytes(body),
        f"{scope.get('scheme', 'http')}://{headers.get('host', f'{host}:{port}')}",
        client,
    )


async def send_response(send: Send, request_method: str, response: Response) -> None:
    headers = dict(response.headers)
    if response.status not in (204, 304):
        headers.setdefault("content-length", str(len(response.body)))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    body = b"" if request_method == "HEAD" or response.status in (204, 304) else response.body
    for start in range(0, len(body), CHUNK):
        piece = body[start : start + CHUNK]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def multipart_file(request: Request, field_name: str) -> tuple[str, bytes]:
    """File name and bytes of one field of a multipart/form-data body.

    Raises Framework(415) for another media type, Refused(400) when the field is not there.
    """
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    if media.strip().lower() != "multipart/form-data":
        raise Framework(415, "Unsupported Media Type")
    boundary = re.search(r'boundary="?([^";]{1,70})"?', parameters)
    if boundary is None:
        raise invalid("multipart body without a boundary")
    delimiter = b"\r\n--" + boundary[1].encode("latin-1")
    for part in (b"\r\n" + request.body).split(delimiter)[1:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        disposition = re.search(rb"content-disposition:([^\r\n]*)", head, re.IGNORECASE)
        if not separator or disposition is None:
            raise invalid("broken multipart body")
        if re.search(rb'[; ]name="?' + field_name.encode() + rb'"?(;|$)', disposition[1].strip()):
            filename = re.search(rb'filename="([^"]*)"', disposition[1])
            return (filename[1].decode() if filename else ""), content
    raise invalid(f"multipart field {field_name} is missing")
