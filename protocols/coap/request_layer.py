"""The request layer of CoAP (RFC 7252 section 5): tokens, requests, observations.

It sees no type, message id or address: the layer below is handed in as :class:`Lower`, and CoAP
over TCP will bring another one. Every request has its own token; a response finds its request by
token and peer, whichever way it came (piggybacked, separate, non-confirmable).

Responses that do not fit one datagram are cut into blocks here (RFC 7959 section 2.4), statelessly:
the handler makes the whole response again for every block, and the ETag tells the client when two
of them differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from zlib import crc32

from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer, TimerWheel
from protocols.coap.errors import CoapError, RequestFailed, RequestTimeout
from protocols.coap.message import Message, response
from protocols.coap.message_layer import Exchange
from protocols.coap.numbers import Code, OptionNumber
from protocols.coap.options import Block, Options, encode_uint
from protocols.coap.peer import Peer
from protocols.coap.stages import MessageStage
from protocols.coap.tuning import TransportTuning
from protocols.coap.udp_peer import Context

__all__ = ["Handler", "Lower", "OnResult", "RequestHandle", "RequestLayer", "slice_body"]

Handler = Callable[[Any, Message, Exchange], Message | None]
OnResult = Callable[[Message | RequestFailed], None]

MAX_PAYLOAD = 1024  # RFC 7252 section 4.6


class Lower(Protocol):
    """What the request layer needs of UDP's message layer, or of TCP later."""

    def send(
        self, peer: Any, message: Message, context: Context | None, *, confirmable: bool = True
    ) -> int: ...

    def withdraw(self, peer: Any, context: Context) -> None: ...


class RequestHandle:
    """A request under way, or an observation for as long as it is wanted."""

    __slots__ = (
        "_last_seen",
        "_layer",
        "_sequence",
        "_timer",
        "observing",
        "on_result",
        "peer",
        "timeout",
        "token",
    )

    def __init__(
        self,
        layer: RequestLayer,
        peer: Peer,
        token: bytes,
        on_result: OnResult,
        timeout: float | None,
        observing: bool,
    ) -> None:
        self._layer = layer
        self._timer: Timer | None = None
        self._sequence = -1
        self._last_seen = 0.0
        self.peer = peer
        self.token = token
        self.on_result = on_result
        self.timeout = timeout
        self.observing = observing

    @property
    def active(self) -> bool:
        return self._layer.is_waiting(self)

    def cancel(self) -> None:
        """Forget the request; a late response is answered as to a stranger."""
        self._layer.forget(self)

    # Context of the layer below.

    def acknowledged(self, now: float) -> None:
        if self.timeout is None:
            self.arm(now, self._layer.tuning.response_timeout)

    def failed(self, error: RequestFailed) -> None:
        if self._layer.is_waiting(self):
            self._layer.forget(self)
            self.on_result(error)

    def arm(self, now: float, seconds: float) -> None:
        if self._timer is None:
            self._timer = Timer(self._expired)
        self._layer.wheel.arm(self._timer, now + seconds)

    def disarm(self) -> None:
        if self._timer is not None:
            self._layer.wheel.disarm(self._timer)

    def _expired(self, now: float) -> None:
        self.failed(RequestTimeout(f"no response from {self.peer.uri} in time"))

    def is_fresh(self, sequence: int, now: float) -> bool:
        """RFC 7641 section 3.4: whether a notification is newer than the last one."""
        last = self._sequence
        fresh = (
            last < 0
            or (last < sequence and sequence - last < 1 << 23)
            or (last > sequence and last - sequence > 1 << 23)
            or now > self._last_seen + 128.0
        )
        if fresh:
            self._sequence = sequence
            self._last_seen = now
        return fresh


