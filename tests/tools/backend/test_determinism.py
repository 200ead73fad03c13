"""Virtual time: two processes with one seed and different hash seeds write the same journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tools.backend.rules_marker import rules

PROGRAM = """
import sys
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, package
from tools.backend.backend import Backend

async def main():
    async with Runtime.in_memory(seed=5, loss=0.05, duplication=0.05, journal=print) as runtime:
        backend = Backend(runtime, CONFIG)
        await backend.start()
        names = [f"meter-{number}" for number in range(30)]
        meters = [
            ScriptedDevice(runtime, backend.coap_address, name, number)
            for number, name in enumerate(names)
        ]
        for meter in meters:
            meter.register()
        await backend.create_campaign(
            names,
            await package(backend),
            delivery_of=lambda name: "push" if name[-1] in "13579" else "pull",
            concurrency=7,
        )
        await backend.finished.wait()
        for meter in meters:
            meter.close()
        await backend.stop()

run_virtual(main())
"""


def journal(hash_seed: str) -> bytes:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True
    ).stdout


@rules("BR-024")
def test_the_same_seed_gives_the_same_journal() -> None:
    first = journal("1")
    assert first.count(b'"UpgradeSuccess"') == 30
    assert journal("2") == first
