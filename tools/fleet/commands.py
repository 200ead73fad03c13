"""`fotilla demo` and `fotilla run`: one backend or none of ours, one shard, one audit, one report.

Standard output is for results: the names to target, the summary, or with `--json` one object and
nothing else. All that happens on the way there goes to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agent.credentials import Credential
from agent.errors import UnknownName
from agent.runtime.runtime import Runtime
from agent.trailer import capacity
from firmware_images import ImageRefused, UnusableInput, as_source
from firmware_images.keys import KeyType, TrustedKeys
from firmware_images.mcuboot import Version, build_image, verify_image
from tools.backend.backend import Backend, BackendConfig
from tools.drivers.base import Driver
from tools.drivers.campaign import drive, enlisted
from tools.drivers.known import make_driver
from tools.fleet.clients import client_maker
from tools.fleet.factory import derived_key, equip, payload, prospect
from tools.fleet.fleet import join
from tools.fleet.groups import Groups, open_groups
from tools.fleet.image_server import ImageServer
from tools.fleet.names import DEFAULT_PATTERN, device_names
from tools.fleet.progress import Progress
from tools.fleet.report import write_report
from tools.fleet.result import RunResult, exit_code, json_object
from tools.fleet.server_address import address_towards, checked_server
from tools.fleet.shard import Shard, check_client, never_ran, open_shard
from tools.fleet.signals import stop_signals
from tools.fleet.spec import DEFAULT_PROTOCOL, FleetSpec, SpecError
from tools.fleet.summary import print_summary
from tools.options import DemoOptions
from tools.output import reader_may_leave

DEMO_VERSION = Version(1, 0, 0, 0)
DEMO_COUNTER = 1
DEMO_PACKAGE = "demo"
DEMO_INTERVAL = 2.0
"""Seconds between the check-ins of the demo's HTTP devices: nobody wants to watch them wait."""

SUFFIX_BYTES = 4
"""Of the random text in every name that a driven run makes at its server."""

DEMO_SCHEMES = {"lwm2m": "coap", "http": "http", "omadm": "http"}
"""What the embedded backend speaks."""

DEMO_DEVICES: dict[str, tuple[tuple[str, str], ...]] = {
    "http": (("interval", f"{DEMO_INTERVAL:g}"),),
    # Woken by the operator network, as in the field; whoever missed it asks by itself.
    "omadm": (("push", "0"), ("interval", "10")),
}
UNLIMITED = "the links of LwM2M devices have no limit"

DEMO_CELL = "demo"

DEMO_CONCURRENCY = 1000
"""Devices that update at once: two cores are busy with fewer, and more only wait longer."""

REGISTRATION_SECONDS = 60.0
"""After the start-up window; the campaign then begins without those that have not come."""

SETTLE_SECONDS = 30.0
"""How long backend or devices may go on without any change once the others have ended."""


def demo(options: DemoOptions) -> int:
    """Embedded backend, devices, a campaign for each protocol, the audit; returns the exit code."""
    key = derived_key(KeyType.ECDSA_P256, options.seed, "demo")
    image = build_image(
        payload(options.image_size, options.seed, 1),
        version=DEMO_VERSION,
        key=key,
        security_counter=DEMO_COUNTER,
    )
    unknown = next((name for name, _ in options.groups if name not in DEMO_SCHEMES), None)
    if unknown is not None:
        known = ", ".join(DEMO_SCHEMES)
        problem = f"the embedded backend does not speak {unknown!r}; it speaks {known}"
        raise SpecError(options.named_by, problem)
    if options.misbehave and all(name == "lwm2m" for name, _ in options.groups):
        raise SpecError("misbehave", "LwM2M devices have none; add http=N to --devices")
    if options.bandwidth is not None and all(name == "lwm2m" for name, _ in options.groups):
        raise SpecError("bandwidth", f"{UNLIMITED}; add http=N to --devices")
    # The ports are not known before the backend listens.
    host = options.bind or "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    names = device_names(DEFAULT_PATTERN, sum(count for _, count in options.groups))
    specs = []
    first = 0
    for position, (protocol, count) in enumerate(options.groups):
        spec = FleetSpec(
            server=f"{DEMO_SCHEMES[protocol]}://{shown}:1",
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
            misbehave=options.misbehave if protocol != "lwm2m" else (),
            options=DEMO_DEVICES.get(protocol, ()),
            bandwidth=options.bandwidth if protocol != "lwm2m" else None,
            max_lag=options.max_lag,
            report_dir=options.report_dir,
            journal=options.journal,
            group=position,
            first_index=first,
        )
        specs.append(_prepared(spec))
        first += count
    result = asyncio.run(_demo(specs, host))
    return _finish(result, specs[0], as_json=options.as_json)


