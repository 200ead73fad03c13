"""Memory of a registered device that has nothing to do.

15,000 devices in one process, registered with a server in another, two observations held on each,
three registration updates each behind it. What counts is the growth of resident memory between the
process with no device and the process with all of them at rest, collected but not trimmed.
"""

from __future__ import annotations

from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import KIB, Setting

__all__ = ["NAMES", "measure"]

NAMES = ("idle_device_memory",)

DEVICES, QUICK_DEVICES = 15_000, 1_500
UPDATES = 3
OBSERVATIONS = 2
LIFETIME = 60
"""Short, so that three updates do not take a day; long enough for 15,000 devices to take turns."""
LIMIT = 6 * KIB


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    make_images(setting.folder, 16 << 10)
    with setting.server(observe=True) as server:
        uri = server.ask("where")["uri"]
        with setting.device_host(uri, devices, lifetime=LIFETIME) as host:
            before = host.ask("sample")
            started = host.ask("register", within=600.0)
            if started["lost"]:
                raise BenchError(f"{started['lost']} of {devices} devices did not register")
            seconds = (UPDATES + 2) * LIFETIME
            status = server.ask(
                "wait", what="updates", count=UPDATES, seconds=seconds, within=seconds + 60.0
            )
            if status["updates"] < UPDATES or status["observed"] < OBSERVATIONS * devices:
                raise BenchError(f"the devices did not come to rest as they should: {status}")
            after = host.ask("sample")
    value = (after["resident"] - before["resident"]) / devices
    kernel = (after["kernel"] - before["kernel"]) / devices
    return [
        Figure(
            "idle_device_memory",
            value,
            "bytes/device",
            "limit",
            LIMIT,
            1.0,
            details={
                "devices": devices,
                "kernel_bytes_per_device": round(kernel),
                "register_seconds": round(started["seconds"], 1),
                "retransmissions": after["counters"]["retransmissions"],
            },
        )
    ]
