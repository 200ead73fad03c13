"""What our endpoint serves to foreign clients: stored bodies, an echo, a counter, observations."""

from __future__ import annotations

from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from protocols.coap import (
    DEFAULT_TUNING,
    NO_OPTIONS,
    BodyAssembler,
    CoapEndpoint,
    Code,
    Exchange,
    Message,
    OptionNumber,
    Options,
    Peer,
    TransportTuning,
    make_options,
    response,
)
from protocols.coap.observe import Observation

LARGEST_BODY = 64 * 1024
BODY_LIFETIME = 60.0
# The separate response leaves this long after the request, well past the empty ACK.
SLOW_SECONDS = 0.3

# Characters only: libcoap's client writes what it receives to its standard output.
LARGE_BODY = "".join(f"{number:07d}|" for number in range(625)).encode()


class OurServer:
    """Paths: ``large`` and anything PUT can be read, ``echo`` and ``count`` take POST, ``slow``
    answers separately, ``state`` is observable and changes by PUT."""

    def __init__(
        self, runtime: Runtime, *, szx: int = 6, tuning: TransportTuning = DEFAULT_TUNING
    ) -> None:
        self.runtime = runtime
        self.szx = szx
        self.bodies: dict[tuple[str, ...], bytes] = {("large",): LARGE_BODY, ("state",): b"initial"}
        self.count = 0
        self.observers: dict[tuple[str, bytes], Observation] = {}
        self.ended = 0
        self._assembler = BodyAssembler(LARGEST_BODY, BODY_LIFETIME, szx)
        self._echoed: dict[str, bytes] = {}
        self._timers: list[Timer] = []
        self.endpoint = CoapEndpoint(runtime, handler=self.handle, tuning=tuning)
        self.codes: list[int] = []

    @property
    def port(self) -> int:
        return self.endpoint.local[1]

    def uri(self, path: str) -> str:
        return f"coap://127.0.0.1:{self.port}/{path}"

    def handle(self, peer: Peer, request: Message, exchange: Exchange) -> Message | None:
        self.codes.append(request.code)
        peer.largest_block = self.szx
        options = request.options
        if request.code == Code.GET:
            return self._get(peer, request, exchange)
        if options.block2 is not None and options.block2.number:
            # The rest of a response to a POST whose body came long ago.
            return response(Code.CHANGED, payload=self._echoed[peer.identity])
        body = self._assembler.take(peer, request, self.runtime.clock.now())
        if isinstance(body, Message):
            return body
        answer = self._store(peer, request, body)
        if options.block1 is not None:
            # RFC 7959 section 2.2: the final response says which block it answers.
            pair = (OptionNumber.BLOCK1, options.block1.encode())
            answer.options = Options.of(*answer.options.pairs, pair)
        return answer

    def _get(self, peer: Peer, request: Message, exchange: Exchange) -> Message | None:
        path = request.options.path
        if path == ("slow",):
            timer = Timer(lambda now: exchange.respond(response(Code.CONTENT, payload=b"slow")))
            self._timers.append(timer)
            self.runtime.arm(timer, SLOW_SECONDS)
            return None
        body = self.bodies.get(path)
        if body is None:
            return response(Code.NOT_FOUND)
        key = (peer.identity, request.token)
        options = NO_OPTIONS
        if path == ("state",) and request.options.observe == 0:
            self.observers[key] = self.endpoint.observation(peer, request.token, self._ended)
            options = make_options(observe=0)
        elif path == ("state",) and request.options.observe == 1:
            self.observers.pop(key, None)
        return response(Code.CONTENT, options, body)

    def _store(self, peer: Peer, request: Message, body: bytes) -> Message:
        path = request.options.path
        if request.code == Code.POST:
            if path == ("echo",):
                self._echoed[peer.identity] = body
                return response(Code.CHANGED, payload=body)
            if path == ("count",):
                self.count += 1
                return response(Code.CHANGED, payload=b"%d" % self.count)
            return response(Code.METHOD_NOT_ALLOWED)
        if request.code == Code.DELETE:
            return response(Code.DELETED if self.bodies.pop(path, None) else Code.NOT_FOUND)
        code = Code.CHANGED if path in self.bodies else Code.CREATED
        self.bodies[path] = body
        if path == ("state",):
            self.publish()
        return response(code)

    def publish(self) -> None:
        for observation in list(self.observers.values()):
            observation.publish(response(Code.CONTENT, payload=self.bodies[("state",)]))

    def _ended(self, observation: Observation) -> None:
        self.ended += 1
        self.observers = {
            key: known for key, known in self.observers.items() if known is not observation
        }

    def close(self) -> None:
        for timer in self._timers:
            self.runtime.wheel.disarm(timer)
        for observation in self.observers.values():
            observation.withdraw()
        self.endpoint.close()
