"""A small MQTT 3.1.1 broker in memory, for virtual time: the transport that needs no network.

Devices and servers connect to one `MemoryBroker` through the same interface as to a real broker.
Every step takes one `latency` each way and goes through one queue, so that what one client sent
first arrives first (TCP keeps order), and nothing happens inside the call that caused it.

What it does as the standard says: sessions that survive their connection with subscriptions and
QoS 1 messages (section 3.1.2.4), takeover by a second connection of the same client (3.1.4), the
last will (3.1.2.5), retained messages (3.3.1.3), filters with + and # (4.7), messages again with
DUP after a reconnect (4.4), one message for overlapping subscriptions at the highest QoS (3.3.5).

What a test can ask for: QoS 1 messages delivered twice, QoS 0 messages lost, connections cut,
a broker that is down, clients that are refused. What a server with rules of its own needs:
`allows` (who may do what), `intercept` (a message that is for the server and nobody else) and
`deliver` (a message to one client, subscribed or not, as AWS IoT and ThingsBoard send them).
QoS 2 is not there: neither of those two has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from agent.runtime.mqtt import MqttCause, MqttListener, MqttSettings
from agent.runtime.random import DeviceRandom
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from protocols.mqtt.topics import FilterTree, check_filter, check_topic, matches

__all__ = ["MemoryBroker"]

MAX_QUEUED = 1000
"""QoS 1 messages kept for a client that is away; newer ones are dropped, as mosquitto does
(max_queued_messages)."""
RANDOM_GROUP = 0xFFFFFFFE
"""The broker draws its numbers apart from every device and from the network."""

Verb = Literal["publish", "subscribe"]


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes
    qos: int


@dataclass(slots=True)
class _Session:
    """What the broker keeps of one client."""

    client_id: str
    persistent: bool
    link: _Link | None = None
    filters: dict[str, int] = field(default_factory=dict)
    outgoing: deque[_Message] = field(default_factory=deque)
    """QoS 1 messages that the client has not acknowledged, or never got."""
    sent: int = 0
    """So many of `outgoing`, from its front, were sent before."""


class _Link:
    """One connection, seen from both ends."""

    __slots__ = ("_broker", "accepted", "established", "listener", "settings", "silent")

    def __init__(self, broker: MemoryBroker, settings: MqttSettings, listener: MqttListener):
        self._broker = broker
        self.settings = settings
        self.listener = listener
        self.accepted = False
        """The broker has a session on it."""
        self.established = False
        """The client knows."""
        self.silent = False
        """The client is through with it."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        acknowledged: Callable[[], None] | None = None,
    ) -> None:
        check_topic(topic)
        if qos not in (0, 1):
            raise ValueError(f"QoS {qos}: 0 and 1 are there")
        if self.established:
            message = _Message(topic, payload, qos)
            self._broker._later(self._broker._published, self, message, retain, acknowledged)

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        for topic_filter in filters:
            check_filter(topic_filter)
        if self.established:
            self._broker._later(self._broker._subscribe, self, filters, qos)

    def close(self) -> None:
        if not self.silent:
            self.silent = True
            self.established = False
            self._broker._later(self._broker._goodbye, self)
            self._broker._later(self.listener.disconnected, MqttCause.CLOSED, "")

    def abort(self) -> None:
        if not self.silent:
            self.silent = True
            self.established = False
            self._broker._later(self._broker._broken, self)


