"""A real client over a link that loses and doubles datagrams."""

from __future__ import annotations

from contextlib import suppress

import pytest

from agent import State
from protocols.coap.errors import RequestTimeout
from protocols.coap.numbers import Code
from tests.agent.parts import new_image
from tests.protocols.lwm2m.client_world import World, virtual, world


def degrade(built: World, loss: float) -> None:
    network = built.runtime.network
    network.loss = loss  # type: ignore[attr-defined]
    network.duplication = loss  # type: ignore[attr-defined]


async def updated(built: World) -> None:
    # An answer that is lost is asked for again when the device reboots already: the server cannot
    # know then, and finds out by reading when the device has registered again.
    with suppress(RequestTimeout):
        assert (await built.send(Code.POST, "/5/0/2")).code == Code.CHANGED
    await built.until(lambda: built.device.engine.state is State.IDLE and built.registered, 3000)
    assert await built.shown() == (0, 1)
    assert built.device.boots == 2


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_push(loss: float) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            degrade(built, loss)
            assert (await built.push(new_image())).code == Code.CHANGED
            assert await built.shown() == (2, 0)
            await updated(built)
            assert built.runtime.metrics.counters["retransmissions"] > 0
            degrade(built, 0.0)

    run()


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_pull(loss: float) -> None:
    @virtual
    async def run() -> None:
        async with world() as built:
            built.files["fw"] = new_image()
            degrade(built, loss)
            assert (await built.text("/5/0/1", "coap://10.0.0.1/fw")).code == Code.CHANGED
            await built.until(lambda: built.device.engine.state is State.DOWNLOADED)
            await updated(built)
            degrade(built, 0.0)

    run()


def journal_of() -> list[tuple[str, str, str, str]]:
    events: list[tuple[str, str, str, str]] = []

    @virtual
    async def run() -> None:
        async with world() as built:
            degrade(built, 0.2)
            assert (await built.push(new_image())).code == Code.CHANGED
            await updated(built)
            degrade(built, 0.0)
            events.extend(built.events)

    run()
    return events


def test_the_same_seed_gives_the_same_story() -> None:
    assert journal_of() == journal_of()
