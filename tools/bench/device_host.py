"""The measured process: N real devices on sockets of their own, registered with a server.

usage: python -m tools.bench.device_host OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)

Device i speaks from 127.BASE.(i / 250), port 10000 + i % 250, which is where c_load_to_devices
looks for it.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import Device
from agent.outcome import Outcome
from agent.runtime.runtime import Runtime
from agent.update import State
from firmware_images.keys import TrustedKeys
from protocols.lwm2m import Lwm2mClient
from tools.bench.control import answer_commands
from tools.bench.memory import forget_peak, kernel_bytes, resident_bytes, resident_peak
from tools.fleet.limits import ensure_descriptors

WINDOW = 200
"""Devices that register at once. A server's receive buffer is finite: 9,000 requests in one burst
overran one of 4 MiB."""
POLL_SECONDS = 0.002
PATIENCE_SECONDS = 120.0
"""Nobody new registered for so long: longer than MAX_TRANSMIT_WAIT, so those left are lost."""


@dataclass(frozen=True, slots=True)
class Options:
    server: str
    devices: int
    base: int
    lifetime: int
    folder: str
    """Holds `factory` (the image that runs) and `key.pem` (whom the devices trust)."""
    slot_size: int = 1 << 20


def address_of(base: int, device: Device) -> tuple[str, int]:
    host, port = divmod(device.index, 250)
    return f"127.{base}.{host >> 8}.{host & 255}", 10000 + port


class Host:
    """The devices, and what the driver may ask of them."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        folder = Path(options.folder)
        self.runtime = runtime
        self.options = options
        self.factory_image = (folder / "factory").read_bytes()
        self.trusted = TrustedKeys.from_pem((folder / "key.pem").read_bytes())
        self.devices: list[Device] = []

    async def register(self) -> Mapping[str, object]:
        """Spawn all devices and let them register, :data:`WINDOW` at once."""
        options = self.options
        began = time.monotonic()
        factory = functools.partial(
            Lwm2mClient,
            server=options.server,
            lifetime=options.lifetime,
            bind=functools.partial(address_of, options.base),
        )
        starting: list[Device] = []
        progress = time.monotonic()
        for index in range(options.devices):
            device = Device(
                self.runtime,
                f"bench-{index:05d}",
                image=self.factory_image,
                trusted=self.trusted,
                slot_size=options.slot_size,
                index=index,
            )
            device.attach(factory)
            self.devices.append(device)
            device.power_on()
            starting.append(device)
            while len(starting) >= WINDOW or (starting and index + 1 == options.devices):
                await asyncio.sleep(POLL_SECONDS)
                left = [device for device in starting if not _registered(device)]
                if len(left) < len(starting):
                    progress = time.monotonic()
                elif time.monotonic() - progress > PATIENCE_SECONDS:
                    break
                starting = left
        gc.collect()
        gc.freeze()
        return {"lost": self.lost(), "seconds": time.monotonic() - began}

    def lost(self) -> int:
        return sum(not _registered(device) for device in self.devices)

    async def sample(self) -> Mapping[str, object]:
        """What this process has taken until now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "user": usage.ru_utime,
            "sys": usage.ru_stime,
            "resident": resident_bytes(),
            "peak": resident_peak(),
            "kernel": kernel_bytes(),
            "lost": self.lost(),
            "counters": dict(self.runtime.metrics.counters),
        }

    async def cpu(self) -> Mapping[str, object]:
        """CPU seconds until now, and nothing else: this stands inside a measurement."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"user": usage.ru_utime, "sys": usage.ru_stime}

    async def forget_peak(self) -> Mapping[str, object]:
        forget_peak()
        return {}

    async def truth(self, digest: str) -> Mapping[str, object]:
        """How many devices run the image with `digest`, confirmed; read from their flash."""
        updated = 0
        for device in self.devices:
            running = device.running
            updated += (
                running is not None
                and running.digest.hex() == digest
                and device.engine.state is State.IDLE
                and device.engine.outcome is Outcome.SUCCESS
            )
        return {"updated": updated, "boots": sum(device.boots for device in self.devices)}


def _registered(device: Device) -> bool:
    client = device.client
    return isinstance(client, Lwm2mClient) and client.registered


async def main(options: Options) -> None:
    ensure_descriptors(options.devices)
    async with Runtime.real() as runtime:
        host = Host(runtime, options)
        await answer_commands(
            {
                "register": host.register,
                "sample": host.sample,
                "cpu": host.cpu,
                "forget_peak": host.forget_peak,
                "truth": host.truth,
            }
        )


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
