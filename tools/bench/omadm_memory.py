"""Memory of an OMA-DM device between two sessions.

2,000 devices in one process, each after its power-up session with the reference backend in another.
What counts is what OMA-DM adds to a device: the growth of resident memory between a few such
devices and all of them, less that growth in a process whose devices run no client. So the storage
that holds the nonces of a device is in it, and its update engine, flash and journal are not.

The default device has no socket between two sessions. One that can be woken listens for WAP push:
`with_socket` in the details has what that adds, here and in the kernel.
"""

from __future__ import annotations

import json
import statistics

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import KIB, Setting

__all__ = ["NAMES", "measure"]

NAMES = ("omadm_idle_memory",)

DEVICES, QUICK_DEVICES = 2_000, 200
RUNS, QUICK_RUNS = 3, 1
FIRST = 50
"""Devices before anything counts: with them the libraries have what they allocate only once."""
LIMIT = 4 * KIB


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    make_images(setting.folder, 16 << 10)
    options = json.dumps({"folder": str(setting.folder)})
    with Measured("tools.bench.omadm_server", options) as server:
        server.ask("accounts", group="bare", devices=devices)
        bare: list[float] = []
        runs: list[float] = []
        for number in range(QUICK_RUNS if setting.quick else RUNS):
            url = _introduce(server, f"run{number}", devices)
            runs.append(_growth(setting, url, f"run{number}", devices)["resident"])
            bare.append(_growth(setting, url, "bare", devices, client=False)["resident"])
        url = _introduce(server, "push", devices)
        push = _growth(setting, url, "push", devices, options={"push": "0"})
    without = statistics.median(bare)
    added = [run - without for run in runs]
    value = statistics.median(added)
    return [
        Figure(
            NAMES[0],
            value,
            "bytes/device",
            "limit",
            LIMIT,
            1.0,
            details={
                "devices": devices,
                "runs": [round(one) for one in added],
                "without_client": round(without),
                "with_socket": {
                    "added": round(push["resident"] - without - value),
                    "added_in_kernel": round(push["kernel"]),
                },
            },
        )
    ]


def _introduce(server: Measured, group: str, devices: int) -> str:
    return str(server.ask("accounts", within=120.0, group=group, devices=devices)["url"])


def _growth(
    setting: Setting, server: str, group: str, devices: int, **more: object
) -> dict[str, float]:
    """Bytes a device."""
    told = {
        "server": server,
        "group": group,
        "devices": devices,
        "folder": str(setting.folder),
        **more,
    }
    with Measured("tools.bench.omadm_host", json.dumps(told)) as host:
        host.ask("start", count=FIRST)
        before = host.ask("sample")
        lost = host.ask("start", within=300.0)["lost"]
        after = host.ask("sample")
    if lost:
        raise BenchError(f"{lost} of {devices} devices had no session that ended well")
    counted = devices - FIRST
    return {kind: (after[kind] - before[kind]) / counted for kind in ("resident", "kernel")}
