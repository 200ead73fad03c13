"""The measured process: N OMA-DM devices that have sessions with the reference backend.

usage: python -m tools.bench.omadm_host OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent import Device
from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, ProtocolClient
from agent.runtime.runtime import Runtime
from firmware_images.keys import TrustedKeys
from protocols.http.aiohttp_transport import AiohttpTransport
from protocols.omadm.client import OmadmClient
from tools.bench.control import answer_commands
from tools.bench.http_host import NoClient
from tools.bench.memory import kernel_bytes, resident_bytes
from tools.bench.omadm_server import account_file
from tools.fleet.limits import ensure_descriptors

WINDOW = 50
"""Devices that boot at once: what is measured at rest must not have had a peak before."""
PATIENCE_SECONDS = 60.0

AT_ONCE = frozenset({Misbehaviour.HERD})
"""The first session comes with the boot, not some seconds later: nobody waits for the figure."""


@dataclass(frozen=True, slots=True)
class Options:
    server: str
    group: str
    devices: int
    folder: str
    """Holds `factory` (the image that runs), `key.pem` (whom the devices trust) and the group's
    accounts."""
    client: bool = True
    """Without it the devices run a client that does nothing: what they cost anyway."""
    keep_alive: float = 0.05
    options: Mapping[str, str] = field(default_factory=dict)


class Host:
    """The devices, and what the driver may ask of them."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        folder = Path(options.folder)
        self.runtime = runtime
        self.options = options
        self.factory_image = (folder / "factory").read_bytes()
        self.trusted = TrustedKeys.from_pem((folder / "key.pem").read_bytes())
        # Before anything is measured: a device's secrets are its harness's.
        accounts = json.loads(account_file(folder, options.group).read_text())
        self.credentials = [
            Credential(username=user, password=password, token=token)
            for user, password, token in accounts
        ]
        self.devices: list[Device] = []
        self.told = 0

    def _told(self, name: str, verdict: str, detail: str, version: str | None) -> None:
        self.told += 1

    async def start(self, count: int | None = None) -> Mapping[str, object]:
        """Spawn so many devices, or all that are left, and let each have its power-up session,
        :data:`WINDOW` at a time."""
        began = time.monotonic()
        options = self.options
        settings = ClientSettings(
            server=options.server,
            credential=lambda device: self.credentials[device.index],
            misbehave=lambda device: AT_ONCE,
            told=self._told,
            options=options.options,
        )

        def client(device: Device) -> ProtocolClient:
            return OmadmClient(device, settings) if options.client else NoClient()

        first = len(self.devices)
        last = options.devices if count is None else first + count
        for index in range(first, last):
            device = Device(
                self.runtime,
                f"{options.group}-{index:05d}",
                image=self.factory_image,
                trusted=self.trusted,
                index=index,
            )
            device.attach(client)
            self.devices.append(device)
            device.power_on()
            if (index + 1) % WINDOW == 0 or index + 1 == last:
                await self._rest()
        # As the devices of a fleet: what lives as long as the run is not looked at again and again.
        gc.collect()
        gc.freeze()
        return {"lost": self._lost(), "seconds": time.monotonic() - began}

    async def _rest(self) -> None:
        """Wait until who was started had its session, and what is not kept was closed."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._lost() and time.monotonic() < until:
            await asyncio.sleep(0.02)
        if self.options.keep_alive < 1.0:
            await asyncio.sleep(2 * self.options.keep_alive)

    def _lost(self) -> int:
        return sum(
            isinstance(device.client, OmadmClient) and not device.client.registered
            for device in self.devices
        )

    async def listening(self) -> Mapping[str, object]:
        """Where WAP push reaches the devices, in the order of their numbers."""
        clients = [device.client for device in self.devices]
        return {"at": [one.push_address for one in clients if isinstance(one, OmadmClient)]}

    async def updated(self) -> Mapping[str, object]:
        """How many devices run another image than the first, and have told so."""
        versions = [str(device.running.version) for device in self.devices if device.running]
        return {"updated": sum(one == "1.1.0" for one in versions), "told": self.told}

    async def sample(self) -> Mapping[str, object]:
        """Memory until now."""
        return {"resident": resident_bytes(), "kernel": kernel_bytes(), "lost": self._lost()}

    async def cpu(self) -> Mapping[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"user": usage.ru_utime, "sys": usage.ru_stime}


async def main(options: Options) -> None:
    ensure_descriptors(2 * options.devices)
    async with Runtime.real(ring_size=1) as runtime:
        runtime.http = AiohttpTransport(runtime, keep_alive=options.keep_alive)
        host = Host(runtime, options)
        await answer_commands(
            {
                "start": host.start,
                "listening": host.listening,
                "updated": host.updated,
                "sample": host.sample,
                "cpu": host.cpu,
            }
        )
        for device in host.devices:
            device.power_off()


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
