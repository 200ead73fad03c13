"""One shard: the devices of one process, from power-on to power-off.

`run_shard` takes a picklable `FleetSpec` and gives a picklable `ShardSnapshot`, so that the same
function serves one process, many workers, and hosts far away. A `Shard` is the same in parts, for
whoever has something to do in between: a backend in the same loop, a person who watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.credentials import NO_CREDENTIAL, Credential
from agent.device import Device, Phase
from agent.errors import UnusableSettings
from agent.faults import FaultSpec
from agent.image_store import ImageStore
from agent.misbehaviour import Judgement, Misbehaviour, MisbehaviourSpec
from agent.protocol import ClientSettings, ProtocolClient
from agent.runtime.metrics import MetricsSnapshot
from agent.runtime.runtime import Runtime
from firmware_images.keys import TrustedKeys
from tools.fleet.audit import Belief, DeviceTruth, Target
from tools.fleet.clients import BeliefBook, client_factory
from tools.fleet.factory import equip, target_of
from tools.fleet.faults import fault_spec
from tools.fleet.journal_file import JournalFile
from tools.fleet.lag import LagMeter
from tools.fleet.limits import ensure_descriptors
from tools.fleet.progress import View
from tools.fleet.server_address import resolve_server
from tools.fleet.spec import FleetSpec
from tools.fleet.timeline import Timeline, TimelineSnapshot
from tools.fleet.watch import STATES, Census, Watch

if TYPE_CHECKING:
    from tools.fleet.attachments import Attachments

DEFAULT_RAMP = 400.0
"""Devices started per second: a registration costs a server some 1 ms with its commit, so this
leaves it room to work, and 10,000 devices are there in half a minute."""

# Faults, start times and misbehaviour draw their numbers apart from the devices.
FAULT_GROUP = 0xFFFFFFFC
START_GROUP = 0xFFFFFFFB
MISBEHAVIOUR_GROUP = 0xFFFFFFFA

LOOK_INTERVAL = 0.1  # seconds between two looks at how far the run has come
REPORT_GRACE = 5.0  # seconds a final device gets to tell its server how it ended
GOODBYE_SECONDS = 5.0  # bound on saying goodbye: a server that is gone answers nobody
GOODBYE_WINDOW = 200  # goodbyes under way at once: more overflow a server's socket buffer
BURST = 16  # devices started before the loop may look after those that run


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """All that is left of a shard: plain data."""

    truths: tuple[DeviceTruth, ...]
    metrics: MetricsSnapshot
    timeline: TimelineSnapshot
    target: Target
    seconds: float
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    """What the server was told over the wire; devices that told it nothing are not in it."""
    misbehaviours: Mapping[tuple[str, str], Judgement] = field(default_factory=dict)
    """How the server answered what devices did wrong, by protocol and name."""
    troubles: Mapping[str, int] = field(default_factory=dict)
    """Unfinished devices that are without their server, by reason."""
    invalid: str | None = None
    error: str | None = None
    interrupted: bool = False


def run_shard(spec: FleetSpec) -> ShardSnapshot:
    """Run the devices of `spec` to their end in a loop of its own."""
    return asyncio.run(drive(spec))


async def drive(
    spec: FleetSpec,
    *,
    stop: asyncio.Event | None = None,
    on_view: Callable[[View], None] | None = None,
) -> ShardSnapshot:
    """The same in a loop that runs; `stop` ends it early, in order."""
    async with open_shard(spec, stop=stop, on_view=on_view) as shard:
        await shard.start()
        await shard.wait()
        snapshot = shard.snapshot()
        await shard.power_off()
    return snapshot


@contextlib.asynccontextmanager
async def open_shard(
    spec: FleetSpec,
    *,
    stop: asyncio.Event | None = None,
    on_view: Callable[[View], None] | None = None,
    images: ImageStore | None = None,
    journal: JournalFile | None = None,
) -> AsyncIterator[Shard]:
    """A shard with its runtime and its journal, closed in order whatever happens. `images` and
    `journal` are those of another shard in this loop, to share."""
    ensure_descriptors(spec.devices)
    with contextlib.ExitStack() as stack:
        if journal is None and spec.journal is not None:
            journal = stack.enter_context(JournalFile(spec.journal))
        write = None if journal is None else journal.write
        async with Runtime.real(seed=spec.seed, journal=write, images=images) as runtime:
            shard = Shard(runtime, spec, stop=stop, on_view=on_view, journal=journal)
            try:
                yield shard
            finally:
                shard.close()


async def check_client(spec: FleetSpec) -> None:
    """Would the devices of `spec` accept their server, options and misbehaviours? Talks to nobody.
    Raises UnusableSettings; it names the setting without which there is nothing to object to."""
    # A share of 1% would be refused only when the first device that it falls on boots.
    every = replace(spec, misbehave=tuple((name, 1.0) for name, _ in spec.misbehave))
    async with Runtime.real(seed=spec.seed) as runtime:
        problem = _objection(runtime, every)
        if problem is None:
            return
        if problem.what:
            raise problem
        for what, other in _OTHERS:
            if _objection(runtime, replace(every, **{what: other})) is None:
                raise UnusableSettings(str(problem), what)
        raise problem


_OTHERS: tuple[tuple[str, Any], ...] = (
    ("misbehave", ()),
    ("options", ()),
    ("credentials", ()),
    *(("server", f"{scheme}://localhost") for scheme in ("http", "https", "mqtt", "coap")),
)
"""Settings, and values that most protocols take: with which one is there nothing to object to?"""


def _objection(runtime: Runtime, spec: FleetSpec) -> UnusableSettings | None:
    """What the protocol of `spec` has against its settings."""
    if spec.protocol == "lwm2m":  # whose client wants an address
        spec = replace(spec, server=resolve_server(spec.server))
    shard = Shard(runtime, spec)
    try:
        shard.try_client()
    except UnusableSettings as error:
        return error
    finally:
        shard.close()
    return None


class Shard:
    """Devices on one runtime: `start`, `wait`, `snapshot`, `power_off`, `close`."""

    def __init__(
        self,
        runtime: Runtime,
        spec: FleetSpec,
        *,
        stop: asyncio.Event | None = None,
        on_view: Callable[[View], None] | None = None,
        journal: JournalFile | None = None,
    ) -> None:
        self.runtime = runtime
        self.spec = equip(spec)
        self.target = target_of(self.spec.image, self.spec.running)
        self.stop = stop or asyncio.Event()
        self.census = Census(spec.devices)
        self.watches: list[Watch] = []
        self.note = ""
        """What the run is waiting for, for who watches it."""
        self._book = BeliefBook()
        self._factory = client_factory(
            spec.protocol,
            ClientSettings(
                server=spec.server,
                lifetime=spec.lifetime,
                bind=spec.bind,
                told=self._book.told,
                credential=self._credential,
                misbehave=self._misbehave,
                options=dict(spec.options),
                bandwidth=spec.bandwidth,
            ),
        )
        self._trusted = TrustedKeys.from_pem(*self.spec.keys)
        self._faults: FaultSpec | None = fault_spec(spec.faults) if spec.faults else None
        self._timeline = Timeline(STATES)
        self._lag = LagMeter(runtime.metrics.lag)
        self._on_view = on_view
        self._journal = journal
        self._attachments: Attachments | None = None
        self._began = runtime.clock.now()
        self._ended: float | None = None

    def _credential(self, device: Device) -> Credential:
        credentials = self.spec.credentials
        if not credentials:
            return NO_CREDENTIAL
        return credentials[device.index - self.spec.first_index]

    def _misbehave(self, device: Device) -> frozenset[Misbehaviour]:
        """The same set at each boot: it is drawn from numbers of its own."""
        if not self.spec.misbehave:
            return frozenset()
        random = self.runtime.random(MISBEHAVIOUR_GROUP, device.index)
        return MisbehaviourSpec(self.spec.misbehave).draw(random)

    # --- the life of a run

    async def start(self) -> None:
        """Power the devices on, spread over the start-up window; returns early when stopped."""
        loop_now = self.runtime.clock.now
        self._lag.start()
        if self.spec.operator is not None:
            from tools.fleet.attachments import Attachments

            self._attachments = Attachments(self.spec.operator, sleep=self.runtime.clock.sleep)
        rate = self.spec.ramp or DEFAULT_RAMP
        began = loop_now()
        for position in range(self.spec.devices):
            random = self.runtime.random(START_GROUP, self.spec.first_index + position)
            due = began + (position + random.uniform(0.0, 1.0)) / rate
            while (delay := due - loop_now()) > 0:
                self._look()
                if await self._stopped(min(delay, LOOK_INTERVAL)):
                    return
            if position % BURST == 0:
                if await self._stopped(0.0):
                    return
                self._look()
            self._spawn(position)
        # Nothing of what was made so far will go away before the run ends: not to be looked at
        # by every collection from now on.
        gc.collect()
        gc.freeze()

    def _spawn(self, position: int) -> None:
        device = self._device(position)
        device.attach(self._client)
        self.watches.append(Watch(device, self.target, self.census))
        device.power_on()

    def _client(self, device: Device) -> ProtocolClient:
        """A device has booted: what it speaks, and its place in the operator network."""
        client = self._factory(device)
        if self._attachments is not None:
            push = getattr(client, "push_address", None)
            self._attachments.attach(device.name, device.index, push)
        return client

    def _device(self, position: int) -> Device:
        spec = self.spec
        assert spec.running is not None  # `equip` saw to it
        index = spec.first_index + position
        plan = None
        if self._faults is not None:
            plan = self._faults.draw(self.runtime.random(FAULT_GROUP, index))
        return Device(
            self.runtime,
            spec.names[position],
            image=spec.running,
            trusted=self._trusted,
            slot_size=spec.slot_size,
            group=spec.group,
            index=index,
            faults=plan,
        )

    def try_client(self) -> None:
        """Make the first device's client and drop it: what a protocol has against its settings is
        said before anything runs. Raises UnusableSettings."""
        # It may hold a socket already.
        self._factory(self._device(0)).power_lost()

    async def until_registered(self, seconds: float) -> bool:
        """Wait until every device has been registered once, or for so long, but not beyond the
        duration."""
        self.note = "waiting for devices to register"
        until, end = self.runtime.clock.now() + seconds, self._deadline()
        done = await self._until(
            lambda: self.census.ever_registered >= self.spec.devices,
            until if end is None else min(until, end),
        )
        self.note = ""
        return done

    async def wait(self, settled: Callable[[], bool] | None = None, grace: float = 30.0) -> bool:
        """Wait for the end: every device is final, the duration is over, or somebody stops us.

        `settled` says that the backend, too, has come to an end. Once one side has, the other one
        gets `grace` seconds after its last change: whatever is not so by then is a finding.
        """
        if settled is None:
            reached = await self._until(lambda: self.all_final, self._deadline())
            if reached:
                await self._reports()
            return reached
        clock = self.runtime.clock
        last, since = -1, clock.now()

        def done() -> bool:
            nonlocal last, since
            both = (self.all_final, settled())
            if all(both) or not any(both) or self.census.changes != last:
                last, since = self.census.changes, clock.now()
            return all(both) or clock.now() - since > grace

        return await self._until(done, self._deadline()) and self.all_final

    async def _reports(self) -> None:
        """Let outcomes reach the server, for a while: the last answer may still be under way."""
        until = self.runtime.clock.now() + REPORT_GRACE
        await self._until(
            lambda: not any(watch.device.engine.report_pending for watch in self.watches), until
        )

    def snapshot(self) -> ShardSnapshot:
        """What is so now. Take it before `power_off`."""
        self._sample(last=True)
        self._ended = self.runtime.clock.now()
        names = {watch.device.name for watch in self.watches}
        missing = [name for name in self.spec.names if name not in names]
        truths = [watch.truth(self.spec.protocol) for watch in self.watches]
        truths += [_unborn(name, self.spec, self.target) for name in missing]
        return ShardSnapshot(
            truths=tuple(truths),
            metrics=self.runtime.metrics.snapshot(),
            timeline=self._timeline.snapshot(),
            target=self.target,
            seconds=self._ended - self._began,
            beliefs=dict(self._book.beliefs),
            misbehaviours=self.runtime.misbehaviours.snapshot(),
            troubles=self._troubles(),
            invalid=self._invalid(),
            error=None if self._journal is None else self._journal.error,
            interrupted=self.stop.is_set(),
        )

    def _troubles(self) -> Counter[str]:
        found = Counter(watch.trouble for watch in self.watches if watch.trouble)
        if self._attachments is not None and self._attachments.failed:
            found[f"not attached: {self._attachments.trouble}"] = self._attachments.failed
        return found

    async def power_off(self) -> None:
        """Switch every device off in order; the clients say goodbye, in bounded time."""
        self.note = "devices say goodbye"
        until = self.runtime.clock.now() + GOODBYE_SECONDS
        leaving: list[Watch] = []
        for watch in self.watches:
            if watch.device.phase is not Phase.OFF:
                watch.device.power_off()
                leaving.append(watch)
            if len(leaving) >= GOODBYE_WINDOW:
                leaving = await self._gone(leaving, GOODBYE_WINDOW, until)
        await self._gone(leaving, 1, until)
        if self._attachments is not None:
            await self._attachments.close()

    async def _gone(self, leaving: list[Watch], limit: int, until: float) -> list[Watch]:
        """Those that still say goodbye, once they are fewer than `limit` or the time is over."""
        while True:
            leaving = [watch for watch in leaving if watch.leaving]
            if len(leaving) < limit or self.runtime.clock.now() >= until:
                return leaving
            await asyncio.sleep(LOOK_INTERVAL / 10)

    def close(self) -> None:
        """Pull the plug of what still runs."""
        self._lag.stop()
        for watch in self.watches:
            watch.device.on_event = None
            if watch.device.phase is not Phase.OFF:
                watch.device.cut_power()
        gc.unfreeze()

    # --- how far it has come

    @property
    def all_final(self) -> bool:
        return self.census.final >= self.spec.devices

    @property
    def remaining(self) -> float | None:
        """Seconds of the duration, if the run has one."""
        end = self._deadline()
        return None if end is None else max(0.0, end - self.runtime.clock.now())

    @property
    def over(self) -> bool:
        """Nothing is waited for any more: the duration is over, or somebody stopped the run."""
        return self.stop.is_set() or self.remaining == 0.0

    def _deadline(self) -> float | None:
        return None if self.spec.duration is None else self._began + self.spec.duration

    async def _until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Look now and then; False at the deadline or when stopped."""
        while not done():
            if deadline is not None and self.runtime.clock.now() >= deadline:
                return False
            if await self._stopped(LOOK_INTERVAL):
                return False
            self._look()
        return True

    async def _stopped(self, seconds: float) -> bool:
        """Sleep, but wake up at once when somebody stops the run."""
        if self.stop.is_set():
            return True
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), seconds)
        return self.stop.is_set()

    def _look(self) -> None:
        if self._timeline.due(self.runtime.clock.now()):
            self._sample()

    def _sample(self, last: bool = False) -> None:
        now = self.runtime.clock.now() - self._began
        census = self.census
        self._timeline.sample(now, census.states, self.runtime.metrics)
        if self._on_view is not None:
            self._on_view(
                View(
                    now,
                    self.spec.devices,
                    dict(census.states),
                    census.final,
                    dict(self.runtime.metrics.counters),
                    dict(census.failures),
                    self.note,
                )
            )

    def _invalid(self) -> str | None:
        worst = self.runtime.metrics.lag.percentile(99)
        limit = self.spec.max_lag
        if worst <= limit:
            return None
        return (
            f"our own scheduler lagged by {worst:.2g} s (99th percentile, at most {limit:g} s): "
            f"fewer devices or a longer ramp"
        )


def never_ran(spec: FleetSpec) -> ShardSnapshot:
    """What is left of a run that was stopped before it had devices."""
    target = target_of(spec.image, spec.running)
    return ShardSnapshot(
        truths=tuple(_unborn(name, spec, target) for name in spec.names),
        metrics=MetricsSnapshot(),
        timeline=TimelineSnapshot(),
        target=target,
        seconds=0.0,
        interrupted=True,
    )


def _unborn(name: str, spec: FleetSpec, target: Target) -> DeviceTruth:
    """A device that was never switched on: the run was stopped before its turn."""
    return DeviceTruth(name, spec.protocol, "idle", None, "nothing", target.factory_digest)