def run(spec: FleetSpec, *, as_json: bool) -> int:
    """Devices against a server whose operator starts the update; returns the exit code."""
    spec = _prepared(spec)
    asyncio.run(check_client(spec))
    spec = replace(spec, server=checked_server(spec.server, spec.protocol, dict(spec.options)))
    print(f"fotilla: {spec.server}: the image {prospect(spec)}", file=sys.stderr)
    names = sys.stderr if as_json else sys.stdout
    print(f"fotilla: to target ({spec.devices}):", file=sys.stderr)
    with reader_may_leave():
        print(*spec.names, sep="\n", file=names, flush=True)
    result = asyncio.run(_run(spec))
    return _finish(result, spec, as_json=as_json)


def run_driven(spec: FleetSpec, driver: str, options: dict[str, str], *, as_json: bool) -> int:
    """Devices against a server that `driver` makes update them; returns the exit code."""
    suffix = secrets.token_hex(SUFFIX_BYTES)
    made = make_driver(
        driver,
        spec.server,
        suffix=suffix,
        environment=os.environ,
        options=options,
        duration=spec.duration,
    )
    if spec.protocol not in (DEFAULT_PROTOCOL, made.protocol):
        raise SpecError("protocol", f"devices of --drive {driver} speak {made.protocol}")
    spec = _prepared(replace(spec, protocol=made.protocol))
    # Credentials are made by the driver; only what a person asked for is in question here.
    asyncio.run(check_client(enlisted(made, spec, (Credential("to come"),) * spec.devices)))
    print(f"fotilla: {spec.server}: the image {prospect(spec)}", file=sys.stderr)
    result = asyncio.run(_run_driven(made, spec, suffix))
    return _finish(result, spec, as_json=as_json)


async def _run_driven(driver: Driver, spec: FleetSpec, suffix: str) -> RunResult:
    began = time.monotonic()
    with Progress("run") as progress, stop_signals() as stop:
        driven = await drive(
            driver, spec, suffix=suffix, stop=stop, say=progress.say, on_view=progress.show
        )
    snapshot = driven.snapshot or never_ran(driven.spec)
    return join(
        "run",
        [driven.spec],
        [snapshot],
        seconds=time.monotonic() - began,
        beliefs=driven.beliefs,
        findings=driven.findings,
        left=driven.left,
    )


def _prepared(spec: FleetSpec) -> FleetSpec:
    """All that can be wrong with what was asked for is found here, before anything starts."""
    try:
        client_maker(spec.protocol)
    except UnknownName as error:
        raise SpecError("protocol", str(error)) from None
    if spec.bandwidth is not None and spec.protocol == "lwm2m":
        raise SpecError("bandwidth", UNLIMITED)
    if spec.report_dir is not None:
        Path(spec.report_dir).mkdir(parents=True, exist_ok=True)
    equipped = equip(spec)
    assert equipped.running is not None
    try:
        trusted = TrustedKeys.from_pem(*equipped.keys)
        verify_image(as_source(equipped.running), trusted, capacity(spec.slot_size))
    except ImageRefused as refusal:
        raise UnusableInput(f"--running: devices would not boot it: {refusal}") from None
    return equipped


async def _demo(specs: Sequence[FleetSpec], host: str) -> RunResult:
    began = time.monotonic()
    with Progress("demo") as progress, stop_signals() as stop:
        async with _embedded_backend(specs[0].seed, host) as backend:
            specs = [await _introduce(backend, spec) for spec in specs]
            async with open_groups(specs, stop=stop, on_view=progress.show) as groups:
                await groups.start()
                await groups.until_registered(REGISTRATION_SECONDS)
                if not stop.is_set():
                    await _attach(backend, groups)
                    for spec in specs:
                        await _demo_campaign(backend, spec)
                    await groups.wait(backend.finished.is_set, SETTLE_SECONDS)
                snapshots = groups.snapshots()
                # Stopped before the campaign began: the backend was never asked to know anybody.
                beliefs = backend.beliefs() if backend.engine.book.campaigns else None
                await groups.power_off()
    return join("demo", specs, snapshots, seconds=time.monotonic() - began, beliefs=beliefs)


