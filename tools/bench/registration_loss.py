"""Spawning and registering 10,000 devices loses none: the start-up window does its work."""

from __future__ import annotations

from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import Setting

__all__ = ["NAMES", "measure"]

NAMES = ("registration_loss",)

DEVICES, QUICK_DEVICES = 10_000, 1_000
LIFETIME = 86_400


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    make_images(setting.folder, 16 << 10)
    with setting.server() as server:
        uri = server.ask("where")["uri"]
        with setting.device_host(uri, devices, lifetime=LIFETIME) as host:
            started = host.ask("register", within=900.0)
            after = host.ask("sample")
            known = server.ask("status")["registered"]
    # Lost is who believes not to be registered, and who believes it while the server does not.
    lost = max(started["lost"], devices - known)
    return [
        Figure(
            "registration_loss",
            lost,
            f"of {devices} devices",
            "limit",
            0,
            0.0,
            details={
                "seconds": round(started["seconds"], 2),
                "retransmissions": after["counters"]["retransmissions"],
            },
        )
    ]
