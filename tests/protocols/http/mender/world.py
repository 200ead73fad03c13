"""One Mender device and the stub server in virtual time."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable

from agent.credentials import Credential
from agent.device import Device
from agent.faults import FaultPlan
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from firmware_images.keys import KeyType, SigningKey, TrustedKeys, generate_key
from firmware_images.mender import build_artifact
from protocols.http.memory_transport import MemoryHttp
from protocols.http.mender import MenderClient
from tests.agent.parts import image, old_image, trusted
from tests.stubs.mender import Deployment, MenderStub, StubDevice

SERVER = "http://mender.test"
NAME = "meter-1"
IDENTITY = json.dumps({"fotilla_id": NAME}, separators=(",", ":"))
SLOT = 256 * 1024
NEW = image(2, 100_000, 2)


@functools.cache
def signer() -> SigningKey:
    """Artifacts are not signed with Ed25519, which the images here are."""
    return generate_key(KeyType.ECDSA_P256)


def artifact(
    content: bytes = NEW,
    name: str = "release-2",
    device_type: str = "fotilla",
    *,
    signed: bool = False,
) -> bytes:
    return build_artifact(
        content, name=name, device_types=[device_type], key=signer() if signed else None
    )


class World:
    """Make it inside `run`."""

    def __init__(
        self,
        runtime: Runtime,
        stub: MenderStub,
        options: dict[str, str],
        misbehave: frozenset[Misbehaviour],
        faults: FaultPlan | None,
        bandwidth: float | None,
        credential: Credential,
    ) -> None:
        self.runtime = runtime
        self.stub = stub
        self.web = MemoryHttp(runtime, {SERVER: stub.app})
        runtime.http = self.web
        self.told: list[tuple[str, str, str, str | None]] = []
        self.lines: list[str] = []
        self.events: list[tuple[str, str, str, str]] = []
        device = self.device = Device(
            runtime,
            NAME,
            image=old_image(),
            trusted=TrustedKeys((*trusted().keys, signer().public)),
            slot_size=SLOT,
            faults=faults,
        )
        settings = ClientSettings(
            server=SERVER,
            credential=lambda device: credential,
            told=lambda *told: self.told.append(told),
            trace=self.lines.append,
            misbehave=lambda device: misbehave,
            options={"interval": "5", **options},
            bandwidth=bandwidth,
        )
        device.on_event = lambda *event: self.events.append(event)
        device.attach(lambda device: MenderClient(device, settings))

    @property
    def server(self) -> StubDevice:
        return self.stub.devices[IDENTITY]

    def deploy(self, content: bytes, name: str = "release-2") -> Deployment:
        return self.stub.deploy(IDENTITY, name, content, ["fotilla"], SERVER)

    async def until(self, done: Callable[[], bool], seconds: float = 7200.0) -> None:
        clock = self.runtime.clock
        end = clock.now() + seconds
        while not done():
            assert clock.now() < end, (self.events[-8:], self.lines[-8:])
            await clock.sleep(0.05)

    def said(self, status: str) -> bool:
        return IDENTITY in self.stub.devices and status in self.stub.statuses(IDENTITY)


def run(
    story: Callable[[World], Awaitable[None]],
    *,
    stub: MenderStub | None = None,
    options: dict[str, str] | None = None,
    misbehave: frozenset[Misbehaviour] = frozenset(),
    faults: FaultPlan | None = None,
    bandwidth: float | None = None,
    credential: Credential | None = None,
    journal: list[str] | None = None,
) -> World:
    """Tell `story` in virtual time; the device is off at the end."""

    async def main() -> World:
        write = None if journal is None else journal.append
        async with Runtime.in_memory(seed=5, journal=write) as runtime:
            world = World(
                runtime,
                stub or MenderStub(),
                options or {},
                misbehave,
                faults,
                bandwidth,
                credential or Credential(),
            )
            world.device.power_on()
            await story(world)
            world.device.power_off()
            await runtime.clock.sleep(1.0)
        assert world.stub.violations == []
        return world

    return run_virtual(main())
