"""How a driver keeps its promise to leave nothing behind.

Whatever it makes is entered into an `Undo` together with how to unmake it, inside `finish`, which
lets a call run to its end although somebody pressed Ctrl-C meanwhile: an object that the server
made and whose identifier was lost with the answer could never be removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from tools.drivers.errors import CleanupIncomplete, DriverError, ServerUnreachable

__all__ = ["PARALLEL", "Stage", "Undo", "each", "each_in_spite", "finish"]

T = TypeVar("T")

PARALLEL = 16
"""Calls under way at once: enough to hide a round trip, and what one server worker can queue."""


class Stage(enum.IntEnum):
    """What goes first when a run is taken back: the highest. A server refuses, or only hides, an
    object that another one still refers to."""

    SETTING = 0
    PACKAGE = 1
    DEVICE = 2
    CAMPAIGN = 3


@dataclass(frozen=True, slots=True)
class _Step:
    stage: Stage
    what: str
    take: Callable[[], Awaitable[None]]


class Undo:
    """Steps that take back what was done: by stage, and within one the newest first."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, stage: Stage, what: str, take: Callable[[], Awaitable[None]]) -> None:
        self._steps.append(_Step(stage, what, take))

    async def run(self) -> None:
        """Take every step, whatever becomes of the others; those that failed stay for another
        call. Raises CleanupIncomplete that names them."""
        left: list[str] = []
        for step in sorted(reversed(self._steps), key=lambda step: -step.stage):
            try:
                await step.take()
            except DriverError as error:
                left.append(f"{step.what} ({error})")
            else:
                self._steps.remove(step)
        if left:
            raise CleanupIncomplete(left)


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even when the caller is cancelled meanwhile; a second cancellation
    ends it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(DriverError):
            await task
        raise


async def each(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], parallel: int = PARALLEL
) -> None:
    """`work` for each item, so many at once; the first failure ends the rest and is raised."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    tasks = [asyncio.ensure_future(worker()) for _ in range(parallel)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def each_in_spite(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], parallel: int = PARALLEL
) -> None:
    """`work` for each item, whatever becomes of the others: what one object refuses is no reason to
    leave a thousand behind. Only a server that is gone ends it early. Raises a DriverError that
    says how many failed, and why the first did."""
    failed: list[DriverError] = []
    unreachable = 0

    async def one(item: T) -> None:
        nonlocal unreachable
        try:
            await work(item)
        except DriverError as error:
            failed.append(error)
            unreachable += isinstance(error, ServerUnreachable)
            if unreachable > parallel:
                raise

    await each(items, one, parallel)
    if failed:
        raise DriverError(f"{len(failed)} failed: {failed[0]}")
