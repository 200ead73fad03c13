"""How many requests there were, and how long they took: by application, route template and code.

The one thing that is counted as it happens; everything else is read off the state when it is asked
for. One addition to a dictionary's entry a request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, those of Prometheus' own clients."""

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Others are counted together: a label must not be what a stranger chooses."""

UNMATCHED = "unmatched"


@dataclass(slots=True)
class Figure:
    """Requests of one kind."""

    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """By duration, one more than bounds."""

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(BOUNDS, seconds)] += 1


Key = tuple[str, str, str, str]
"""Application, method, route template, code."""

RequestFigures = dict[Key, Figure]


class RequestMeter:
    """ASGI middleware that counts."""

    def __init__(
        self, app: ASGIApp, figures: RequestFigures, label: str, now: Callable[[], float]
    ) -> None:
        self._app = app
        self._figures = figures
        self._label = label
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Until something is sent, it is a fault of ours: the answer is made outside of here.
        code = "500"

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        began = self._now()
        try:
            await self._app(scope, receive, watched)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            key = (self._label, method, _template(scope), code)
            figure = self._figures.get(key)
            if figure is None:
                figure = self._figures[key] = Figure()
            figure.add(self._now() - began)


def _template(scope: Scope) -> str:
    """The path of the route that was found, with its parameters unfilled."""
    # FastAPI names the whole path of an included route only here; where it does not, the route
    # itself has it.
    context = scope.get("fastapi", {}).get("effective_route_context")
    for found in (context, scope.get("route")):
        path = getattr(found, "path", None)
        if path:
            return str(path)
    return UNMATCHED