class MemoryBroker:
    """One broker, and the transport to it. `host` and `port` of a client's settings are not looked
    at: there is one broker in this network."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        latency: float = 0.02,
        duplication: float = 0.0,
        loss: float = 0.0,
        max_payload: int | None = None,
    ) -> None:
        self.latency = latency
        """Seconds each way."""
        self.duplication = duplication
        """Share of the QoS 1 messages to clients that come twice, the second time with DUP."""
        self.loss = loss
        """Share of the QoS 0 messages, either way, that never come."""
        self.max_payload = max_payload
        """Whoever publishes more bytes is disconnected."""
        self.down = False
        """Nobody listens: whoever connects is told that it is unreachable."""
        self.refuses: Callable[[MqttSettings], str] = lambda settings: ""
        """Why a client is refused; an empty text lets it in."""
        self.allows: Callable[[str, Verb, str], bool] = lambda client_id, verb, topic: True
        """Whether a client may publish or subscribe; whoever publishes what it may not is
        disconnected, as 3.1.1 has no other way to say so."""
        self.intercept: Callable[[str, str, bytes], bool] = lambda client_id, topic, payload: False
        """Gets each message of a client before it is routed; True: it goes no further."""
        self.connects = 0
        """Connections that were accepted."""
        self._runtime = runtime
        self._random = DeviceRandom(runtime.seed, RANDOM_GROUP)
        self._sessions: dict[str, _Session] = {}
        self._tree = FilterTree()
        self._retained: dict[str, _Message] = {}
        self._flight: deque[tuple[float, Callable[..., object], tuple[object, ...]]] = deque()
        self._timer = Timer(self._deliver)
        self._closed = False

    # --- MqttTransport

    def open(self, settings: MqttSettings, listener: MqttListener) -> _Link:
        link = _Link(self, settings, listener)
        self._later(self._connect, link)
        return link

    async def close(self) -> None:
        """Ends every connection; nothing is delivered any more."""
        self._closed = True
        self._flight.clear()
        self._runtime.wheel.disarm(self._timer)

    # --- what a test or a server does with it

    def connected(self, client_id: str) -> bool:
        session = self._sessions.get(client_id)
        return session is not None and session.link is not None

    def cut(self, client_id: str) -> None:
        """Break a client's connection; the last will is published, the session stays."""
        session = self._sessions.get(client_id)
        if session is not None and session.link is not None:
            self._end(session.link, will=True)

    def cut_all(self) -> None:
        for client_id in list(self._sessions):
            self.cut(client_id)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """A message of the broker's own."""
        check_topic(topic)
        self._route(_Message(topic, payload, qos), retain)

    def deliver(self, client_id: str, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """A message to one client, whatever it subscribed to. Dropped when it was never here."""
        check_topic(topic)
        session = self._sessions.get(client_id)
        if session is not None:
            self._send(session, _Message(topic, payload, qos))

    # --- what arrives from clients

    def _connect(self, link: _Link) -> None:
        if link.silent:
            return
        settings = link.settings
        if self.down:
            self._later(self._over, link, MqttCause.UNREACHABLE, "nobody listens")
            return
        refusal = self.refuses(settings)
        if refusal:
            self._later(self._over, link, MqttCause.REFUSED, refusal)
            return
        session = self._sessions.get(settings.client_id)
        if session is not None and session.link is not None:
            self._end(session.link, will=True)
            session = self._sessions.get(settings.client_id)
        present = session is not None and not settings.clean_session
        if session is not None and not present:
            self._forget(session)
        if session is None or not present:
            session = _Session(settings.client_id, not settings.clean_session)
            self._sessions[settings.client_id] = session
        session.link = link
        link.accepted = True
        self.connects += 1
        self._later(self._established, link, present)
        again, session.sent = session.sent, len(session.outgoing)
        for position, message in enumerate(session.outgoing):
            self._later(self._received, link, message, position < again)

    def _subscribe(self, link: _Link, filters: tuple[str, ...], qos: int) -> None:
        session = self._session_of(link)
        if session is None:
            return
        refused = []
        for topic_filter in filters:
            if not self.allows(session.client_id, "subscribe", topic_filter):
                refused.append(topic_filter)
                continue
            session.filters[topic_filter] = qos
            self._tree.add(topic_filter, session.client_id, qos)
        self._later(self._subscribed, link, tuple(refused))
        for topic_filter in filters:
            if topic_filter in refused:
                continue
            for topic, message in self._retained.items():
                if matches(topic_filter, topic):
                    self._send(session, _Message(topic, message.payload, min(qos, message.qos)))

    def _published(
        self,
        link: _Link,
        message: _Message,
        retain: bool,
        acknowledged: Callable[[], None] | None,
    ) -> None:
        session = self._session_of(link)
        if session is None or (message.qos == 0 and self._chance(self.loss)):
            return
        too_long = self.max_payload is not None and len(message.payload) > self.max_payload
        if too_long or not self.allows(session.client_id, "publish", message.topic):
            self._end(link, will=True)
            return
        if message.qos and acknowledged is not None:
            self._later(self._acknowledged, link, acknowledged)
        if not self.intercept(session.client_id, message.topic, message.payload):
            self._route(message, retain)

    def _goodbye(self, link: _Link) -> None:
        self._end(link, will=False)

    def _broken(self, link: _Link) -> None:
        self._end(link, will=True)

    def _puback(self, session: _Session, link: _Link, message: _Message) -> None:
        if session.link is link and session.outgoing and session.outgoing[0] is message:
            session.outgoing.popleft()
            session.sent -= 1

    # --- what reaches clients

    def _established(self, link: _Link, present: bool) -> None:
        if not link.silent:
            link.established = True
            link.listener.connected(present)

    def _subscribed(self, link: _Link, refused: tuple[str, ...]) -> None:
        if link.established:
            link.listener.subscribed(refused)

    def _acknowledged(self, link: _Link, acknowledged: Callable[[], None]) -> None:
        if link.established:
            acknowledged()

    def _received(self, link: _Link, message: _Message, duplicate: bool) -> None:
        if not link.established:
            return
        session = self._sessions.get(link.settings.client_id)
        link.listener.received(message.topic, message.payload, message.qos, duplicate)
        # The acknowledgement leaves when the client is through with the message, and with a power
        # cut in between it does not.
        if message.qos and link.established and session is not None:
            self._later(self._puback, session, link, message)

    def _over(self, link: _Link, cause: MqttCause, detail: str) -> None:
        if not link.silent:
            link.silent = True
            link.established = False
            link.listener.disconnected(cause, detail)

    # --- inside

    def _session_of(self, link: _Link) -> _Session | None:
        session = self._sessions.get(link.settings.client_id)
        return session if session is not None and session.link is link else None

    def _end(self, link: _Link, *, will: bool) -> None:
        """The broker is through with a connection."""
        session = self._session_of(link)
        if session is None:
            return
        session.link = None
        if not session.persistent:
            self._forget(session)
        self._later(self._over, link, MqttCause.LOST, "closed by the broker")
        last = link.settings.will
        if will and last is not None:
            self._route(_Message(last.topic, last.payload, last.qos), last.retain)

    def _forget(self, session: _Session) -> None:
        for topic_filter in session.filters:
            self._tree.remove(topic_filter, session.client_id)
        self._sessions.pop(session.client_id, None)

    def _route(self, message: _Message, retain: bool) -> None:
        if retain:
            if message.payload:
                self._retained[message.topic] = message
            else:
                self._retained.pop(message.topic, None)
        for client_id, qos in self._tree.find(message.topic).items():
            copy = _Message(message.topic, message.payload, min(qos, message.qos))
            self._send(self._sessions[client_id], copy)

    def _send(self, session: _Session, message: _Message) -> None:
        link = session.link
        if not message.qos:
            if link is not None and not self._chance(self.loss):
                self._later(self._received, link, message, False)
            return
        if link is None and (not session.persistent or len(session.outgoing) >= MAX_QUEUED):
            return
        session.outgoing.append(message)
        if link is not None:
            session.sent += 1
            self._later(self._received, link, message, False)
            if self._chance(self.duplication):
                self._later(self._received, link, message, True)

    def _chance(self, share: float) -> bool:
        return share > 0 and self._random.uniform(0.0, 1.0) < share

    def _later(self, call: Callable[..., object], *arguments: object) -> None:
        if self._closed:
            return
        due = self._runtime.clock.now() + self.latency
        self._flight.append((due, call, arguments))
        if not self._timer.armed:
            self._runtime.wheel.arm(self._timer, due)

    def _deliver(self, now: float) -> None:
        # What is lower in latency overtakes nothing in flight: one queue keeps the order.
        flight = self._flight
        try:
            # Only what is in flight now: an answer without latency must still take a tick.
            for _ in range(len(flight)):
                if not flight or flight[0][0] > now:
                    break
                _, call, arguments = flight.popleft()
                call(*arguments)
        finally:
            if flight:
                self._runtime.wheel.arm(self._timer, flight[0][0])
