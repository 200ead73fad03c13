"""AWS jobs over a real broker: the client and the stub meet through mosquitto, over mutual TLS.

The stub is ours; what is real here is MQTT: QoS 1, sessions, TLS, reconnects through aiomqtt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agent import Device, FaultPlan, State
from agent.device import DeviceTiming
from agent.protocol import ClientSettings
from agent.runtime.mqtt import MqttSettings
from agent.runtime.runtime import Runtime
from protocols.mqtt import transport_of
from protocols.mqtt.aws import AwsClient
from tests.agent.parts import SLOT, new_image, old_image, trusted
from tests.protocols.mqtt.aws_world import JOB, STREAM, ota
from tests.stubs.aws_iot import AwsIotStub
from tools.bench.mqtt_broker import Mosquitto, mosquitto

DEVICES = 50


class Quick(DeviceTiming):
    boot_seconds = 0.2
    reboot_delay = 0.1
    watchdog_seconds = 0.5


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.mark.parametrize("encoding", ["cbor", "json"])
async def test_a_fleet_is_updated_over_mutual_tls(broker: Mosquitto, encoding: str) -> None:
    """Fifty things with a certificate each; some new images never come up, some power is cut."""
    credentials = [broker.authority.issue(f"thing-{number}") for number in range(DEVICES)]
    settings = ClientSettings(
        server=f"mqtts://127.0.0.1:{broker.tls_port}",
        credential=lambda device: credentials[device.index],
        options={"encoding": encoding, "block": "1024", "window": "4"},
    )
    async with asyncio.timeout(300), Runtime.real() as runtime:
        service = MqttSettings(
            "127.0.0.1", broker.tls_port, "aws", tls=True, credential=broker.authority.issue("aws")
        )
        stub = AwsIotStub(runtime, transport_of(runtime), service)
        while not stub.ready:
            await asyncio.sleep(0.05)
        devices = []
        for index in range(DEVICES):
            faults = FaultPlan(
                bad_boots=index % 10 == 0,
                cut_power_at=30 if index % 10 == 1 else None,
                outage_seconds=0.5,
            )
            device = Device(
                runtime, f"thing-{encoding}-{index}", image=old_image(), trusted=trusted(),
                slot_size=SLOT, index=index, faults=faults, timing=Quick(),
            )  # fmt: skip
            device.attach(lambda device: AwsClient(device, settings))
            device.power_on()
            devices.append(device)
        things = [device.name for device in devices]
        stub.add_stream(STREAM, {0: new_image()})
        stub.create_job(JOB, things, ota(new_image()))
        while any(stub.execution(JOB, name).status in ("QUEUED", "IN_PROGRESS") for name in things):
            await asyncio.sleep(0.1)
        for index, device in enumerate(devices):
            status = stub.execution(JOB, device.name).status
            assert status == ("FAILED" if index % 10 == 0 else "SUCCEEDED")
            assert device.running is not None
            assert str(device.running.version) == ("1.0.0" if index % 10 == 0 else "2.0.0")
            assert device.engine.state in (State.IDLE, State.DOWNLOADED)
        assert stub.violations == []
        for device in devices:
            device.power_off()
        stub.close()