async def _introduce(backend: Backend, spec: FleetSpec) -> FleetSpec:
    """The same group with the backend's address, and with the credentials that it demands."""
    if spec.protocol == "lwm2m":
        return replace(spec, server=_server("coap", backend.coap_address))
    await backend.load_devices({"name": name} for name in spec.names)
    if spec.protocol == "omadm":
        accounts = await backend.mint_dm_accounts(spec.names)
        owned = tuple(accounts[name] for name in spec.names)
        return replace(spec, server=backend.omadm_url, credentials=owned)
    address = backend.http_address
    assert address is not None  # the embedded backend listens for HTTP devices
    tokens = await backend.mint_tokens(spec.names)
    return replace(
        spec,
        server=_server("http", address),
        credentials=tuple(Credential(token=tokens[name]) for name in spec.names),
    )


async def _attach(backend: Backend, groups: Groups) -> None:
    """Those that can be woken attach to the operator network, as a phone would at power-up."""
    for shard in groups.shards:
        for watch in shard.watches:
            push = getattr(watch.device.client, "push_address", None)
            if push is not None:
                known = backend.inventory.devices[watch.device.name]
                await backend.operator.attach(known.device_id, DEMO_CELL, push)


def _server(scheme: str, address: tuple[str, int]) -> str:
    host, port = address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _demo_campaign(backend: Backend, spec: FleetSpec) -> None:
    protocol = backend.faces[spec.protocol].protocol
    package = await backend.add_package(
        spec.image,
        name=f"{DEMO_PACKAGE}-{spec.protocol}",
        version=str(DEMO_VERSION),
        protocol=protocol,
    )
    pushed = frozenset(spec.names[::2]) if spec.protocol == "lwm2m" else frozenset()
    await backend.create_campaign(
        spec.names,
        package,
        delivery_of=lambda name: "push" if name in pushed else "pull",
        concurrency=min(spec.devices, DEMO_CONCURRENCY),
        title="demo",
    )


@contextlib.asynccontextmanager
async def _embedded_backend(seed: int, host: str) -> AsyncIterator[Backend]:
    """A backend in this loop with a runtime of its own: its traffic is not the devices'."""
    async with Runtime.real(seed=seed) as runtime:
        config = BackendConfig(
            coap=(host, 0), http=(host, 0), omadm=(host, 0), timing="immediate", pilot_waived=True
        )
        backend = Backend(runtime, config)
        await backend.start()
        try:
            yield backend
        finally:
            await backend.stop()


async def _run(spec: FleetSpec) -> RunResult:
    began = time.monotonic()
    with Progress("run") as progress, stop_signals() as stop:
        async with open_shard(spec, stop=stop, on_view=progress.show) as shard:
            with _served_image(shard.runtime, spec, progress):
                await shard.start()
                await _wait(shard)
                snapshot = shard.snapshot()
                await shard.power_off()
    return join("run", [spec], [snapshot], seconds=time.monotonic() - began)


async def _wait(shard: Shard) -> None:
    shard.note = "the server's operator starts the update"
    await shard.wait()


@contextlib.contextmanager
def _served_image(runtime: Runtime, spec: FleetSpec, progress: Progress) -> Iterator[None]:
    if not spec.serve_image:
        yield
        return
    host = spec.bind or address_towards(spec.server)
    server = ImageServer(runtime, spec.image, host, spec.serve_port)
    progress.say(f"the image is served at {server.url}")
    try:
        yield
    finally:
        server.close()


def _finish(result: RunResult, spec: FleetSpec, *, as_json: bool) -> int:
    """Report, summary or object, exit code."""
    page = None if spec.report_dir is None else str(write_report(result, spec.report_dir))
    console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False, soft_wrap=True)
    with reader_may_leave():
        print_summary(result, console, page)
    with reader_may_leave():
        if as_json:
            print(json.dumps(json_object(result)))
    return exit_code(result)
