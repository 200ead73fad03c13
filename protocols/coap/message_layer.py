"""The message layer of CoAP over UDP (RFC 7252 section 4): types, ids, retransmission, duplicates.

Theory of operation
===================

Outgoing, per confirmable message (section 4.2)::

    SENT --timeout, retries left--> SENT (interval doubled)
    SENT --timeout, none left-----> failed(RequestTimeout)
    SENT --ACK--------------------> acknowledged, or the piggybacked response
    SENT --RST--------------------> failed(RequestReset)

At most NSTART messages to one peer are in that state (section 4.7); the others wait their turn.
All of a peer's deadlines share one timer of the wheel: a message costs no handle and no Task.

Incoming: a message id that was seen is a duplicate (section 4.5). The last :data:`RECENT` ids of
each peer are remembered; the reply is repeated when it is the newest or small. Replies to POST and
DELETE, which must not act twice, are kept for EXCHANGE_LIFETIME: a lost ACK of an Execute, then a
Read, then the Execute again must not execute twice. A safe request (GET, FETCH) whose long reply
is gone is answered anew. A request with the id of an older one, but another token than that one's
reply, is no duplicate: its sender restarted.

Sans-IO: ``receive(data, source, now)`` in; ``transmit(data, destination)`` out; deadlines live in
the wheel that is handed in. What the caller starts takes its time from the ``now`` handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakValueDictionary

from agent.runtime.network import MAX_DATAGRAM, Address
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer, TimerWheel
from protocols.coap.errors import CoapFormatError, RequestReset, RequestTimeout
from protocols.coap.message import Message, decode_datagram, encode_datagram
from protocols.coap.numbers import Code
from protocols.coap.peer import Peer
from protocols.coap.stages import DatagramStage
from protocols.coap.tuning import TransportTuning
from protocols.coap.udp_peer import RECENT, SMALL_REPLY, Context, Outgoing, UdpPeer, empty_message

__all__ = ["Address", "Exchange", "MessageLayer", "Trace", "Upper"]

Trace = Callable[[str, Address, int, int, Message], None]

CON, NON, ACK, RST = 0, 1, 2, 3


class Upper(Protocol):
    """The request layer, as seen from below."""

    def incoming_request(self, exchange: Exchange, message: Message, now: float) -> Message | None:
        """A request; the response, or None when ``exchange.respond`` will bring it."""

    def late_response(self, exchange: Exchange, answer: Message) -> Message:
        """What to send for an answer that came by ``exchange.respond``."""

    def incoming_response(self, peer: Peer, message: Message, now: float) -> bool:
        """A response; False when its token is unknown."""

    def incoming_reset(self, peer: Peer, mid: int) -> None:
        """The peer rejected the non-confirmable message ``mid``."""


class Exchange:
    """One incoming request, until it is answered."""

    __slots__ = ("_layer", "_timer", "confirmable", "mid", "peer", "request", "state")

    WAITING, EMPTY_ACKED, DONE = range(3)

    def __init__(
        self, layer: MessageLayer, peer: UdpPeer, mid: int, confirmable: bool, request: Message
    ) -> None:
        self._layer = layer
        self._timer: Timer | None = None
        self.peer = peer
        self.mid = mid
        self.confirmable = confirmable
        self.request = request
        self.state = Exchange.WAITING

    def respond(self, message: Message) -> None:
        """Answer later than in the handler's return value; a second answer is ignored."""
        self._layer.respond(self, message)

    def defer(self, now: float) -> None:
        self._timer = Timer(self._empty_ack)
        self._layer.arm_empty_ack(self._timer, now)

    def finish(self) -> None:
        self.state = Exchange.DONE
        if self._timer is not None:
            self._layer.wheel.disarm(self._timer)
            self._timer = None

    def _empty_ack(self, now: float) -> None:
        self._layer.empty_ack(self)


