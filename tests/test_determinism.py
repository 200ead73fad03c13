"""Virtual time: 100 devices and the backend, twice, and the journals agree byte for byte.

Two processes with one seed and different `PYTHONHASHSEED`: whatever takes its order from a set, an
address or a clock on the wall shows here. The link is slow and loses datagrams, so that every draw
of a device, of the backend and of the network counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from firmware_images.mcuboot import KeyType, generate_key

ROOT = Path(__file__).parents[1]
DEVICES = 100

PROGRAM = """
import functools
import sys
from pathlib import Path

from agent import Device, FaultSpec
from agent.runtime.clock import run_virtual
from agent.runtime.random import DeviceRandom
from agent.runtime.runtime import Runtime
from firmware_images.keys import load_signing_key
from firmware_images.mcuboot import TrustedKeys, Version, build_image
from protocols.lwm2m import Lwm2mClient
from tools.backend.backend import Backend, BackendConfig

seed, devices, fault_share, key_file, journal_file = sys.argv[1:]
share = float(fault_share)
faults = FaultSpec(share, share, share, share, share, cut_range=400, page_range=8)
key = load_signing_key(Path(key_file).read_bytes())


def image(major, size):
    payload = DeviceRandom(major, size).bytes(size)
    return build_image(payload, version=Version(major, 0, 0), key=key, security_counter=major)


async def main(journal):
    runtime = Runtime.in_memory(seed=int(seed), latency=0.05, loss=0.02, journal=journal)
    async with runtime:
        backend = Backend(runtime, BackendConfig(timing="immediate", pilot_waived=True))
        await backend.start()
        host, port = backend.coap_address
        client = functools.partial(Lwm2mClient, server=f"coap://{host}:{port}")
        old, trusted = image(1, 6_000), TrustedKeys.of([key.public])
        fleet = [
            Device(
                runtime,
                f"meter-{number}",
                image=old,
                trusted=trusted,
                index=number,
                faults=faults.draw(runtime.random(1, number)) if share else None,
            )
            for number in range(int(devices))
        ]
        for device in fleet:
            device.attach(client)
            device.power_on()
        package = await backend.add_package(image(2, 9_000), name="app", version="2.0.0")
        await backend.create_campaign(
            [device.name for device in fleet],
            package,
            delivery_of=lambda name: "push" if name[-1] in "13579" else "pull",
        )
        await backend.finished.wait()
        for device in fleet:
            device.power_off()
        await runtime.clock.sleep(10)
        await backend.stop()
        for device in fleet:
            updated = device.running.version == Version(2, 0, 0)
            assert updated or share
            assert backend.belief(device.name).verdict == ("updated" if updated else "failed")


with open(journal_file, "w", encoding="utf-8", newline="\\n") as file:
    run_virtual(main(lambda line: file.write(line + "\\n")))
"""


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One key for all runs: what they sign with it is the same, as Ed25519 draws no numbers."""
    path = tmp_path_factory.mktemp("key") / "key.pem"
    path.write_bytes(generate_key(KeyType.ED25519).to_pem())
    return path


def journals_of(
    key_file: Path, folder: Path, runs: Sequence[tuple[int, str, float]]
) -> list[bytes]:
    """The journals of (seed, hash seed, share of each fault), each by a process of its own."""
    paths = [folder / f"{number}.jsonl" for number in range(len(runs))]
    processes = []
    for path, (seed, hash_seed, share) in zip(paths, runs, strict=True):
        arguments = [str(seed), str(DEVICES), str(share), str(key_file), str(path)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *arguments],
                env=environment,
                stderr=subprocess.PIPE,
            )
        )
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    return [path.read_bytes() for path in paths]


def test_one_seed_writes_one_journal_whatever_the_hash_seed(key_file: Path, tmp_path: Path) -> None:
    runs = ((11, "1", 0.0), (11, "2", 0.0), (12, "1", 0.0))
    first, second, other = journals_of(key_file, tmp_path, runs)
    assert first == second
    assert first != other
    records = [json.loads(line) for line in first.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert {record["v"] for record in records} == {1}
    times = [record["t"] for record in records]
    assert times == sorted(times)
    # Both halves are in it: what the devices did, and what the backend made of it.
    updated = Counter(record["new"] for record in records)
    assert updated["TRIAL"] == updated["UpgradeSuccess"] == DEVICES


def test_faults_repeat_as_well(key_file: Path, tmp_path: Path) -> None:
    """Bad boots, power cuts, corrupted pages: the same devices fail at the same instant."""
    first, second = journals_of(key_file, tmp_path, ((11, "1", 0.2), (11, "2", 0.2)))
    assert first == second
    assert b"power lost" in first
    assert b"bad boot" in first
