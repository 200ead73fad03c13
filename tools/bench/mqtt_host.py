"""The measured process: N AWS devices, each with its own connection to a broker, at rest.

usage: python -m tools.bench.mqtt_host OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import Device
from agent.credentials import NO_CREDENTIAL, Credential
from agent.protocol import ClientSettings
from agent.runtime.runtime import Runtime
from firmware_images.keys import TrustedKeys
from protocols.mqtt.aws import AwsClient
from protocols.mqtt.aws.jobs import JobState
from tools.bench.control import answer_commands
from tools.bench.memory import kernel_bytes, resident_bytes
from tools.fleet.limits import ensure_descriptors

WINDOW = 100
"""Devices that connect at once; the kernel's accept queue and the broker are finite."""
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 60.0
"""Nobody new connected for so long: those left are lost."""


@dataclass(frozen=True, slots=True)
class Options:
    server: str
    devices: int
    folder: str
    """Holds `factory` (the image that runs) and `key.pem` (whom the devices trust)."""
    credential: str = ""
    """A folder with ca.pem, device.pem and device.key, for TLS; one credential for the fleet."""


class Host:
    """The devices, and what the driver may ask of them."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        folder = Path(options.folder)
        self.runtime = runtime
        self.options = options
        self.factory_image = (folder / "factory").read_bytes()
        self.trusted = TrustedKeys.from_pem((folder / "key.pem").read_bytes())
        credential = _credential(options.credential)
        self.settings = ClientSettings(
            server=options.server, credential=lambda device: credential, bind="127.0.0.1"
        )
        self.devices: list[Device] = []

    def make(self, device: Device) -> AwsClient:
        return AwsClient(device, self.settings)

    async def connect(self, devices: int) -> Mapping[str, object]:
        """Power up so many more devices; each connects, subscribes and is told that it has no
        job."""
        began = time.monotonic()
        progress = began
        end = len(self.devices) + devices
        starting: list[Device] = []
        for index in range(len(self.devices), end):
            device = Device(
                self.runtime,
                f"bench-{index:05d}",
                image=self.factory_image,
                trusted=self.trusted,
                index=index,
            )
            device.attach(self.make)
            device.power_on()
            self.devices.append(device)
            starting.append(device)
            while len(starting) >= WINDOW or (starting and index + 1 == end):
                await asyncio.sleep(POLL_SECONDS)
                left = [device for device in starting if not _at_rest(device)]
                if len(left) < len(starting):
                    progress = time.monotonic()
                elif time.monotonic() - progress > PATIENCE_SECONDS:
                    break
                starting = left
        gc.collect()
        return {"lost": self.lost(), "seconds": time.monotonic() - began}

    def lost(self) -> int:
        return sum(not _at_rest(device) for device in self.devices)

    async def sample(self) -> Mapping[str, object]:
        """What this process holds now."""
        return {
            "resident": resident_bytes(),
            "kernel": kernel_bytes(),
            "lost": self.lost(),
            "tasks": len(asyncio.all_tasks()),
        }


def _at_rest(device: Device) -> bool:
    client = device.client
    return isinstance(client, AwsClient) and client.job_state is JobState.IDLE


def _credential(folder: str) -> Credential:
    if not folder:
        return NO_CREDENTIAL
    read = Path(folder)
    return Credential(
        certificate=(read / "device.pem").read_bytes(),
        private_key=(read / "device.key").read_bytes(),
        authorities=(read / "ca.pem").read_bytes(),
    )


async def main(options: Options) -> None:
    ensure_descriptors(options.devices)
    async with Runtime.real() as runtime:
        host = Host(runtime, options)
        await answer_commands({"connect": host.connect, "sample": host.sample})


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
