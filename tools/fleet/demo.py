"""`fotilla demo`: a backend of ours in this process, groups of devices, a campaign for each, the
audit, one report. It knows no protocol: the faces of the backend say what their devices need."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import UnusableSettings
from agent.runtime.runtime import Runtime
from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from tools.backend.backend import Backend, BackendConfig
from tools.backend.config import Listen
from tools.backend.faces.base import Delivery
from tools.backend.faces.known import known_faces
from tools.fleet.commands import finish, prepared
from tools.fleet.factory import derived_key, payload
from tools.fleet.fleet import join
from tools.fleet.groups import Groups, open_groups
from tools.fleet.names import DEFAULT_PATTERN, device_names
from tools.fleet.progress import Progress
from tools.fleet.result import RunResult
from tools.fleet.shard import check_client
from tools.fleet.signals import stop_signals
from tools.fleet.spec import FleetSpec, SpecError
from tools.options import DemoOptions

VERSION = Version(1, 0, 0, 0)
COUNTER = 1
PACKAGE = "demo"
CELL = "demo"

CONCURRENCY = 1000
"""Devices that update at once: two cores are busy with fewer, and more only wait longer."""

REGISTRATION_SECONDS = 60.0
"""After the start-up window; the campaign then begins without those that have not come."""

SETTLE_SECONDS = 30.0
"""How long backend or devices may go on without any change once the others have ended."""

UNKNOWN_PORT = 1
"""In a group's server until the backend listens."""


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one protocol, and how packages come to them, in turns."""

    spec: FleetSpec
    deliveries: tuple[Delivery, ...] = ("pull",)

    def delivery_of(self) -> Mapping[str, Delivery]:
        ways = self.deliveries
        return {name: ways[at % len(ways)] for at, name in enumerate(self.spec.names)}


def demo(options: DemoOptions) -> int:
    """Embedded backend, devices, a campaign for each protocol, the audit; returns the exit code."""
    specs = group_specs(options)
    specs = asyncio.run(with_settings(specs, options))
    result = asyncio.run(_demo(specs, options.bind or "127.0.0.1"))
    return finish(result, specs[0], as_json=options.as_json)


def group_specs(options: DemoOptions) -> list[FleetSpec]:
    """The groups that were asked for, checked. Raises SpecError and what `prepared` does."""
    faces = known_faces()
    unknown = next((name for name, _ in options.groups if name not in faces), None)
    if unknown is not None:
        known = ", ".join(faces)
        problem = f"the embedded backend does not speak {unknown!r}; it speaks {known}"
        raise SpecError(options.named_by, problem)
    key = derived_key(KeyType.ECDSA_P256, options.seed, "demo")
    image = build_image(
        payload(options.image_size, options.seed, 1),
        version=VERSION,
        key=key,
        security_counter=COUNTER,
    )
    host = options.bind or "127.0.0.1"
    place = f"[{host}]:{UNKNOWN_PORT}" if ":" in host else f"{host}:{UNKNOWN_PORT}"
    names = device_names(DEFAULT_PATTERN, sum(count for _, count in options.groups))
    specs = []
    first = 0
    for position, (protocol, count) in enumerate(options.groups):
        spec = FleetSpec(
            server=faces[protocol].listener.url(place),
            devices=count,
            names=names[first : first + count],
            image=image,
            keys=(key.public.to_pem(),),
            protocol=protocol,
            slot_size=options.slot_size,
            lifetime=options.lifetime,
            ramp=options.ramp,
            duration=options.duration,
            seed=options.seed,
            bind=options.bind,
            faults=options.faults,
            max_lag=options.max_lag,
            report_dir=options.report_dir,
            journal=options.journal,
            group=position,
            first_index=first,
        )
        specs.append(prepared(spec))
        first += count
    return specs


async def with_settings(specs: Sequence[FleetSpec], options: DemoOptions) -> list[FleetSpec]:
    """The groups with the settings that not every protocol has: each goes to those that can do it.
    Raises SpecError for one that no group can do."""
    given = list(specs)
    for share in options.misbehave:
        able = await _able(specs, "misbehave", (share,))
        given = [
            replace(spec, misbehave=(*spec.misbehave, share)) if can else spec
            for spec, can in zip(given, able, strict=True)
        ]
    if options.bandwidth is not None:
        able = await _able(specs, "bandwidth", options.bandwidth)
        given = [
            replace(spec, bandwidth=options.bandwidth) if can else spec
            for spec, can in zip(given, able, strict=True)
        ]
    return given


async def _able(specs: Sequence[FleetSpec], field: str, value: object) -> list[bool]:
    """Which groups can do what a setting asks."""
    able = []
    problem = ""
    for spec in specs:
        try:
            await check_client(replace(spec, **{field: value}))  # type: ignore[arg-type]
            able.append(True)
        except UnusableSettings as error:
            able.append(False)
            problem = str(error)
    if not any(able):
        raise SpecError(field, f"{problem}; add devices that can to --devices")
    return able


async def _demo(specs: Sequence[FleetSpec], host: str) -> RunResult:
    began = time.monotonic()
    with Progress("demo") as progress, stop_signals() as stop:
        async with _embedded_backend(specs[0].seed, host) as backend:
            introduced = [await _introduce(backend, spec) for spec in specs]
            specs = [group.spec for group in introduced]
            async with open_groups(specs, stop=stop, on_view=progress.show) as groups:
                await groups.start()
                await groups.until_registered(REGISTRATION_SECONDS)
                if not stop.is_set():
                    await _attach(backend, groups)
                    for group in introduced:
                        await _campaign(backend, group)
                    await groups.wait(backend.finished.is_set, SETTLE_SECONDS)
                snapshots = groups.snapshots()
                # Stopped before the campaign began: the backend was never asked to know anybody.
                beliefs = backend.beliefs() if backend.engine.book.campaigns else None
                await groups.power_off()
    return join("demo", specs, snapshots, seconds=time.monotonic() - began, beliefs=beliefs)


async def _introduce(backend: Backend, spec: FleetSpec) -> Group:
    """The group with the backend's address, and with the credentials that it demands."""
    needs = await backend.introduce(spec.protocol, spec.names)
    introduced = replace(
        spec, server=needs.server, credentials=needs.credentials, options=needs.options
    )
    return Group(introduced, needs.deliveries)


