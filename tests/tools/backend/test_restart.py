"""Killed at every position of an attempt, in virtual time: the devices never notice.

The backend is abandoned without a word, as by kill -9: what was not committed is lost. A new one
opens the same database at the same address; the scripted device has kept running.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.runtime.runtime import Runtime
from protocols.coap import Code
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, IMAGE, package, virtual
from tools.backend.backend import Backend
from tools.backend.config import Listen
from tools.backend.faces.base import Position

NAME = "meter-1"
ADDRESS = ("10.0.0.1", 5683)


def open_backend(runtime: Runtime, path: Path) -> Backend:
    return Backend(runtime, replace(CONFIG, db=str(path), listen={"coap": Listen(ADDRESS)}))


def kill(backend: Backend) -> None:
    """Everything in memory is gone, the socket first."""
    backend.engine.stop()
    for session in list(backend.lwm2m._sessions.values()):
        session.close()
    backend.lwm2m.endpoint.abandon()
    # Nothing that is still queued gets committed, and no callback of a commit is called.
    backend.writer._queue.clear()
    backend.writer._push = lambda _change: None  # type: ignore[method-assign]
    backend.writer._runner._engine.dispose()


@rules("BR-165")
@pytest.mark.parametrize("delivery", ["push", "pull"])
@pytest.mark.parametrize(
    "position", [p for p in Position if p not in (Position.WAITING, Position.DONE)]
)
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.05, 0.15])
@virtual
async def test_restart(tmp_path: Path, position: Position, delivery: Any, delay: float) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        clock = runtime.clock
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        meter = ScriptedDevice(runtime, ADDRESS, NAME)
        meter.register()
        await backend.create_campaign(
            [NAME], await package(backend), delivery_of=lambda _name: delivery
        )
        member = backend.engine.book.latest(NAME)
        assert member is not None
        while member.position < position:
            await clock.sleep(0.001)
        await clock.sleep(delay)
        kill(backend)
        await clock.sleep(0.5)
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "updated", backend.belief(NAME)
        assert meter.executes == 1
        assert meter.body == IMAGE
        meter.close()
        await backend.stop()


@virtual
async def test_locations_and_ids_are_never_given_out_twice(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        seen = set()
        for start in range(3):
            backend = open_backend(runtime, tmp_path / "b.db")
            await backend.start()
            meter = ScriptedDevice(runtime, ADDRESS, f"meter-{start}", start)
            meter.register()
            await runtime.clock.sleep(1)
            assert meter.location not in seen
            seen.add(meter.location)
            meter.close()
            kill(backend)


@rules("BR-022")
@virtual
async def test_time_goes_on_where_it_was(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        await runtime.clock.sleep(5000)
        await package(backend)
        late = backend.time.now()
        await backend.stop()
    async with Runtime.in_memory(seed=3) as runtime:
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        assert backend.time.now() >= late
        assert backend.account.secret
        await backend.stop()


@virtual
async def test_killed_between_the_intent_and_the_message(tmp_path: Path) -> None:
    """The narrowest gap: the intent is durable and the Execute has never left."""
    async with Runtime.in_memory(seed=3) as runtime:
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        backend.lwm2m.install = lambda _device: kill(backend)  # type: ignore[method-assign]
        meter = ScriptedDevice(runtime, ADDRESS, NAME)
        meter.register()
        await backend.create_campaign([NAME], await package(backend))
        await runtime.clock.sleep(30)
        assert (meter.state, meter.executes) == (2, 0)
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "updated"
        assert meter.executes == 1
        meter.close()
        await backend.stop()


@virtual
async def test_an_aborted_device_that_installs_is_followed_over_a_restart(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        meter = ScriptedDevice(runtime, ADDRESS, NAME)

        def slowly() -> int:
            meter.set(3, 0)
            meter.after(60.0, meter.install)
            return Code.CHANGED

        meter.on_execute = slowly
        meter.register()
        campaign = await backend.create_campaign([NAME], await package(backend))
        while meter.state != 3:
            await runtime.clock.sleep(0.1)
        await runtime.clock.sleep(1)
        await backend.engine.cancel(campaign)
        kill(backend)
        backend = open_backend(runtime, tmp_path / "b.db")
        await backend.start()
        assert not backend.finished.is_set()
        await backend.finished.wait()
        assert backend.belief(NAME).verdict == "updated"
        assert meter.executes == 1
        meter.close()
        await backend.stop()
