"""The LwM2M 1.1 client of one device, over CoAP and UDP, for one uptime.

A reboot drops it and makes a new one: no registration, token, observation or duplicate survives.
What must survive is in the update engine and in ``nvm``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.bootloader import BootReport
from agent.errors import UnusableSettings
from agent.flash import PowerLoss
from agent.misbehaviour import check_known
from agent.protocol import DEFAULT_LIFETIME, ClientSettings, Told, protocol_clients
from agent.runtime.network import Address, source_address
from agent.runtime.wheel import Timer
from agent.update import EngineEvent, Outcome, State
from protocols.coap.endpoint import CoapEndpoint
from protocols.coap.message import Message
from protocols.coap.message_layer import Exchange, Trace
from protocols.coap.numbers import Code
from protocols.coap.peer import Peer
from protocols.coap.trace import describe
from protocols.coap.tuning import DEFAULT_TUNING, TransportTuning
from protocols.coap.uri import parse_uri
from protocols.lwm2m.firmware import FirmwareObject
from protocols.lwm2m.firmware_tables import report
from protocols.lwm2m.management import Management
from protocols.lwm2m.objects import DEVICE, FIRMWARE, SERVER, Objects
from protocols.lwm2m.paths import Path
from protocols.lwm2m.registration import Registration, RegistrationTuning

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["Lwm2mClient", "Told"]

DEFAULT_DISABLE_TIMEOUT = 86_400  # resource 1/x/5: the registry's default
REBOOT_AFTER = 0.5  # seconds: the answer to an Execute of 3/0/4 leaves first

_REGISTRATION_TUNING = RegistrationTuning()


class Lwm2mClient:
    """Registers ``device`` with ``server`` (``coap://host[:port]``) and serves its objects.

    ``bind`` is a local address, a function that gives (host, port) for a device, or None. ``trace``
    sees every CoAP message, ``told`` what the server learned. Raises
    :class:`~protocols.coap.errors.CoapUriError` for a server that is no ``coap://`` URI, and
    :class:`OSError` when its name has no address or ``bind`` cannot be used.
    """

    name = "lwm2m"

    __slots__ = (
        "_device",
        "_endpoint",
        "_firmware",
        "_management",
        "_reboot",
        "_registration",
        "_stopped",
        "_told",
    )

    def __init__(
        self,
        device: Device,
        *,
        server: str,
        lifetime: int = DEFAULT_LIFETIME,
        bind: str | Callable[[Device], Address] | None = None,
        trace: Trace | None = None,
        told: Told | None = None,
        tuning: TransportTuning = DEFAULT_TUNING,
        registration_tuning: RegistrationTuning = _REGISTRATION_TUNING,
    ) -> None:
        uri = parse_uri(server)
        network = device.runtime.network
        address = network.resolve(uri.host, uri.port)
        local = bind(device) if callable(bind) else source_address(bind, address[0], device.index)
        self._device = device
        self._told = told
        self._reboot: Timer | None = None
        self._stopped = False
        self._endpoint = CoapEndpoint(
            device.runtime,
            bind=local,
            handler=self._handle,
            tuning=tuning,
            random=device.random,
            on_reset=self._rejected,
        )
        if trace is not None:
            self._endpoint.trace = trace
        objects = Objects(device, lifetime, self._endpoint)
        self._firmware = FirmwareObject(device, self._endpoint)
        self._management = Management(
            device,
            self._endpoint,
            objects,
            self._firmware,
            self,
        )
        self._registration = Registration(
            device,
            self._endpoint,
            self._endpoint.peer(*address),
            objects.lifetime,
            self._registered,
            registration_tuning,
        )
        instances = tuple(objects.instances(SERVER))
        if instances != self._registration.instances:
            self._registration.instances = instances

    @property
    def registered(self) -> bool:
        return self._registration.registered

    @property
    def local(self) -> Address:
        """Where the device is reached."""
        return self._endpoint.local

    # -- ProtocolClient -------------------------------------------------------------------------

    def booted(self, report: BootReport) -> None:
        """Nothing to do: the engine has judged the boot, and 5/0/3 and 5/0/5 read the engine."""

    def start(self) -> None:
        self._registration.register()
        self._firmware.start()

    def stop(self) -> None:
        self._fall_silent()
        self._registration.deregister(self._endpoint.close)

    def power_lost(self) -> None:
        self._fall_silent()
        self._registration.stop()
        self._endpoint.abandon()

    def engine_event(self, event: EngineEvent) -> None:
        self._management.observers.changed((FIRMWARE,))

    # -- what arrives ---------------------------------------------------------------------------

    def _handle(self, peer: Peer, request: Message, exchange: Exchange) -> Message | None:
        if self._stopped:
            # The goodbye is under way, the device behind it is off already.
            return Message(Code.SERVICE_UNAVAILABLE)
        try:
            return self._management.handle(peer, request)
        except PowerLoss:
            exchange.finish()  # the device is off: nothing answers any more
            return None

    def _rejected(self, peer: Peer, mid: int) -> None:
        self._management.observers.rejected(peer, mid)

    def _registered(self) -> None:
        # The server is reached with what runs now: an image on trial has proven itself.
        self._device.healthy()

    def written(self, path: Path) -> None:
        if path[0] != SERVER:
            return
        objects = self._management.objects
        registration = self._registration
        instances = tuple(objects.instances(SERVER))
        lifetime = objects.lifetime != registration.lifetime
        listed = instances != registration.instances
        registration.lifetime = objects.lifetime
        registration.instances = instances
        # 1/0/2 and 1/0/3 are the default pmin and pmax of every observation.
        self._management.observers.attributes_changed(())
        # Core 6.2.2: a changed lifetime or object list is told by an Update.
        if lifetime or listed:
            registration.update_soon(objects=listed, lifetime=lifetime)

    def learned(self, path: Path) -> None:
        """The server read, observed or executed ``path``."""
        told = self._told
        device = self._device
        engine = device.engine
        if told is None and not engine.report_pending:
            return
        if path[0] == FIRMWARE:
            if len(path) == 3 and path[2] not in (2, 3, 5):
                return
            shown = report(engine.state, engine.outcome)
            if len(path) == 3 and path[2] == 3 and shown.state == 0:
                return  # state 0 alone does not tell success from failure
            if engine.outcome is not None:
                engine.reported()
            if told is not None:
                detail = f"state {int(shown.state)}, result {int(shown.result)}"
                told(device.name, _verdict(engine.state, engine.outcome), detail, None)
        elif path[0] == DEVICE and told is not None and (len(path) < 3 or path[2] == 3):
            running = device.running
            version = str(running.version) if running is not None else ""
            verdict = _verdict(engine.state, engine.outcome)
            told(device.name, verdict, f"version {version}", version)

    # -- what the server executes ---------------------------------------------------------------

    def _registration_update(self) -> None:
        self._registration.update_soon()

    def _reboot_asked(self) -> None:
        runtime = self._device.runtime
        if self._reboot is None:
            self._reboot = Timer(self._reboot_due)
        runtime.wheel.arm(self._reboot, runtime.clock.now() + REBOOT_AFTER)

    def _reboot_due(self, now: float) -> None:
        self._device.reboot("execute 3/0/4")

    def execute(self, object_id: int, resource: int) -> None:
        """Run an executable resource other than the firmware's."""
        _EXECUTABLES[object_id, resource](self)

    def _disable(self) -> None:
        value = self._management.objects.value(SERVER, 0, 5)
        seconds = value if isinstance(value, int) else DEFAULT_DISABLE_TIMEOUT
        # The server forgets us with the registration, so it observes nothing any more.
        self._management.observers.stop()
        self._registration.disable_soon(float(seconds))

    def _fall_silent(self) -> None:
        self._stopped = True
        self._firmware.stop()
        self._management.stop()
        if self._reboot is not None:
            self._device.runtime.wheel.disarm(self._reboot)


def _verdict(state: State, outcome: Outcome | None) -> str:
    if outcome is Outcome.SUCCESS:
        return "updated"
    if outcome is None or outcome is Outcome.DEFERRED or outcome is Outcome.CANCELLED:
        return "unfinished"
    return "failed"


_EXECUTABLES: dict[tuple[int, int], Callable[[Lwm2mClient], None]] = {
    (SERVER, 4): Lwm2mClient._disable,
    (SERVER, 8): Lwm2mClient._registration_update,
    (DEVICE, 4): Lwm2mClient._reboot_asked,
    # The device knows no error but 0, which is what stays.
    (DEVICE, 12): lambda client: None,
}


@protocol_clients.register("lwm2m")
def _from_settings(device: Device, settings: ClientSettings) -> Lwm2mClient:
    check_known("lwm2m", settings.misbehave(device), frozenset())
    if settings.options:
        raise UnusableSettings(f"lwm2m has no options, so no {min(settings.options)!r}", "options")
    if settings.bandwidth is not None:
        raise UnusableSettings("the links of LwM2M devices have no limit", "bandwidth")
    text = settings.trace
    trace: Trace | None = None
    if text is not None:
        line = text  # narrowed

        def trace(direction: str, address: Address, mtype: int, mid: int, message: Message) -> None:
            line(describe(direction, address, mtype, mid, message))

    return Lwm2mClient(
        device,
        server=settings.server,
        lifetime=settings.lifetime,
        bind=settings.bind,
        trace=trace,
        told=settings.told,
    )
