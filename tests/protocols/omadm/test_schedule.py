"""When a device comes by itself: power-up, checks, retries, as each persona does."""

from __future__ import annotations

import pytest

from agent.misbehaviour import Misbehaviour
from protocols.omadm.personas import PERSONAS, persona
from tests.protocols.omadm.dm_world import World, run

HOUR = 3600.0
DAY = 24 * HOUR


def times(world: World) -> list[float]:
    """When each session began, in seconds since power-on."""
    return world.begun  # type: ignore[attr-defined,no-any-return]


def watched(
    story: object, options: dict[str, str], misbehave: frozenset[Misbehaviour] = frozenset()
) -> World:
    async def told(world: World) -> None:
        begun: list[float] = []
        world.begun = begun  # type: ignore[attr-defined]

        def on_event(machine: str, old: str, new: str, cause: str) -> None:
            world.events.append((machine, old, new, cause))
            if machine == "session" and old == "NEW":
                begun.append(world.runtime.clock.now())

        world.device.on_event = on_event
        await story(world)  # type: ignore[operator]

    return run(told, options=options, misbehave=misbehave, strict=False)


@pytest.mark.parametrize("name", sorted(PERSONAS))
def test_every_persona_has_a_session(name: str) -> None:
    async def story(world: World) -> None:
        world.client.check_now()
        await world.until(lambda: world.client.registered)

    world = run(story, options={"persona": name})
    assert world.server.sessions[0].devinfo["Man"] == persona(name).man


def test_the_default_comes_at_power_up_and_then_no_more() -> None:
    async def story(world: World) -> None:
        await world.sleep(40 * DAY)

    begun = times(watched(story, {}))
    assert len(begun) == 1
    assert begun[0] <= 2.1


def test_herd_comes_at_once() -> None:
    async def story(world: World) -> None:
        await world.sleep(10.0)

    begun = times(watched(story, {}, frozenset({Misbehaviour.HERD})))
    assert begun[0] < 0.1


def test_an_interval() -> None:
    async def story(world: World) -> None:
        await world.sleep(1000.0)

    begun = times(watched(story, {"interval": "100"}))
    gaps = [after - before for before, after in zip(begun[1:], begun[2:], strict=False)]
    assert all(100.0 <= gap <= 106.0 for gap in gaps)
    assert len(begun) in (10, 11)


def test_att_checks_after_eight_hours_and_then_every_thirty_days() -> None:
    async def story(world: World) -> None:
        await world.sleep(1 * DAY)
        world.device.reboot("test")
        await world.sleep(39 * DAY)

    world = watched(story, {"persona": "att"})
    begun = times(world)
    assert len(begun) == 2
    assert 8 * HOUR <= begun[0] <= 9 * HOUR
    assert 30 * DAY + 8 * HOUR <= begun[1] <= 30 * DAY + 10 * HOUR
    (request,) = world.server.sessions[0].generic
    assert request.items[0].data == "200"
    assert request.items[0].meta is not None and request.items[0].meta.format == "int"


def test_att_tries_three_times_and_then_the_next_days() -> None:
    async def story(world: World) -> None:
        world.web.refuse("http://dm.test")
        await world.sleep(5 * DAY)

    begun = times(watched(story, {"persona": "att"}))
    # A check, then one a day later and another, each a session of three tries.
    assert len(begun) == 9
    assert 60.0 <= begun[1] - begun[0] <= 400.0
    assert DAY * 0.9 <= begun[3] - begun[2] <= DAY * 1.1


def test_nexus_gives_up_after_three_tries() -> None:
    async def story(world: World) -> None:
        world.web.refuse("http://dm.test")
        await world.sleep(10 * HOUR)

    begun = times(watched(story, {"persona": "nexus"}))
    assert len(begun) == 3
    assert all(900.0 <= b - a <= 2000.0 for a, b in zip(begun, begun[1:], strict=False))


def test_verizon_and_sprint_ask_in_their_words() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.client.registered)
        world.client.check_now()
        await world.until(lambda: bool(world.server.session.generic))

    (request,) = run(story, options={"persona": "verizon"}).server.session.generic
    assert request.items[0].data == "Y2hlY2tDb25maWd1cmF0aW9u"
    assert str(request.items[0].meta and request.items[0].meta.type).endswith("userrequest")
    (request,) = run(story, options={"persona": "sprint"}).server.session.generic
    assert str(request.items[0].meta and request.items[0].meta.type).endswith("devicerequest")


def test_the_default_comes_back_to_a_server_that_was_away() -> None:
    async def story(world: World) -> None:
        app = world.server.app
        world.web.refuse("http://dm.test")
        await world.sleep(2 * HOUR)
        assert not world.client.registered
        world.web.serve("http://dm.test", app)
        await world.until(lambda: world.client.registered, 400.0)

    assert len(times(watched(story, {}))) > 10


def test_a_busy_server_says_when() -> None:
    async def story(world: World) -> None:
        world.server.intervene = lambda session, message: (503, {"retry-after": "1000"}, b"")
        await world.until(lambda: bool(world.server.sessions))
        world.server.intervene = lambda session, message: None
        await world.sleep(900.0)
        assert not world.client.registered
        await world.until(lambda: world.client.registered, 200.0)

    watched(story, {})
