"""What a complete firmware update by FUMO costs: the client's side and the server's, apart.

One is all of this: a notification by WAP push, a session in which the server writes PkgURL and
executes DownloadAndUpdate, the download of a package of 16 KiB with its descriptor, the install
with its reboot, and the session that reports the result and is asked for the version. Devices and
reference backend are a process each, over loopback; a side's CPU is that of its process, database,
HTTP and device model included, from the campaign's begin to its end.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import Any

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import Setting

__all__ = ["NAMES", "measure"]

CLIENT, SERVER = NAMES = ("omadm_sessions_client", "omadm_sessions_server")

DEVICES, QUICK_DEVICES = 300, 50
RUNS, QUICK_RUNS = 3, 1


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    make_images(setting.folder, 16 << 10)
    taken: dict[str, list[float]] = {CLIENT: [], SERVER: []}
    for number in range(QUICK_RUNS if setting.quick else RUNS):
        client, server = _run(setting, f"update{number}", devices)
        taken[CLIENT].append(devices / client)
        taken[SERVER].append(devices / server)
    return [
        Figure(
            name,
            statistics.median(taken[name]),
            "FUMO updates/core-second",
            details={"devices": devices, "runs": [round(value, 2) for value in taken[name]]},
        )
        for name in NAMES
        if name in wanted
    ]


def _run(setting: Setting, group: str, devices: int) -> tuple[float, float]:
    """CPU seconds of both sides."""
    folder = str(setting.folder)
    with Measured("tools.bench.omadm_server", json.dumps({"folder": folder})) as server:
        url = server.ask("accounts", group=group, devices=devices)["url"]
        told = {
            "server": url,
            "group": group,
            "devices": devices,
            "folder": folder,
            "keep_alive": 15.0,
            "options": {"push": "0"},
        }
        with Measured("tools.bench.omadm_host", json.dumps(told)) as host:
            lost = host.ask("start", within=120.0)["lost"]
            if lost:
                raise BenchError(f"{lost} of {devices} devices had no session that ended well")
            server.ask("attach", group=group, **host.ask("listening"))
            before = host.ask("cpu"), server.ask("cpu")
            server.ask("campaign", group=group)
            ended = server.ask("ended", within=300.0)
            after = host.ask("cpu"), server.ask("cpu")
            updated = host.ask("updated")["updated"]
    if not updated == ended["updated"] == ended["attempts"] == devices:
        raise BenchError(
            f"{updated} of {devices} devices were updated, the server knows of "
            f"{ended['updated']} after {ended['attempts']} attempts"
        )
    return _seconds(before[0], after[0]), _seconds(before[1], after[1])


def _seconds(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    return float(after["user"] + after["sys"] - before["user"] - before["sys"])
