"""A scripted LwM2M device on a real CoAP endpoint: what a server sees, and nothing behind it.

It keeps Object 5 as a few attributes, so that a test can make it behave in any way, right or wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.runtime.runtime import Runtime
from protocols.coap import (
    CoapEndpoint,
    Code,
    Exchange,
    Message,
    RequestFailed,
    make_options,
    parse_uri,
    response,
)
from protocols.coap.blockwise import BodyAssembler
from protocols.coap.observe import Observation
from protocols.coap.udp_peer import UdpPeer

TEXT = make_options(content_format=0)
RANDOM_GROUP = 7000


class ScriptedDevice:
    """One device; `behave` switches by attribute."""

    def __init__(
        self,
        runtime: Runtime,
        server: tuple[str, int],
        name: str,
        index: int = 0,
        *,
        new_version: str = "2.0.0",
        lifetime: int = 300,
        query: tuple[str, ...] = (),
    ) -> None:
        self.runtime = runtime
        self.name = name
        self.index = index
        self.server = server
        self.lifetime = lifetime
        self.query = query
        self.version = "1.0.0"
        self.new_version = new_version
        self.state = 0
        self.result = 0
        self.executes = 0
        self.writes: list[str] = []
        self.body = b""
        self.fetched_blocks = 0
        self.location: tuple[str, ...] = ()
        self.register_codes: list[int] = []
        self.boots = 0
        self.notify = True
        # What to do after the package has arrived and after Execute; a test may replace them.
        self.on_package: Callable[[], None] = self.downloaded
        self.on_execute: Callable[[], int] = self.accept_execute
        self._observers: dict[tuple[str, ...], Observation] = {}
        self.closed = False
        self.endpoint = self._open(("127.0.0.1", 0))

    def _open(self, bind: tuple[str, int]) -> CoapEndpoint:
        self.boots += 1
        random = self.runtime.random(RANDOM_GROUP + self.boots, self.index)
        self._assembler = BodyAssembler(1 << 20, 240.0)
        return CoapEndpoint(self.runtime, bind=bind, handler=self._handle, random=random)

    # -- what the device does ---

    def register(self, done: Callable[[], None] | None = None) -> None:
        queries = (f"ep={self.name}", f"lt={self.lifetime}", "lwm2m=1.1", "b=U", *self.query)
        options = make_options(path=("rd",), queries=queries, content_format=40)
        message = Message(Code.POST, options=options, payload=b"</1/0>,</3/0>,</5/0>")

        def answered(result: Message | RequestFailed) -> None:
            if isinstance(result, RequestFailed):
                self.register_codes.append(-1)
                return
            self.register_codes.append(result.code)
            self.location = result.options.location
            if done is not None:
                done()

        self.endpoint.request(self.endpoint.peer(*self.server), message, answered)

    async def update(self, *queries: str) -> Message:
        options = make_options(path=self.location, queries=queries)
        peer = self.endpoint.peer(*self.server)
        return await self.endpoint.ask(peer, Message(Code.POST, options=options))

    async def deregister(self) -> Message:
        options = make_options(path=self.location)
        peer = self.endpoint.peer(*self.server)
        return await self.endpoint.ask(peer, Message(Code.DELETE, options=options))

    def reboot(self) -> None:
        """Everything but flash is gone; the address stays."""
        if self.closed:
            return  # a timer of its last life
        local = self.endpoint.local
        self.endpoint.abandon()
        self._observers.clear()
        self.endpoint = self._open(local)
        self.register()

    def set(self, state: int, result: int) -> None:
        if state != self.state:
            self.state = state
            self._publish(("5", "0", "3"), state)
        if result != self.result:
            self.result = result
            self._publish(("5", "0", "5"), result)

    def downloaded(self) -> None:
        self.set(2, 0)

    def accept_execute(self) -> int:
        self.set(3, 0)
        self.after(0.1, self.install)
        return Code.CHANGED

    def install(self) -> None:
        self.state, self.result, self.version = 0, 1, self.new_version
        self.reboot()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        from agent.runtime.wheel import Timer

        self.runtime.arm(Timer(lambda _now: action()), seconds)

    def close(self) -> None:
        self.closed = True
        self.endpoint.abandon()

    # -- what the server asks ---

    def _publish(self, path: tuple[str, ...], value: int) -> None:
        observation = self._observers.get(path)
        if observation is not None and self.notify:
            observation.publish(response(Code.CONTENT, TEXT, str(value).encode()))

    def _handle(self, peer: UdpPeer, request: Message, exchange: Exchange) -> Message | None:
        path = request.options.path
        if request.code == Code.GET:
            return self._read(peer, request, path)
        if path == ("5", "0", "0") and request.code == Code.PUT:
            return self._package(peer, request)
        if path == ("5", "0", "1") and request.code == Code.PUT:
            return self._uri(request.payload.decode())
        if path == ("5", "0", "2") and request.code == Code.POST:
            if self.state != 2:
                return response(Code.METHOD_NOT_ALLOWED)
            self.executes += 1
            return response(self.on_execute())
        return response(Code.NOT_FOUND)

    def _read(self, peer: UdpPeer, request: Message, path: tuple[str, ...]) -> Message:
        values: dict[tuple[str, ...], object] = {
            ("5", "0", "3"): self.state,
            ("5", "0", "5"): self.result,
            ("3", "0", "3"): self.version,
        }
        if path not in values:
            return response(Code.NOT_FOUND)
        options = TEXT
        if request.options.observe == 0:
            observation = self.endpoint.observation(peer, request.token, self._ended)
            self._observers[path] = observation
            options = make_options(content_format=0, observe=observation.sequence)
        return response(Code.CONTENT, options, str(values[path]).encode())

    def _ended(self, ended: Observation) -> None:
        self._observers = {key: item for key, item in self._observers.items() if item is not ended}

    def _package(self, peer: UdpPeer, request: Message) -> Message:
        self.writes.append("package")
        if self.state in (2, 3):
            return response(Code.METHOD_NOT_ALLOWED)
        body = self._assembler.take(peer, request, self.runtime.clock.now())
        if self.state == 0:
            self.set(1, 0)
        if isinstance(body, Message):
            return body
        self.body = body
        self.on_package()
        block = request.options.block1
        return response(Code.CHANGED, make_options(block1=block))

    def _uri(self, uri: str) -> Message:
        self.writes.append(f"uri {uri}")
        if not uri:
            self.set(0, 0)
            return response(Code.CHANGED)
        self.set(1, 0)
        target = parse_uri(uri)
        peer = self.endpoint.peer(target.host, target.port)

        def fetched(result: Message | RequestFailed) -> None:
            if isinstance(result, RequestFailed) or result.code >= 128:
                self.set(0, 4)
            else:
                self.downloaded_body()

        parts: list[bytes] = []

        def block(_offset: int, data: bytes, _total: int | None, _etag: bytes) -> bool:
            parts.append(data)
            self.fetched_blocks += 1
            return True

        def finish(result: Message | RequestFailed) -> None:
            self.body = b"".join(parts)
            fetched(result)

        message = Message(Code.GET, options=target.options())
        self.endpoint.transfer(peer, message, finish, on_block=block)
        return response(Code.CHANGED)

    def downloaded_body(self) -> None:
        self.on_package()
