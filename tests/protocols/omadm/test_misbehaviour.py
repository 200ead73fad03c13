"""Misbehaviour on purpose: a right server keeps every expectation, a wrong one is found out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.misbehaviour import Misbehaviour
from protocols.omadm.misbehaviour import MISBEHAVIOURS, RIGHT_ANSWERS, another_device
from protocols.omadm.model import Alert, Message, Status
from tests.protocols.omadm.dm_server import Session
from tests.protocols.omadm.dm_world import World, order, run


def judged(world: World, name: Misbehaviour) -> tuple[int, int]:
    found = world.runtime.misbehaviours.judgements.get(("omadm", name.value))
    return (0, 0) if found is None else (found.kept, found.broken)


def updated(name: Misbehaviour, **arguments: object) -> World:
    async def story(world: World) -> None:
        world.server.packages.append(order())
        await world.until(lambda: world.version == "2.0.0", 3000.0)
        await world.sleep(120.0)

    world = run(story, misbehave=frozenset({name}), **arguments)  # type: ignore[arg-type]
    assert world.version == "2.0.0"
    return world


def too_large(session: Session, message: Message) -> tuple[int, dict[str, str], bytes] | None:
    long = any(
        isinstance(one, Alert) and len(str(one.items[0].data)) > 1000
        for one in message.commands
        if isinstance(one, Alert) and one.items
    )
    return (413, {}, b"") if long else None


@pytest.mark.parametrize("name", sorted(RIGHT_ANSWERS, key=lambda one: one.value))
def test_a_right_server_keeps_what_is_expected(name: Misbehaviour) -> None:
    async def story(world: World) -> None:
        world.server.intervene = too_large
        world.server.packages.append(order())
        await world.until(lambda: world.version == "2.0.0", 3000.0)
        await world.sleep(120.0)

    world = run(story, misbehave=frozenset({name}), strict=False)
    kept, broken = judged(world, name)
    assert broken == 0
    # Credentials are tried in each uptime, reports when there is one.
    assert kept == (2 if name.value in ("stale-credential", "cloned-identity") else 1)
    correlators = [one.correlator for one in world.reports()]
    expected = {
        Misbehaviour.DUPLICATE_REPORT: ["c-1", "c-1"],
        Misbehaviour.LATE_REPORT: ["c-1", "c-1"],
        Misbehaviour.FOREIGN_REPORT: ["nobody's", "c-1"],
    }
    assert correlators == expected.get(name, ["c-1"])
    assert len(world.told) == 1


@pytest.mark.parametrize("name", [Misbehaviour.STALE_CREDENTIAL, Misbehaviour.CLONED_IDENTITY])
def test_a_server_that_believes_anybody_is_found_out(name: Misbehaviour) -> None:
    world = updated(name, server={"auth": None}, strict=False)
    kept, broken = judged(world, name)
    assert (kept, broken) == (0, 2)


def test_a_server_that_takes_a_report_amiss_is_found_out() -> None:
    def amiss(session: Session, message: Message) -> Message:
        seen = [one for one in message.commands if isinstance(one, Status) and one.cmd == "Alert"]
        if len(seen) < 3:
            return message
        last = seen[-1]
        commands = tuple(replace(one, code=500) if one is last else one for one in message.commands)
        return replace(message, commands=commands)

    async def story(world: World) -> None:
        world.server.change = amiss
        world.server.packages.append(order())
        await world.until(lambda: world.version == "2.0.0", 3000.0)
        await world.sleep(120.0)

    name = Misbehaviour.DUPLICATE_REPORT
    assert judged(run(story, misbehave=frozenset({name})), name) == (0, 1)


def test_who_never_reports_says_nothing() -> None:
    world = updated(Misbehaviour.NEVER_REPORT)
    assert world.reports() == []
    assert world.told == []


def test_lies() -> None:
    world = updated(Misbehaviour.FALSE_FAILURE)
    assert [one.items[0].data for one in world.reports()] == ["410"]
    assert [verdict for _, verdict, _, _ in world.told] == ["failed"]

    async def story(world: World) -> None:
        world.server.packages.append(order("http://files.test/missing"))
        await world.until(lambda: bool(world.reports()))
        await world.sleep(5.0)

    lied = run(story, misbehave=frozenset({Misbehaviour.FALSE_SUCCESS}))
    assert [one.items[0].data for one in lied.reports()] == ["200"]
    assert [verdict for _, verdict, _, _ in lied.told] == ["updated"]
    assert lied.version == "1.0.0"


def test_what_is_known() -> None:
    assert Misbehaviour.IGNORE_CANCEL not in MISBEHAVIOURS
    assert another_device("IMEI:490154203237518") == "IMEI:490154203237519"
    assert another_device("x") == "x-2"
