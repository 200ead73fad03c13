"""What every MQTT protocol client shares: the connection, and when to have it again.

A protocol derives from :class:`MqttClient`, says who it is (`identity`) and what it listens to
(`filters`), and is told of messages. The client is the listener of its connections, of which it has
one at a time; what the transport calls passes through `Device.run`, so that a power cut in the
middle of a message ends the message and not the transport.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from agent.bootloader import BootReport
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour, check_known
from agent.protocol import ClientSettings
from agent.runtime.mqtt import MqttCause, MqttConnection, MqttSettings
from agent.runtime.network import source_address
from agent.runtime.wheel import Timer
from agent.update import EngineEvent
from protocols.mqtt.address import BrokerAddress, parse_broker
from protocols.mqtt.reconnect import DEFAULT_TUNING, Link, LinkEvent, Reconnect, ReconnectTuning
from protocols.mqtt.transport import transport_of

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["MqttClient"]

MACHINE = "connection"
MAX_CAUSE = 120
"""Characters of a journal's cause: what a broker or the system says about a failure may be long."""


class MqttClient(ABC):
    """One MQTT client of one device, for one uptime.

    Raises :class:`~agent.errors.UnusableSettings` for a server that is no ``mqtt://`` or
    ``mqtts://`` URI, and for an option or a misbehaviour that the protocol has not.
    """

    name: ClassVar[str]
    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    MISBEHAVIOURS: ClassVar[frozenset[Misbehaviour]] = frozenset()
    TUNING: ClassVar[ReconnectTuning] = DEFAULT_TUNING

    __slots__ = (
        "_broker",
        "_connection",
        "_link",
        "_opened",
        "_session_present",
        "_timer",
        "device",
        "misbehave",
        "registered",
        "settings",
    )

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        self._broker = parse_broker(settings.server)
        unknown = settings.options.keys() - self.OPTIONS
        if unknown:
            known = ", ".join(sorted(self.OPTIONS)) or "none"
            raise UnusableSettings(f"{self.name} has no option {min(unknown)!r}; known: {known}")
        self.misbehave = settings.misbehave(device)
        check_known(self.name, self.misbehave, self.MISBEHAVIOURS)
        self.device = device
        self.settings = settings
        self.registered = False
        """Connected, and the broker granted every subscription."""
        self._connection: MqttConnection | None = None
        self._session_present = False
        self._opened = 0.0
        self._link = Reconnect()
        self._timer: Timer | None = None

    # --- what a protocol says

    @abstractmethod
    def identity(self, broker: BrokerAddress) -> MqttSettings:
        """Who connects to `broker`; asked anew for each connection. `bind` is filled in here."""

    @abstractmethod
    def filters(self) -> tuple[str, ...]:
        """What it subscribes to, in one SUBSCRIBE, after every connect."""

    @abstractmethod
    def ready(self, session_present: bool) -> None:
        """Connected and subscribed: `registered` is true from now on."""

    @abstractmethod
    def message(self, topic: str, payload: bytes, duplicate: bool) -> None:
        """A message arrived. With `session_present` it may come before `ready`."""

    @abstractmethod
    def engine_event(self, event: EngineEvent) -> None:
        """The update engine changed state or outcome."""

    def ended(self, cause: MqttCause, detail: str) -> None:  # noqa: B027 - optional
        """The connection is gone, or could not be had; another follows after the back-off."""

    def silenced(self) -> None:  # noqa: B027 - optional
        """The client ends: disarm every timer, drop every download."""

    def farewell(self) -> None:  # noqa: B027 - optional
        """The device is being switched off in order: the last chance to publish."""

    def tuning(self) -> ReconnectTuning:
        """How it comes back."""
        return self.TUNING

    def shown(self, topic: str, payload: bytes) -> str:
        """What a trace line tells of a message, beside its topic. No secrets."""
        return f"{len(payload)} bytes"

    # --- what a protocol does

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        acknowledged: Callable[[], None] | None = None,
    ) -> bool:
        """Send a message; False when there is no connection, and it was dropped."""
        connection = self._connection
        if connection is None or not self.registered:
            return False
        self._trace(">", topic, payload)
        # Topic and payload; the few bytes of headers, and what TLS adds, nobody tells us.
        self.device.runtime.metrics.counters["bytes_out"] += len(topic) + len(payload)
        connection.publish(topic, payload, qos=qos, acknowledged=self._guarded(acknowledged))
        return True

    def reconnect(self) -> None:
        """Leave the broker and come back after the back-off."""
        if self._connection is not None:
            self._connection.close()

    # --- ProtocolClient

    def booted(self, report: BootReport) -> None:  # noqa: B027 - optional
        """Nothing to do: the engine has judged the boot."""

    def start(self) -> None:
        self._move(LinkEvent.START, "start")
        self._open()

    def stop(self) -> None:
        self.silenced()
        self.farewell()
        connection = self._end("stop")
        if connection is not None:
            connection.close()

    def power_lost(self) -> None:
        self.silenced()
        connection = self._end("power lost")
        if connection is not None:
            connection.abort()

    # --- MqttListener

    def connected(self, session_present: bool) -> None:
        connection = self._connection
        if connection is not None:
            self._move(LinkEvent.ACCEPTED, "accepted")
            self._session_present = session_present
            connection.subscribe(*self.filters())

    def subscribed(self, refused: tuple[str, ...]) -> None:
        if self._connection is None:
            return
        if refused:
            # Nothing that could be done without it: not talking at all shows on both sides.
            self.device.record(MACHINE, "CONNECTED", "CONNECTED", "subscription refused")
            self._connection.close()
        elif not self.registered:
            self.registered = True
            # Whoever counts devices that were heard of looks when something is recorded.
            self.device.record(MACHINE, "CONNECTED", "CONNECTED", "subscribed")
            runtime = self.device.runtime
            runtime.metrics.registration.record(runtime.clock.now() - self._opened)
            self.device.run(self.ready, self._session_present)

    def received(self, topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        if self._connection is not None:
            self._trace("<", topic, payload)
            self.device.runtime.metrics.counters["bytes_in"] += len(topic) + len(payload)
            self.device.run(self.message, topic, payload, duplicate)

    def disconnected(self, cause: MqttCause, detail: str) -> None:
        if self._connection is not None:
            self._connection = None
            self._lost(cause, detail)

    # --- inside

    def _lost(self, cause: MqttCause, detail: str) -> None:
        self.registered = False
        delay = self._move(LinkEvent.ENDED, f"{cause.value}: {detail}" if detail else cause.value)
        if delay is not None:
            if self._timer is None:
                self._timer = Timer(self._due)
            self.device.runtime.arm(self._timer, delay)
        self.device.run(self.ended, cause, detail)

    def _open(self) -> None:
        device = self.device
        settings = self.identity(self._broker)
        bind = self.settings.bind
        if bind is None and _is_loopback(self._broker.host):
            bind = source_address(None, "127.0.0.1", device.index)[0]
        if bind is not None:
            settings = replace(settings, bind=bind)
        self._opened = device.runtime.clock.now()
        self._connection = transport_of(device.runtime).open(settings, self)

    def _due(self, now: float) -> None:
        self._move(LinkEvent.DUE, "back-off passed")
        try:
            self.device.run(self._open)
        except UnusableSettings as error:  # a credential that was replaced by a bad one
            self._lost(MqttCause.UNREACHABLE, str(error))

    def _end(self, cause: str) -> MqttConnection | None:
        """No connection any more, and no new one."""
        if self._timer is not None:
            self.device.runtime.wheel.disarm(self._timer)
        connection, self._connection = self._connection, None
        self.registered = False
        if self._link.state is not Link.STOPPED:
            self._move(LinkEvent.STOP, cause)
        return connection

    def _move(self, event: LinkEvent, cause: str) -> float | None:
        device = self.device
        old = self._link.state
        delay = self._link.move(event, device.runtime.clock.now(), device.random, self.tuning())
        device.record(MACHINE, old.value, self._link.state.value, cause[:MAX_CAUSE])
        return delay

    def _guarded(self, call: Callable[[], None] | None) -> Callable[[], None] | None:
        if call is None:
            return None

        def guarded() -> None:
            if self._connection is not None:
                self.device.run(call)

        return guarded

    def _trace(self, direction: str, topic: str, payload: bytes) -> None:
        if self.settings.trace is not None:
            self.settings.trace(f"{direction} {topic} {self.shown(topic, payload)}")


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.")
