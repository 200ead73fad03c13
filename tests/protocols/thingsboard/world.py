"""One device and a stub server in virtual time, over MQTT or HTTP."""

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
from protocols.mqtt.broker import MemoryBroker
from protocols.thingsboard import _client
from tests.agent.parts import image, old_image, trusted
from tests.stubs.thingsboard import Package, StubDevice, ThingsBoardStub

TOKEN = "s3cret-token"
HTTP = "http://thingsboard.test:8080"
SERVERS = {"mqtt": "mqtt://thingsboard.test", "http": HTTP}
FILES = "http://files.test"
SLOT = 256 * 1024
NEW = image(2, 100_000, 2)
GOOD = Package("meter", "2.0.0", NEW)


def files(contents: dict[str, bytes], asked: list[str] | None = None) -> Any:
    """A web server as an ASGI application, with ranges; `asked` collects the Range fields."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = contents.get(scope["path"])
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        wanted = fields.get("range", "")
        headers = [(b"etag", b'"1"')]
        status = 200
        if asked is not None:
            asked.append(wanted)
        if body is None:
            status, body = 404, b""
        elif wanted:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            status, total = 206, len(body)
            headers.append((b"content-range", f"bytes {start}-{total - 1}/{total}".encode()))
            body = body[start:]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


class World:
    """Make it inside `run`."""

    def __init__(
        self,
        runtime: Runtime,
        transport: str,
        options: dict[str, str],
        misbehave: frozenset[Misbehaviour],
        faults: FaultPlan | None,
        bandwidth: float | None,
        token: str,
    ) -> None:
        self.runtime = runtime
        self.stub = ThingsBoardStub()
        self.broker = MemoryBroker(runtime)
        self.web = MemoryHttp(runtime, {HTTP: self.stub.app})
        self.stub.serve(self.broker)
        runtime.mqtt, runtime.http = self.broker, self.web
        self.server: StubDevice = self.stub.add(TOKEN)
        self.told: list[tuple[str, str, str, str | None]] = []
        self.lines: list[str] = []
        self.events: list[tuple[str, str, str, str]] = []
        device = self.device = Device(
            runtime,
            "meter-1",
            image=old_image(),
            trusted=trusted(),
            slot_size=SLOT,
            faults=faults,
        )
        settings = ClientSettings(
            server=SERVERS[transport],
            credential=lambda device: Credential(token=token),
            told=lambda *told: self.told.append(told),
            trace=self.lines.append,
            misbehave=lambda device: misbehave,
            options={"title": "meter", "interval": "5", **options},
            bandwidth=bandwidth,
        )
        device.on_event = lambda *event: self.events.append(event)
        device.attach(lambda device: _client(device, settings))

    async def until(self, done: Callable[[], bool], seconds: float = 3600.0) -> None:
        clock = self.runtime.clock
        end = clock.now() + seconds
        while not done():
            assert clock.now() < end, self.events[-8:]
            await clock.sleep(0.05)

    def said(self, word: str) -> bool:
        return word in self.server.states()


def run(
    story: Callable[[World], Awaitable[None]],
    transport: str = "mqtt",
    *,
    options: dict[str, str] | None = None,
    misbehave: frozenset[Misbehaviour] = frozenset(),
    faults: FaultPlan | None = None,
    bandwidth: float | None = None,
    token: str = TOKEN,
    journal: list[str] | None = None,
) -> World:
    """Tell `story` in virtual time; the device is off at the end."""

    async def main() -> World:
        write = None if journal is None else journal.append
        async with Runtime.in_memory(seed=5, journal=write) as runtime:
            world = World(runtime, transport, options or {}, misbehave, faults, bandwidth, token)
            world.device.power_on()
            await story(world)
            world.device.power_off()
            await runtime.clock.sleep(1.0)
        assert world.stub.violations == []
        return world

    return run_virtual(main())
