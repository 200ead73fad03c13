"""The observations of one client: who watches what, and when a notification is due.

RFC 7641 carries them; attributes (pmin, pmax, gt, lt, st) decide when they leave. All observations
of a device share one timer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from agent.runtime.wheel import Timer
from protocols.coap.endpoint import CoapEndpoint
from protocols.coap.message import Message
from protocols.coap.numbers import Code, OptionNumber
from protocols.coap.observe import Observation
from protocols.coap.options import Options, encode_uint
from protocols.coap.peer import Peer
from protocols.coap.request_layer import slice_body
from protocols.lwm2m.attributes import AttributeStore
from protocols.lwm2m.errors import OperationRefused
from protocols.lwm2m.objects import Objects
from protocols.lwm2m.observation import Conditions, ObservationState, conditions
from protocols.lwm2m.paths import Path, is_under
from protocols.lwm2m.records import Value

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["Observers"]

# A server that observes everything one by one stays below this; more are answered without Observe,
# which tells it that it is not on the list (RFC 7641 section 3.2).
MAX_OBSERVATIONS = 32


class Reader(Protocol):
    def read(self, path: Path, accept: int | None) -> Message:
        """The answer to a Read of ``path``."""


class Listener(Protocol):
    def learned(self, path: Path) -> None:
        """The server got to know what is at or under ``path``."""


class _Observed:
    """One observation."""

    __slots__ = ("accept", "observation", "path", "state")

    def __init__(
        self, path: Path, accept: int | None, observation: Observation, state: ObservationState
    ) -> None:
        self.path = path
        self.accept = accept
        self.observation = observation
        self.state = state


class Observers:
    """All observations of one client."""

    __slots__ = (
        "_attributes",
        "_device",
        "_endpoint",
        "_listener",
        "_objects",
        "_observed",
        "_reader",
        "_timer",
    )

    def __init__(
        self,
        device: Device,
        endpoint: CoapEndpoint,
        objects: Objects,
        attributes: AttributeStore,
        reader: Reader,
        listener: Listener,
    ) -> None:
        self._device = device
        self._endpoint = endpoint
        self._objects = objects
        self._attributes = attributes
        self._reader = reader
        self._listener = listener
        self._observed: list[_Observed] = []
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._observed)

    def stop(self) -> None:
        """Forget all observers at once."""
        for observed in self._observed:
            observed.observation.withdraw()
        self._observed.clear()
        if self._timer is not None:
            self._device.runtime.wheel.disarm(self._timer)

    def register(self, peer: Peer, token: bytes, path: Path, accept: int | None) -> Message:
        """The first response to an Observe. The same observer again replaces its entry."""
        answer = self._reader.read(path, accept)
        self.cancel(peer, token, path)
        self._listener.learned(path)
        if len(self._observed) >= MAX_OBSERVATIONS:
            return answer
        observation = self._endpoint.observation(peer, token, self._ended)
        observation.on_acknowledged = self._acknowledged
        now = self._device.runtime.clock.now()
        state = ObservationState(now, self._value(path, answer), self._conditions(path))
        self._observed.append(_Observed(path, accept, observation, state))
        self._arm()
        sequence = (OptionNumber.OBSERVE, encode_uint(observation.sequence))
        answer.options = Options.of(*answer.options.pairs, sequence)
        return answer

    def cancel(self, peer: Peer, token: bytes, path: Path) -> None:
        """End what this peer observes with this token, or (a server that lost it) at this path."""
        for observed in list(self._observed):
            observation = observed.observation
            if observation.peer is peer and (observation.token == token or observed.path == path):
                observation.withdraw()
                self._observed.remove(observed)

    def rejected(self, peer: Peer, mid: int) -> None:
        """A Reset to a non-confirmable notification (RFC 7641 section 3.6)."""
        for observed in list(self._observed):
            observation = observed.observation
            if observation.peer is peer and observation.last_mid == mid:
                self._ended(observation)

    def removed(self, path: Path) -> None:
        """An instance is gone: its observers get 4.04, which ends the observation."""
        for observed in list(self._observed):
            if is_under(observed.path, path):
                observed.observation.publish(Message(Code.NOT_FOUND))
                self._observed.remove(observed)
        self.changed(path[:1])

    def changed(self, path: Path) -> None:
        """Something at, under or above ``path`` changed."""
        for observed in list(self._observed):
            if is_under(observed.path, path) or is_under(path, observed.path):
                self._look_at(observed)
        self._arm()

    def attributes_changed(self, path: Path) -> None:
        for observed in self._observed:
            if is_under(observed.path, path) or is_under(path, observed.path):
                observed.state.conditions = self._conditions(observed.path)
        self._arm()

    # -- internals ------------------------------------------------------------------------------

    def _conditions(self, path: Path) -> Conditions:
        return conditions(
            self._attributes.effective(path), self._objects.period(2), self._objects.period(3)
        )

    def _value(self, path: Path, answer: Message) -> Value:
        """What is compared: the value of a single resource, else the encoded whole."""
        if len(path) == 3:
            value = self._objects.value(path[0], path[1], path[2])
            if value is not None and not isinstance(value, Mapping):
                return value
        return answer.payload

    def _look_at(self, observed: _Observed) -> None:
        try:
            answer = self._reader.read(observed.path, observed.accept)
        except OperationRefused as refused:
            # RFC 7641 section 4.2: what cannot be read any more is said once, and that was it.
            observed.observation.publish(Message(refused.code))
            self._observed.remove(observed)
            return
        now = self._device.runtime.clock.now()
        value = self._value(observed.path, answer)
        if observed.state.due(now, value):
            observed.state.sent(now, value)
            # What does not fit one datagram is its first block; the observer fetches the rest.
            peer = observed.observation.peer
            observed.observation.publish(slice_body(peer, Message(Code.GET), answer))

    def _acknowledged(self, observation: Observation) -> None:
        for observed in self._observed:
            if observed.observation is observation:
                # It came from the network, and may write to the flash.
                self._device.run(self._listener.learned, observed.path)
                return

    def _ended(self, observation: Observation) -> None:
        self._observed = [item for item in self._observed if item.observation is not observation]

    def _arm(self) -> None:
        deadlines = [
            deadline
            for observed in self._observed
            if (deadline := observed.state.deadline) is not None
        ]
        if not deadlines:
            return
        if self._timer is None:
            self._timer = Timer(self._timer_fired)
        self._device.runtime.wheel.arm(self._timer, min(deadlines))

    def _timer_fired(self, now: float) -> None:
        for observed in list(self._observed):
            deadline = observed.state.deadline
            if deadline is not None and deadline <= now:
                self._look_at(observed)
        self._arm()
