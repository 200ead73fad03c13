"""The measured process: N real devices that poll over HTTP, each with its own connection.

usage: python -m tools.bench.http_host OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)
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
from pathlib import Path

from agent import Device
from agent.bootloader import BootReport
from agent.credentials import NO_CREDENTIAL, Credential
from agent.protocol import ClientSettings, ProtocolClient
from agent.runtime.runtime import Runtime
from agent.update import EngineEvent
from firmware_images.keys import TrustedKeys
from protocols.http.aiohttp_transport import AiohttpTransport
from protocols.http.messages import json_object
from protocols.http.poller import HttpPoller
from tools.bench.control import answer_commands
from tools.bench.memory import kernel_bytes, resident_bytes
from tools.fleet.limits import ensure_descriptors

WINDOW = 50
"""Devices that boot at once: what is measured at rest must not have had a peak before."""
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    server: str
    devices: int
    folder: str
    """Holds `factory` (the image that runs), `key.pem` (whom the devices trust), for TLS
    `authority.pem`, and `device-N.pem` and `device-N.key` with `certificates`."""
    client: bool = True
    """Without it the devices run a client that does nothing: what they cost anyway."""
    keep_alive: float = 3600.0
    tls: bool = False
    certificates: bool = False


class NoClient:
    """Says nothing to nobody."""

    name = "none"

    def booted(self, report: BootReport) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def power_lost(self) -> None: ...

    def engine_event(self, event: EngineEvent) -> None: ...


class BenchPoller(HttpPoller):
    """What every check-in client does at least: ask, parse, be content."""

    name = "bench"
    __slots__ = ()
    polls = 0
    interval = 3600.0

    async def poll(self) -> float:
        answer = await self.ask("GET", f"{self.origin.base}/controller/v1/{self.device.name}")
        json_object(answer)
        self.answered()
        BenchPoller.polls += 1
        return self.interval


class Host:
    """The devices, and what the driver may ask of them."""

    def __init__(self, runtime: Runtime, transport: AiohttpTransport, options: Options) -> None:
        folder = Path(options.folder)
        self.runtime = runtime
        self.transport = transport
        self.options = options
        self.folder = folder
        self.factory_image = (folder / "factory").read_bytes()
        self.trusted = TrustedKeys.from_pem((folder / "key.pem").read_bytes())
        self.authorities = (folder / "authority.pem").read_bytes() if options.tls else b""
        self.devices: list[Device] = []

    def credential(self, device: Device) -> Credential:
        if not self.options.tls:
            return NO_CREDENTIAL
        if not self.options.certificates:
            return Credential(authorities=self.authorities)
        return Credential(
            certificate=(self.folder / f"device-{device.index}.pem").read_bytes(),
            private_key=(self.folder / f"device-{device.index}.key").read_bytes(),
            authorities=self.authorities,
        )

    async def start(self, count: int | None = None) -> Mapping[str, object]:
        """Spawn so many devices, or all that are left, and let each poll once, :data:`WINDOW` at a
        time."""
        began = time.monotonic()
        options = self.options
        settings = ClientSettings(server=options.server, credential=self.credential)

        def client(device: Device) -> ProtocolClient:
            return BenchPoller(device, settings) if options.client else NoClient()

        first = len(self.devices)
        last = options.devices if count is None else first + count
        for index in range(first, last):
            device = Device(
                self.runtime,
                f"bench-{index:05d}",
                image=self.factory_image,
                trusted=self.trusted,
                index=index,
            )
            device.attach(client)
            self.devices.append(device)
            device.power_on()
            if (index + 1) % WINDOW == 0 or index + 1 == last:
                await self._rest()
        return {"lost": self._lost(), "seconds": time.monotonic() - began}

    async def _rest(self) -> None:
        """Wait until who was started has polled, and what is not kept was closed."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._lost() and time.monotonic() < until:
            for device in self.devices[-WINDOW:]:
                if isinstance(device.client, BenchPoller) and not device.client.registered:
                    device.client.wake()
            await asyncio.sleep(0.02)
        if self.options.keep_alive < 1.0:
            await asyncio.sleep(2 * self.options.keep_alive)

    def _lost(self) -> int:
        return sum(
            not (
                isinstance(device.client, NoClient)
                or (isinstance(device.client, BenchPoller) and device.client.registered)
            )
            for device in self.devices
        )

    async def sample(self) -> Mapping[str, object]:
        """Memory until now."""
        gc.collect()
        return {
            "resident": resident_bytes(),
            "kernel": kernel_bytes(),
            "lost": self._lost(),
            "connections": sum(len(client_wires(device)) for device in self.devices),
        }

    async def cpu(self) -> Mapping[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"user": usage.ru_utime, "sys": usage.ru_stime}

    async def load(self, seconds: float) -> Mapping[str, object]:
        """Let every device poll again as soon as it was answered; how many polls that made."""
        BenchPoller.interval = 0.0
        for device in self.devices:
            assert isinstance(device.client, BenchPoller)
            device.client.wake()
        await asyncio.sleep(seconds / 5)  # all connections are open and busy
        begun, polls = await self.cpu(), BenchPoller.polls
        await asyncio.sleep(seconds)
        ended, done = await self.cpu(), BenchPoller.polls - polls
        BenchPoller.interval = 3600.0
        await asyncio.sleep(0.3)
        return {"begun": begun, "ended": ended, "done": done, "lost": self._lost()}


def client_wires(device: Device) -> tuple[object, ...]:
    client = device.client
    return tuple(getattr(client.http, "wires", ())) if isinstance(client, BenchPoller) else ()


async def main(options: Options) -> None:
    ensure_descriptors(options.devices)
    async with Runtime.real(ring_size=1) as runtime:
        transport = AiohttpTransport(runtime, keep_alive=options.keep_alive)
        runtime.http = transport
        host = Host(runtime, transport, options)
        await answer_commands(
            {"start": host.start, "sample": host.sample, "load": host.load, "cpu": host.cpu}
        )
        for device in host.devices:
            device.power_off()


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
