"""Running a test in virtual time, against a backend of its own."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend, BackendConfig
from tools.backend.inventory import Firmware

IMAGE = bytes(range(256)) * 12
CONFIG = BackendConfig(timing="immediate", pilot_waived=True)


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test in virtual time; pytest sees a plain function."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        run_virtual(test(*args, **kwargs))

    return run


@asynccontextmanager
async def started(runtime: Runtime, config: BackendConfig = CONFIG) -> AsyncIterator[Backend]:
    backend = Backend(runtime, config)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


@asynccontextmanager
async def world(
    config: BackendConfig = CONFIG,
    *,
    timing: str | None = None,
    loss: float = 0.0,
    duplication: float = 0.0,
) -> AsyncIterator[Backend]:
    """A backend on an in-memory network."""
    if timing is not None:
        config = replace(config, timing=timing)
    async with (
        Runtime.in_memory(seed=7, loss=loss, duplication=duplication) as runtime,
        started(runtime, config) as backend,
    ):
        yield backend


async def package(backend: Backend, version: str = "2.0.0", name: str = "app") -> Firmware:
    return await backend.add_package(IMAGE, name=name, version=version)
