"""`fotilla demo` and `fotilla run`: one backend or none of ours, one shard, one audit, one report.

Standard output is for results: the names to target, the summary, or with `--json` one object and
nothing else. All that happens on the way there goes to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agent.runtime.runtime import Runtime
from agent.trailer import capacity
from firmware_images import ImageRefused, UnusableInput, as_source
from firmware_images.keys import KeyType, TrustedKeys
from firmware_images.mcuboot import Version, build_image, verify_image
from tools.backend.backend import Backend, BackendConfig
from tools.fleet.clients import client_maker
from tools.fleet.factory import derived_key, equip, payload, prospect
from tools.fleet.fleet import join
from tools.fleet.image_server import ImageServer
from tools.fleet.names import DEFAULT_PATTERN, device_names
from tools.fleet.progress import Progress
from tools.fleet.report import write_report
from tools.fleet.result import RunResult, exit_code, json_object
from tools.fleet.server_address import address_towards, resolve_server
from tools.fleet.shard import Shard, open_shard
from tools.fleet.signals import stop_signals
from tools.fleet.spec import FleetSpec
from tools.fleet.summary import print_summary
from tools.options import DemoOptions

DEMO_VERSION = Version(1, 0, 0, 0)
DEMO_COUNTER = 1
DEMO_PACKAGE = "demo"

DEMO_CONCURRENCY = 1000
"""Devices that update at once: two cores are busy with fewer, and more only wait longer."""

REGISTRATION_SECONDS = 60.0
"""After the start-up window; the campaign then begins without those that have not come."""

SETTLE_SECONDS = 30.0
"""How long backend or devices may go on without any change once the others have ended."""


def demo(options: DemoOptions) -> int:
    """Embedded backend, devices, a campaign, the audit; returns the exit code."""
    key = derived_key(KeyType.ECDSA_P256, options.seed, "demo")
    image = build_image(
        payload(options.image_size, options.seed, 1),
        version=DEMO_VERSION,
        key=key,
        security_counter=DEMO_COUNTER,
    )
    # The port is not known before the backend listens.
    host = options.bind or "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    spec = FleetSpec(
        server=f"coap://{shown}:5683",
        devices=options.devices,
        names=device_names(DEFAULT_PATTERN, options.devices),
        image=image,
        keys=(key.public.to_pem(),),
        protocol=options.protocol,
        slot_size=options.slot_size,
        lifetime=options.lifetime,
        ramp=options.ramp,
        duration=options.duration,
        seed=options.seed,
        bind=options.bind,
        faults=options.faults,
        report_dir=options.report_dir,
        journal=options.journal,
    )
    spec = _prepared(spec)
    result = asyncio.run(_demo(spec, host))
    return _finish(result, spec, as_json=options.as_json)


def run(spec: FleetSpec, *, as_json: bool) -> int:
    """Devices against a server whose operator starts the update; returns the exit code."""
    spec = _prepared(replace(spec, server=resolve_server(spec.server)))
    print(f"fotilla: {spec.server}: the image {prospect(spec)}", file=sys.stderr)
    names = sys.stderr if as_json else sys.stdout
    print(f"fotilla: to target ({spec.devices}):", file=sys.stderr)
    print(*spec.names, sep="\n", file=names, flush=True)
    result = asyncio.run(_run(spec))
    return _finish(result, spec, as_json=as_json)


def _prepared(spec: FleetSpec) -> FleetSpec:
    """All that can be wrong with what was asked for is found here, before anything starts."""
    client_maker(spec.protocol)
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


async def _demo(spec: FleetSpec, host: str) -> RunResult:
    began = time.monotonic()
    with Progress("demo") as progress, stop_signals() as stop:
        async with _embedded_backend(spec.seed, host) as backend:
            server, port = backend.coap_address
            shown = f"[{server}]" if ":" in server else server
            spec = replace(spec, server=f"coap://{shown}:{port}")
            package = await backend.add_package(
                spec.image, name=DEMO_PACKAGE, version=str(DEMO_VERSION)
            )
            push_or_pull = {name: i % 2 for i, name in enumerate(spec.names)}
            async with open_shard(spec, stop=stop, on_view=progress.show) as shard:
                await shard.start()
                await shard.until_registered(REGISTRATION_SECONDS)
                if not stop.is_set():
                    await backend.create_campaign(
                        spec.names,
                        package,
                        delivery_of=lambda name: "pull" if push_or_pull[name] else "push",
                        concurrency=min(spec.devices, DEMO_CONCURRENCY),
                        title="demo",
                    )
                    await shard.wait(backend.finished.is_set, SETTLE_SECONDS)
                snapshot = shard.snapshot()
                beliefs = backend.beliefs()
                await shard.power_off()
    if stop.is_set() and not beliefs:
        # Stopped before the campaign began: the backend was never asked to know anybody.
        return join("demo", spec, [snapshot], seconds=time.monotonic() - began)
    seconds = time.monotonic() - began
    return join("demo", spec, [snapshot], seconds=seconds, beliefs=beliefs)


@contextlib.asynccontextmanager
async def _embedded_backend(seed: int, host: str) -> AsyncIterator[Backend]:
    """A backend in this loop with a runtime of its own: its traffic is not the devices'."""
    async with Runtime.real(seed=seed) as runtime:
        config = BackendConfig(coap=(host, 0), timing="immediate", pilot_waived=True)
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
    return join("run", spec, [snapshot], seconds=time.monotonic() - began)


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
    print_summary(result, console, page)
    if as_json:
        print(json.dumps(json_object(result)))
    return exit_code(result)