class MessageLayer:
    """All exchanges of one local UDP endpoint."""

    __slots__ = (
        "_counters",
        "_now",
        "_parked",
        "_peers",
        "_random",
        "_stage",
        "_transmit",
        "_tuning",
        "_upper",
        "max_peers",
        "trace",
        "wheel",
    )

    def __init__(
        self,
        transmit: Callable[[bytes, Address], None],
        upper: Upper,
        wheel: TimerWheel,
        now: Callable[[], float],
        random: DeviceRandom,
        counters: dict[str, int],
        tuning: TransportTuning,
        *,
        stage: DatagramStage | None = None,
        max_peers: int = 16,
    ) -> None:
        self._transmit = transmit
        self._upper = upper
        self.wheel = wheel
        self._now = now
        self._random = random
        self._counters = counters
        self._tuning = tuning
        self._stage = stage
        self._peers: dict[Address, UdpPeer] = {}
        # Peers that strangers displaced, for as long as somebody holds their handle.
        self._parked: WeakValueDictionary[Address, UdpPeer] | None = None
        self.max_peers = max_peers
        self.trace: Trace | None = None

    def peer(self, address: Address) -> UdpPeer:
        """The handle for ``address``, the same one for as long as anybody holds it."""
        peer = self._peers.get(address)
        if peer is None:
            if len(self._peers) >= self.max_peers:
                self._forget_one(self._now())
            if self._parked is not None:
                peer = self._parked.pop(address, None)
            if peer is None:
                # Section 4.4: the initial message id should be random.
                peer = UdpPeer(self, address, self._random.below(0x10000))
            self._peers[address] = peer
        return peer

    def _forget_one(self, now: float) -> None:
        # Strangers must not fill the memory: the longest known peer without business goes, and if
        # replies are kept for all of them, the longest known whom we do not ask anything.
        fallback: UdpPeer | None = None
        for peer in self._peers.values():
            if peer.busy:
                continue
            peer.expire_kept(now)
            if not peer.kept:
                break
            fallback = fallback or peer
        else:
            if fallback is None:
                return
            peer = fallback
        del self._peers[peer.address]
        peer.timer = None  # it refers to the peer, which should go when its last user does
        if self._parked is None:  # made late: it weighs more than an idle peer
            self._parked = WeakValueDictionary()
        self._parked[peer.address] = peer

    # -- incoming -------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """Take one datagram. Bad bytes are counted, and rejected where the RFC says so."""
        peer = self._peers.get(source) or self.peer(source)
        if len(data) > MAX_DATAGRAM:
            self._malformed(peer, data, now)  # cut short, or too much for any device
            return
        if self._stage is not None:
            plain = self._stage.inbound(peer, data, now)
            if plain is None:
                return
            data = plain
        try:
            mtype, mid, message = decode_datagram(data)
        except CoapFormatError:
            self._malformed(peer, data, now)
            return
        if self.trace is not None:
            self.trace("<", source, mtype, mid, message)
        code = message.code
        if mtype < ACK:
            if 0 < code < 32:
                self._request(peer, mtype == CON, mid, message, now)
            elif code == 0:
                # Section 4.3: an Empty confirmable message is a ping, answered by a Reset.
                if mtype == CON:
                    self._send_empty(peer, RST, mid, now)
            elif 64 <= code < 192:
                self._response(peer, mtype, mid, message, now)
            elif mtype == CON:
                self._send_empty(peer, RST, mid, now)  # reserved class (section 3)
        elif mtype == ACK:
            if code != 0 and not 64 <= code < 192:
                return  # section 4.2: an ACK carries a response or is Empty
            outgoing = self._settle(peer, mid, now)
            # A duplicate of an ACK finds no outgoing message; its response is no longer awaited
            # either, and the request layer says so by its token.
            known = code != 0 and self._upper.incoming_response(peer, message, now)
            if not known and outgoing is not None and outgoing.context is not None:
                outgoing.context.acknowledged(now)
        elif code == 0:
            outgoing = self._settle(peer, mid, now)
            if outgoing is None:
                self._upper.incoming_reset(peer, mid)
            elif outgoing.context is not None:
                outgoing.context.failed(RequestReset(f"{peer.uri} answered with a Reset"))

    def _response(self, peer: UdpPeer, mtype: int, mid: int, message: Message, now: float) -> None:
        """A separate response or a notification."""
        known = self._upper.incoming_response(peer, message, now)
        recent = peer.recent
        if mtype == CON:
            # Section 4.5: a duplicate gets what the first copy got. Its token is no longer known,
            # but a Reset now would tell the server that its response was refused.
            if known:
                if recent is None:
                    recent = peer.recent = {}
                recent[mid] = empty_message(ACK, mid)
                if len(recent) > RECENT:
                    del recent[next(iter(recent))]
            elif recent and recent.get(mid) == empty_message(ACK, mid):
                self._counters["duplicates"] += 1
                known = True
            self._send_empty(peer, ACK if known else RST, mid, now)
        elif not known and message.options.observe is not None:
            # RFC 7641 section 3.6: whoever forgot an observation ends it by a Reset.
            self._send_empty(peer, RST, mid, now)

    def _malformed(self, peer: UdpPeer, data: bytes, now: float) -> None:
        self._counters["malformed"] += 1
        # Section 4.2: a confirmable message that cannot be processed is rejected by a Reset;
        # everything else, and what has not even a header, is ignored.
        if len(data) >= 4 and data[0] >> 4 == 0b0100:
            self._send_empty(peer, RST, data[2] << 8 | data[3], now)

    def _request(
        self, peer: UdpPeer, confirmable: bool, mid: int, message: Message, now: float
    ) -> None:
        recent = peer.recent
        if recent is None:
            recent = peer.recent = {}
        if (mid in recent or (peer.kept and mid in peer.kept)) and self._duplicate(
            peer, mid, message, now
        ):
            return
        peer.heard = now
        recent[mid] = None
        if len(recent) > RECENT:
            del recent[next(iter(recent))]
        newest = peer.newest
        if newest != mid:
            reply = recent.get(newest)
            if reply is not None and len(reply) > SMALL_REPLY:
                recent[newest] = None
            peer.newest = mid
        if message.code == 2 or message.code == 4:
            peer.keep(mid, now, now + self._tuning.exchange_lifetime)
        exchange = Exchange(self, peer, mid, confirmable, message)
        try:
            answer = self._upper.incoming_request(exchange, message, now)
        except Exception:
            # A defect of the handler: the peer gets an answer, the caller gets to see it.
            if exchange.state == Exchange.WAITING:
                error = Message(Code.INTERNAL_SERVER_ERROR, message.token)
                self._reply(exchange, error, now)
            raise
        if answer is not None:
            answer.token = message.token
            self._reply(exchange, answer, now)
        elif exchange.state == Exchange.WAITING and confirmable:
            exchange.defer(now)

    def _duplicate(self, peer: UdpPeer, mid: int, message: Message, now: float) -> bool:
        """Repeat what was answered. False: no duplicate, or a safe request whose reply is gone."""
        recent = peer.recent
        assert recent is not None
        peer.expire_kept(now)
        if now > peer.heard + self._tuning.exchange_lifetime:
            recent.clear()  # their ids may come again
        reply = recent.get(mid)
        if reply is None and peer.kept and mid in peer.kept:
            reply = peer.kept[mid][1]
        elif mid not in recent:
            return False
        if reply is not None:
            # Byte 0 has the token's length, byte 1 the code; an Empty message has no token.
            if reply[1] and reply[4 : 4 + (reply[0] & 15)] != message.token:
                recent.pop(mid, None)
                return False
            self._counters["duplicates"] += 1
            self._put(peer, reply, now)
            return True
        self._counters["duplicates"] += 1
        if mid == peer.newest:
            return True  # still being worked on: the deferred answer will come
        if message.code not in (Code.GET, Code.FETCH):
            return True
        del recent[mid]
        return False

    def _reply(self, exchange: Exchange, answer: Message, now: float) -> None:
        """The piggybacked response (section 5.2.1), or the NON one to a NON request (5.2.3)."""
        peer = exchange.peer
        if exchange.confirmable:
            mtype, mid = ACK, exchange.mid
        else:
            mtype, mid = NON, peer.next_mid()
        data = encode_datagram(mtype, mid, answer)
        if self.trace is not None:
            self.trace(">", peer.address, mtype, mid, answer)
        exchange.state = Exchange.DONE
        peer.remember(exchange.mid, data)
        self._put(peer, data, now)

    # -- deferred answers -----------------------------------------------------------------------

    def arm_empty_ack(self, timer: Timer, now: float) -> None:
        self.wheel.arm(timer, now + self._tuning.empty_ack_after)

    def empty_ack(self, exchange: Exchange) -> None:
        if exchange.state != Exchange.WAITING:
            return
        exchange.state = Exchange.EMPTY_ACKED
        data = empty_message(ACK, exchange.mid)
        exchange.peer.remember(exchange.mid, data)
        self._trace_empty(exchange.peer, ACK, exchange.mid)
        self._put(exchange.peer, data, self._now())

    def respond(self, exchange: Exchange, message: Message) -> None:
        if exchange.state == Exchange.DONE:
            return
        message = self._upper.late_response(exchange, message)
        message.token = exchange.request.token
        if exchange.state == Exchange.WAITING:
            exchange.finish()
            self._reply(exchange, message, self._now())
            return
        exchange.finish()
        self.send(exchange.peer, message, None, confirmable=True)

    # -- outgoing -------------------------------------------------------------------------------

    def send(
        self, peer: UdpPeer, message: Message, context: Context | None, *, confirmable: bool = True
    ) -> int:
        """Send a request, a separate response or a notification; returns its message id."""
        mid = peer.next_mid()
        mtype = CON if confirmable else NON
        data = encode_datagram(mtype, mid, message)
        if self.trace is not None:
            self.trace(">", peer.address, mtype, mid, message)
        if not confirmable:
            self._put(peer, data, self._now())
            return mid
        outgoing = Outgoing(mid, data, context)
        if len(peer.outgoing) >= self._tuning.nstart:
            if peer.backlog is None:
                peer.backlog = []
            peer.backlog.append(outgoing)
        else:
            self._launch(peer, outgoing, self._now())
        return mid

    def withdraw(self, peer: UdpPeer, context: Context) -> None:
        """Stop retransmitting for ``context``: nobody waits for it any more."""
        if peer.backlog:
            peer.backlog = [item for item in peer.backlog if item.context is not context]
        for outgoing in peer.outgoing:
            if outgoing.context is context:
                peer.outgoing.remove(outgoing)
                self._launch_waiting(peer, self._now())
                return

    def _launch(self, peer: UdpPeer, outgoing: Outgoing, now: float) -> None:
        tuning = self._tuning
        # Section 4.2: between ACK_TIMEOUT and ACK_TIMEOUT * ACK_RANDOM_FACTOR.
        outgoing.interval = self._random.uniform(
            tuning.ack_timeout, tuning.ack_timeout * tuning.ack_random_factor
        )
        outgoing.due = now + outgoing.interval
        peer.outgoing.append(outgoing)
        timer = peer.timer
        if timer is None:
            timer = peer.timer = Timer(peer.expire)
        if len(peer.outgoing) == 1:
            self.wheel.arm(timer, outgoing.due)
        else:
            self.wheel.arm(timer, min(item.due for item in peer.outgoing))
        self._put(peer, outgoing.data, now)

    def _launch_waiting(self, peer: UdpPeer, now: float) -> None:
        if peer.backlog and len(peer.outgoing) < self._tuning.nstart:
            waiting = peer.backlog.pop(0)
            if not peer.backlog:
                peer.backlog = None
            self._launch(peer, waiting, now)
        elif not peer.outgoing and peer.timer is not None:
            self.wheel.disarm(peer.timer)

    def _settle(self, peer: UdpPeer, mid: int, now: float) -> Outgoing | None:
        """The confirmable message that ``mid`` acknowledges or rejects, taken off the list."""
        for outgoing in peer.outgoing:
            if outgoing.mid == mid:
                peer.outgoing.remove(outgoing)
                self._launch_waiting(peer, now)
                return outgoing
        return None

    def handle_timer(self, peer: UdpPeer, now: float) -> None:
        """Retransmit to ``peer`` what is due, and give up what was sent MAX_RETRANSMIT times."""
        given_up: list[Outgoing] = []
        for outgoing in list(peer.outgoing):
            if outgoing.due > now:
                continue
            if outgoing.tries >= self._tuning.max_retransmit:
                peer.outgoing.remove(outgoing)
                given_up.append(outgoing)
                continue
            outgoing.tries += 1
            outgoing.interval *= 2
            outgoing.due = now + outgoing.interval
            self._counters["retransmissions"] += 1
            self._put(peer, outgoing.data, now)
        for outgoing in given_up:
            self._launch_waiting(peer, now)
            if outgoing.context is not None:
                sent = outgoing.tries + 1
                outgoing.context.failed(RequestTimeout(f"no answer from {peer.uri} ({sent} sent)"))
        if peer.outgoing and peer.timer is not None:
            self.wheel.arm(peer.timer, min(item.due for item in peer.outgoing))

    def drop_all(self) -> None:
        """Forget every exchange without a word: the power is gone."""
        for peer in self._peers.values():
            peer.outgoing.clear()
            peer.backlog = None
            if peer.timer is not None:
                self.wheel.disarm(peer.timer)
        self._peers.clear()

    def ping(self, peer: UdpPeer, context: Context) -> None:
        """Section 4.3: an Empty confirmable message; the Reset that answers it is the pong."""
        mid = peer.next_mid()
        outgoing = Outgoing(mid, empty_message(CON, mid), context)
        self._trace_empty(peer, CON, mid)
        self._launch(peer, outgoing, self._now())

    def _send_empty(self, peer: UdpPeer, mtype: int, mid: int, now: float) -> None:
        self._trace_empty(peer, mtype, mid)
        self._put(peer, empty_message(mtype, mid), now)

    def _trace_empty(self, peer: UdpPeer, mtype: int, mid: int) -> None:
        if self.trace is not None:
            self.trace(">", peer.address, mtype, mid, Message(Code.EMPTY))

    def _put(self, peer: UdpPeer, data: bytes, now: float) -> None:
        if self._stage is not None:
            protected = self._stage.outbound(peer, data, now)
            if protected is None:
                return
            data = protected
        self._transmit(data, peer.address)
