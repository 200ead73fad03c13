"""Devices, a DDI server and its management calls: in memory and virtual time, or over sockets.

Scenes are told against a `World` and do not know which one it is.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from agent import Device, FaultPlan, Runtime
from agent.credentials import Credential, TokenKind
from agent.device import DeviceTiming
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime import run_virtual
from agent.runtime.http import HttpClient, HttpIdentity
from protocols.http.hawkbit import HawkbitClient
from protocols.http.memory_transport import MemoryHttp
from protocols.http.transport import transport_of
from tests.agent.parts import new_image, old_image, trusted
from tests.stubs.hawkbit import HawkbitStub

SLOT = 64 * 1024
URL = "http://hawkbit"
OFFICE = "http://hawkbit.office"
GATEWAY_TOKEN = "token-of-the-gateway"
JSON = ("Content-Type", "application/json")

Bend = int | bytes | Callable[[Any], Any]


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test in virtual time; pytest sees a plain function."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        run_virtual(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


class Quick(DeviceTiming):
    """Boots that a test over real sockets need not wait for."""

    boot_seconds = 0.2
    reboot_delay = 0.1
    trial_seconds = 20.0
    watchdog_seconds = 0.5


class Slow(Quick):
    """Long enough between the mark for test and the reset for a person to change their mind."""

    reboot_delay = 6.0


class Management:
    """hawkBit's management calls, as far as the scenes need them."""

    def __init__(self, http: HttpClient, url: str, user: str, password: str) -> None:
        self.http = http
        self.url = url
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.fields = [("Authorization", f"Basic {secret}")]

    async def call(
        self, method: str, path: str, body: object = None, *, expect: tuple[int, ...] = ()
    ) -> Any:
        """The answer's JSON; None when it has no body."""
        data = b"" if body is None else json.dumps(body).encode()
        fields = self.fields if body is None else [*self.fields, JSON]
        return await self._send(method, path, fields, data, expect)

    async def _send(
        self,
        method: str,
        path: str,
        fields: list[tuple[str, str]],
        data: bytes,
        expect: tuple[int, ...],
    ) -> Any:
        answer = await self.http.request(
            method, f"{self.url}/rest/v1{path}", headers=fields, body=data
        )
        expected = expect or (200, 201, 204)
        assert answer.status in expected, (method, path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None

    async def upload(self, module: int, filename: str, content: bytes) -> None:
        boundary = "----------fotilla"
        head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        data = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        fields = [*self.fields, ("Content-Type", f"multipart/form-data; boundary={boundary}")]
        await self._send("POST", f"/softwaremodules/{module}/artifacts", fields, data, (201,))


class Sim:
    """One device of a scene, and what was seen of it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.told: list[tuple[str, str, str | None]] = []
        self.lines: list[str] = []
        self.events: list[tuple[str, str, str, str]] = []
        device.on_event = lambda *event: self.events.append(event)

    @property
    def name(self) -> str:
        return self.device.name

    @property
    def version(self) -> str:
        running = self.device.running
        return "none" if running is None else str(running.version)

    @property
    def client(self) -> HawkbitClient:
        client = self.device.client
        assert isinstance(client, HawkbitClient)
        return client

    @property
    def settled(self) -> bool:
        """It is up, and works on no action."""
        client = self.device.client
        return isinstance(client, HawkbitClient) and client.memory.action is None

    def requests(self, what: str) -> list[str]:
        """Requests that the device sent, whose line contains `what`."""
        return [line for line in self.lines if line.startswith("> ") and what in line]


class World:
    """A server, its management, and devices that are switched off at the end."""

    def __init__(
        self,
        runtime: Runtime,
        url: str,
        management: Management,
        *,
        suffix: str = "1",
        poll: float = 30.0,
        patience: float = 60.0,
        stub: HawkbitStub | None = None,
    ) -> None:
        self.runtime = runtime
        self.url = url
        self.management = management
        self.suffix = suffix
        self.poll = poll
        self.patience = max(patience, poll * 40)
        """Seconds until what was waited for must have happened."""
        self.maybe_stub = stub
        self.maybe_bent: Bent | None = None
        self.sims: list[Sim] = []
        self.made: list[str] = []
        """Paths of what `clean_up` deletes, in the order of making."""

    @property
    def stub(self) -> HawkbitStub:
        assert self.maybe_stub is not None
        return self.maybe_stub

    @property
    def bent(self) -> Bent:
        assert self.maybe_bent is not None
        return self.maybe_bent

    @property
    def network(self) -> MemoryHttp:
        assert isinstance(self.runtime.http, MemoryHttp)
        return self.runtime.http

    # -- devices --------------------------------------------------------------------------------

    async def device(
        self,
        name: str,
        *,
        options: Mapping[str, str] | None = None,
        misbehave: frozenset[Misbehaviour] = frozenset(),
        faults: FaultPlan | None = None,
        credential: Credential | None = None,
        known: bool = True,
        on: bool = True,
        bandwidth: float | None = None,
        keep: bool = True,
        slot_size: int = SLOT,
        timing: DeviceTiming | None = None,
    ) -> Sim:
        """A device, known to the server under its own token, and switched on."""
        name = f"{name}-{self.suffix}"
        token = f"token-{name.encode().hex()}"
        if known:
            target = {"controllerId": name, "name": name, "securityToken": token}
            await self.management.call("POST", "/targets", [target])
        device = Device(
            self.runtime,
            name,
            image=old_image(),
            trusted=trusted(),
            slot_size=slot_size,
            index=len(self.sims),
            faults=faults,
            timing=timing or Quick(),
            keep_after_boot_failure=keep,
        )
        sim = Sim(device)
        self.sims.append(sim)
        presented = credential or Credential(token=token)
        chosen = {"poll": f"{self.poll:g}", **(options or {})}
        settings = ClientSettings(
            self.url,
            trace=sim.lines.append,
            told=lambda _, verdict, detail, version: sim.told.append((verdict, detail, version)),
            credential=lambda device: presented,
            misbehave=lambda device: misbehave,
            options=chosen,
            bandwidth=bandwidth,
        )
        device.attach(lambda device: HawkbitClient(device, settings))
        if on:
            device.power_on()
        return sim

    # -- software -------------------------------------------------------------------------------

    async def publish(
        self,
        name: str,
        *modules: Mapping[str, bytes],
        version: str = "2.0",
        kinds: tuple[str, ...] = ("os", "application"),
    ) -> int:
        """A distribution set of modules with these files; its id."""
        identifiers = []
        for number, files in enumerate(modules):
            module = {
                "name": f"{name}{number}-{self.suffix}",
                "version": version,
                "type": kinds[number],
            }
            (made,) = await self.management.call("POST", "/softwaremodules", [module])
            self.made.append(f"/softwaremodules/{made['id']}")
            identifiers.append({"id": made["id"]})
            for filename, content in files.items():
                await self.management.upload(made["id"], filename, content)
        ds = {
            "name": f"{name}-{self.suffix}",
            "version": version,
            "type": "os" if len(modules) == 1 else "os_app",
            "modules": identifiers,
        }
        (made,) = await self.management.call("POST", "/distributionsets", [ds])
        self.made.append(f"/distributionsets/{made['id']}")
        return int(made["id"])

    async def assign(self, ds: int, sim: Sim, **more: object) -> str:
        """The id of the new action."""
        body = [{"id": sim.name, "type": "forced", **more}]
        answer = await self.management.call("POST", f"/distributionsets/{ds}/assignedTargets", body)
        (action,) = answer["assignedActions"]
        return str(action["id"])

    async def cancel(self, sim: Sim, action: str, *, force: bool = False) -> None:
        query = "?force=true" if force else ""
        await self.management.call("DELETE", f"/targets/{sim.name}/actions/{action}{query}")

    async def action(self, sim: Sim, action: str) -> dict[str, Any]:
        found = await self.management.call("GET", f"/targets/{sim.name}/actions/{action}")
        assert isinstance(found, dict)
        return found

    async def history(self, sim: Sim, action: str) -> list[str]:
        """Types of the action's status entries, oldest first."""
        path = f"/targets/{sim.name}/actions/{action}/status?limit=50&sort=id:ASC"
        found = await self.management.call("GET", path)
        return [entry["type"] for entry in found["content"]]

    async def messages(self, sim: Sim, action: str) -> list[str]:
        path = f"/targets/{sim.name}/actions/{action}/status?limit=50&sort=id:ASC"
        found = await self.management.call("GET", path)
        return [message for entry in found["content"] for message in entry["messages"]]

    @asynccontextmanager
    async def setting(self, key: str, value: object) -> AsyncIterator[None]:
        """A setting of the tenant, for so long."""
        async with tenant_setting(self.management, key, value):
            yield

    async def target(self, sim: Sim) -> dict[str, Any]:
        found = await self.management.call("GET", f"/targets/{sim.name}")
        assert isinstance(found, dict)
        return found

    # -- time -----------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.runtime.clock.now()

    async def sleep(self, seconds: float) -> None:
        await self.runtime.clock.sleep(seconds)

    async def polls(self, count: int = 2) -> None:
        """Time for so many polls."""
        await self.sleep(self.poll * count + 3)

    async def until(self, true: Callable[[], bool], within: float | None = None) -> None:
        end = self.now + (within or self.patience)
        while not true():
            last = [(sim.device, sim.lines[-8:], sim.events[-4:]) for sim in self.sims]
            assert self.now < end, f"still not so at {self.now:.1f}: {last}"
            await self.sleep(0.05)

    async def until_closed(self, sim: Sim, action: str) -> dict[str, Any]:
        """The action, once the server holds it for closed."""
        end = self.now + self.patience
        while True:
            found = await self.action(sim, action)
            if not found["active"]:
                return found
            assert self.now < end, (found, sim.lines[-12:], sim.events[-6:])
            await self.sleep(min(self.poll / 4, 1.0))

    def later(self, seconds: float) -> str:
        """A Quartz expression for one moment, so many seconds from now."""
        at = self.runtime.clock.utc() + timedelta(seconds=seconds)
        return f"{at.second} {at.minute} {at.hour} {at.day} {at.month} ? {at.year}"

    async def close(self) -> None:
        for sim in self.sims:
            sim.device.power_off()
        await self.sleep(0.5)

    async def clean_up(self) -> None:
        """Leave the server as it was."""
        for sim in self.sims:
            await self.management.call("DELETE", f"/targets/{sim.name}", expect=(200, 204, 404))
        for path in reversed(self.made):
            await self.management.call("DELETE", path, expect=(200, 204, 404))


@asynccontextmanager
async def tenant_setting(management: Management, key: str, value: object) -> AsyncIterator[None]:
    """Set and put back: a value that the tenant never had is deleted again."""
    path = f"/system/configs/{key}"
    before = await management.call("GET", path)
    await management.call("PUT", path, {"value": value})
    try:
        yield
    finally:
        if before.get("global"):
            await management.call("DELETE", path)
        else:
            await management.call("PUT", path, {"value": before["value"]})


@asynccontextmanager
async def tokens(management: Management) -> AsyncIterator[None]:
    """Both kinds of token are accepted."""
    target, gateway = ("authentication.targettoken", "authentication.gatewaytoken")
    async with (
        tenant_setting(management, f"{target}.enabled", True),
        tenant_setting(management, f"{gateway}.enabled", True),
        tenant_setting(management, f"{gateway}.key", GATEWAY_TOKEN),
    ):
        yield


class Bent:
    """An ASGI application that answers some requests otherwise than the one behind it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.rules: list[tuple[str, str, Bend, list[int]]] = []

    def bend(self, method: str, part: str, how: Bend, times: int = 1 << 30) -> None:
        """Answer so many requests of `method`, whose path contains `part`, with `how`: a status, a
        body, or a function that changes the JSON."""
        self.rules.append((method, part, how, [times]))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for method, part, how, left in self.rules:
            if scope["method"] == method and part in scope["path"] and left[0] > 0:
                left[0] -= 1
                if not callable(how):
                    status, body = (how, b"") if isinstance(how, int) else (200, how)
                    await self._answer(send, status, body)
                    return
                await self._changed(scope, receive, send, how)
                return
        await self.app(scope, receive, send)

    async def _answer(self, send: Any, status: int, body: bytes) -> None:
        fields = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _changed(
        self, scope: Any, receive: Any, send: Any, how: Callable[[Any], Any]
    ) -> None:
        parts: list[bytes] = []
        head: dict[str, Any] = {}

        async def hold(message: Any) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, hold)
        body = b"".join(parts)
        if head["status"] == 200 and body:
            body = json.dumps(how(json.loads(body))).encode()
        await self._answer(send, head["status"], body)


@asynccontextmanager
async def world(
    *, latency: float = 0.02, seed: int = 7, poll: float = 30.0
) -> AsyncIterator[World]:
    """In memory, against the state model of hawkBit."""
    async with Runtime.in_memory(seed=seed) as runtime:
        stub = HawkbitStub(now=lambda: runtime.clock.utc().timestamp(), url=URL)
        bent = Bent(stub.app)
        # People reach the server even when devices do not.
        runtime.http = MemoryHttp(runtime, {URL: bent, OFFICE: stub.app}, latency=latency)
        http = transport_of(runtime).client(HttpIdentity("operator"))
        management = Management(http, OFFICE, stub.user, stub.password)
        built = World(runtime, URL, management, stub=stub, poll=poll)
        built.maybe_bent = bent
        async with tokens(management):
            yield built
            await built.close()


__all__ = [
    "Credential",
    "FaultPlan",
    "Management",
    "Misbehaviour",
    "Sim",
    "TokenKind",
    "World",
    "tenant_setting",
    "new_image",
    "tokens",
    "old_image",
    "virtual",
    "world",
]
