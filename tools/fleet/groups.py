"""Several groups of devices in one run, each with its protocol: one shard a group, one loop.

Each group has a runtime of its own, so that its traffic is counted apart; the images are shared,
because two devices that received the same bytes hold the same pages whatever brought them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from tools.fleet.journal_file import JournalFile
from tools.fleet.limits import ensure_descriptors
from tools.fleet.progress import View
from tools.fleet.shard import Shard, ShardSnapshot, open_shard
from tools.fleet.spec import MAX_DEVICES, FleetSpec, SpecError, check_whole


def parse_groups(text: str, protocol: str) -> tuple[tuple[str, int], ...]:
    """`1000`, or `lwm2m=1000,http=200`: protocols and how many devices speak each. A plain number
    is of `protocol`."""
    groups: dict[str, int] = {}
    for part in text.split(","):
        name, given, count = part.partition("=")
        if not given:
            name, count = protocol, name
        name, count = name.strip(), count.strip()
        if not (name and count.isascii() and count.isdigit() and len(count) < 10):
            raise SpecError("devices", f"{text!r} is neither N nor PROTOCOL=N,PROTOCOL=N")
        if name in groups:
            raise SpecError("devices", f"{name} is given twice")
        check_whole("devices", int(count), 1, MAX_DEVICES)
        groups[name] = int(count)
    check_whole("devices", sum(groups.values()), 1, MAX_DEVICES)
    return tuple(groups.items())


@contextlib.asynccontextmanager
async def open_groups(
    specs: Sequence[FleetSpec],
    *,
    stop: asyncio.Event,
    on_view: Callable[[View], None],
) -> AsyncIterator[Groups]:
    """A shard for each spec, all closed in order whatever happens."""
    ensure_descriptors(sum(spec.devices for spec in specs))
    async with contextlib.AsyncExitStack() as stack:
        groups = Groups(on_view)
        journal = None
        if specs[0].journal is not None:
            journal = stack.enter_context(JournalFile(specs[0].journal))
        for spec in specs:
            shared = groups.shards[0].runtime.images if groups.shards else None
            opened = open_shard(
                spec,
                stop=stop,
                on_view=groups.viewer(len(groups.shards)),
                images=shared,
                journal=journal,
            )
            groups.shards.append(await stack.enter_async_context(opened))
        yield groups


class Groups:
    """The shards of a run, driven together."""

    def __init__(self, on_view: Callable[[View], None]) -> None:
        self.shards: list[Shard] = []
        self._views: dict[int, View] = {}
        self._on_view = on_view

    async def start(self) -> None:
        await asyncio.gather(*[shard.start() for shard in self.shards])

    async def until_registered(self, seconds: float) -> None:
        await asyncio.gather(*[shard.until_registered(seconds) for shard in self.shards])

    async def wait(self, settled: Callable[[], bool] | None = None, grace: float = 30.0) -> None:
        await asyncio.gather(*[shard.wait(settled, grace) for shard in self.shards])

    def snapshots(self) -> list[ShardSnapshot]:
        return [shard.snapshot() for shard in self.shards]

    async def power_off(self) -> None:
        await asyncio.gather(*[shard.power_off() for shard in self.shards])

    def viewer(self, position: int) -> Callable[[View], None]:
        """What the shard at `position` shows its views to."""

        def show(view: View) -> None:
            self._views[position] = view
            self._on_view(merge_views(list(self._views.values())))

        return show


def merge_views(views: Sequence[View]) -> View:
    """One moment of all groups."""

    def added(columns: Sequence[dict[str, int]]) -> dict[str, int]:
        total: dict[str, int] = {}
        for column in columns:
            for name, count in column.items():
                total[name] = total.get(name, 0) + count
        return total

    return View(
        seconds=max(view.seconds for view in views),
        total=sum(view.total for view in views),
        states=added([dict(view.states) for view in views]),
        finished=sum(view.finished for view in views),
        counters=added([dict(view.counters) for view in views]),
        failures=added([dict(view.failures) for view in views]),
        note=next((view.note for view in views if view.note), ""),
    )
