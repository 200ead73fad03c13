"""The client as a whole: sessions, firmware updates, schedules, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from agent.credentials import Credential
from agent.update import State
from protocols.omadm.session import DmSession
from protocols.omadm.tree import Tree
from tests.protocols.omadm.dm_server import MD5
from tests.protocols.omadm.dm_world import DEVICE, FILES, FUMO, World, order, run
from tests.protocols.omadm.musts import musts


@musts("DM-015", "DM-016", "DM-067", "DM-140", "DM-142", "DM-146")
def test_download_and_update_by_a_strict_server() -> None:
    async def story(world: World) -> None:
        world.server.packages.append(order())
        await world.until(lambda: bool(world.reports()))
        await world.sleep(5.0)
        assert world.client.registered

    world = run(story)
    first, *_, last = world.server.sessions
    assert first.codes == [1201]
    assert first.devinfo["DevId"] == DEVICE
    assert first.code("Replace") == [200]
    assert first.code("Exec") == [202]
    (report,) = world.reports()
    assert last.generic == [report]
    assert report.correlator == "c-1"
    assert report.items[0].source == FUMO
    assert report.items[0].data == "200"
    assert report.items[0].meta is not None
    assert report.items[0].meta.format == "int"
    assert world.version == "2.0.0"
    assert world.told == [
        ("urn:imei:490154203237518", "updated", "result 200, answered 200", "2.0.0")
    ]


def test_an_idle_device_keeps_nothing_of_its_session() -> None:
    async def story(world: World) -> None:
        world.server.packages.append(order(operation="Update"))
        await world.until(lambda: world.client.registered)
        await world.sleep(5.0)
        gc.collect()
        kept = [one for one in gc.get_objects() if isinstance(one, Tree | DmSession)]
        assert kept == []
        assert world.client._task is None
        tasks = [one.get_coro().__qualname__ for one in asyncio.all_tasks()]  # type: ignore[union-attr]
        assert not any("omadm" in name.lower() for name in tasks)

    run(story)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("encoding", ["xml", "wbxml"])
def test_an_update_by_a_server_that_loses_messages(seed: int, encoding: str) -> None:
    """A third of the answers never come, before or after the server acted."""
    lost = random.Random(seed)

    async def story(world: World) -> None:
        app = world.server.app

        async def lossy(scope: Any, receive: Any, send: Any) -> None:
            fate = lost.random()
            if fate < 0.15:
                return  # the request is lost: the connection closes without an answer
            if fate < 0.3:
                body = await receive()
                held: list[Any] = []

                async def once() -> Any:
                    return body

                async def swallow(event: Any) -> None:
                    held.append(event)

                await app(scope, once, swallow)
                return
            await app(scope, receive, send)

        world.web.serve("http://dm.test", lossy)
        for _ in range(40):
            if not world.server.packages and world.version != "2.0.0":
                state = world.device.engine.state
                if state is State.IDLE:
                    world.server.packages.append(order())
            client = world.client_or_none()
            if client is not None and world.device.engine.state is State.IDLE:
                client.check_now()
            await world.sleep(200.0)
            if world.version == "2.0.0" and world.reports():
                break
        assert world.version == "2.0.0"

    world = run(story, options={"encoding": encoding}, strict=False)
    assert world.reports()[-1].items[0].data == "200"


def test_the_same_seed_gives_the_same_journal() -> None:
    journals: list[list[str]] = []
    for _ in range(2):
        journal: list[str] = []

        async def story(world: World) -> None:
            world.server.packages.append(order())
            await world.until(lambda: bool(world.reports()))

        run(story, journal=journal, seed=9)
        journals.append(journal)
    assert journals[0] == journals[1] != []


def test_no_secret_is_ever_shown() -> None:
    journal: list[str] = []

    async def story(world: World) -> None:
        world.server.packages.append(order(f"{FILES}/new.bin?token=hush"))
        await world.until(lambda: bool(world.reports()))

    world = run(
        story,
        journal=journal,
        options={"server-auth": "md5"},
        server={"server_auth": MD5},
        credential=Credential("server secret", username="user", password="client secret"),
    )
    shown = "".join([*journal, *world.lines, repr(world.settings), repr(world.events)])
    for secret in ("client secret", "server secret", "hush"):
        assert secret not in shown
