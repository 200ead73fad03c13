"""The two places where protection slips in; today both are the identity (None).

``DatagramStage`` stands between network and message layer: DTLS. ``MessageStage`` stands between
message and request layer: OSCORE (RFC 8613), which protects requests and responses but leaves
type and message id alone.
"""

from __future__ import annotations

from typing import Protocol

from protocols.coap.message import Message
from protocols.coap.peer import Peer

__all__ = ["DatagramStage", "MessageStage"]


class DatagramStage(Protocol):
    def outbound(self, peer: Peer, datagram: bytes, now: float) -> bytes | None:
        """What goes on the wire; None when it must wait (a handshake is under way)."""

    def inbound(self, peer: Peer, datagram: bytes, now: float) -> bytes | None:
        """The CoAP datagram inside; None when it was the stage's own or did not authenticate."""


class MessageStage(Protocol):
    def outbound(self, peer: Peer, message: Message) -> Message:
        """The protected form of a request or response."""

    def inbound(self, peer: Peer, message: Message) -> Message | None:
        """The plain form; None when it did not authenticate."""
