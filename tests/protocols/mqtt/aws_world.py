"""Devices, the broker in memory and the AWS stub, in virtual time."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent import Device, FaultPlan, State
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.mqtt import MqttSettings
from agent.runtime.runtime import Runtime
from firmware_images.mcuboot import Version
from protocols.mqtt import MemoryBroker
from protocols.mqtt.aws import AwsClient
from tests.agent.parts import SLOT, old_image, trusted
from tests.stubs.aws_iot import AwsIotStub, Execution

JOB, STREAM = "AFR_OTA-1", "AFR_OTA-stream"
NEW = Version(2, 0, 0, 0)


def ota(image: bytes, **file: object) -> dict[str, object]:
    """An OTA job document for `image` by stream; `file` overrides the file's members."""
    members = {"filepath": "/", "filesize": len(image), "fileid": 0, "certfile": "c", **file}
    ways = ["HTTP"] if "update_data_url" in file else ["MQTT"]
    return {"afr_ota": {"protocols": ways, "streamname": STREAM, "files": [members]}}


@dataclass
class World:
    runtime: Runtime
    broker: MemoryBroker
    stub: AwsIotStub
    devices: list[Device] = field(default_factory=list)
    told: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def device(
        self,
        name: str = "thing-1",
        *,
        faults: FaultPlan | None = None,
        misbehave: frozenset[Misbehaviour] = frozenset(),
        slot_size: int = SLOT,
        **options: str,
    ) -> Device:
        settings = ClientSettings(
            server="mqtt://broker",
            told=lambda *told: self.told.append(told),
            trace=self.lines.append,
            misbehave=lambda device: misbehave,
            options={name.replace("_", "-"): value for name, value in options.items()},
        )
        device = Device(
            self.runtime,
            name,
            image=old_image(),
            trusted=trusted(),
            slot_size=slot_size,
            index=len(self.devices),
            faults=faults,
        )
        device.attach(functools.partial(_client, settings=settings))
        self.devices.append(device)
        device.power_on()
        return device

    async def until(self, condition: Callable[[], object], seconds: float = 600.0) -> None:
        end = self.runtime.clock.now() + seconds
        while not condition():
            assert self.runtime.clock.now() < end, f"never came; {self.lines[-12:]}"
            await self.runtime.clock.sleep(0.05)

    async def registered(self, device: Device) -> None:
        await self.until(lambda: device.client is not None and client_of(device).registered)

    def offer(self, image: bytes, *things: str, job: str = JOB, **file: object) -> None:
        self.stub.add_stream(STREAM, {0: image})
        self.stub.create_job(job, list(things) or ["thing-1"], ota(image, **file))

    def job(self, job: str = JOB, thing: str = "thing-1") -> Execution:
        return self.stub.execution(job, thing)

    async def ended(self, status: str, job: str = JOB) -> Execution:
        """The job has ended so, and the device rests."""
        await self.until(lambda: self.job(job).status not in ("QUEUED", "IN_PROGRESS"), 3000.0)
        execution = self.job(job)
        assert execution.status == status, execution.history
        await self.runtime.clock.sleep(5.0)
        return execution

    def statuses(self, execution: Execution) -> list[tuple[str, dict[str, str]]]:
        return execution.history

    def judged(self) -> dict[str, tuple[int, int]]:
        snapshot = self.runtime.misbehaviours.snapshot()
        return {name: (one.kept, one.broken) for (_, name), one in snapshot.items()}


def _client(device: Device, settings: ClientSettings) -> AwsClient:
    return AwsClient(device, settings)


def client_of(device: Device) -> AwsClient:
    assert isinstance(device.client, AwsClient)
    return device.client


def updated(device: Device) -> bool:
    running = device.running
    return running is not None and running.version == NEW and device.engine.state is State.IDLE


def play(scene: Callable[[World], Awaitable[None]], *, seed: int = 5, **broker: float) -> World:
    """Run one scene; nothing that the stub was sent may break a rule."""
    worlds = []

    async def main() -> None:
        async with Runtime.in_memory(seed=seed) as runtime:
            transport = MemoryBroker(runtime, **broker)  # type: ignore[arg-type]
            runtime.mqtt = transport
            stub = AwsIotStub(runtime, transport, MqttSettings("broker", 1883, "aws"))
            world = World(runtime, transport, stub)
            worlds.append(world)
            await world.until(lambda: stub.ready)
            await scene(world)
            for device in world.devices:
                device.power_off()
            await runtime.clock.sleep(1.0)

    run_virtual(main())
    return worlds[0]
