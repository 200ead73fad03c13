"""`fotilla device`: one device in the foreground, for whoever debugs a server by hand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from agent.device import Device, Phase
from agent.faults import FaultPlan
from agent.protocol import ClientSettings, Trace
from agent.runtime.runtime import Runtime
from agent.trailer import capacity
from firmware_images import ImageRefused, UnusableInput, as_source
from firmware_images.keys import KeyType, PublicKey, TrustedKeys
from firmware_images.mcuboot import verify_image
from tools.fleet.clients import client_factory, client_maker
from tools.fleet.factory import derived_key, factory_image
from tools.fleet.faults import fault_spec
from tools.fleet.server_address import checked_server
from tools.fleet.shard import FAULT_GROUP, GOODBYE_SECONDS, check_client
from tools.fleet.signals import stop_signals
from tools.fleet.spec import FleetSpec
from tools.options import DeviceOptions

INTERRUPTED = 130
BRICKED = 3  # a device that failed, in the terms of `run`


def single(options: DeviceOptions) -> int:
    """Run the device until Ctrl-C (130) or until only a programmer could help it (3)."""
    client_maker(options.protocol)
    image, trusted = _equipment(options)
    asyncio.run(check_client(_spec(options, image, trusted)))
    server = checked_server(options.server, options.protocol, dict(options.options))
    return asyncio.run(_single(options, server, image, trusted))


def _spec(options: DeviceOptions, image: bytes, trusted: TrustedKeys) -> FleetSpec:
    """What is asked of the device, as if it were a fleet's only one."""
    return FleetSpec(
        server=options.server,
        devices=1,
        names=(options.name,),
        image=image,
        keys=tuple(key.to_pem() for key in trusted.keys),
        protocol=options.protocol,
        running=image,
        slot_size=options.slot_size,
        options=options.options,
        credentials=(options.credential,),
    )


def _equipment(options: DeviceOptions) -> tuple[bytes, TrustedKeys]:
    keys = [PublicKey.from_pem(pem) for pem in options.keys]
    image = options.running
    if image is None:
        kind = keys[0].kind if keys else KeyType.ECDSA_P256
        key = derived_key(kind, options.seed, "factory")
        image = factory_image(key, options.seed, options.slot_size)
        keys.append(key.public)
    elif not keys:
        raise UnusableInput("--running: give the public key that verifies it as --key")
    trusted = TrustedKeys(tuple(keys))
    try:
        verify_image(as_source(image), trusted, capacity(options.slot_size))
    except ImageRefused as refusal:
        raise UnusableInput(f"--running: the device would not boot it: {refusal}") from None
    return image, trusted


async def _single(options: DeviceOptions, server: str, image: bytes, trusted: TrustedKeys) -> int:
    # With --json standard output holds journal lines alone, and the trace goes beside it.
    write = _line if options.as_json else None
    with stop_signals() as stop:
        async with Runtime.real(seed=options.seed, journal=write) as runtime:
            device = Device(
                runtime,
                options.name,
                image=image,
                trusted=trusted,
                slot_size=options.slot_size,
                faults=_faults(options, runtime),
            )
            teller = _Teller(device, stop, _quiet if options.as_json else _line)
            trace = None
            if options.trace:
                trace = teller.tracer(_beside if options.as_json else _line)
            factory = client_factory(
                options.protocol,
                ClientSettings(
                    server=server,
                    lifetime=options.lifetime,
                    bind=options.bind,
                    trace=trace,
                    credential=lambda device: options.credential,
                    options=dict(options.options),
                ),
            )
            device.attach(factory)
            try:
                device.power_on()
                await stop.wait()
                if device.phase is Phase.BRICKED:
                    return BRICKED
                device.power_off()
                await teller.gone()
            finally:
                device.on_event = None
                if device.phase is not Phase.OFF:
                    device.cut_power()
    return INTERRUPTED


def _faults(options: DeviceOptions, runtime: Runtime) -> FaultPlan | None:
    if not options.faults:
        return None
    return fault_spec(options.faults).draw(runtime.random(FAULT_GROUP, 0))


class _Teller:
    """Prints what happens to a device, and ends the run when nothing more can happen to it."""

    def __init__(self, device: Device, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        self._device = device
        self._stop = stop
        self._say = say
        self._leaving = False
        self._left = asyncio.Event()
        device.on_event = self._event

    def tracer(self, say: Callable[[str], None]) -> Trace:
        return lambda text: say(f"{self._time()}  {text}")

    async def gone(self) -> None:
        """Wait for the answer to the goodbye, for a while."""
        if self._leaving:
            try:
                await asyncio.wait_for(self._left.wait(), GOODBYE_SECONDS)
            except TimeoutError:
                print("fotilla: the server did not answer the goodbye", file=sys.stderr)

    def _event(self, machine: str, old: str, new: str, cause: str) -> None:
        if machine == "registration":
            if self._leaving:
                self._left.set()
            self._leaving = new == "DEREGISTERING"
        self._say(f"{self._time()}  {machine:<12} {old} -> {new}  ({cause}){self._extra(machine)}")
        if self._device.phase is Phase.BRICKED:
            self._stop.set()

    def _extra(self, machine: str) -> str:
        """What runs is worth a word whenever the device has started."""
        device = self._device
        if machine != "device" or device.phase is not Phase.RUNNING:
            return ""
        running = device.running
        return "" if running is None else f"  running {running.version}"

    def _time(self) -> str:
        return f"{self._device.runtime.clock.now():9.3f}"


def _line(text: str) -> None:
    print(text, flush=True)


def _beside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _quiet(text: str) -> None:
    """Journal lines say the same."""
