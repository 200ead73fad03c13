"""Package 0 at a device: pushed, repeated, forged, deferred, kept over reboots."""

from __future__ import annotations

import pytest

from agent.credentials import Credential
from agent.update import State
from protocols.omadm import package0, wsp
from protocols.omadm.nonces import SPECIAL_NONCE, NonceBook, Side
from tests.protocols.omadm.dm_server import MD5
from tests.protocols.omadm.dm_world import World, order, run
from tests.protocols.omadm.musts import musts

SECRETS = Credential(username="user", password="client secret", token="server secret")


def package(
    session_id: int = 0x1F,
    *,
    ui_mode: int = 1,
    initiator: bool = True,
    nonce: bytes = b"",
    password: str = "server secret",
    server_id: str = "fotilla",
) -> bytes:
    notification = package0.Notification(session_id, server_id, package0.UiMode(ui_mode), initiator)
    return package0.encode(notification, server_id, password, nonce)


def stored_nonce(world: World) -> bytes:
    return NonceBook(world.device.nvm).get(Side.SERVER, "fotilla")


def notified(story: object, **arguments: object) -> World:
    arguments.setdefault("credential", SECRETS)
    arguments.setdefault("server", {"server_auth": MD5})
    return run(story, **arguments)  # type: ignore[arg-type]


@musts("DM-005")
def test_a_notification_makes_its_session() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        assert world.client.notify(package())
        await world.until(lambda: len(world.server.sessions) == 2 and world.server.session.over)

    session = notified(story).server.session
    assert session.id == "1F"
    assert session.codes == [1200]


@musts("DM-013")
def test_a_push_over_udp() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        where = world.client.push_address
        assert where is not None and where[1] == 2948
        sender = world.runtime.network.open(("10.9.9.9", 0), lambda data, source: None)
        push = wsp.Push(package0.CONTENT_TYPE, package(7), "x-wap-application:syncml.dm")
        for data in (b"", b"\x01\x06", wsp.encode(push)[:-1], b"\xff" * 300):
            sender.send(data, where)
        await world.sleep(5.0)
        assert len(world.server.sessions) == 1
        sender.send(wsp.encode(push), where)
        await world.until(lambda: len(world.server.sessions) == 2)

    world = notified(story, options={"push": "2948"})
    assert world.server.session.id == "7"


@musts("DM-007")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 24,
        package(password="wrong"),
        package(server_id="stranger"),
        package()[:-1],
        package() + b"x",
        b"\0" * 2000,
    ],
)
def test_a_bad_one_meets_silence(data: bytes) -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        requests = world.server.requests
        assert not world.client.notify(data)
        await world.sleep(60.0)
        assert world.server.requests == requests

    assert any("ignored" in line for line in notified(story).lines)


@musts("DM-006")
def test_one_session_for_a_notification_that_comes_often() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        for _ in range(3):
            world.client.notify(package())
        await world.until(lambda: len(world.server.sessions) == 2 and world.server.session.over)
        world.client.notify(package())
        await world.sleep(60.0)

    assert len(notified(story).server.sessions) == 2


def test_another_one_during_a_session_waits_for_its_end() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        seen: list[str] = []

        def on_request(count: int) -> None:
            if not seen:
                seen.append("one")
                world.client.notify(package(0x21))
                world.client.notify(package(0x20))  # the newest counts

        world.client.notify(package())
        world.server.on_request = on_request
        await world.until(lambda: len(world.server.sessions) == 3 and world.server.session.over)
        await world.sleep(60.0)

    world = notified(story)
    assert [one.id for one in world.server.sessions[1:]] == ["1F", "20"]


@musts("DM-092")
def test_the_nonce_of_the_last_session_is_used() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(order("nothing"))
        nonce = stored_nonce(world)
        assert len(nonce) == 16
        assert not world.client.notify(package())
        assert world.client.notify(package(nonce=nonce))
        await world.until(lambda: world.server.session.codes == [1200])

    assert notified(story, strict=False).server.session.id == "1F"


@musts("DM-008", "DM-009")
def test_both_sides_come_together_again_by_the_special_nonce() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        await world.session(order("nothing"))
        world.server.server_nonces.clear()
        world.server.nonces.clear()
        for key in (world.server.server_nonces, world.server.nonces):
            key[world.server.session.device] = SPECIAL_NONCE
        assert world.client.notify(package(nonce=SPECIAL_NONCE))
        world.server.packages.append(order(operation="Update"))
        await world.until(lambda: world.server.session.codes == [1200])
        await world.until(lambda: world.server.session.over)
        await world.sleep(2.0)
        assert stored_nonce(world) == next(iter(world.server.server_nonces.values()))

    world = notified(story, strict=False)
    assert world.server.session.challenges == 0
    assert world.server.session.code("Exec") == [405]


def test_it_survives_a_reboot_and_grows_old() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        app = world.server.app
        world.web.refuse("http://dm.test")
        assert world.client.notify(package())
        await world.sleep(30.0)
        world.device.reboot("test")
        await world.sleep(30.0)
        world.web.serve("http://dm.test", app)
        await world.until(lambda: world.server.session.codes == [1200], 1000.0)
        world.web.refuse("http://dm.test")
        assert world.client.notify(package(5))
        await world.sleep(2 * 86_400.0)
        world.web.serve("http://dm.test", app)
        await world.sleep(3600.0)

    assert [one.id for one in notified(story).server.sessions][-1] == "1F"


@musts("DM-148")
def test_a_client_initiated_one() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: len(world.server.sessions) == 1 and world.server.session.over)
        await world.sleep(1.0)
        world.client.notify(package(initiator=False))
        await world.until(lambda: len(world.server.sessions) == 2)

    session = notified(story, options={"persona": "nexus"}).server.session
    assert session.codes == [1201]
    (request,) = session.generic
    assert request.items[0].meta is not None
    assert str(request.items[0].meta.type).endswith("userrequest")


@musts("DM-010")
@pytest.mark.parametrize(
    ("persona", "ui_mode", "sessions"),
    [
        ("default", 3, 2),
        ("absent-user", 3, 1),
        ("absent-user", 1, 2),
    ],
)
def test_a_user_is_asked(persona: str, ui_mode: int, sessions: int) -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        world.client.notify(package(ui_mode=ui_mode))
        await world.sleep(60.0)

    assert len(notified(story, options={"persona": persona}).server.sessions) == sessions


def test_att_waits_for_the_end_of_an_update() -> None:
    async def story(world: World) -> None:
        world.client.check_now()
        world.server.packages.append(order(root="./FwUpdate/Flash"))
        await world.until(lambda: world.device.engine.state is State.DOWNLOADED)
        assert world.client.notify(package(nonce=stored_nonce(world)))
        before = len(world.server.sessions)
        await world.sleep(3600.0)
        assert len(world.server.sessions) == before
        await world.until(lambda: bool(world.reports()), 60_000.0)
        await world.until(lambda: world.server.session.id == "1F", 60.0)

    world = notified(story, options={"persona": "att"})
    assert [one.items[0].data for one in world.reports()] == ["200"]
    assert len(world.server.sessions) < 6
