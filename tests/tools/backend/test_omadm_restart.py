"""The OMA-DM server after `kill -9`: killed at each message of an update, nothing accepted is lost
and no device is told twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from protocols.omadm.model import Message
from tests.tools.backend.omadm_device import DOWNLOAD_AND_UPDATE, UPDATE, DmDevice
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual
from tools.backend.backend import Backend, BackendConfig
from tools.backend.campaigns import states
from tools.backend.faces.base import Delivery

NAME = "IMEI:350000000000100"


class Killed(Exception):
    """The server went away instead of answering."""


def kill(backend: Backend) -> None:
    """Everything in memory is gone; nothing that is still queued gets committed."""
    backend.engine.stop()
    backend.operator.stop()
    backend.omadm._notifier.stop()
    for live in backend.omadm.sessions.live.values():
        backend.runtime.wheel.disarm(live.timer)
    backend.lwm2m.endpoint.abandon()
    backend.writer._queue.clear()
    backend.writer._push = lambda _change: None  # type: ignore[method-assign]
    backend.writer._runner._engine.dispose()


class Mortal:
    """A backend that is killed once: at its `point`-th message, before or after the commit."""

    def __init__(self, runtime: Runtime, config: BackendConfig, point: int, when: str) -> None:
        self.runtime = runtime
        self.config = config
        self.point = point
        self.when = when
        self.count = 0
        self.kills = 0
        self.backend = Backend(runtime, config)

    async def app(self, scope: dict, receive: object, send: object) -> None:
        if scope["method"] != "POST":
            await self.backend.omadm_app(scope, receive, send)  # type: ignore[arg-type]
            return
        self.count += 1
        if self.count != self.point or self.kills:
            await self.backend.omadm_app(scope, receive, send)  # type: ignore[arg-type]
            return
        self.kills += 1
        if self.when == "before":
            # It is being worked on, and nothing of that becomes durable.
            self.backend.writer._push = lambda _change: None  # type: ignore[method-assign]
            working = asyncio.ensure_future(
                self.backend.omadm_app(scope, receive, self.lost)  # type: ignore[arg-type]
            )
            await self.runtime.clock.sleep(0.1)
            working.cancel()
            kill(self.backend)
        else:
            await self.backend.omadm_app(scope, receive, self.lost)  # type: ignore[arg-type]
            kill(self.backend)
        self.backend = Backend(self.runtime, self.config)
        await self.backend.start()
        await self.runtime.clock.sleep(0.1)
        raise Killed

    @staticmethod
    async def lost(_event: object) -> None:
        """The answer does not arrive."""


class Persistent(DmDevice):
    """Begins its session again when the server was lost, as a client does, with what it has to
    say."""

    async def session(self, *alerts: object, session: str | None = None) -> list[Message]:
        for _ in range(5):
            try:
                return await super().session(*alerts, session=session)  # type: ignore[arg-type]
            except Killed:
                continue
        raise AssertionError("five sessions were lost")


async def update(mortal: Mortal, device: Persistent, kind: str) -> None:
    """An update as the device lives through it."""
    for _ in range(10):
        await device.session()
        if device.executed:
            break
        await mortal.runtime.clock.sleep(20)
    assert device.executed
    device.install()
    await device.session(device.result(200, kind))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("delivery", ["pull", "push"])
@pytest.mark.parametrize("point", range(1, 12))
@virtual
async def test_killed_at_each_message(
    tmp_path: Path, point: int, delivery: Delivery, when: str
) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        mortal = Mortal(runtime, config, point, when)
        first = mortal.backend
        await first.start()
        await first.load_devices([{"name": NAME, "protocol": "OMADM"}])
        minted = await first.mint_dm_accounts([NAME])
        firmware = await first.add_package(IMAGE, name="a", version="2.0.0", protocol="OMADM")
        campaign = await first.create_campaign([NAME], firmware, delivery_of=lambda _name: delivery)
        await runtime.clock.sleep(0.1)
        transport = httpx.ASGITransport(app=mortal.app)
        async with httpx.AsyncClient(transport=transport) as client:
            device = Persistent(client, NAME, minted[NAME], max_msg=2048)
            await update(mortal, device, UPDATE if delivery == "push" else DOWNLOAD_AND_UPDATE)
        backend = mortal.backend
        member = backend.engine.book.campaigns[campaign.id].members[NAME]
        assert (member.status, member.attempts) == (states.SUCCESS, 1), member.said
        assert len(device.executed) == 1
        assert (backend.belief(NAME).verdict, backend.belief(NAME).version) == ("updated", "2.0.0")
        if delivery == "push":
            assert bytes(device.package) == IMAGE
        assert mortal.kills == (mortal.count >= point)
        await backend.stop()
