"""A peer over UDP: its message ids, its confirmable messages on their way, and what it was told.

Message ids belong to a pair of endpoints (RFC 7252 section 4.4), so all that the message layer
keeps by id is here: what awaits an acknowledgement (section 4.2), and the replies that a duplicate
of a request gets again (section 4.5). How long each is kept is the message layer's business.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Protocol

from agent.runtime.network import Address
from agent.runtime.wheel import Timer
from protocols.coap.errors import RequestFailed
from protocols.coap.peer import Peer

if TYPE_CHECKING:
    from protocols.coap.message_layer import MessageLayer

__all__ = ["KEPT_LIMIT", "RECENT", "SMALL_REPLY", "Context", "Outgoing", "UdpPeer", "empty_message"]

RECENT = 8  # ids remembered per peer: more than NSTART allows in flight from any honest one
SMALL_REPLY = 64  # a reply of this size is kept for all recent ids; a larger one for the newest
KEPT_LIMIT = 32  # POSTs and DELETEs of one peer within EXCHANGE_LIFETIME; the oldest go first


class Context(Protocol):
    """What the request layer attaches to a confirmable message of its own."""

    def acknowledged(self, now: float) -> None:
        """The peer has it (an empty ACK came); a response may follow separately."""

    def failed(self, error: RequestFailed) -> None:
        """It was reset or never acknowledged."""


class Outgoing:
    """A confirmable message on its way."""

    __slots__ = ("context", "data", "due", "interval", "mid", "tries")

    def __init__(self, mid: int, data: bytes, context: Context | None) -> None:
        self.mid = mid
        self.data = data
        self.context = context
        self.due = 0.0
        self.interval = 0.0
        self.tries = 0


def empty_message(mtype: int, mid: int) -> bytes:
    """The four bytes of an Empty message (section 4.1)."""
    return bytes((0x40 | mtype << 4, 0, mid >> 8, mid & 0xFF))


class UdpPeer(Peer):
    """A peer and what the message layer knows of it."""

    __slots__ = (
        "__weakref__",
        "address",
        "backlog",
        "heard",
        "kept",
        "layer",
        "mid",
        "newest",
        "outgoing",
        "recent",
        "timer",
    )

    def __init__(self, layer: MessageLayer, address: Address, mid: int) -> None:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        # Interned: a fleet has one server, and each device a handle for it.
        super().__init__("coap", intern(f"{host}:{address[1]}"))
        self.layer = layer
        self.address = address
        self.mid = mid
        self.newest = -1
        self.heard = 0.0
        self.recent: dict[int, bytes | None] | None = None
        self.kept: dict[int, tuple[float, bytes | None]] | None = None
        self.outgoing: list[Outgoing] = []
        self.backlog: list[Outgoing] | None = None  # seldom used, and an empty deque is 760 bytes
        self.timer: Timer | None = None

    def next_mid(self) -> int:
        self.mid = mid = (self.mid + 1) & 0xFFFF
        return mid

    def expire(self, now: float) -> None:
        self.layer.handle_timer(self, now)

    @property
    def busy(self) -> bool:
        return bool(self.outgoing or self.backlog)

    def expire_kept(self, now: float) -> None:
        """Forget the replies that no duplicate can ask for any more."""
        kept = self.kept
        while kept:
            oldest = next(iter(kept))
            if kept[oldest][0] > now:
                return
            del kept[oldest]

    def keep(self, mid: int, now: float, until: float) -> None:
        """The reply to `mid` is to be repeated `until` then, whatever else is asked meanwhile."""
        kept = self.kept
        if kept is None:
            kept = self.kept = {}
        else:
            self.expire_kept(now)
            kept.pop(mid, None)  # in order of age
            if len(kept) >= KEPT_LIMIT:
                del kept[next(iter(kept))]
        kept[mid] = (until, None)

    def remember(self, mid: int, data: bytes) -> None:
        """What `mid` was answered with."""
        recent = self.recent
        if (
            recent is not None
            and mid in recent
            and (mid == self.newest or len(data) <= SMALL_REPLY)
        ):
            recent[mid] = data
        kept = self.kept
        if kept and mid in kept:
            kept[mid] = (kept[mid][0], data)