class RequestLayer:
    """All requests, in both directions, of one local endpoint."""

    __slots__ = (
        "_handler",
        "_now",
        "_on_reset",
        "_token",
        "_waiting",
        "lower",
        "stage",
        "tuning",
        "wheel",
    )

    lower: Lower

    def __init__(
        self,
        handler: Handler | None,
        wheel: TimerWheel,
        now: Callable[[], float],
        random: DeviceRandom,
        tuning: TransportTuning,
        *,
        on_reset: Callable[[Peer, int], None] | None = None,
        stage: MessageStage | None = None,
    ) -> None:
        self._handler = handler
        self.wheel = wheel
        self._now = now
        self.tuning = tuning
        self._on_reset = on_reset
        self.stage = stage
        # Section 5.3.1: tokens should not be guessable from outside; a random start and an odd
        # random step visit all 32-bit values before one repeats.
        self._token = random.u64() | 1
        self._waiting: dict[bytes, RequestHandle] = {}

    # -- requests of ours -----------------------------------------------------------------------

    def request(
        self,
        peer: Peer,
        message: Message,
        on_result: OnResult,
        *,
        timeout: float | None = None,
        confirmable: bool = True,
        observing: bool = False,
    ) -> RequestHandle:
        """Send one request; ``on_result`` gets the response or a :class:`RequestFailed`, once.

        ``timeout`` bounds the whole exchange in seconds; None leaves it to retransmission and,
        after an empty ACK, to the tuning. With ``observing`` it gets every fresh notification.
        """
        word = self._token
        self._token = (word + (word >> 32 | 1)) & 0xFFFFFFFF | word & ~0xFFFFFFFF
        token = (word & 0xFFFFFFFF).to_bytes(4, "big")
        handle = RequestHandle(self, peer, token, on_result, timeout, observing)
        self._waiting[token] = handle
        message.token = token
        if timeout is not None:
            handle.arm(self._now(), timeout)
        elif not confirmable:
            handle.arm(self._now(), self.tuning.response_timeout)
        if self.stage is not None:
            message = self.stage.outbound(peer, message)
        self.lower.send(peer, message, handle if confirmable else None, confirmable=confirmable)
        return handle

    def is_waiting(self, handle: RequestHandle) -> bool:
        return self._waiting.get(handle.token) is handle

    def forget(self, handle: RequestHandle) -> None:
        if self._waiting.get(handle.token) is handle:
            self._remove(handle)
            handle.disarm()
            self.lower.withdraw(handle.peer, handle)

    def _remove(self, handle: RequestHandle) -> None:
        del self._waiting[handle.token]
        if not self._waiting:
            self._waiting = {}  # an emptied dictionary keeps the memory of its entries

    def fail_all(self, error: RequestFailed) -> None:
        """End every request of ours with ``error`` (the endpoint closes)."""
        waiting, self._waiting = self._waiting, {}
        for handle in waiting.values():
            handle.disarm()
            handle.on_result(error)

    def drop_all(self) -> None:
        """Forget every request without telling anybody: the power is gone."""
        for handle in self._waiting.values():
            handle.disarm()
        self._waiting.clear()

    # -- Upper, as the message layer sees it ----------------------------------------------------

    def incoming_response(self, peer: Peer, message: Message, now: float) -> bool:
        handle = self._waiting.get(message.token)
        if handle is None or handle.peer is not peer:
            return False
        if self.stage is not None:
            plain = self.stage.inbound(peer, message)
            if plain is None:
                return False
            message = plain
        options = message.options
        if options.unsupported is not None:
            return False  # section 5.4.1: a response with an unknown critical option is rejected
        sequence = options.observe
        if handle.observing and sequence is not None and message.code < 96:
            handle.disarm()
            self.lower.withdraw(peer, handle)
            if handle.is_fresh(sequence, now):
                handle.on_result(message)
            return True
        # The response may overtake the ACK (section 5.2.2): stop retransmitting at once.
        self._remove(handle)
        if handle._timer is not None:
            handle.disarm()
        self.lower.withdraw(peer, handle)
        handle.on_result(message)
        return True

    def incoming_reset(self, peer: Peer, mid: int) -> None:
        if self._on_reset is not None:
            self._on_reset(peer, mid)

    def incoming_request(self, exchange: Exchange, message: Message, now: float) -> Message | None:
        peer = exchange.peer
        if self.stage is not None:
            plain = self.stage.inbound(peer, message)
            if plain is None:
                return response(Code.UNAUTHORIZED)
            plain.token = message.token
            exchange.request = message = plain
        options = message.options
        answer: Message | None
        if options.unsupported is not None:
            answer = _refuse(options)
        elif self._handler is None:
            answer = response(Code.NOT_FOUND)
        else:
            try:
                answer = self._handler(peer, message, exchange)
            except CoapError as error:
                answer = response(Code.BAD_REQUEST, payload=str(error).encode()[:MAX_PAYLOAD])
            if answer is None:
                return None
            if len(answer.payload) > MAX_PAYLOAD or options.block2 is not None:
                answer = slice_body(peer, message, answer)
        return answer if self.stage is None else self.stage.outbound(peer, answer)

    def late_response(self, exchange: Exchange, answer: Message) -> Message:
        answer = slice_body(exchange.peer, exchange.request, answer)
        return answer if self.stage is None else self.stage.outbound(exchange.peer, answer)


def _refuse(options: Options) -> Message:
    """The answer to a request with a critical option that is unknown or malformed."""
    number = options.unsupported
    if number in (OptionNumber.PROXY_URI, OptionNumber.PROXY_SCHEME):
        return response(Code.PROXYING_NOT_SUPPORTED)
    if number in (OptionNumber.BLOCK1, OptionNumber.BLOCK2):
        values = options.values(number)
        if len(values) == 1 and len(values[0]) <= 3:  # RFC 7959 section 2.2
            return response(Code.BAD_REQUEST, payload=b"block size exponent 7 is reserved")
    text = f"option {number} is critical and not understood"
    return response(Code.BAD_OPTION, payload=text.encode())


def slice_body(peer: Peer, request: Message, answer: Message) -> Message:
    """The block of ``answer`` that ``request`` asks for (RFC 7959 section 2.4).

    A response that has a Block2 option, or is an error, or fits in one block, stays as it is.
    """
    options = answer.options
    body = answer.payload
    asked = request.options.block2
    if options.block2 is not None or answer.code >= 128:
        return answer
    if asked is None and len(body) <= MAX_PAYLOAD and len(body) <= 16 << peer.largest_block:
        return answer
    block = peer.clamp(asked if asked is not None else Block(0, False, peer.largest_block))
    offset, size = block.offset, block.size
    total = len(body)
    if offset >= total and not (offset == 0 and total == 0):
        text = f"block {block.number} of {size} bytes begins past the end at {total}"
        return response(Code.BAD_REQUEST, payload=text.encode())
    more = offset + size < total
    sent = Block(block.number, more, block.szx)
    pairs = [*options.pairs, (OptionNumber.BLOCK2, sent.encode())]
    if offset == 0 or request.options.size2 is not None:
        pairs.append((OptionNumber.SIZE2, encode_uint(total)))
    if not options.etag:
        # Without an ETag a client could join blocks of two different states of a resource.
        pairs.append((OptionNumber.ETAG, crc32(body).to_bytes(4, "big")))
    return Message(answer.code, answer.token, Options.of(*pairs), body[offset : offset + size])
