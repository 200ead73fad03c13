"""What the stand-ins for management APIs share: a table of routes over httpx's MockTransport, and a
record of what was asked. Bodies are checked against what the published descriptions demand: an
unknown member, a missing one or one of another type is a 400."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import httpx

Handler = Callable[[httpx.Request, tuple[str, ...]], httpx.Response]


class Refused(Exception):
    """A request that the server answers with an error."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class ManagementStub:
    """Routes by method and path; what no route takes is a 404, whatever else it is."""

    error_member = "error"

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self.answers_lost: set[tuple[str, str]] = set()
        """Method and path of calls whose next answer is lost on its way."""

    def route(self, method: str, template: str, handler: Handler) -> None:
        """`{}` in the template stands for one part of the path."""
        pattern = re.escape(template).replace(r"\{\}", "([^/]+)")
        self._routes.append((method, re.compile(pattern), handler))

    def authorize(self, request: httpx.Request) -> None:
        """Raises Refused(401)."""
        raise NotImplementedError

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append((request.method, path))
        try:
            answer = self._answer(request, path)
        except Refused as refused:
            answer = httpx.Response(refused.status, json={self.error_member: refused.error})
        if (request.method, path) in self.answers_lost:
            self.answers_lost.discard((request.method, path))
            raise httpx.ReadError("connection reset by peer")
        return answer

    def _answer(self, request: httpx.Request, path: str) -> httpx.Response:
        for method, pattern, handler in self._routes:
            found = pattern.fullmatch(path)
            if found and method == request.method:
                if not handler.__name__.startswith("open_"):
                    self.authorize(request)
                return handler(request, found.groups())
        raise Refused(404, "no such call")


def body(
    request: httpx.Request,
    required: Mapping[str, type],
    optional: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """The JSON object of a request. Raises Refused(400)."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refused(400, "the body is not application/json")
    content = json.loads(request.content)
    known = {**required, **(optional or {})}
    if not isinstance(content, dict):
        raise Refused(400, "the body is no object")
    for name, value in content.items():
        if name not in known or not isinstance(value, known[name]):
            raise Refused(400, f"unexpected {name}")
    for name in required:
        if name not in content:
            raise Refused(400, f"{name} is missing")
    return content


def form(request: httpx.Request) -> list[tuple[str, bytes]]:
    """The parts of a multipart form, in order. Raises Refused(400)."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refused(400, "the body is no form")
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.content, policy=email.policy.HTTP)
    return [
        (
            str(part.get_param("name", header="content-disposition")),
            part.get_payload(decode=True) or b"",  # type: ignore[list-item]
        )
        for part in message.iter_parts()  # type: ignore[attr-defined]
    ]
