"""The OMA-DM server as a plain ASGI application: `/dm` for sessions, `/dlota/` for downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.faces import http_packages
from tools.backend.faces.http_app import (
    Gone,
    Receive,
    Scope,
    Send,
    answer_with,
    only,
    origin_of,
    read_body,
)
from tools.backend.faces.http_wire import Refused, not_now
from tools.backend.faces.omadm_download import CONTENT_TYPE, PREFIX, descriptor, right_ticket
from tools.backend.faces.omadm_envelope import MAX_MESSAGE

if TYPE_CHECKING:
    from tools.backend.faces.omadm import OmadmFace

SESSION_PATH = "/dm"

MAX_LINE = 1_024
"""Bytes of an install-notify: a status and its text."""

MAX_WAITING = 4_096
"""Messages under way; beyond that the store is what everybody waits for, and more only wait
longer."""

OVERLOAD_WAIT = 5.0
"""Seconds of Retry-After under overload."""


class OmadmApp:
    """The ASGI application of an `OmadmFace`."""

    def __init__(self, face: OmadmFace) -> None:
        self._face = face
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"OMA-DM comes over HTTP, not {scope['type']}")
        counts = scope["method"] == "POST"
        self._waiting += counts
        try:
            if self._waiting > MAX_WAITING:
                raise not_now(OVERLOAD_WAIT, "OVERLOAD", "too many requests")
            path = scope["path"]
            if path == SESSION_PATH:
                await self._session(scope, receive, send)
            elif path.startswith(PREFIX):
                await self._download(path.removeprefix(PREFIX).split("/"), scope, receive, send)
            else:
                raise Refused(404, "")
        except Refused as refusal:
            fields = [*refusal.headers, (b"content-length", b"%d" % len(refusal.body))]
            if refusal.body:
                fields.append((b"content-type", b"application/json"))
            await answer_with(send, refusal.status, refusal.body, fields, scope["method"])
        except Gone:
            pass
        finally:
            self._waiting -= counts

    async def _session(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, MAX_MESSAGE)
        mac = headers.get(b"x-syncml-hmac")
        answer = await self._face.sessions.message(
            headers.get(b"content-type", b"").decode("latin-1"),
            None if mac is None else mac.decode("latin-1"),
            body,
            origin_of(scope, headers),
        )
        fields = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
        ]
        if answer.mac is not None:
            fields.append((b"x-syncml-hmac", answer.mac.encode()))
        await answer_with(send, 200, answer.body, fields)

    async def _download(self, parts: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        face = self._face
        if len(parts) != 4:
            raise Refused(404, "")
        device_id, ticket, digest, what = parts
        found = face.download(device_id, digest)
        if found is None or not right_ticket(found[0], digest, ticket):
            raise Refused(404, "")
        order = found[1]
        headers = dict(scope["headers"])
        if what == "package":
            only(scope, "GET", "HEAD")
            if scope["method"] == "GET":
                face.fetched(order)
            await http_packages.serve(scope["method"], headers, order.package.body, digest, send)
        elif what == "dd":
            only(scope, "GET", "HEAD")
            base = origin_of(scope, headers) + PREFIX + "/".join(parts[:3])
            body = descriptor(order.package, base)
            fields = [
                (b"content-type", CONTENT_TYPE.encode()),
                (b"content-length", b"%d" % len(body)),
            ]
            await answer_with(send, 200, body, fields, scope["method"])
        elif what == "status":
            only(scope, "POST")
            line = await read_body(headers, receive, MAX_LINE)
            face.notified(order, line.decode("utf-8", "replace").strip())
            await answer_with(send, 200, b"", [(b"content-length", b"0")])
        else:
            raise Refused(404, "")
