"""A whole run: a backend, its devices and its customer, and blows of kill -9.

The backend is `fotilla backend` in a process of its own, as anybody starts it; devices, customer
and callback listeners live in the test's process and stay while it dies and is started again, on
the same ports and the same database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import Runtime
from agent.credentials import Credential
from protocols.omadm.client import OmadmClient
from tests.tools.backend.killing.checks import check
from tests.tools.backend.killing.customer import PROTOCOLS, Customer
from tests.tools.backend.killing.listeners import Recorder, recording
from tests.tools.backend.killing.meters import Meter
from tests.tools.backend.killing.points import Killer, Point
from tests.tools.backend.killing.stores import Store
from tests.tools.backend.process import BackendProcess, Killed
from tools.backend.campaigns.states import CAMPAIGN_FINAL

RATE = 4.0
"""How fast the devices live: their patience with a server that is gone is made for the field."""

Kind = tuple[str, str, bool]
"""Protocol, delivery, and whether the device gets a licence."""

FLEET: tuple[Kind, ...] = (
    ("lwm2m", "push", True),
    ("lwm2m", "pull", True),
    ("lwm2m", "push", True),
    ("lwm2m", "pull", True),
    ("http", "pull", True),
    ("http", "pull", True),
    ("http", "pull", False),
    ("omadm", "push", True),
    ("omadm", "pull", True),
    ("omadm", "pull", True),
)

LIMIT = 120.0  # seconds a blow; only a backend or a device that is stuck takes them
LOOK = 0.1

PROGRAM = """
import json, sys
import tools.backend.serve, tools.cli
sys.argv[1:] = json.loads(sys.stdin.readline())
tools.cli.main()
"""


class Served(BackendProcess):
    """`fotilla backend`, always at the same addresses once it has some."""

    def __init__(self, folder: Path, database: str) -> None:
        super().__init__(folder)
        self._database = database
        self._spare: subprocess.Popen[bytes] | None = None
        self.omadm = self.rest = self.admin = "127.0.0.1:0"

    def launch(self, ready: Path) -> subprocess.Popen[bytes]:
        arguments = [
            *("backend", "--coap", f"{self.coap[0]}:{self.coap[1]}", "--http", self.http),
            *("--omadm", self.omadm, "--rest", self.rest, "--admin", self.admin),
            *("--admin-token-file", str(self.folder / "token")),
            *("--database", self._database, "--ready-file", str(ready)),
            *("--timing", "immediate", "--pilot-waived"),
        ]
        process = self._spare or self._idle()
        self._spare = self._idle()
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(arguments).encode() + b"\n")
        return process

    def _idle(self) -> subprocess.Popen[bytes]:
        """One that has read its code and waits to be told what to do: so the devices are not
        without a server for longer than need be, on a machine that is busy with tests."""
        return self.run(sys.executable, "-c", PROGRAM, stdin=subprocess.PIPE)

    def end(self) -> None:
        """Let nothing run any more."""
        for process in (self.process, self._spare):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()

    async def start(self) -> None:
        await super().start()
        places = {**self.ready["listeners"], "admin": self.ready["admin"]["url"]}
        self.omadm, self.rest, self.admin = (
            places[name].partition("://")[2].partition("/")[0]
            for name in ("omadm", "rest", "admin")
        )

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()


@dataclass
class Run:
    """One point, everybody who lives through it, and what they know in the end."""

    point: Point
    store: Store
    backend: Served
    killer: Killer
    customer: Customer
    recorder: Recorder
    meters: list[Meter]
    attaching: set[asyncio.Task[None]] = field(default_factory=set)
    struck: asyncio.Event = field(default_factory=asyncio.Event)

    # -- everybody's part ---

    async def live(self) -> None:
        """From the first request to the end of all campaigns."""
        secrets = await self.customer.prepare(self.meters, self.recorder.urls)
        for meter in self.meters:
            self._power_on(meter, secrets.get(meter.name))
        await self.customer.schedule(self.meters)
        while not await self.settled():
            await asyncio.sleep(LOOK)

    def _power_on(self, meter: Meter, secret: Any) -> None:
        server = self.places[meter.protocol]
        meter.campaigns = True
        if meter.protocol == "lwm2m":
            meter.power_on(server)
        elif meter.protocol == "http":
            meter.power_on(server, Credential(token=secret), {"interval": "2"})
        else:
            credential = Credential(
                username=secret["username"],
                password=secret["password"],
                token=secret["serverPassword"],
            )
            meter.on_boot = self._attach
            meter.power_on(server, credential, {"push": "0"})

    @property
    def places(self) -> dict[str, str]:
        """Where devices come; the addresses never change."""
        host, port = self.backend.coap
        return {
            "lwm2m": f"coap://{host}:{port}",
            "http": f"http://{self.backend.http}",
            "omadm": f"http://{self.backend.omadm}/dm",
        }

    def _attach(self, meter: Meter) -> None:
        """The operator's side of a power-up."""
        self.attaching.add(asyncio.ensure_future(self._attached(meter)))

    async def _attached(self, meter: Meter) -> None:
        # The device says that it runs just before its client is made.
        client = meter.device.client
        assert isinstance(client, OmadmClient)
        assert client.push_address is not None
        await self.customer.attach(meter.id, client.push_address)

    def strike(self) -> None:
        self.backend.kill()
        self.struck.set()

    async def keep_up(self) -> None:
        """Start the backend again after each blow."""
        while True:
            await self.struck.wait()
            self.struck.clear()
            self.killer.started_again()
            with contextlib.suppress(Killed):
                await self.backend.start()

    # -- the end ---

    async def settled(self) -> bool:
        """Nothing is to come any more: campaigns, devices, callbacks and blows have ended."""
        if self.killer.blows and self.killer.left:
            return False
        if not (self.backend.alive and all(one.settled for one in self.meters)):
            return False
        return not await self.unsettled()

    async def unsettled(self) -> list[str]:
        """What the store still waits for."""
        rows = await self.store.rows("SELECT package, status FROM campaigns")
        left = [f"{name}: {status}" for name, status in rows if status not in CAMPAIGN_FINAL]
        if len(rows) < len(PROTOCOLS):
            left.append(f"{len(rows)} campaigns")
        for table, where in (("outbox_changes", "0 = 0"), ("outbox", "state = 'waiting'")):
            [[count]] = await self.store.rows(f"SELECT count(*) FROM {table} WHERE {where}")
            if count:
                left.append(f"{count} in {table}")
        return left


