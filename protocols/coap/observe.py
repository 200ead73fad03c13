"""The server's side of RFC 7641: one registered observation and its notifications.

A notification that is still unacknowledged is not joined by a second one (section 4.5.2): the
newer state waits and leaves when the older one is settled. A Reset, or a notification that is never
acknowledged, ends the observation (sections 3.6 and 4.5). Of a state that does not fit one
block the first one leaves; the observer fetches the others (RFC 7959 section 2.6).
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.coap.errors import RequestFailed
from protocols.coap.message import Message
from protocols.coap.numbers import Code, OptionNumber
from protocols.coap.options import Options, encode_uint
from protocols.coap.peer import Peer
from protocols.coap.request_layer import Lower, slice_body
from protocols.coap.stages import MessageStage
from protocols.coap.udp_peer import Context

__all__ = ["Observation"]

_ANY_REQUEST = Message(Code.GET)  # a notification answers no request for a particular block


class Observation:
    """One observer of one resource."""

    __slots__ = (
        "_in_flight",
        "_lower",
        "_on_end",
        "_stage",
        "_waiting",
        "last_mid",
        "on_acknowledged",
        "peer",
        "sequence",
        "token",
    )

    def __init__(
        self,
        lower: Lower,
        peer: Peer,
        token: bytes,
        on_end: Callable[[Observation], None],
        sequence: int = 0,
        stage: MessageStage | None = None,
    ) -> None:
        self._lower = lower
        self._stage = stage
        self._on_end = on_end
        self._in_flight = False
        self._waiting: Message | None = None
        self.peer = peer
        self.token = token
        self.sequence = sequence & 0xFFFFFF
        self.last_mid = -1
        # Called when the observer has a notification for certain.
        self.on_acknowledged: Callable[[Observation], None] | None = None

    def publish(self, message: Message, *, confirmable: bool = True) -> None:
        """Notify the observer of the state in ``message`` (its Observe option is added here)."""
        if self._in_flight:
            self._waiting = message
            return
        self.sequence = (self.sequence + 1) & 0xFFFFFF
        pair = (OptionNumber.OBSERVE, encode_uint(self.sequence))
        message = slice_body(self.peer, _ANY_REQUEST, message)
        options = Options.of(*message.options.pairs, pair)
        notification = Message(message.code, self.token, options, message.payload)
        if self._stage is not None:
            notification = self._stage.outbound(self.peer, notification)
        self._in_flight = confirmable
        context: Context | None = self if confirmable else None
        self.last_mid = self._lower.send(self.peer, notification, context, confirmable=confirmable)

    def withdraw(self) -> None:
        """Stop sending; the observation is over."""
        self._waiting = None
        if self._in_flight:
            self._in_flight = False
            self._lower.withdraw(self.peer, self)

    # Context of the layer below.

    def acknowledged(self, now: float) -> None:
        self._in_flight = False
        if self.on_acknowledged is not None:
            self.on_acknowledged(self)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.publish(waiting)

    def failed(self, error: RequestFailed) -> None:
        self._in_flight = False
        self._waiting = None
        self._on_end(self)
