"""The interface to an MQTT network: real brokers and the one in memory look the same from here.

A device owns at most one connection. Nothing is awaited: :meth:`MqttTransport.open` begins to
connect and returns, and everything that comes of it is told to the :class:`MqttListener`, in the
event loop's thread. A connection lives once: after ``disconnected`` it is dead, and to reconnect
is to open another (when to do so is decided in one place, ``protocols/mqtt/reconnect.py``).

What MQTT 3.1.1 asks a client to keep for a persistent session (section 4.1: its unacknowledged
QoS 1 messages) dies with the connection, as it does in a device that keeps them in RAM. Whoever
published without hearing the acknowledgement publishes again, and a server sees a duplicate.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.credentials import NO_CREDENTIAL, Credential

__all__ = [
    "MqttCause",
    "MqttConnection",
    "MqttListener",
    "MqttSettings",
    "MqttTransport",
    "Will",
]


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client whose connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """One connection: MQTT 3.1.1 section 3.1. Its `repr` shows nothing that is secret."""

    host: str
    port: int
    client_id: str
    username: str | None = field(default=None, repr=False)
    """A secret as well: ThingsBoard takes its access token here."""
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    credential: Credential = NO_CREDENTIAL
    """Its certificate, key and authorities, for `tls`."""
    verify: bool = True
    """Verify the broker's certificate. Switched off only by a person who says so."""
    keepalive: int = 60
    """Seconds without a packet after which the client sends a PINGREQ."""
    clean_session: bool = True
    """False: the broker keeps subscriptions and QoS 1 messages for a client that is away."""
    will: Will | None = None
    bind: str | None = None
    """The local address; None: whatever the route to the broker gives."""


class MqttCause(enum.Enum):
    """Why a connection ended, or never came to be. The value is the cause in a journal."""

    CLOSED = "closed"
    """We closed it."""
    LOST = "lost"
    """It broke, or the broker closed it (taken over, a violation, or going down: 3.1.1 does not
    tell which)."""
    UNREACHABLE = "unreachable"
    """No TCP connection, no TLS session, or no CONNACK."""
    UNTRUSTED = "untrusted"
    """One side did not believe the other's certificate."""
    REFUSED = "refused"
    """The broker's CONNACK said no (section 3.2.2.3)."""


class MqttListener(Protocol):
    """Who hears of a connection. A call may raise nothing."""

    def connected(self, session_present: bool) -> None:
        """The broker accepted; with `session_present` it still has the subscriptions."""
        ...

    def subscribed(self, refused: tuple[str, ...]) -> None:
        """The broker answered one :meth:`MqttConnection.subscribe`; `refused` are those of its
        filters that it did not grant."""
        ...

    def received(self, topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        """A message; it is acknowledged when this returns. `duplicate` is the DUP flag: the broker
        sent it before, which says nothing about whether it arrived before."""
        ...

    def disconnected(self, cause: MqttCause, detail: str) -> None:
        """It is over; comes once, and last. Not after `abort`."""
        ...


class MqttConnection(Protocol):
    """One connection. Between `connected` and `disconnected` it carries messages; what is published
    or subscribed at any other time is dropped."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        acknowledged: Callable[[], None] | None = None,
    ) -> None:
        """Send a message; with QoS 1 `acknowledged` is called when the broker took it over. It
        never is when the connection ends before. Raises :class:`ValueError` for a topic that no
        message can have (empty, or with a wildcard), or a QoS other than 0 and 1."""
        ...

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Ask for the messages of `filters`, in one SUBSCRIBE. Raises :class:`ValueError` for a
        filter that is none."""
        ...

    def close(self) -> None:
        """Say goodbye: DISCONNECT, no last will. What was published before leaves first."""
        ...

    def abort(self) -> None:
        """Be gone without a word, as when the power is cut: the broker publishes the last will.
        The listener hears nothing any more."""
        ...


class MqttTransport(Protocol):
    """What connects the devices of one worker to brokers."""

    def open(self, settings: MqttSettings, listener: MqttListener) -> MqttConnection:
        """Begin to connect. Raises :class:`~agent.errors.UnusableSettings` for settings that no
        attempt could succeed with."""
        ...

    async def close(self) -> None:
        """Close every connection, and return when they are gone."""
        ...
