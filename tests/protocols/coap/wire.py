"""Two ends joined in memory: both layers of each, one timer wheel, a clock turned by hand.

Nothing sleeps and no loop runs. ``net.fate`` decides what becomes of each datagram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.runtime.metrics import Metrics
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer, TimerWheel
from firmware_images.source import as_source
from protocols.coap.blockwise import Transfer
from protocols.coap.errors import RequestFailed
from protocols.coap.message import Message, decode_datagram, encode_datagram
from protocols.coap.message_layer import MessageLayer
from protocols.coap.numbers import Code
from protocols.coap.options import make_options
from protocols.coap.peer import Peer
from protocols.coap.request_layer import Handler, RequestHandle, RequestLayer
from protocols.coap.stages import DatagramStage, MessageStage
from protocols.coap.tuning import DEFAULT_TUNING, TransportTuning

CON, NON, ACK, RST = range(4)
Address = tuple[str, int]
Result = Message | RequestFailed


@dataclass(frozen=True)
class Flown:
    """One datagram as it was sent."""

    time: float
    source: Address
    destination: Address
    data: bytes

    @property
    def decoded(self) -> tuple[int, int, Message]:
        return decode_datagram(self.data)

    @property
    def kind(self) -> str:
        """``CON GET``, ``ACK 2.05``, ``RST``."""
        mtype, _, message = self.decoded
        name = ("CON", "NON", "ACK", "RST")[mtype]
        if message.code == 0:
            return name
        if message.is_request:
            return f"{name} {Code(message.code).name}"
        return f"{name} {message.code >> 5}.{message.code & 31:02d}"


@dataclass
class Net:
    """The wire. ``fate`` gives the delays of the copies to deliver: [] loses the datagram."""

    latency: float = 0.0
    now: float = 0.0
    wheel: TimerWheel = field(default_factory=TimerWheel)
    flown: list[Flown] = field(default_factory=list)
    ends: dict[Address, End] = field(default_factory=dict)
    fate: Callable[[Flown], list[float]] | None = None

    def carry(self, source: Address, data: bytes, destination: Address) -> None:
        flown = Flown(self.now, source, destination, data)
        self.flown.append(flown)
        for delay in [self.latency] if self.fate is None else self.fate(flown):
            self.wheel.arm(Timer(lambda now: self.deliver(flown)), self.now + delay)

    def deliver(self, flown: Flown) -> None:
        end = self.ends.get(flown.destination)
        if end is not None:
            end.messages.receive(flown.data, flown.source, self.now)

    def run(self, seconds: float = 1000.0) -> None:
        """Let time pass until nothing is due any more, at most ``seconds``."""
        until = self.now + seconds
        while (deadline := self.wheel.next_deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.wheel.advance(self.now)
        self.now = until

    @property
    def kinds(self) -> list[str]:
        return [flown.kind for flown in self.flown]


class End:
    """Message layer and request layer of one address."""

    def __init__(
        self,
        net: Net,
        address: Address,
        handler: Handler | None = None,
        *,
        tuning: TransportTuning = DEFAULT_TUNING,
        seed: int = 1,
        max_peers: int = 16,
        datagram_stage: DatagramStage | None = None,
        message_stage: MessageStage | None = None,
    ) -> None:
        self.net = net
        self.address = address
        self.counters = Metrics().counters
        self.rejected: list[tuple[Peer, int]] = []
        random = DeviceRandom(seed, 0, len(net.ends))
        self.requests = RequestLayer(
            handler,
            net.wheel,
            lambda: net.now,
            random,
            tuning,
            on_reset=lambda peer, mid: self.rejected.append((peer, mid)),
            stage=message_stage,
        )
        self.messages = MessageLayer(
            lambda data, to: net.carry(address, data, to),
            self.requests,
            net.wheel,
            lambda: net.now,
            random,
            self.counters,
            tuning,
            stage=datagram_stage,
            max_peers=max_peers,
        )
        self.requests.lower = self.messages
        self.tuning = tuning
        net.ends[address] = self

    def request(
        self, to: End, message: Message, results: list[Result] | None = None, **how: object
    ) -> RequestHandle:
        taken = [] if results is None else results
        peer = self.messages.peer(to.address)
        return self.requests.request(peer, message, taken.append, **how)  # type: ignore[arg-type]

    def ask(self, to: End, message: Message, **how: object) -> Result:
        """One request, run to its end: its only result."""
        results: list[Result] = []
        self.request(to, message, results, **how)
        self.net.run()
        (result,) = results
        return result

    def transfer(
        self,
        to: End,
        message: Message,
        results: list[Result] | None = None,
        *,
        body: bytes | None = None,
        szx: int = 6,
        max_body: int = 1 << 20,
        **how: object,
    ) -> Transfer:
        transfer = Transfer(
            self.requests,
            self.messages.peer(to.address),
            message,
            ([] if results is None else results).append,
            body=None if body is None else as_source(body),
            szx=szx,
            max_body=max_body,
            **how,  # type: ignore[arg-type]
        )
        transfer.start()
        return transfer

    def fetch(self, to: End, message: Message, **how: object) -> Result:
        """One transfer, run to its end: its only result."""
        results: list[Result] = []
        self.transfer(to, message, results, **how)  # type: ignore[arg-type]
        self.net.run()
        (result,) = results
        return result

    def inject(self, to: End, mtype: int, mid: int, message: Message) -> None:
        """A datagram of our own making."""
        self.net.carry(self.address, encode_datagram(mtype, mid, message), to.address)

    @property
    def sent(self) -> list[Flown]:
        return [flown for flown in self.net.flown if flown.source == self.address]


def get(*path: str, **options: object) -> Message:
    return Message(Code.GET, options=make_options(path=path, **options))  # type: ignore[arg-type]


def post(*path: str, payload: bytes = b"") -> Message:
    return Message(Code.POST, options=make_options(path=path), payload=payload)


def put(*path: str, payload: bytes = b"") -> Message:
    return Message(Code.PUT, options=make_options(path=path), payload=payload)


def pair(handler: Handler | None = None, **how: object) -> tuple[Net, End, End]:
    """A wire, its client and its server."""
    net = Net()
    client = End(net, ("client", 1), seed=7)
    server = End(net, ("server", 5683), handler, **how)  # type: ignore[arg-type]
    return net, client, server
