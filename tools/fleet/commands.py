"""`fotilla run`: a backend of somebody, one shard, one audit, one report.

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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agent.credentials import Credential
from agent.errors import UnknownName
from agent.runtime.runtime import Runtime
from agent.trailer import capacity
from firmware_images import ImageRefused, UnusableInput, as_source
from firmware_images.keys import TrustedKeys
from firmware_images.mcuboot import verify_image
from tools.drivers.base import Driver
from tools.drivers.campaign import drive, enlisted
from tools.drivers.known import make_driver
from tools.fleet.clients import client_maker
from tools.fleet.factory import equip, prospect
from tools.fleet.fleet import join
from tools.fleet.image_server import ImageServer
from tools.fleet.progress import Progress
from tools.fleet.report import write_report
from tools.fleet.result import RunResult, exit_code, json_object
from tools.fleet.server_address import address_towards, checked_server
from tools.fleet.shard import Shard, check_client, never_ran, open_shard
from tools.fleet.signals import stop_signals
from tools.fleet.spec import DEFAULT_PROTOCOL, FleetSpec, SpecError
from tools.fleet.summary import print_summary
from tools.output import reader_may_leave

SUFFIX_BYTES = 4
"""Of the random text in every name that a driven run makes at its server."""


def run(spec: FleetSpec, *, as_json: bool) -> int:
    """Devices against a server whose operator starts the update; returns the exit code."""
    spec = prepared(spec)
    if spec.operator is not None:
        from tools.fleet.attachments import listening

        spec = listening(spec)
    asyncio.run(check_client(spec))
    spec = replace(spec, server=checked_server(spec.server, spec.protocol, dict(spec.options)))
    print(f"fotilla: {spec.server}: the image {prospect(spec)}", file=sys.stderr)
    names = sys.stderr if as_json else sys.stdout
    print(f"fotilla: to target ({spec.devices}):", file=sys.stderr)
    with reader_may_leave():
        print(*spec.names, sep="\n", file=names, flush=True)
    result = asyncio.run(_run(spec))
    return finish(result, spec, as_json=as_json)


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
    spec = prepared(replace(spec, protocol=made.protocol))
    # Credentials are made by the driver; only what a person asked for is in question here.
    asyncio.run(check_client(enlisted(made, spec, (Credential("to come"),) * spec.devices)))
    print(f"fotilla: {spec.server}: the image {prospect(spec)}", file=sys.stderr)
    result = asyncio.run(_run_driven(made, spec, suffix))
    return finish(result, spec, as_json=as_json)


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


def prepared(spec: FleetSpec) -> FleetSpec:
    """All that can be wrong with what was asked for is found here, before anything starts."""
    try:
        client_maker(spec.protocol)
    except UnknownName as error:
        raise SpecError("protocol", str(error)) from None
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


def finish(result: RunResult, spec: FleetSpec, *, as_json: bool) -> int:
    """Report, summary or object, exit code."""
    page = None if spec.report_dir is None else str(write_report(result, spec.report_dir))
    console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False, soft_wrap=True)
    with reader_may_leave():
        print_summary(result, console, page)
    with reader_may_leave():
        if as_json:
            print(json.dumps(json_object(result)))
    return exit_code(result)
