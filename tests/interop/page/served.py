"""A backend whose page is served, that can be stopped and started again at the same address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from agent.runtime.runtime import Runtime
from tests.tools.backend.scripted import ScriptedDevice
from tools.backend.backend import Backend, BackendConfig
from tools.backend.campaigns.records import Campaign

TOKEN = "the-token-of-the-page-tests"
IMAGE = bytes(range(256)) * 12

STOP_SECONDS = 30.0
"""A listener gives its requests two seconds; one that an open feed holds up takes for ever."""


class Served:
    """`start`, `stop` and `start` again, on one database, with devices of its own."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._port = 0
        self._stack = contextlib.AsyncExitStack()
        self._devices: list[ScriptedDevice] = []
        self.runtime: Runtime
        self.backend: Backend

    async def start(self) -> None:
        self.runtime = await self._stack.enter_async_context(Runtime.real(seed=5))
        config = BackendConfig(
            db=str(self._database),
            admin=("127.0.0.1", self._port),
            admin_token=TOKEN,
            timing="immediate",
            pilot_waived=True,
        )
        self.backend = Backend(self.runtime, config)
        await self.backend.start()
        address = self.backend.admin_address
        assert address is not None
        self._port = address[1]

    async def stop(self) -> None:
        """Also while a page is open."""
        for device in self._devices:
            device.close()
        self._devices.clear()
        async with asyncio.timeout(STOP_SECONDS):
            await self.backend.stop()
            await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    @property
    def entrance(self) -> str:
        """The address that signs in."""
        return f"{self.url}#token={TOKEN}"

    async def campaign(
        self, names: Sequence[str], title: str = "", version: str = "2.0.0"
    ) -> Campaign:
        """A campaign for these devices, which need not be there yet."""
        package = await self.backend.add_package(IMAGE, name=f"app-{version}", version=version)
        return await self.backend.create_campaign(names, package, title=title)

    def switch_on(self, names: Sequence[str]) -> None:
        """Let devices register; they update as they are told."""
        server = self.backend.address("lwm2m")
        assert server is not None
        for name in names:
            device = ScriptedDevice(self.runtime, server, name, len(self._devices))
            device.register()
            self._devices.append(device)


def imeis(count: int, first: int = 350000000000000) -> list[str]:
    return [f"urn:imei:{first + number}" for number in range(count)]