async def kill_at(
    point: Point, folder: Path, store: Store, fleet: tuple[Kind, ...] = FLEET, rate: float = RATE
) -> None:
    """Kill at a point, and check what is left. Every failure names the point."""
    try:
        await _kill_at(point, folder, store, fleet, rate)
    except Exception as error:
        error.add_note(str(point))
        raise


async def _kill_at(
    point: Point, folder: Path, store: Store, fleet: tuple[Kind, ...], rate: float
) -> None:
    backend = Served(folder, store.name)
    killer = Killer(point)
    try:
        async with (
            asyncio.timeout(LIMIT * (1 + len(point.again))),
            Runtime.real(seed=point.seed, rate=rate) as runtime,
            recording(killer.happened, lambda: not backend.killed) as recorder,
        ):
            await backend.start()
            await store.watch()
            run = Run(
                point,
                store,
                backend,
                killer,
                Customer(backend, store, killer.happened),
                recorder,
                [
                    Meter(runtime, index, protocol, delivery, killer.happened, licensed=licensed)
                    for index, (protocol, delivery, licensed) in enumerate(fleet)
                ],
            )
            killer.strike = run.strike
            restarts = asyncio.create_task(run.keep_up())
            try:
                await run.live()
                await asyncio.gather(*run.attaching)
                await check(run)
            except BaseException as error:
                error.add_note(await story(run))
                raise
            finally:
                restarts.cancel()
                for task in run.attaching:
                    task.cancel()
                await asyncio.gather(restarts, *run.attaching, return_exceptions=True)
                await run.customer.leave()
                for meter in run.meters:
                    if meter.device.phase.name != "OFF":
                        meter.device.cut_power()
    finally:
        backend.end()


async def story(run: Run) -> str:
    """Where everybody stood when it went wrong."""
    lines = [f"seen: {dict(run.killer.counts)}, blows: {run.killer.blows}"]
    with contextlib.suppress(Exception):
        lines += [f"store: {left}" for left in await run.unsettled()]
        query = "SELECT device, status, position, attempts, executed, said FROM campaign_devices"
        lines += [str(row) for row in await run.store.rows(query)]
    for meter in run.meters:
        if not meter.settled:
            lines.append(f"{meter.name} ({meter.protocol}): {meter.device.engine.state.name}")
            lines += [f"    {line[:160]}" for line in meter.lines[-12:]]
    return "\n".join([*lines, run.backend.stderr[-3000:]])
