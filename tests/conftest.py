"""Checks that every test is subject to: nothing may outlive the test that made it.

`filterwarnings = error` makes an unclosed socket or an un-awaited coroutine a failure as soon as
the garbage collector finds it; the fixture here makes it look while the guilty test is still
running, and also fails a test that leaves tasks behind, which the loop would cancel in silence.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, or its making, says how busy the machine is and nothing of the code.
# The suite tries the same examples each time, so what it says of a change is due to the change;
# `explore`, which `make sweeps` uses, looks for new ones.
settings.register_profile(
    "repeatable", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile(
    "explore",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=500,
    print_blob=True,
)
settings.load_profile("repeatable")

# Loop turns given to tasks that were told to stop but have not yet run to their end.
GRACE_TURNS = 20


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    leaked: set[asyncio.Task[object]] = set()
    for _ in range(GRACE_TURNS):
        leaked = {task for task in asyncio.all_tasks() - before if not task.done()}
        leaked.discard(asyncio.current_task())  # type: ignore[arg-type]
        if not leaked:
            break
        await asyncio.sleep(0)
    names = sorted(f"{task.get_name()}: {task.get_coro()}" for task in leaked)
    del leaked
    gc.collect(1)  # the young generations only: a full collection costs more than most tests
    assert not names, f"tasks left running by this test: {names}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put `no_leaks` first in every coroutine test: set up first, it is torn down last."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
        item.fixturenames.insert(0, "no_leaks")
