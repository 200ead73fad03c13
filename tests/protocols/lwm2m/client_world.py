"""A real client on a real device, and a scripted server, in memory and in virtual time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from agent import Device, FaultPlan, Runtime
from agent.runtime import run_virtual
from protocols.coap import CoapEndpoint
from protocols.coap.errors import RequestFailed
from protocols.coap.message import Message, response
from protocols.coap.message_layer import Exchange
from protocols.coap.numbers import Code
from protocols.coap.options import Block, Options, make_options
from protocols.coap.peer import Peer
from protocols.lwm2m import Lwm2mClient, codecs
from protocols.lwm2m.model import type_of
from protocols.lwm2m.paths import Path, parse_path
from protocols.lwm2m.records import Record, Value
from tests.agent.parts import old_image, trusted

SERVER = ("10.0.0.1", 5683)
SLOT = 64 * 1024
LIFETIME = 300

Reply = Callable[[Message], Message | None]


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test in virtual time; pytest sees a plain function."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        run_virtual(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


class World:
    """One device and the server it registers with."""

    def __init__(self, runtime: Runtime, device: Device, bind: str) -> None:
        self.runtime = runtime
        self.device = device
        self.server = CoapEndpoint(
            runtime, bind=SERVER, handler=self._handle, random=runtime.random(9, 9)
        )
        self.bind = bind
        self.requests: list[tuple[float, Message]] = []
        self.events: list[tuple[str, str, str, str]] = []
        self.told: list[tuple[str, str, str, str | None]] = []
        self.wire: list[tuple[float, str, int, int, Message]] = []
        """(time, direction seen from the device, type, id, message)"""
        self.files: dict[str, bytes | Reply] = {}
        self.peer: Peer | None = None
        self.register: Reply = self._accept
        self.update: Reply = lambda request: response(Code.CHANGED)
        self.goodbye: Reply = lambda request: response(Code.DELETED)
        self._locations = 0
        device.on_event = lambda *event: self.events.append(event)
        device.attach(
            functools.partial(
                Lwm2mClient,
                server=f"coap://{SERVER[0]}:{SERVER[1]}",
                lifetime=LIFETIME,
                bind=bind,
                trace=self._trace,
                told=lambda *told: self.told.append(told),
            )
        )

    def _trace(
        self, direction: str, address: tuple[str, int], mtype: int, mid: int, message: Message
    ) -> None:
        self.wire.append((self.now, direction, mtype, mid, message))

    # -- the server's side ----------------------------------------------------------------------

    def _accept(self, request: Message) -> Message:
        self._locations += 1
        return response(Code.CREATED, make_options(location=("rd", f"at{self._locations}")))

    def _handle(self, peer: Peer, request: Message, exchange: Exchange) -> Message | None:
        self.requests.append((self.now, request))
        path = request.options.path
        if path[:1] == ("rd",):
            self.peer = peer
            if request.code == Code.DELETE:
                return self.goodbye(request)
            return self.register(request) if len(path) == 1 else self.update(request)
        served = self.files.get("/".join(path))
        if served is None:
            return response(Code.NOT_FOUND)
        if callable(served):
            return served(request)
        return Message(Code.CONTENT, b"", make_options(etag=b"v1"), served)

    def asked(self, code: Code, *path: str) -> list[Message]:
        """The device's requests of that code whose path begins so."""
        return [
            message
            for _, message in self.requests
            if message.code == code and message.options.path[: len(path)] == path
        ]

    # -- time -----------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.runtime.clock.now()

    async def sleep(self, seconds: float) -> None:
        await self.runtime.clock.sleep(seconds)

    async def until(self, true: Callable[[], bool], within: float = 600.0) -> None:
        end = self.now + within
        while not true():
            assert self.now < end, f"still not so at {self.now}: {self.device}, {self.events[-6:]}"
            await self.sleep(0.05)

    @property
    def registered(self) -> bool:
        client = self.device.client
        return isinstance(client, Lwm2mClient) and client.registered

    async def registration(self) -> None:
        await self.until(lambda: self.registered)

    # -- operations -----------------------------------------------------------------------------

    async def send(self, code: Code, path: str, payload: bytes = b"", **options: object) -> Message:
        """One request without block-wise to the device; its response."""
        segments = [part for part in path.strip("/").split("/") if part]
        return await self.ask(Message(code, b"", make_options(path=segments, **options), payload))  # type: ignore[arg-type]

    async def ask(self, message: Message) -> Message:
        assert self.peer is not None, "the device has not registered"
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def settle(result: Message | RequestFailed) -> None:
            if isinstance(result, RequestFailed):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.server.request(self.peer, message, settle)
        return await future

    async def read(self, path: str, accept: int | None = None) -> Message:
        return await self.send(Code.GET, path, accept=accept)

    async def value(self, path: str) -> Value:
        """A resource's value, by TLV."""
        answer = await self.read(path, codecs.TLV)
        assert answer.code == Code.CONTENT, answer
        base = parse_path(path)
        (record,) = codecs.decode(codecs.TLV, base, answer.payload, type_of)
        return record.value

    async def shown(self) -> tuple[Value, Value]:
        """What 5/0/3 and 5/0/5 show."""
        return await self.value("/5/0/3"), await self.value("/5/0/5")

    async def write(
        self, path: str, records: Sequence[tuple[str, Value]], content_format: int, **kind: bool
    ) -> Message:
        base: Path = parse_path(path)
        body = codecs.encode(
            content_format, base, [Record(parse_path(at), value) for at, value in records], type_of
        )
        code = Code.POST if kind.get("partial") else Code.PUT
        return await self.send(code, path, body, content_format=content_format)

    async def text(self, path: str, text: str) -> Message:
        return await self.send(Code.PUT, path, text.encode(), content_format=codecs.TEXT)

    async def block(
        self,
        data: bytes,
        number: int,
        szx: int,
        *,
        content_format: int = codecs.OPAQUE,
        **more: int,
    ) -> Message:
        """One block of a package to 5/0/0."""
        size = 16 << szx
        part = data[number * size : (number + 1) * size]
        block = Block(number, (number + 1) * size < len(data), szx)
        return await self.send(
            Code.PUT, "/5/0/0", part, content_format=content_format, block1=block, **more
        )

    async def push(
        self, data: bytes, szx: int = 6, *, content_format: int = codecs.OPAQUE
    ) -> Message:
        """The package to 5/0/0 by blocks; the last response."""
        assert self.peer is not None
        options = make_options(path=(5, 0, 0), content_format=content_format)
        message = Message(Code.PUT, b"", options)
        return await self.server.ask(self.peer, message, body=data, szx=szx)

    async def alive(self) -> None:
        """The device still answers."""
        answer = await self.read("/3/0/0")
        assert (answer.code, answer.payload) == (Code.CONTENT, b"fotilla")


@asynccontextmanager
async def world(
    *,
    slot_size: int = SLOT,
    faults: FaultPlan | None = None,
    latency: float = 0.02,
    register: bool = True,
    bind: str = "10.1.0.1",
) -> AsyncIterator[World]:
    errors: list[object] = []
    # What a timer or a datagram raises would otherwise only be logged.
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: errors.append(context.get("exception") or context["message"])
    )
    async with Runtime.in_memory(seed=11, latency=latency) as runtime:
        device = Device(
            runtime,
            "dev-1",
            image=old_image(),
            trusted=trusted(),
            slot_size=slot_size,
            faults=faults,
        )
        built = World(runtime, device, bind)
        if register:
            device.power_on()
            await built.registration()
        yield built
        device.power_off()
        await built.sleep(10)
        built.server.close()
    assert not errors, errors


def block_of(options: Options) -> tuple[int, bool, int] | None:
    block = options.block1
    return None if block is None else (block.number, block.more, block.szx)