async def _attach(backend: Backend, groups: Groups) -> None:
    """Those that can be woken attach to the operator network, as a phone would at power-up."""
    for shard in groups.shards:
        for watch in shard.watches:
            push = getattr(watch.device.client, "push_address", None)
            if push is not None:
                known = backend.inventory.devices[watch.device.name]
                await backend.operator.attach(known.device_id, CELL, push)


async def _campaign(backend: Backend, group: Group) -> None:
    spec = group.spec
    package = await backend.add_package(
        spec.image,
        name=f"{PACKAGE}-{spec.protocol}",
        version=str(VERSION),
        protocol=backend.faces[spec.protocol].protocol,
    )
    deliveries = group.delivery_of()
    await backend.create_campaign(
        spec.names,
        package,
        delivery_of=lambda name: deliveries[name],
        concurrency=min(spec.devices, CONCURRENCY),
        title="demo",
    )


@contextlib.asynccontextmanager
async def _embedded_backend(seed: int, host: str) -> AsyncIterator[Backend]:
    """A backend in this loop with a runtime of its own: its traffic is not the devices'."""
    async with Runtime.real(seed=seed) as runtime:
        everywhere = {maker.listener.name: Listen((host, 0)) for maker in known_faces().values()}
        config = BackendConfig(listen=everywhere, timing="immediate", pilot_waived=True)
        backend = Backend(runtime, config)
        await backend.start()
        try:
            yield backend
        finally:
            await backend.stop()
