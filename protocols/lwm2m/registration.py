"""The client's registration interface (LwM2M 1.1 core section 6.2).

Theory of operation
===================

::

    UNREGISTERED    nothing is known to the server, or we do not know
    REGISTERING     POST /rd is under way, or waits for its next try
    REGISTERED      the server gave a location; updates keep it alive
    UPDATING        POST to the location is under way
    DEREGISTERING   DELETE of the location is under way

A registration that is refused or not answered is tried again after a growing pause. An update that
is answered 4.04, or not at all, leads to a new registration (ETS 105). Nothing of it survives a
reboot: a new client registers anew, and the server replaces the old registration by name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from agent.runtime.wheel import Timer
from protocols.coap.blockwise import Transfer
from protocols.coap.endpoint import CoapEndpoint
from protocols.coap.errors import RequestFailed
from protocols.coap.message import Message
from protocols.coap.numbers import Code, ContentFormat, code_text
from protocols.coap.options import Options, make_options
from protocols.coap.peer import Peer
from protocols.lwm2m.codecs import link
from protocols.lwm2m.codecs.link import Link
from protocols.lwm2m.model import OBJECTS

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["TRANSITIONS", "Registration", "RegistrationState", "RegistrationTuning"]


class RegistrationState(enum.IntEnum):
    UNREGISTERED = 0
    REGISTERING = 1
    REGISTERED = 2
    UPDATING = 3
    DEREGISTERING = 4


_S = RegistrationState

TRANSITIONS: dict[RegistrationState, dict[str, RegistrationState]] = {
    _S.UNREGISTERED: {"register": _S.REGISTERING},
    _S.REGISTERING: {
        "registered": _S.REGISTERED,
        "refused": _S.UNREGISTERED,
        "no answer": _S.UNREGISTERED,
        "given up": _S.UNREGISTERED,
    },
    _S.REGISTERED: {"update": _S.UPDATING, "deregister": _S.DEREGISTERING},
    _S.UPDATING: {
        "updated": _S.REGISTERED,
        "unknown to the server": _S.UNREGISTERED,
        "refused": _S.UNREGISTERED,
        "no answer": _S.UNREGISTERED,
        "deregister": _S.DEREGISTERING,
    },
    _S.DEREGISTERING: {"deregistered": _S.UNREGISTERED, "no answer": _S.UNREGISTERED},
}


@dataclass(frozen=True, slots=True)
class RegistrationTuning:
    """Seconds. Core 1.1 leaves the pauses to resources 1/x/17 to 20, whose defaults (60 s, 24 h)
    suit a battery and not a test bench; these are ours."""

    first_pause: float = 2.0
    longest_pause: float = 60.0
    # An update leaves when this share of the lifetime has gone by.
    update_after: float = 0.75
    # How long a device that is switched off waits for the answer to its goodbye.
    goodbye: float = 5.0


@lru_cache(maxsize=64)
def object_links(server_instances: tuple[int, ...]) -> bytes:
    """The payload of Register: the root with the formats we speak, objects with their versions."""
    links = [Link("/", (("rt", "oma.lwm2m"), ("ct", "60 110 112 11542 11543")))]
    for definition in OBJECTS.values():
        if definition.id == 0:
            continue  # core 6.2.1: the Security object is not listed
        if definition.version != "1.0":
            links.append(Link(f"/{definition.id}", (("ver", definition.version),)))
        instances = server_instances if definition.id == 1 else (0,)
        links += [Link(f"/{definition.id}/{instance}") for instance in instances]
    return link.encode(links)


class _Wanted:
    """What the server asked the registration to do, and what is not done yet."""

    __slots__ = ("away", "lifetime", "objects", "update")

    def __init__(self) -> None:
        self.away: float | None = None
        self.lifetime = False
        self.objects = False
        self.update = False


class Registration:
    """The registration of one client with its server."""

    __slots__ = (
        "_device",
        "_endpoint",
        "_on_done",
        "_on_registered",
        "_pause",
        "_queue_mode",
        "_sent",
        "_soon",
        "_timer",
        "_transfer",
        "_tuning",
        "_wanted",
        "instances",
        "lifetime",
        "location",
        "peer",
        "state",
    )

    def __init__(
        self,
        device: Device,
        endpoint: CoapEndpoint,
        peer: Peer,
        lifetime: int,
        on_registered: Callable[[], None],
        tuning: RegistrationTuning,
        *,
        queue_mode: bool = False,
    ) -> None:
        self._device = device
        self._endpoint = endpoint
        self._on_registered = on_registered
        self._on_done: Callable[[], None] | None = None
        self._pause = tuning.first_pause
        self._queue_mode = queue_mode
        self._sent = 0.0
        self._timer = Timer(self._timer_fired)
        self._tuning = tuning
        # What a server asked for and what follows in a later turn, after its answer has left.
        self._soon: Timer | None = None
        self._transfer: Transfer | None = None
        self._wanted: _Wanted | None = None
        self.instances: tuple[int, ...] = (0,)
        self.lifetime = lifetime
        self.location: tuple[str, ...] = ()
        self.peer = peer
        self.state = RegistrationState.UNREGISTERED

    @property
    def registered(self) -> bool:
        """Whether the server knows us, as far as we know."""
        return self.state in (RegistrationState.REGISTERED, RegistrationState.UPDATING)

    # -- what the client does -------------------------------------------------------------------

    def register(self) -> None:
        self._move("register")
        self._wanted = None  # whatever an Update would have told, this tells
        self._sent = self._now()
        queries = [f"ep={self._device.name}", f"lt={self.lifetime}", "lwm2m=1.1", "b=U"]
        if self._queue_mode:
            queries.append("Q")
        options = make_options(path=("rd",), queries=queries, content_format=ContentFormat.LINK)
        message = Message(Code.POST, b"", options, object_links(self.instances))
        self._transfer = self._endpoint.transfer(self.peer, message, self._registered)

    def update_soon(self, *, objects: bool = False, lifetime: bool = False) -> None:
        """Send an Update in a later turn: the answer to what asked for it leaves first."""
        wanted = self._want()
        wanted.update = True
        wanted.objects |= objects
        wanted.lifetime |= lifetime

    def disable_soon(self, seconds: float) -> None:
        """Resource 1/x/4: deregister in a later turn, and register again ``seconds`` after it."""
        self._want().away = seconds

    def _want(self) -> _Wanted:
        if self._soon is None:
            self._soon = Timer(self._soon_fired)
        self._device.runtime.wheel.arm(self._soon, self._now())
        if self._wanted is None:
            self._wanted = _Wanted()
        return self._wanted

    def _update(self, *, objects: bool = False, lifetime: bool = False) -> None:
        """Tell the server that we are alive, and what changed."""
        self._move("update")
        queries = [f"lt={self.lifetime}"] if lifetime else []
        options = make_options(
            path=self.location,
            queries=queries,
            content_format=ContentFormat.LINK if objects else None,
        )
        payload = object_links(self.instances) if objects else b""
        message = Message(Code.POST, b"", options, payload)
        self._transfer = self._endpoint.transfer(self.peer, message, self._updated)

    def deregister(self, on_done: Callable[[], None]) -> None:
        """Say goodbye; ``on_done`` is called once, when it is answered or given up.

        A Register that is under way is dropped: whether the server has us cannot be known then,
        and there is no location to take back.
        """
        self.stop()
        location = self.location
        if not self.registered:
            if self.state is RegistrationState.REGISTERING:
                self._move("given up")
            on_done()
            return
        self._move("deregister")
        self._on_done = on_done
        options: Options = make_options(path=location)
        self._endpoint.request(
            self.peer,
            Message(Code.DELETE, b"", options),
            self._deregistered,
            timeout=self._tuning.goodbye,
        )

    def stop(self) -> None:
        """Fall silent at once."""
        wheel = self._device.runtime.wheel
        wheel.disarm(self._timer)
        if self._soon is not None:
            wheel.disarm(self._soon)
        self._wanted = None
        if self._transfer is not None:
            self._transfer.cancel()
            self._transfer = None

    # -- answers --------------------------------------------------------------------------------

    def _registered(self, result: Message | RequestFailed) -> None:
        self._transfer = None
        if self.state is not RegistrationState.REGISTERING:
            return
        if isinstance(result, RequestFailed):
            self._try_later("no answer", str(result))
        elif result.code != Code.CREATED or not result.options.location:
            self._try_later("refused", code_text(result.code))
        else:
            now = self._now()
            self._device.runtime.metrics.registration.record(now - self._sent)
            self.location = result.options.location
            self._pause = self._tuning.first_pause
            self._move("registered")
            self._arm_update(now)
            self._device.run(self._on_registered)
            self._soon_fired(now)

    def _updated(self, result: Message | RequestFailed) -> None:
        self._transfer = None
        if self.state is not RegistrationState.UPDATING:
            return
        if isinstance(result, RequestFailed):
            self._try_later("no answer", str(result))
        elif result.code == Code.NOT_FOUND:
            self._move("unknown to the server")
            self.register()
        elif result.code != Code.CHANGED:
            self._try_later("refused", code_text(result.code))
        else:
            self._move("updated")
            self._arm_update(self._now())
            self._soon_fired(self._now())

    def _deregistered(self, result: Message | RequestFailed) -> None:
        if self.state is not RegistrationState.DEREGISTERING:
            return
        self._move("no answer" if isinstance(result, RequestFailed) else "deregistered")
        done, self._on_done = self._on_done, None
        if done is not None:
            done()

    # -- time -----------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._device.runtime.clock.now()

    def _arm_update(self, now: float) -> None:
        delay = self.lifetime * self._tuning.update_after
        self._device.runtime.wheel.arm(self._timer, now + delay)

    def _try_later(self, cause: str, detail: str) -> None:
        self._move(cause, detail)
        pause = self._device.random.uniform(0.5, 1.0) * self._pause
        self._pause = min(2 * self._pause, self._tuning.longest_pause)
        self._device.runtime.wheel.arm(self._timer, self._now() + pause)

    def _stay_away(self, seconds: float) -> None:
        self._device.runtime.wheel.arm(self._timer, self._now() + seconds)

    def _timer_fired(self, now: float) -> None:
        if self.state is RegistrationState.UNREGISTERED:
            self.register()
        elif self.state is RegistrationState.REGISTERED:
            self._update()

    def _soon_fired(self, now: float) -> None:
        # One request at a time: what is asked for meanwhile follows when that one is answered.
        if self.state is not RegistrationState.REGISTERED:
            return
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        if wanted.away is not None:
            self.deregister(partial(self._stay_away, wanted.away))
        elif wanted.update:
            self._update(objects=wanted.objects, lifetime=wanted.lifetime)

    def _move(self, cause: str, detail: str = "") -> None:
        """The only way to another state."""
        old = self.state
        new = TRANSITIONS[old][cause]
        self.state = new
        text = f"{cause}: {detail}" if detail else cause
        self._device.record("registration", old.name, new.name, text)
