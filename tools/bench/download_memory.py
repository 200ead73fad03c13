"""Memory of 1,000 devices that download, swap, try and confirm a signed image of 1 MiB.

Half by push, half by pull, all at once, from a server in another process. Pages that arrived with
the same bytes are shared, but every byte crosses the wire, is compared, hashed and verified. What
counts is the highest resident memory on the way, not only what is left at the end.
"""

from __future__ import annotations

from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.setting import KIB, Setting

__all__ = ["NAMES", "measure"]

NAMES = ("download_memory",)

DEVICES, QUICK_DEVICES = 1_000, 50
LIFETIME = 86_400
IMAGE_SIZE = 1 << 20
SLOT_SIZE = (1 << 20) + (1 << 16)
"""An image of 1 MiB and the trailer behind it."""
LIMIT = 64 * KIB * KIB
SECONDS = 1200.0
"""A million blocks at 100 us for both ends together are 100 s; a slow machine may take longer."""


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    digest = make_images(setting.folder, IMAGE_SIZE)
    with setting.server(observe=True, image=setting.folder / "target") as server:
        uri = server.ask("where")["uri"]
        options = {"lifetime": LIFETIME, "slot_size": SLOT_SIZE}
        with setting.device_host(uri, devices, **options) as host:
            started = host.ask("register", within=300.0)
            if started["lost"]:
                raise BenchError(f"{started['lost']} of {devices} devices did not register")
            server.ask("wait", what="observed", count=2 * devices, seconds=60.0, within=120.0)
            before = host.ask("sample")
            host.ask("forget_peak")
            server.ask("campaign")
            status = server.ask(
                "wait", what="updated", count=devices, seconds=SECONDS, within=SECONDS + 60.0
            )
            after = host.ask("sample")
            truth = host.ask("truth", digest=digest)
    if truth["updated"] < devices or status["updated"] < devices:
        raise BenchError(
            f"{truth['updated']} of {devices} devices run the image, the server knows of "
            f"{status['updated']}: {status['failures']}"
        )
    cpu = after["user"] + after["sys"] - before["user"] - before["sys"]
    received = after["counters"]["bytes_in"] - before["counters"]["bytes_in"]
    return [
        Figure(
            "download_memory",
            after["peak"] - before["resident"],
            "bytes",
            "limit",
            LIMIT,
            1.0,
            details={
                "devices": devices,
                "left_at_end": after["resident"] - before["resident"],
                "seconds": round(status["seconds"], 1),
                "cpu_seconds": round(cpu, 1),
                "bytes_received": received,
                "retransmissions": after["counters"]["retransmissions"],
            },
        )
    ]
