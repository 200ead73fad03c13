"""The routes of the page: its files for everybody, its data for whoever has the token.

The files are the same for all and hold nothing; everything that is shown comes from `/page/api` and
`/page/feed`, which ask for the administrator's token in the Authorization header.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tools.backend.admin.token import AdminToken
from tools.backend.page.feed import Client, Feed, Topic, topic_of
from tools.backend.page.models import (
    Callbacks,
    CampaignDetail,
    CampaignPage,
    Cells,
    DeviceDetail,
    DevicePage,
    MemberPage,
    Summary,
)
from tools.backend.page.network_views import callbacks, cells

if TYPE_CHECKING:
    from tools.backend.backend import Backend

_STATIC = Path(__file__).parent / "static"
# uPlot is vendored once, for the report of a run.
_UPLOT = Path(__file__).parents[2] / "fleet" / "vendor" / "uplot"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}

POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        # No string of ours or of a device's can become markup: the sinks throw.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HARDENED = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

MAX_TEXT = 128
"""Characters of a search, and of anything else that a query names."""

Text = Annotated[str, Query(max_length=MAX_TEXT)]
MaybeText = Annotated[str | None, Query(max_length=MAX_TEXT)]
Number = Annotated[int, Query(ge=0, le=2**53)]


def page_router(backend: Backend, token: AdminToken) -> APIRouter:
    """The page at `/`, its files and its data."""
    routes = APIRouter(include_in_schema=False)
    _add_files(routes)
    data = APIRouter(prefix="/page", dependencies=[Depends(token.required), Depends(_hardened)])
    _add_data(data, backend)
    routes.include_router(data)
    return routes


class _FeedResponse(StreamingResponse):
    """An open feed. The client is let go of even when it went before the first event."""

    def __init__(self, feed: Feed, client: Client, headers: dict[str, str]) -> None:
        super().__init__(feed.stream(client), headers=headers, media_type="text/event-stream")
        self._feed = feed
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.close(self._client)


async def _hardened(response: Response) -> None:
    response.headers.update(HARDENED)
    response.headers["Cache-Control"] = "no-store"


def _add_files(routes: APIRouter) -> None:
    files = {f"/page/{path.name}": path for path in sorted(_STATIC.iterdir()) if path.is_file()}
    files["/"] = files.pop("/page/index.html")
    for name in ("uPlot.iife.min.js", "uPlot.min.css", "LICENSE"):
        files[f"/page/uplot/{name}"] = _UPLOT / name
    for address, path in files.items():
        _add_file(routes, address, path)


def _add_file(routes: APIRouter, address: str, path: Path) -> None:
    content = path.read_bytes()
    headers = {
        **HARDENED,
        # Kept, but asked for each time: after an upgrade of the backend the page is the new one.
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }

    @routes.api_route(address, methods=["GET", "HEAD"])
    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=TYPES[path.suffix], headers=headers)


def _add_data(routes: APIRouter, backend: Backend) -> None:
    page = backend.page

    @routes.get("/api/summary")
    async def summary() -> Summary:
        return page.campaigns.summary()

    @routes.get("/api/campaigns")
    async def campaigns(
        before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        account: MaybeText = None,
        running: bool = False,
    ) -> CampaignPage:
        return await page.campaigns.page(before, account, running)

    @routes.get("/api/campaigns/{campaign}")
    async def campaign_detail(campaign: str) -> CampaignDetail:
        return await page.campaigns.detail(page.campaigns.named(campaign))

    @routes.get("/api/campaigns/{campaign}/devices")
    async def members(
        campaign: str, status: MaybeText = None, offset: Number = 0, search: Text = ""
    ) -> MemberPage:
        return page.campaigns.members(page.campaigns.named(campaign), status, offset, search)

    @routes.get("/api/devices")
    async def devices(search: Text = "", account: MaybeText = None, after: Text = "") -> DevicePage:
        return await page.devices.page(search, account, after)

    @routes.get("/api/devices/{device}")
    async def device_detail(device: str) -> DeviceDetail:
        return await page.devices.detail(page.devices.named(device))

    @routes.get("/api/cells")
    async def cell_table() -> Cells:
        return await cells(backend)

    @routes.get("/api/callbacks")
    async def callback_table() -> Callbacks:
        return await callbacks(backend)

    @routes.get("/feed")
    async def feed(request: Request, topic: Text = "campaigns") -> Response:
        wanted = topic_of(topic)
        if wanted.kind == "campaign":
            page.campaigns.named(wanted.name)
        elif wanted.kind == "device":
            wanted = Topic("device", page.devices.named(wanted.name).name)
        client = page.feed.open(wanted, request.headers.get("last-event-id", ""))
        # X-Accel-Buffering: nginx in front of us must not hold events back.
        headers = {**HARDENED, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _FeedResponse(page.feed, client, headers)
