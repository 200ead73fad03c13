"""The measured process: the reference backend with its REST listener, and devices that obey.

usage: python -m tools.bench.backend_host OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend
from tools.backend.campaigns.records import Campaign
from tools.backend.config import BackendConfig
from tools.backend.faces.base import FaceBelief, Order
from tools.backend.store import tables
from tools.bench.control import answer_commands

FIRST_ID = 350_000_000_000_000
LOADED_AT_ONCE = 2_000

LOOK = 0.1
"""Seconds between two looks at what is to be told."""

BEFORE_START = 60.0
"""Seconds before the start of a campaign at which the backend comes to rest."""
SETTLED = 1.5
"""Seconds that it has for that: tries to deliver callbacks, and daily work."""


@dataclass(frozen=True, slots=True)
class Options:
    database: str
    devices: int
    cells: int
    callbacks: str = ""
    """Where callback messages go; empty registers no listener."""


class Obedient:
    """A face whose devices are all there and take whatever they are told."""

    name = "obedient"
    protocol = "LWM2M"
    local = ("", 0)

    def reachable(self, device: str) -> bool:
        return True

    def offer(self, order: Order) -> None:
        """Nothing is sent: what is measured is the backend's own work."""

    def install(self, device: str) -> None: ...

    def withdraw(self, device: str) -> None: ...

    def forget(self, device: str) -> None: ...

    def believed(self, device: str) -> FaceBelief | None:
        return None

    def identities(self) -> list[str]:
        return []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def resume(self) -> None: ...


class Host:
    """The backend, and what the driver may ask of it."""

    def __init__(self, backend: Backend, options: Options) -> None:
        self._backend = backend
        self._options = options
        backend.engine.keep = gc.freeze  # as `fotilla backend` does
        backend.engine.attach("LWM2M", Obedient())  # type: ignore[arg-type]
        backend.engine.cell_of = lambda device_id: f"cell-{int(device_id) % options.cells}"

    async def load(self) -> Mapping[str, object]:
        """The inventory and a firmware; says where and how to log in."""
        backend, count = self._backend, self._options.devices
        for first in range(0, count, LOADED_AT_ONCE):
            last = min(first + LOADED_AT_ONCE, count)
            await backend.load_devices(
                {"deviceId": str(FIRST_ID + number)} for number in range(first, last)
            )
        if self._options.callbacks:
            await backend.callbacks.register(backend.account.name, 3, self._options.callbacks)
        await backend.add_package(b"firmware", name="app", version="2.0.0", version_from="1.0.0")
        await asyncio.sleep(SETTLED)  # it is announced, so the first message is not in a figure
        gc.collect()
        gc.freeze()
        address = backend.rest_address
        assert address is not None
        return {
            "url": f"http://{address[0]}:{address[1]}",
            "account": backend.account.name,
            "secret": backend.account.secret,
            "now": backend.time.now(),
        }

    def _campaign(self) -> Campaign:
        return list(self._backend.engine.book.campaigns.values())[-1]

    async def planned(self) -> Mapping[str, object]:
        """Wait until checks and plan of the newest campaign are written, and the callback messages
        that tell of them."""
        campaign = self._campaign()
        while campaign.unchecked or campaign.unplanned or not campaign.planned:
            await asyncio.sleep(0.002)
        untold = select(func.count()).select_from(tables.outbox_changes)
        while await self._backend.writer.read(lambda rows: rows.execute(untold).scalar_one()):
            await asyncio.sleep(LOOK)
        return self._statuses(campaign)

    async def checked(self) -> Mapping[str, object]:
        """Wait until the checks of the newest campaign are over."""
        campaign = self._campaign()
        while campaign.unchecked:
            await asyncio.sleep(0)
        return {}

    async def start(self, active: int) -> Mapping[str, object]:
        """Let the newest campaign start, and wait until so many attempts are written; how much CPU
        that took. Whatever else falls due until a minute before is done with by then."""
        campaign = self._campaign()
        campaign.concurrency = active
        self._backend.time.advance_to(campaign.starts - BEFORE_START)
        await asyncio.sleep(SETTLED)
        await self._backend.writer.flushed()
        began = time.process_time()
        self._backend.time.advance_to(campaign.starts + 1)
        while campaign.active < active:
            await asyncio.sleep(0.002)
        await self._backend.writer.flushed()
        return {"cpu": time.process_time() - began}

    def _statuses(self, campaign: Campaign) -> Mapping[str, object]:
        counts: dict[str, int] = {}
        for member in campaign.members.values():
            counts[member.status] = counts.get(member.status, 0) + 1
        return {"statuses": counts}

    async def cpu(self) -> Mapping[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"user": usage.ru_utime, "sys": usage.ru_stime}


async def main(options: Options) -> None:
    async with Runtime.real() as runtime:
        config = BackendConfig(
            db=options.database,
            rest=("127.0.0.1", 0),
            timing="documented",
            pilot_waived=True,
        )
        backend = Backend(runtime, config)
        await backend.start()
        try:
            host = Host(backend, options)
            await answer_commands(
                {
                    "load": host.load,
                    "checked": host.checked,
                    "planned": host.planned,
                    "start": host.start,
                    "cpu": host.cpu,
                }
            )
        finally:
            await backend.stop()


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
