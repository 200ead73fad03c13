"""How many days of devices pass in a second of CPU, in virtual time.

One day of a device is all of this: it powers up, attaches, has a session with the server, is
updated when a notification waits for it, and is gone again; backend and database included. See
`tools.bench.virtual_days`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import Setting

__all__ = ["NAMES", "measure"]

NAMES = ("virtual_device_days",)

IMAGE = 32 << 10
DEVICES, QUICK_DEVICES = 1_000, 100
DAYS, QUICK_DAYS = 30, 15
RUNS, QUICK_RUNS = 3, 1
FLOOR = 500.0
"""Device days per CPU second that must hold."""


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    if not wanted.intersection(NAMES):
        return []
    devices = QUICK_DEVICES if setting.quick else DEVICES
    days = QUICK_DAYS if setting.quick else DAYS
    make_images(setting.folder, IMAGE)
    told = json.dumps({"folder": str(setting.folder), "devices": devices, "days": days})
    runs = [_run(told) for _ in range(QUICK_RUNS if setting.quick else RUNS)]
    if len({run["journal"] for run in runs}) != 1:
        raise BenchError("two runs of one seed wrote two journals")
    if runs[0]["versions"] != {"1.1.0": devices}:
        raise BenchError(f"not every device was updated: {runs[0]['versions']}")
    rates = [devices * days / run["cpu"] for run in runs]
    return [
        Figure(
            NAMES[0],
            statistics.median(rates),
            "device days/CPU s",
            yardstick="floor",
            yardstick_value=FLOOR,
            bound=1.0,
            at_least=True,
            details={"devices": devices, "days": days, "runs": [round(rate) for rate in rates]},
        )
    ]


def _run(told: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench.virtual_days", told]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the month ended with {done.returncode}: {done.stderr[-400:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
