"""Check-ins of devices per CPU second of the reference backend, beside a bare FastAPI route.

A check-in is authenticated by its bearer token, decided, and written down durably before it is
answered. The yardstick takes the same body under the same server, and does nothing with it. What is
compared is CPU of the server's process, all of its threads: where processors are shared that is all
that one run may compare with another. The two are interleaved, and medians are taken.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.postgres import Cluster
from tools.bench.setting import Setting

__all__ = ["NAMES", "POSTGRESQL_NAMES", "measure", "measure_postgresql", "rate"]

NAMES = ("backend_checkins",)
POSTGRESQL_NAMES = ("backend_checkins_postgresql",)

CONNECTIONS = 128
RUNS, QUICK_RUNS = 5, 2
SECONDS, QUICK_SECONDS = 4.0, 1.0
BOUND = 0.4


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    if not wanted.intersection(NAMES):
        return []
    return [_measure(setting, NAMES[0], str(setting.folder / "checkins.db"))]


def measure_postgresql(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    """Raises BenchError where there is no PostgreSQL server."""
    if not wanted.intersection(POSTGRESQL_NAMES):
        return []
    with Cluster() as cluster:
        return [_measure(setting, POSTGRESQL_NAMES[0], cluster.new_database())]


def _measure(setting: Setting, name: str, database: str) -> Figure:
    runs = QUICK_RUNS if setting.quick else RUNS
    seconds = QUICK_SECONDS if setting.quick else SECONDS
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with ExitStack() as stack:

        def server(database: str) -> Measured:
            told = json.dumps({"devices": CONNECTIONS, "database": database})
            return stack.enter_context(Measured("tools.bench.checkin_host", told))

        backend, route = server(database), server("")
        load = stack.enter_context(Measured("tools.bench.checkin_load"))
        places = {host: host.ask("load", within=120.0) for host in (backend, route)}
        answered = 0
        for _ in range(runs):
            for host, found in ((backend, ours), (route, bare)):
                taken, total = _run(host, load, places[host], seconds)
                found.append(taken)
                answered += total if host is backend else 0
        stored = backend.ask("stored")["rows"]
    if stored != answered:
        raise BenchError(f"{answered} check-ins were answered and {stored} stored")
    return Figure(
        name,
        statistics.median(run["cpu"] for run in ours),
        "check-ins/CPU s",
        "bare FastAPI route",
        statistics.median(run["cpu"] for run in bare),
        BOUND,
        at_least=True,
        details={
            "connections": CONNECTIONS,
            "per_second": round(statistics.median(run["wall"] for run in ours)),
            "yardstick_per_second": round(statistics.median(run["wall"] for run in bare)),
            "runs": [round(run["cpu"]) for run in ours],
            "yardstick_runs": [round(run["cpu"]) for run in bare],
        },
    )


def _run(
    host: Measured, load: Measured, place: Mapping[str, Any], seconds: float
) -> tuple[dict[str, float], int]:
    """The rates of some seconds, and how many were answered in all."""
    load.ask("begin", within=120.0, address=place["address"], requests=place["requests"])
    time.sleep(seconds / 5)  # everybody is busy
    begun = {**load.ask("counts"), "cpu": host.ask("cpu")}
    time.sleep(seconds)
    ended = {**load.ask("counts"), "cpu": host.ask("cpu")}
    over = load.ask("end", within=120.0)
    if over["refused"] or ended["lost"]:
        raise BenchError(f"{over['refused']} check-ins were refused, {ended['lost']} cut off")
    return rate(begun, ended), over["answered"]


def rate(begun: Mapping[str, Any], ended: Mapping[str, Any]) -> dict[str, float]:
    """Answers by CPU second of the server and by second between two looks at both sides. Raises
    BenchError where there was none."""
    answered = ended["answered"] - begun["answered"]
    cpu = sum(ended["cpu"][kind] - begun["cpu"][kind] for kind in ("user", "sys"))
    if answered <= 0 or cpu <= 0:
        raise BenchError(f"{answered} check-ins in {cpu:.3f} s of CPU")
    return {"cpu": answered / cpu, "wall": answered / (ended["at"] - begun["at"])}
