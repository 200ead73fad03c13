"""CPU per HTTP poll of a real device, against bare aiohttp and against one shared httpx client.

The same nginx answers all of them with the same 130 bytes, over as many connections, each busy all
the time; everybody parses the JSON. Ours is the complete path: timer wheel, poll task, client,
connection, parser, checks, state machine. Only the CPU of the client's process counts. The variants
are interleaved, so that whatever else the machine does meets all of them, and medians are compared.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.http_nginx import Nginx
from tools.bench.images import make_images
from tools.bench.setting import Setting

__all__ = ["NAMES", "measure"]

NAMES = ("http_poll_cpu", "http_poll_cpu_httpx")

DEVICES, QUICK_DEVICES = 2_000, 200
HTTPX_DEVICES = 200
"""One shared httpx client becomes slower with its connections: httpcore 1.0.9 looks at all of them
for each of them when a request begins or ends, so this figure says more about that than about us.
"""
RUNS, QUICK_RUNS = 5, 2
SECONDS, QUICK_SECONDS = 4.0, 1.0
POLL_BOUND, HTTPX_BOUND = 0.7, 12.0


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    make_images(setting.folder, 16 << 10)
    devices = QUICK_DEVICES if setting.quick else DEVICES
    pairs = {
        "http_poll_cpu": ("aiohttp", devices, POLL_BOUND),
        "http_poll_cpu_httpx": ("httpx", HTTPX_DEVICES, HTTPX_BOUND),
    }
    runs = QUICK_RUNS if setting.quick else RUNS
    seconds = QUICK_SECONDS if setting.quick else SECONDS
    ours: dict[str, list[float]] = {name: [] for name in wanted}
    theirs: dict[str, list[float]] = {name: [] for name in wanted}
    with ExitStack() as stack:
        nginx = stack.enter_context(Nginx(setting.folder))
        processes = {}
        for name in sorted(wanted):
            library, count, _ = pairs[name]
            options = {
                "server": nginx.origin,
                "devices": count,
                "folder": str(setting.folder),
            }
            host = stack.enter_context(Measured("tools.bench.http_host", json.dumps(options)))
            lost = host.ask("start", within=120.0)["lost"]
            if lost:
                raise BenchError(f"{lost} of {count} devices were not answered")
            url = f"{nginx.origin}/controller/v1/bench-00000"
            bare = stack.enter_context(Measured("tools.bench.http_bare", library, url, str(count)))
            processes[name] = (host, bare)
        for _ in range(runs):
            for name, (host, bare) in processes.items():
                ours[name].append(cpu_per_poll(host.ask("load", seconds=seconds)))
                theirs[name].append(cpu_per_poll(bare.ask("load", seconds=seconds, within=300.0)))
    return [
        Figure(
            name,
            statistics.median(ours[name]),
            "us CPU/poll",
            f"{pairs[name][0]}, bare",
            statistics.median(theirs[name]),
            pairs[name][2],
            cheaper=True,
            details={
                "devices": pairs[name][1],
                "runs": [round(value, 3) for value in ours[name]],
                "yardstick_runs": [round(value, 3) for value in theirs[name]],
            },
        )
        for name in NAMES
        if name in wanted
    ]


def cpu_per_poll(told: Mapping[str, Any]) -> float:
    if told["lost"] or not told["done"]:
        raise BenchError(f"{told['lost']} devices were not answered, {told['done']} polls were")
    begun, ended = told["begun"], told["ended"]
    seconds = ended["user"] + ended["sys"] - begun["user"] - begun["sys"]
    return float(seconds) * 1e6 / float(told["done"])
