"""Large campaigns in the reference backend: how long the request takes, what a pass costs.

The backend is a process of its own with a database in a file; the driver is its customer, over
HTTP. While the request of a hundred thousand devices is under way another connection asks for
something small again and again, and its longest wait is noted. A pass is measured by the CPU of the
backend's process, database and callbacks' outbox included.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import count
from statistics import median
from typing import Any

import httpx

from tools.bench.backend_host import FIRST_ID
from tools.bench.control import Measured
from tools.bench.errors import BenchError
from tools.bench.figures import Figure
from tools.bench.postgres import Cluster
from tools.bench.setting import Setting

__all__ = ["NAMES", "POSTGRESQL_NAMES", "figures_of", "measure", "measure_postgresql"]

CREATE, WAIT, PAGE, FIRST_PASS, SMALL_PASS, GROWTH = NAMES = (
    "backend_create",
    "backend_create_wait",
    "backend_page",
    "backend_first_pass",
    "backend_small_pass",
    "backend_growth",
)

POSTGRESQL_NAMES = tuple(f"{name}_postgresql" for name in NAMES)

DEVICES, QUICK_DEVICES = 100_000, 10_000
CHANGED = 1_000
"""Devices that a small pass changes."""
CELLS = 2_000
PAGES = 30

MOST_CREATE, MOST_WAIT, MOST_PAGE = 5.0, 0.1, 0.02  # seconds
MOST_FIRST, MOST_SMALL = 5.0, 0.2  # seconds of CPU for 100,000 devices
SMALLER, SMALLER_RUNS = 10, 3
MOST_GROWTH = 1.15
"""Ten times the devices may cost so many times ten times the CPU."""


def measure(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    if not wanted.intersection(NAMES):
        return []
    databases = (str(setting.folder / f"backend-{number}.db") for number in count())
    return _measure(setting, wanted, databases, "")


def measure_postgresql(setting: Setting, wanted: frozenset[str]) -> list[Figure]:
    """The same on PostgreSQL. Its CPU is that of the backend's process, not that of the server's.
    Raises BenchError where there is no server."""
    if not wanted.intersection(POSTGRESQL_NAMES):
        return []
    with Cluster() as cluster:
        databases = (cluster.new_database() for _ in count())
        return _measure(setting, wanted, databases, "_postgresql")


def _measure(
    setting: Setting, wanted: frozenset[str], databases: Iterator[str], suffix: str
) -> list[Figure]:
    devices = QUICK_DEVICES if setting.quick else DEVICES
    large = _run(next(databases), devices)
    if wanted.intersection((FIRST_PASS + suffix, GROWTH + suffix)):
        # What others ask meanwhile is no part of a pass.
        large["first"] = _run(next(databases), devices, others=False)["first"]
    smaller = [
        _run(next(databases), devices // SMALLER, others=False)
        for _ in range(SMALLER_RUNS if GROWTH + suffix in wanted else 0)
    ]
    small = {"first": median([run["first"] for run in smaller] or [large["first"] / SMALLER])}
    figures = figures_of(large, small, devices, suffix)
    return [figure for figure in figures if figure.name in wanted]


def figures_of(
    large: Mapping[str, float], small: Mapping[str, float], devices: int, suffix: str = ""
) -> list[Figure]:
    """The figures of a run and of one with a tenth of its devices. What grows with the devices is
    held to its share of the bound for 100,000."""
    share = devices / DEVICES
    growth = large["first"] / (SMALLER * small["first"])
    return [
        _bounded(CREATE + suffix, large["create"], "s", MOST_CREATE * share),
        _bounded(WAIT + suffix, large["wait"], "s", MOST_WAIT),
        _bounded(PAGE + suffix, large["page"], "s", MOST_PAGE),
        _bounded(FIRST_PASS + suffix, large["first"], "CPU s", MOST_FIRST * share),
        _bounded(SMALL_PASS + suffix, large["small"], "CPU s", MOST_SMALL),
        _bounded(GROWTH + suffix, growth, "x linear", MOST_GROWTH),
    ]


def _bounded(name: str, value: float, unit: str, most: float) -> Figure:
    return Figure(name, value, unit, yardstick="at most", yardstick_value=most, bound=1.0)


def _run(database: str, devices: int, *, others: bool = True) -> dict[str, float]:
    told = {
        "database": database,
        "devices": devices,
        "cells": CELLS,
        "callbacks": "http://127.0.0.1:9/never",  # its outbox fills, which is the dearest case
    }
    with Measured("tools.bench.backend_host", json.dumps(told)) as host:
        known = host.ask("load", within=300.0)
        with httpx.Client(base_url=known["url"], timeout=60.0) as api:
            headers = _log_in(api, known)
            api.headers.update(headers)
            before = _cpu(host)
            asking = Others(known["url"], known["account"], headers)
            with asking if others else nullcontext():
                seconds = _create(api, known, devices)
                host.ask("checked", within=120.0)
                checked = _cpu(host)
                statuses = host.ask("planned", within=300.0)["statuses"]
                planned = _cpu(host)
            if sum(statuses.values()) != devices or "DeviceRejected" in statuses:
                raise BenchError(f"the campaign has other devices than asked for: {statuses}")
            small = host.ask("start", active=CHANGED, within=120.0)["cpu"]
            page = _page(api, known)
    return {
        "create": seconds,
        "wait": max(asking.waits, default=0.0),
        "checks": checked - before,
        "first": planned - checked,
        "small": small,
        "page": page,
    }


def _log_in(api: httpx.Client, known: dict[str, Any]) -> dict[str, str]:
    account, secret = known["account"], known["secret"]
    form = {"grant_type": "client_credentials"}
    answer = api.post("/api/ts/v1/oauth2/token", data=form, auth=(account, secret))
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    login = {"username": account, "password": secret}
    answer = api.post("/api/m2m/v1/session/login", json=login, headers=bearer)
    return {**bearer, "VZ-M2M-Token": answer.json()["sessionToken"]}


class Others:
    """A customer who asks for something small all the time, and how long that took."""

    def __init__(self, url: str, account: str, headers: dict[str, str]) -> None:
        self.waits: list[float] = []
        self._url, self._account, self._headers = url, account, headers
        self._over = threading.Event()
        self._asking = threading.Thread(target=self._ask)

    def __enter__(self) -> Others:
        self._asking.start()
        time.sleep(0.1)
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._asking.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=60.0) as api:
            api.get("/healthz")  # the connection
            while not self._over.is_set():
                began = time.perf_counter()
                api.get(f"/api/fota/v3/subscriptions/{self._account}").raise_for_status()
                self.waits.append(time.perf_counter() - began)
                time.sleep(0.005)


def _create(api: httpx.Client, known: dict[str, Any], devices: int) -> float:
    """Seconds of the request."""
    tomorrow = dt.datetime.fromtimestamp(known["now"], dt.UTC).date() + dt.timedelta(1)
    body = {
        "firmwareName": "app",
        "firmwareFrom": "1.0.0",
        "firmwareTo": "2.0.0",
        "protocol": "LWM2M",
        "startDate": tomorrow.isoformat(),
        "endDate": (tomorrow + dt.timedelta(30)).isoformat(),
        "autoAssignLicenseFlag": False,
        "autoAddDevicesFlag": False,
        "deviceList": [str(FIRST_ID + number) for number in range(devices)],
    }
    content = json.dumps(body).encode()
    began = time.perf_counter()
    answer = api.post(f"/api/fota/v3/campaigns/firmware/{known['account']}", content=content)
    seconds = time.perf_counter() - began
    if answer.status_code != 200:
        raise BenchError(f"the campaign was refused: {answer.text[:200]}")
    return seconds


def _page(api: httpx.Client, known: dict[str, Any]) -> float:
    """Median seconds of a page of 1,000 devices."""
    taken = []
    last = "0"
    for _ in range(PAGES):
        began = time.perf_counter()
        answer = api.get(
            f"/api/fota/v3/devices/{known['account']}", params={"lastSeenDeviceId": last}
        ).json()
        taken.append(time.perf_counter() - began)
        last = answer["lastSeenDeviceId"]
    return median(taken)


def _cpu(host: Measured) -> float:
    usage = host.ask("cpu")
    return float(usage["user"] + usage["sys"])
