"""A device with a check-in client and a server that can misbehave, in memory and virtual time."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent import Device, FaultPlan, Runtime
from agent.protocol import ClientSettings
from agent.runtime import run_virtual
from protocols.http.memory_transport import MemoryHttp
from protocols.http.poller import HttpPoller
from tests.agent.parts import old_image, trusted

ORIGIN = "http://10.0.0.1:8080"
SLOT = 64 * 1024


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test in virtual time; pytest sees a plain function."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        run_virtual(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


@dataclass
class Reply:
    """What a server answers once."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    sent: int | None = None
    """Only so many bytes of the body are sent, then the connection breaks."""
    delay: float = 0.0
    chunked: bool = False
    """Nothing says how long the body is."""


@dataclass
class Asked:
    """One request as the server saw it."""

    time: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    client: str


Judge = Callable[[Asked], Reply]


@dataclass
class Server:
    """Answers every request as `judge` says and remembers it."""

    runtime: Runtime
    judge: Judge = field(default=lambda asked: Reply())
    asked: list[Asked] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        clock = self.runtime.clock
        path = scope["raw_path"].decode()
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode()
        asked = Asked(
            clock.now(),
            scope["method"],
            path,
            {name.decode(): value.decode() for name, value in scope["headers"]},
            message["body"],
            scope["client"][0],
        )
        self.asked.append(asked)
        reply = self.judge(asked)
        if reply.delay:
            await clock.sleep(reply.delay)
        headers = [(name.encode(), value.encode()) for name, value in reply.headers]
        announced = any(name.lower() == "content-length" for name, _ in reply.headers)
        if not announced and not reply.chunked:
            headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = reply.body if reply.sent is None else reply.body[: reply.sent]
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if reply.sent is None:
            await send({"type": "http.response.body"})


def ranged(body: bytes, etag: str = '"1"') -> Judge:
    """A file server that does ranges as RFC 9110 wants them."""

    def judge(asked: Asked) -> Reply:
        tag = [("ETag", etag)] if etag else []
        wanted = asked.headers.get("range")
        condition = asked.headers.get("if-range")
        if wanted is None or (condition is not None and condition != etag):
            return Reply(200, tag, body)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            return Reply(416, [("Content-Range", f"bytes */{len(body)}")])
        place = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Reply(206, [*tag, ("Content-Range", place)], body[start:])

    return judge


class IdlePoller(HttpPoller):
    """Polls as its test says; on its own once an hour."""

    name = "idle"
    polls: Callable[[], Awaitable[float]] | None = None

    async def poll(self) -> float:
        return 3600.0 if self.polls is None else await self.polls()


class World:
    """One device, its poller and the server."""

    def __init__(self, runtime: Runtime, device: Device, server: Server, http: MemoryHttp) -> None:
        self.runtime = runtime
        self.device = device
        self.server = server
        self.http = http
        self.trace: list[str] = []

    @property
    def poller(self) -> IdlePoller:
        client = self.device.client
        assert isinstance(client, IdlePoller)
        return client

    async def sleep(self, seconds: float) -> None:
        await self.runtime.clock.sleep(seconds)


@asynccontextmanager
async def world(
    *,
    faults: FaultPlan | None = None,
    seed: int = 1,
    poller: type[IdlePoller] = IdlePoller,
    latency: float = 0.02,
    on: bool = True,
    slot_size: int = SLOT,
    **settings: Any,
) -> AsyncIterator[World]:
    """A world whose device is on, unless told otherwise."""
    async with Runtime.in_memory(seed=seed) as runtime:
        server = Server(runtime)
        http = runtime.http = MemoryHttp(runtime, {ORIGIN: server}, latency=latency)
        device = Device(
            runtime,
            "dev-0",
            image=old_image(),
            trusted=trusted(),
            slot_size=slot_size,
            faults=faults,
        )
        made = World(runtime, device, server, http)
        chosen = ClientSettings(server=ORIGIN, trace=made.trace.append, **settings)
        device.attach(lambda device: poller(device, chosen))
        if on:
            device.power_on()
            while device.client is None:
                await runtime.clock.sleep(0.5)
        try:
            yield made
        finally:
            device.power_off()
