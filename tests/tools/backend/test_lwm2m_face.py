"""The LwM2M face over real endpoints, in virtual time, with a scripted device."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from tests.tools.backend.scripted import ScriptedDevice
from tools.backend.backend import Backend, BackendConfig
from tools.backend.inventory import Firmware

IMAGE = bytes(range(256)) * 40
CONFIG = BackendConfig(timing="immediate", pilot_waived=True)


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        run_virtual(test(*args, **kwargs))

    return run


@asynccontextmanager
async def world(config: BackendConfig = CONFIG, **network: float) -> AsyncIterator[Backend]:
    async with Runtime.in_memory(seed=7, **network) as runtime:
        backend = Backend(runtime, config)
        await backend.start()
        try:
            yield backend
        finally:
            await backend.stop()


async def package(backend: Backend, version: str = "2.0.0") -> Firmware:
    return await backend.add_package(IMAGE, name="app", version=version)


def device(
    backend: Backend, name: str = "meter-1", index: int = 0, **how: object
) -> ScriptedDevice:
    return ScriptedDevice(backend.runtime, backend.coap_address, name, index, **how)


@pytest.mark.parametrize("delivery", ["push", "pull"])
@pytest.mark.parametrize("loss", [0.0, 0.1])
@virtual
async def test_update(delivery: str, loss: float) -> None:
    async with world(loss=loss, duplication=loss) as backend:
        device_ = device(backend)
        device_.register()
        await backend.create_campaign(
            ["meter-1"], await package(backend), delivery_of=lambda _name: delivery
        )
        await backend.finished.wait()
        assert backend.belief("meter-1").verdict == "updated", backend.belief("meter-1")
        assert backend.belief("meter-1").version == "2.0.0"
        assert device_.body == IMAGE
        assert device_.executes == 1
        device_.close()
