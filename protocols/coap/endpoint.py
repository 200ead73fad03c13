"""The CoAP endpoint: both layers on a datagram socket; client and server at once.

The only part of this package that touches a network. It moves bytes; the layers decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.runtime.network import Address
from agent.runtime.random import DeviceRandom
from agent.runtime.runtime import Runtime
from firmware_images.source import ByteSource, as_source
from protocols.coap.blockwise import OnBlock, Transfer
from protocols.coap.errors import EndpointClosed, RequestFailed, RequestReset
from protocols.coap.message import Message
from protocols.coap.message_layer import MessageLayer, Trace
from protocols.coap.numbers import Code
from protocols.coap.observe import Observation
from protocols.coap.options import Options, make_options
from protocols.coap.peer import Peer
from protocols.coap.request_layer import Handler, OnResult, RequestHandle, RequestLayer
from protocols.coap.stages import DatagramStage, MessageStage
from protocols.coap.tuning import DEFAULT_TUNING, TransportTuning
from protocols.coap.udp_peer import UdpPeer
from protocols.coap.uri import CoapUri

__all__ = ["CoapEndpoint"]


class CoapEndpoint:
    """One bound UDP socket that asks and answers.

    ``handler(peer, request, exchange)`` returns the response, or None when it will call
    ``exchange.respond`` later. ``on_reset(peer, mid)`` hears of rejected non-confirmable messages.
    Raises :class:`~agent.runtime.network.BindError` when ``bind`` cannot be used.
    """

    __slots__ = ("_messages", "_now", "_requests", "_socket", "tuning")

    def __init__(
        self,
        runtime: Runtime,
        *,
        bind: Address = ("127.0.0.1", 0),
        handler: Handler | None = None,
        tuning: TransportTuning = DEFAULT_TUNING,
        random: DeviceRandom | None = None,
        on_reset: Callable[[Peer, int], None] | None = None,
        max_peers: int = 16,
        datagram_stage: DatagramStage | None = None,
        message_stage: MessageStage | None = None,
    ) -> None:
        random = random or runtime.random(0, 0)
        now = runtime.clock.now
        self.tuning = tuning
        self._now = now
        self._requests = RequestLayer(
            handler, runtime.wheel, now, random, tuning, on_reset=on_reset, stage=message_stage
        )
        self._socket = runtime.network.open(
            bind, self._receive, burst=tuning.burst, buffer=tuning.socket_buffer
        )
        self._messages = MessageLayer(
            self._socket.send,
            self._requests,
            runtime.wheel,
            now,
            random,
            runtime.metrics.counters,
            tuning,
            stage=datagram_stage,
            max_peers=max_peers,
        )
        self._requests.lower = self._messages

    def _receive(self, data: bytes, source: Address) -> None:
        self._messages.receive(data, source, self._now())

    @property
    def local(self) -> Address:
        return self._socket.local

    @property
    def trace(self) -> Trace | None:
        """Called with (">" or "<", address, type, message id, message) for every message."""
        return self._messages.trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._messages.trace = trace

    def peer(self, host: str, port: int) -> UdpPeer:
        """The handle for a numeric address."""
        return self._messages.peer((host, port))

    def request(
        self,
        peer: Peer,
        message: Message,
        on_result: OnResult,
        *,
        timeout: float | None = None,
        confirmable: bool = True,
    ) -> RequestHandle:
        """One request, one response or :class:`RequestFailed`; no block-wise."""
        return self._requests.request(
            peer, message, on_result, timeout=timeout, confirmable=confirmable
        )

    def transfer(
        self,
        peer: Peer,
        message: Message,
        on_result: OnResult,
        *,
        body: ByteSource | bytes | None = None,
        szx: int | None = None,
        timeout: float | None = None,
        on_block: OnBlock | None = None,
        on_progress: Callable[[int], None] | None = None,
        offset: int = 0,
        etag: bytes = b"",
    ) -> Transfer:
        """A request with all its blocks, both ways.

        ``body`` (default: the message's payload) leaves by Block1 when it does not fit one block;
        ``on_progress(bytes)`` hears of each accepted block. ``on_block`` streams the response
        instead of joining it, from ``offset`` on when a former transfer with ``etag`` got so far.
        ``timeout`` bounds each single exchange.
        """
        if body is None and message.payload:
            body = message.payload
        source = as_source(body) if isinstance(body, bytes) else body
        transfer = Transfer(
            self,
            peer,
            message,
            on_result,
            body=source,
            szx=self.tuning.block_szx if szx is None else szx,
            max_body=self.tuning.max_body,
            timeout=timeout,
            on_block=on_block,
            on_progress=on_progress,
            offset=offset,
            etag=etag,
        )
        transfer.start()
        return transfer

    async def ask(
        self,
        peer: Peer,
        message: Message,
        *,
        body: ByteSource | bytes | None = None,
        szx: int | None = None,
        timeout: float | None = None,
    ) -> Message:
        """:meth:`transfer` for coroutines. Raises :class:`RequestFailed`."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def settle(result: Message | RequestFailed) -> None:
            if future.done():
                return
            if isinstance(result, RequestFailed):
                future.set_exception(result)
            else:
                future.set_result(result)

        transfer = self.transfer(peer, message, settle, body=body, szx=szx, timeout=timeout)
        try:
            return await future
        finally:
            transfer.cancel()

    async def fetch(self, uri: CoapUri, code: int = Code.GET, payload: bytes = b"") -> Message:
        """Ask the server that ``uri`` names; its host must be a numeric address here."""
        peer = self.peer(uri.host, uri.port)
        return await self.ask(peer, Message(code, b"", uri.options(), payload))

    def observe(self, peer: Peer, message: Message, on_notification: OnResult) -> RequestHandle:
        """Register as an observer (RFC 7641): ``on_notification`` gets the first response and every
        fresh notification, or the failure. A response without Observe ends it. The handle's
        ``cancel`` lets the next notification be answered by a Reset, which deregisters."""
        options = Options.of(*message.options.pairs, *make_options(observe=0).pairs)
        message = Message(message.code, b"", options, message.payload)
        return self._requests.request(peer, message, on_notification, observing=True)

    def observation(
        self, peer: Peer, token: bytes, on_end: Callable[[Observation], None], sequence: int = 0
    ) -> Observation:
        """The server's side: register the observer that asked with ``token``."""
        return Observation(self._messages, peer, token, on_end, sequence, self._requests.stage)

    def ping(self, peer: UdpPeer, on_pong: Callable[[bool], None]) -> None:
        """CoAP ping: ``on_pong(True)`` when the peer is there, ``on_pong(False)`` when not."""
        self._messages.ping(peer, _Ping(on_pong))

    def close(self) -> None:
        """Close the socket; requests under way fail."""
        self._messages.drop_all()
        self._socket.close()
        self._requests.fail_all(EndpointClosed("the endpoint is closed"))

    def abandon(self) -> None:
        """Close the socket and forget everything without telling anybody: the power is gone."""
        self._messages.drop_all()
        self._requests.drop_all()
        self._socket.close()


class _Ping:
    __slots__ = ("_on_pong",)

    def __init__(self, on_pong: Callable[[bool], None]) -> None:
        self._on_pong = on_pong

    def acknowledged(self, now: float) -> None:
        self._on_pong(True)

    def failed(self, error: RequestFailed) -> None:
        self._on_pong(isinstance(error, RequestReset))
