"""A small strict backend of the device wire, and devices in front of it, in virtual time.

It is written from docs/device-checkin.md alone and judges what the client sends: whatever breaks
that page goes to `violations`. The tests of the client against the reference backend are apart.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from agent import Device, FaultPlan, Runtime
from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime import run_virtual
from protocols.http.checkin import CheckInClient
from protocols.http.checkin.wire import rfc3339
from protocols.http.memory_transport import MemoryHttp
from tests.agent.parts import new_image, old_image, trusted

SERVER = "http://backend.test:8080"
SLOT = 64 * 1024
DAY = 86_400.0
GOOD = ["downloading", "downloaded", "installing", "success"]
STATES = ("downloading", "downloaded", "installing", "success", "failed")
REASONS = {
    "cancelled",
    "deferred",
    "no-space",
    "out-of-memory",
    "connection-lost",
    "integrity",
    "signature",
    "wrong-device",
    "downgrade",
    "dependency",
    "unsupported-package",
    "bad-uri",
    "unsupported-protocol",
    "install-failed",
    "reverted",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LIMITS = {"checkin": 64 << 10, "status": 4 << 10, "logs": 1 << 20}


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test in virtual time; pytest sees a plain function."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        run_virtual(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


class Backend:
    """An ASGI application with one campaign at most per device."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.tokens: dict[str, str] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, bytes] = {}
        self.cancelled: set[str] = set()
        """Campaigns that were aborted."""
        self.closed: set[tuple[str, str]] = set()
        self.results: dict[tuple[str, str], tuple[str, str]] = {}
        self.heard: dict[tuple[str, str], int] = {}
        """Highest seq by (device, campaign)."""
        self.steps: dict[tuple[str, str], int] = {}
        self.check_ins: list[tuple[float, dict[str, Any]]] = []
        self.reports: list[tuple[float, str, dict[str, Any], int]] = []
        self.ranges: list[str | None] = []
        """The Range of every request for a package."""
        self.logs: list[dict[str, Any]] = []
        self.logging_until: datetime.datetime | None = None
        self.next_check_in = 3600
        self.violations: list[str] = []
        self.lose: Callable[[str, dict[str, Any]], bool] = lambda what, body: False
        """True: obey the request, and lose the answer."""
        self.refuse: Callable[[str, dict[str, Any]], tuple[int, dict[str, str]] | None] = (
            lambda what, body: None
        )
        """Status and fields that a request is answered with instead."""

    def order(
        self,
        device: str,
        package: bytes,
        *,
        id: str = "campaign-1",
        kind: str = "firmware",
        name: str = "app",
        to: str = "2.0.0",
        days: tuple[int, int] = (0, 7),
        download: tuple[tuple[int, int], ...] = (),
        install: tuple[tuple[int, int], ...] = (),
        **more: Any,
    ) -> None:
        today = self.runtime.clock.utc().date()
        dates = {
            "start": str(today + datetime.timedelta(days=days[0])),
            "end": str(today + datetime.timedelta(days=days[1])),
        }
        self.packages[id] = package
        self.orders[device] = {
            "id": id,
            "kind": kind,
            "name": name,
            "to": to,
            "url": f"/device/v1/packages/{id}",
            "size": len(package),
            "sha256": hashlib.sha256(package).hexdigest(),
            "dates": dates,
            "windows": {"download": _windows(download), "install": _windows(install)},
        } | more

    def abort(self, campaign: str) -> None:
        self.cancelled.add(campaign)
        self.packages.pop(campaign, None)

    def states(self, device: str = "dev-1") -> list[str]:
        """What was reported and accepted, in order."""
        return [
            body["state"] + (f" {body['reason']}" if "reason" in body else "")
            for _, name, body, status in self.reports
            if name == device and status == 204
        ]

    # -- ASGI -----------------------------------------------------------------------------------

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message.get("more_body")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        device = self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        path = scope["path"].split("/")[1:]
        if path[:2] != ["device", "v1"]:
            await _answer(send, 400)
        elif device is None:
            await _answer(send, 401)
        elif path[2] == "packages":
            await self._package(send, device, path[3], headers)
        else:
            await self._post(send, device, path[2:], message["body"])

    async def _post(self, send: Any, device: str, path: list[str], raw: bytes) -> None:
        what = "status" if path[0] == "campaigns" else path[0]
        if len(raw) > LIMITS[what]:
            await _answer(send, 413)
            return
        body = json.loads(raw)
        refused = self.refuse(what, body)
        if refused is not None:
            await _answer(send, refused[0], fields=refused[1])
            return
        if what == "checkin":
            status, answer = self._check_in(device, body)
        elif what == "logs":
            status, answer = self._log(device, body), None
        else:
            status, answer = self._status(device, path[1], body), None
            self.reports.append((self.runtime.clock.now(), device, body, status))
        if self.lose(what, body):
            raise OSError("the answer is lost")
        await _answer(send, status, answer)

    def _check_in(self, device: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["deviceId"] != device:
            return 401, None
        self._expect(body["reason"] in ("power-up", "schedule", "retry", "user"), "reason")
        for name in ("clientType", "make", "model"):
            self._expect(1 <= len(body[name]) <= 64, name)
        self._expect([set(one) for one in body["software"]] == [{"name", "version"}], "software")
        self._expect(all(set(one) == {"name", "version"} for one in body["files"]), "files")
        current = body.get("current")
        if current is not None:
            self._expect(current["state"] in ("waiting", *STATES), "current.state")
            self._expect(current["offset"] >= 0, "current.offset")
        self.check_ins.append((self.runtime.clock.now(), body))
        until = self.logging_until
        answer: dict[str, Any] = {
            "serverTime": rfc3339(self.runtime.clock.utc()),
            "nextCheckIn": self.next_check_in,
            "logging": {"on": False} if until is None else {"on": True, "until": rfc3339(until)},
        }
        order = self.orders.get(device)
        if order is not None and order["id"] in self.cancelled:
            answer["cancel"] = [order["id"]]
        elif order is not None and (device, order["id"]) not in self.closed:
            answer["campaign"] = order
        return 200, answer

    def _status(self, device: str, campaign: str, body: dict[str, Any]) -> int:
        order = self.orders.get(device)
        if order is None or order["id"] != campaign:
            return 404
        key = (device, campaign)
        state = body["state"]
        self._expect(state in STATES, f"state {state}")
        self._expect(bool(TIME.fullmatch(body["time"])), f"time {body['time']}")
        self._expect((state == "failed") == ("reason" in body), f"reason with {state}")
        self._expect(body.get("reason", "reverted") in REASONS, f"reason {body.get('reason')}")
        if body["seq"] <= self.heard.get(key, -1):
            return 204
        if campaign in self.cancelled and key not in self.results:
            return 409
        if key in self.closed:
            return 410
        self.heard[key] = body["seq"]
        step = STATES.index(state)
        if step < self.steps.get(key, -1):
            return 204
        if state in ("success", "failed"):
            asked = self.steps.get(key, -1) >= STATES.index("installing")
            self._expect(asked or state == "failed", "success without installing")
            self.results[key] = (state, body.get("reason", ""))
            self.closed.add(key)
        self.steps[key] = step
        return 204

    def _log(self, device: str, body: dict[str, Any]) -> int:
        if self.logging_until is None or self.runtime.clock.utc() >= self.logging_until:
            return 409
        self._expect(body["deviceId"] == device, "deviceId of a log")
        self._expect(body["logType"] == "SoftwareUpdate", "logType")
        self._expect(bool(TIME.fullmatch(body["logTime"])), "logTime")
        self._expect(0 < len(body["eventLog"]) <= 65_536, "eventLog")
        self.logs.append(body)
        return 204

    async def _package(self, send: Any, device: str, id: str, headers: dict[str, str]) -> None:
        order = self.orders.get(device)
        data = self.packages.get(id)
        if order is None or order["id"] != id or data is None:
            await _answer(send, 404)
            return
        asked = headers.get("range")
        self.ranges.append(asked)
        tag = f'"{order["sha256"]}"'
        fields = {"etag": tag, "accept-ranges": "bytes"}
        status, start = 200, 0
        if asked is not None and headers.get("if-range", tag) == tag:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            status = 206
            fields["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        await _answer(send, status, data[start:], fields)

    def _expect(self, right: bool, what: str) -> None:
        if not right:
            self.violations.append(what)


def _windows(pairs: tuple[tuple[int, int], ...]) -> list[dict[str, int]]:
    return [{"startTime": start, "endTime": end} for start, end in pairs]


async def _answer(
    send: Any, status: int, body: Any = None, fields: dict[str, str] | None = None
) -> None:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if status == 204:
        data = b""
    headers = [(name.encode(), value.encode()) for name, value in (fields or {}).items()]
    if status != 204:
        headers.append((b"content-length", str(len(data)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


class World:
    """A backend and its devices on one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.backend = Backend(runtime)
        self.http = MemoryHttp(runtime, {SERVER: self.backend})
        runtime.http = self.http
        self.devices: list[Device] = []
        self.told: list[tuple[str, str, str, str | None]] = []
        self.trace: list[str] = []
        self.events: list[tuple[str, str, str, str]] = []

    def device(
        self,
        *,
        misbehave: frozenset[Misbehaviour] = frozenset(),
        options: dict[str, str] | None = None,
        faults: FaultPlan | None = None,
        token: str | None = None,
        power: bool = True,
        **more: Any,
    ) -> Device:
        index = len(self.devices) + 1
        name = f"dev-{index}"
        self.backend.tokens[f"token-{index}"] = name
        settings = ClientSettings(
            server=SERVER,
            trace=self.trace.append,
            told=lambda *what: self.told.append(what),
            credential=lambda device: Credential(token=token or f"token-{index}"),
            misbehave=lambda device: misbehave,
            options=options or {},
            bandwidth=more.pop("bandwidth", None),
        )
        make = protocol_clients.get("http")
        device = Device(
            self.runtime,
            name,
            image=old_image(),
            trusted=trusted(),
            slot_size=SLOT,
            index=index,
            faults=faults,
            **more,
        )
        device.on_event = lambda *event: self.events.append(event)
        device.attach(lambda device: make(device, settings))
        self.devices.append(device)
        if power:
            device.power_on()
        return device

    async def sleep(self, seconds: float) -> None:
        await self.runtime.clock.sleep(seconds)

    async def until(self, done: Callable[[], bool], seconds: float = 3600.0) -> None:
        """Wait in virtual time; fails when it does not come."""
        deadline = self.runtime.clock.now() + seconds
        while not done():
            assert self.runtime.clock.now() < deadline, f"never came; trace: {self.trace[-20:]}"
            await self.sleep(max(0.25, seconds / 20_000))

    def judgement(self, name: Misbehaviour) -> tuple[int, int]:
        one = self.runtime.misbehaviours.judgements.get(("http", name.value))
        return (0, 0) if one is None else (one.kept, one.broken)


@asynccontextmanager
async def world(
    *,
    seed: int = 1,
    journal: Callable[[str], object] | None = None,
    utc: datetime.datetime | None = None,
) -> AsyncIterator[World]:
    async with Runtime.in_memory(seed=seed, journal=journal, utc_origin=utc) as runtime:
        one = World(runtime)
        yield one
        for device in one.devices:
            if device.client is not None:
                device.power_off()
        assert not one.backend.violations


def version(device: Device) -> str:
    assert device.running is not None
    return str(device.running.version)


def client(device: Device) -> CheckInClient:
    assert isinstance(device.client, CheckInClient)
    return device.client


def package() -> bytes:
    return new_image()


def hour(w, at: float) -> float:
    """Hour of the day, UTC, of an instant of the run's clock."""
    return at / 3600 % 24  # virtual runs begin at midnight


def first(w, state: str) -> float:
    return next(at for at, _, body, _ in w.backend.reports if body["state"] == state)
