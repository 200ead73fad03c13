"""The feed over a real connection: its head, its beginning, and both ways to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from agent.runtime.runtime import Runtime
from tests.tools.backend.virtual import package
from tools.backend.backend import Backend, BackendConfig

TOKEN = "a-token-for-the-feed-tests"
PATIENCE = 20.0


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Backend, httpx.AsyncClient]]:
    config = BackendConfig(
        timing="immediate", pilot_waived=True, admin=("127.0.0.1", 0), admin_token=TOKEN
    )
    async with Runtime.real(seed=3) as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        try:
            assert backend.admin_address is not None
            url = f"http://127.0.0.1:{backend.admin_address[1]}"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with (
                asyncio.timeout(PATIENCE),
                httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client,
            ):
                yield backend, client
        finally:
            await backend.stop()


async def field(lines: AsyncIterator[str], name: str) -> str:
    """The next field of that name."""
    async for line in lines:
        key, _, value = line.partition(": ")
        if key == name:
            return value
    raise AssertionError(f"the feed ended without {name}")


async def test_feed_tells_of_a_change_and_goes_on_where_it_was() -> None:
    async with served() as (backend, client):
        package_ = await package(backend)
        async with client.stream("GET", "/page/feed?topic=campaigns") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-accel-buffering"] == "no"
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            lines = answer.aiter_lines()
            seen = await field(lines, "id")
            campaign = await backend.create_campaign(["urn:x:1"], package_)
            assert await field(lines, "event") == "hello"
            assert await field(lines, "event") == "campaign"
            assert campaign.id in await field(lines, "data")
        async with client.stream("GET", "/page/feed", headers={"Last-Event-ID": seen}) as answer:
            lines = answer.aiter_lines()
            assert '"fresh":false' in await field(lines, "data")
            assert campaign.id in await field(lines, "data")


async def test_looked_at_device_that_moves_is_told() -> None:
    async with served() as (backend, client):
        await backend.load_devices([{"name": "urn:x:1"}, {"name": "urn:x:2"}])
        async with client.stream("GET", "/page/feed?topic=device/urn:x:1") as answer:
            lines = answer.aiter_lines()
            assert await field(lines, "event") == "hello"
            await backend.operator.attach("urn:x:2", "a", ("127.0.0.1", 9))
            await backend.operator.attach("urn:x:1", "a", ("127.0.0.1", 9))
            assert await field(lines, "event") == "changed"
            await backend.operator.detach("urn:x:1")
            assert await field(lines, "event") == "changed"


async def test_feed_of_a_client_that_went_is_let_go() -> None:
    async with served() as (backend, client):
        for _ in range(3):
            async with client.stream("GET", "/page/feed") as answer:
                await field(answer.aiter_lines(), "event")
        while backend.page.feed.clients:
            await asyncio.sleep(0.01)


async def test_open_feed_does_not_hold_up_the_end() -> None:
    async with served() as (backend, client):
        async with client.stream("GET", "/page/feed") as answer:
            lines = answer.aiter_lines()
            assert await field(lines, "event") == "hello"
            await backend.stop()
            rest = [line async for line in lines]
        assert not any("campaign" in line for line in rest)
