"""One OMA-DM device, a strict DM server and a file server, in memory and virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agent.credentials import Credential
from agent.device import Device
from agent.faults import FaultPlan
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from protocols.http.memory_transport import MemoryHttp
from protocols.omadm.client import OmadmClient
from protocols.omadm.model import Alert, Command, Exec, Item, Meta, Replace
from tests.agent.parts import image, old_image, trusted
from tests.protocols.omadm.dm_server import DmServer

NAME = "urn:imei:490154203237518"
DEVICE = "IMEI:490154203237518"
DM = "http://dm.test"
FILES = "http://files.test"
SLOT = 256 * 1024
NEW = image(2, 60_000, 2)
FUMO = "./FwUpdate/Fotilla"
REPORTS = ("update.download", "update.update", "update.downloadandupdate")


class FileServer:
    """Files with ranges, HEAD and install-notify; `on_get` may answer in its place."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.notified: list[str] = []
        self.head = 200
        self.on_get: Callable[[str, str, dict[str, str]], tuple[int, dict[str, str]] | None] = (
            lambda method, path, headers: None
        )

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        request = await receive()
        method, path = scope["method"], scope["path"]
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.asked.append((method, path, headers))
        status, fields, body = self._answer(method, path, headers, request.get("body", b""))
        sent = [(name.encode(), value.encode()) for name, value in fields.items()]
        sent.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            self.notified.append(body.decode())
            return 200, {}, b""
        other = self.on_get(method, path, headers)
        if other is not None:
            return *other, b""
        if method == "HEAD" and self.head != 200:
            return self.head, {}, b""
        found = self.files.get(path)
        if found is None:
            return 404, {}, b""
        kind, data = found
        fields = {"content-type": kind, "etag": '"1"'}
        wanted = headers.get("range")
        if wanted is None:
            return 200, fields, data
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        fields["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return 206, fields, data[start:]


class World:
    """Make it inside `run`."""

    def __init__(
        self,
        runtime: Runtime,
        options: dict[str, str],
        misbehave: frozenset[Misbehaviour],
        faults: FaultPlan | None,
        server: dict[str, Any],
        credential: Credential,
        keep: bool,
        bandwidth: float | None,
        bind: str | None,
    ) -> None:
        self.runtime = runtime
        self.server = DmServer(runtime, uri=f"{DM}", **server)
        self.server.users[DEVICE] = (credential.username, credential.password)
        self.files = FileServer()
        self.files.files["/new.bin"] = ("application/octet-stream", NEW)
        self.web = MemoryHttp(runtime, {DM: self.server.app, FILES: self.files.app})
        runtime.http = self.web
        self.told: list[tuple[str, str, str, str | None]] = []
        self.lines: list[str] = []
        self.events: list[tuple[str, str, str, str]] = []
        self.device = Device(
            runtime,
            NAME,
            image=old_image(),
            trusted=trusted(),
            slot_size=SLOT,
            faults=faults,
            keep_after_boot_failure=keep,
        )
        self.settings = ClientSettings(
            server=DM,
            credential=lambda device: credential,
            told=lambda *told: self.told.append(told),
            trace=self.lines.append,
            misbehave=lambda device: misbehave,
            options=options,
            bandwidth=bandwidth,
            bind=bind,
        )
        self.device.on_event = lambda *event: self.events.append(event)
        self.device.attach(lambda device: OmadmClient(device, self.settings))

    @property
    def client(self) -> OmadmClient:
        client = self.device.client
        assert isinstance(client, OmadmClient)
        return client

    def client_or_none(self) -> OmadmClient | None:
        """None while the device boots."""
        return None if self.device.client is None else self.client

    @property
    def version(self) -> str:
        running = self.device.running
        return "" if running is None else str(running.version)

    async def sleep(self, seconds: float) -> None:
        await self.runtime.clock.sleep(seconds)

    async def until(self, done: Callable[[], bool], seconds: float = 7200.0) -> None:
        clock = self.runtime.clock
        end = clock.now() + seconds
        while not done():
            assert clock.now() < end, (self.events[-8:], self.lines[-12:])
            await clock.sleep(0.25)

    async def session(self, *packages: Any) -> None:
        """A session in which the server sends `packages`."""
        self.server.packages += packages
        before = len(self.server.sessions)
        self.client.check_now()
        await self.until(
            lambda: (
                len(self.server.sessions) > before
                and self.server.session.over
                and not self.server.packages
            )
        )
        await self.sleep(1.0)

    def reports(self) -> list[Alert]:
        """Every generic alert of a firmware update that arrived."""
        return [
            alert
            for session in self.server.sessions
            for alert in session.generic
            if str(alert.items[0].meta and alert.items[0].meta.type).endswith(REPORTS)
        ]


def order(
    url: str = f"{FILES}/new.bin",
    operation: str = "DownloadAndUpdate",
    correlator: str | None = "c-1",
    root: str = FUMO,
) -> list[Command]:
    """What a server sends for a firmware update from `url`."""
    meta = Meta(format="chr")
    exec_item = Item(target=f"{root}/{operation}")
    if operation == "Update":
        return [Exec("", (exec_item,), correlator=correlator)]
    url_item = Item(target=f"{root}/{operation}/PkgURL", meta=meta, data=url)
    return [Replace("", (url_item,)), Exec("", (exec_item,), correlator=correlator)]


def run(
    story: Callable[[World], Awaitable[None]],
    *,
    options: dict[str, str] | None = None,
    misbehave: frozenset[Misbehaviour] = frozenset(),
    faults: FaultPlan | None = None,
    server: dict[str, Any] | None = None,
    credential: Credential | None = None,
    keep: bool = True,
    bandwidth: float | None = None,
    bind: str | None = None,
    strict: bool = True,
    seed: int = 5,
    journal: list[str] | None = None,
) -> World:
    """Tell `story` in virtual time; the device is off at the end."""
    known = credential or Credential(username="user", password="client secret")

    async def main() -> World:
        write = None if journal is None else journal.append
        async with Runtime.in_memory(seed=seed, journal=write) as runtime:
            world = World(
                runtime,
                options or {},
                misbehave,
                faults,
                server or {},
                known,
                keep,
                bandwidth,
                bind,
            )
            world.device.power_on()
            await story(world)
            if world.device.phase.name != "OFF":
                world.device.power_off()
            await runtime.clock.sleep(1.0)
        if strict:
            assert world.server.violations == []
        return world

    return run_virtual(main())
