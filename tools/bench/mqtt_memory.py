"""Memory of a connected MQTT device that has nothing to do, without and with TLS.

2,000 AWS devices in one process, each with a connection of its own to a mosquitto, subscribed to
its eight filters and told that it has no job. What counts is the growth of resident memory between
a process with `WARM` devices (the libraries loaded, the connect threads started) and all of them at
rest. With TLS the devices share one credential, hence one context. The median of `RUNS` runs that
alternate between the two.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.images import make_images
from tools.bench.mqtt_broker import Mosquitto, mosquitto
from tools.bench.setting import KIB, Setting

__all__ = ["NAMES", "measure"]

PLAIN, TLS = NAMES = ("mqtt_device_memory", "mqtt_device_memory_tls")
LIMITS = {PLAIN: 20 * KIB, TLS: 52 * KIB}
DEVICES, QUICK_DEVICES = 2_000, 200
RUNS, QUICK_RUNS = 5, 1
WARM = 20


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    make_images(setting.folder, 16 << 10)
    folder = setting.folder / "mqtt"
    folder.mkdir(exist_ok=True)
    names = [name for name in NAMES if name in wanted]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with mosquitto(folder) as broker:
        credential = broker.authority.issue("bench")
        (folder / "device.pem").write_bytes(credential.certificate)
        (folder / "device.key").write_bytes(credential.private_key)
        with Measured("tools.bench.mqtt_service", str(broker.port)) as service:
            service.ask("ready")
            for _ in range(QUICK_RUNS if setting.quick else RUNS):
                for name in names:
                    runs[name].append(_run(setting, broker, folder, devices, name == TLS))
    return [_figure(name, devices, runs[name]) for name in names]


def _run(
    setting: Setting, broker: Mosquitto, folder: Path, devices: int, tls: bool
) -> dict[str, float]:
    scheme, port = ("mqtts", broker.tls_port) if tls else ("mqtt", broker.port)
    options = {
        "server": f"{scheme}://127.0.0.1:{port}",
        "devices": devices + WARM,
        "folder": str(setting.folder),
        "credential": str(folder) if tls else "",
    }
    with Measured("tools.bench.mqtt_host", json.dumps(options)) as host:
        host.ask("connect", devices=WARM)
        before = host.ask("sample")
        started = host.ask("connect", devices=devices, within=300.0)
        after = host.ask("sample")
    if after["lost"]:
        raise BenchError(f"{after['lost']} of {devices} MQTT devices did not come to rest")
    return {
        "resident": (after["resident"] - before["resident"]) / devices,
        "kernel": (after["kernel"] - before["kernel"]) / devices,
        "seconds": started["seconds"],
        "tasks": after["tasks"],
    }


def _figure(name: str, devices: int, runs: list[dict[str, float]]) -> Figure:
    return Figure(
        name,
        statistics.median(run["resident"] for run in runs),
        "bytes/device",
        "limit",
        LIMITS[name],
        1.0,
        details={
            "devices": devices,
            "runs": [round(run["resident"]) for run in runs],
            "kernel_bytes_per_device": round(statistics.median(run["kernel"] for run in runs)),
            "connect_seconds": round(statistics.median(run["seconds"] for run in runs), 1),
            "tasks": max(int(run["tasks"]) for run in runs),
        },
    )
