"""When a device opens its MQTT connection, and when it tries again: one machine for all transports.

Theory of operation
===================

::

    STOPPED      the device wants no connection
    CONNECTING   one is being opened
    CONNECTED    the broker accepted it
    WAITING      it ended, or could not be had; another is opened when the back-off has passed

The back-off is exponential with full jitter: after the n-th failure in a row the device waits a
random time between a small floor and min(longest, first * 2**(n - 1)). Without the jitter, a broker
that restarts is met by its whole fleet in one instant, and again at each further attempt. The row
of failures ends when a connection has stood for a while: a broker that accepts and then drops (a
policy that forbids something, a session that two devices share) is backed off from as well.

Sans-IO: `now` and the random numbers are arguments, the answer is how long to wait.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.errors import LocalMisuse
from agent.runtime.random import DeviceRandom

__all__ = ["DEFAULT_TUNING", "TRANSITIONS", "Link", "LinkEvent", "Reconnect", "ReconnectTuning"]


class Link(enum.Enum):
    """Where a device stands with its broker; the value is what the journal says."""

    STOPPED = "STOPPED"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    WAITING = "WAITING"


class LinkEvent(enum.Enum):
    START = "start"
    ACCEPTED = "accepted"
    ENDED = "ended"
    """Lost, refused or unreachable."""
    DUE = "due"
    """The back-off has passed."""
    STOP = "stop"


TRANSITIONS: dict[Link, dict[LinkEvent, Link]] = {
    Link.STOPPED: {LinkEvent.START: Link.CONNECTING, LinkEvent.STOP: Link.STOPPED},
    Link.CONNECTING: {
        LinkEvent.ACCEPTED: Link.CONNECTED,
        LinkEvent.ENDED: Link.WAITING,
        LinkEvent.STOP: Link.STOPPED,
    },
    Link.CONNECTED: {LinkEvent.ENDED: Link.WAITING, LinkEvent.STOP: Link.STOPPED},
    Link.WAITING: {LinkEvent.DUE: Link.CONNECTING, LinkEvent.STOP: Link.STOPPED},
}


@dataclass(frozen=True, slots=True)
class ReconnectTuning:
    """Times in seconds."""

    first: float = 2.0
    """Ceiling of the first wait."""
    longest: float = 120.0
    """Ceiling of every wait: what paho and the AWS device SDKs take."""
    floor: float = 0.1
    """No wait is shorter: a jitter of 0 would make a loop of a broker that drops at once."""
    stable_after: float = 60.0
    """A connection that stood so long was a good one: the next failure is a first one."""

    def ceiling(self, failures: int) -> float:
        """The longest wait after so many failures in a row (at least 1)."""
        # The power is bounded before it is taken: a device may fail for a virtual year.
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 32))


DEFAULT_TUNING = ReconnectTuning()


class Reconnect:
    """The machine of one device, for one uptime."""

    __slots__ = ("_since", "failures", "state")

    def __init__(self) -> None:
        self.state = Link.STOPPED
        self.failures = 0
        """Failures in a row."""
        self._since = 0.0

    def move(
        self,
        event: LinkEvent,
        now: float,
        random: DeviceRandom,
        tuning: ReconnectTuning = DEFAULT_TUNING,
    ) -> float | None:
        """The only way to another state. In WAITING the answer is how many seconds to wait before
        `DUE`, else None. Raises :class:`~agent.errors.LocalMisuse` for a missing cell."""
        new = TRANSITIONS[self.state].get(event)
        if new is None:
            raise LocalMisuse(f"MQTT link: {event.value!r} while {self.state.name}")
        old, self.state = self.state, new
        if new is Link.CONNECTED:
            self._since = now
        elif event is LinkEvent.ENDED:
            stood = old is Link.CONNECTED and now - self._since >= tuning.stable_after
            self.failures = 1 if stood else self.failures + 1
            ceiling = tuning.ceiling(self.failures)
            return random.uniform(min(tuning.floor, ceiling), ceiling)
        elif event is LinkEvent.STOP:
            self.failures = 0
        return None
