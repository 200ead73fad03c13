"""One seed, one journal: devices, broker and service in virtual time, under two hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from firmware_images.mcuboot import KeyType, generate_key

ROOT = Path(__file__).parents[3]

PROGRAM = """
import sys

from agent import Device, FaultPlan
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.mqtt import MqttSettings
from agent.runtime.runtime import Runtime
from firmware_images.keys import load_signing_key
from firmware_images.mcuboot import TrustedKeys, Version, build_image
from pathlib import Path
from protocols.mqtt import MemoryBroker
from protocols.mqtt.aws import AwsClient
from tests.protocols.mqtt.aws_world import STREAM, ota
from tests.stubs.aws_iot import AwsIotStub

key = load_signing_key(Path(sys.argv[2]).read_bytes())
old, new = (
    build_image(bytes(9000), version=Version(major, 0, 0), key=key, security_counter=major)
    for major in (1, 2)
)


async def main(journal):
    async with Runtime.in_memory(seed=int(sys.argv[1]), journal=journal) as runtime:
        broker = runtime.mqtt = MemoryBroker(runtime, duplication=0.2, loss=0.2)
        stub = AwsIotStub(runtime, broker, MqttSettings("b", 1, "aws"))
        settings = ClientSettings(server="mqtt://b", options={"block": "512"})
        things = [f"thing-{number}" for number in range(30)]
        devices = [
            Device(runtime, name, image=old, trusted=TrustedKeys.of([key.public]), index=number,
                   slot_size=32768, faults=FaultPlan(bad_boots=number % 3 == 0))
            for number, name in enumerate(things)
        ]
        for device in devices:
            device.attach(lambda device: AwsClient(device, settings))
            device.power_on()
        await runtime.clock.sleep(1.0)
        stub.add_stream(STREAM, {0: new})
        stub.create_job("j", things, ota(new))
        await runtime.clock.sleep(1.0)
        for name in things:
            broker.cut(name)
        await runtime.clock.sleep(900.0)
        statuses = sorted(stub.execution("j", name).status for name in things)
        assert statuses == ["FAILED"] * 10 + ["SUCCEEDED"] * 20, statuses


run_virtual(main(lambda line: sys.stdout.write(line + "\\n")))
"""


def journal(seed: int, hash_seed: str, key: Path) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seed), str(key)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_one_seed_writes_one_journal_whatever_the_hash_seed(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(generate_key(KeyType.ED25519).to_pem())
    first = journal(7, "1", key)
    assert first == journal(7, "2", key)
    assert first != journal(8, "1", key)
    assert b'"machine":"job"' in first
    assert b'"machine":"connection"' in first
