"""The LwM2M server: registration interface, firmware resources, and a session for each device.

A registration is acknowledged after the commit that made it durable, from the writer's callback;
no Task exists per packet or per device. After a restart the registrations are read back, and
devices that never noticed go on as before: an Update to an old location succeeds, an observation
that we no longer know is answered with a Reset and asked for again.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from agent.runtime.network import BindError
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer, TimerWheel
from protocols.coap import (
    DEFAULT_TUNING,
    CoapEndpoint,
    Code,
    Exchange,
    Message,
    Options,
    TransportTuning,
    make_options,
    response,
)
from protocols.coap.udp_peer import UdpPeer
from protocols.lwm2m import codecs
from tools.backend.campaigns.kinds import FIRMWARE_V3
from tools.backend.errors import ListenerRefused
from tools.backend.faces.base import (
    FaceBelief,
    FaceContext,
    FaceEvent,
    FaceKind,
    FaceRefused,
    Introduction,
    ListenerSpec,
    Order,
    Position,
    device_faces,
)
from tools.backend.faces.base import Package as FirmwarePackage
from tools.backend.faces.lwm2m_registration import (
    DEFAULT_LIFETIME,
    BadRegistration,
    Parameters,
    check_register,
    parse_objects,
    parse_queries,
)
from tools.backend.faces.lwm2m_session import Session
from tools.backend.store import rows as store
from tools.backend.store.rows import Registration
from tools.backend.timing import Shift

if TYPE_CHECKING:
    from tools.backend.administration import Administration

LOCATION_BLOCK = 1_024
"""Location numbers reserved at once: a location is never given out twice, and only one
registration in so many has to write the counter."""

MAX_PEERS = 1 << 18
"""Addresses that the endpoint remembers: every device of a large fleet, and some strangers."""

SOCKET_BUFFER = 8 << 20
"""A fleet that registers at once must not overflow the system's default of about 200 KiB; the
system may grant less."""

BURST = 64
"""Datagrams taken from the socket in one turn of the loop."""

RANDOM_GROUP = 0xFFFF_FFFE
"""Message ids and tokens are drawn apart from every device, and anew for every start: a restarted
server that repeated them would look to a device like duplicates of the former one."""

FIRMWARE_ROOT = "fw"
WILDCARDS = ("0.0.0.0", "::", "")


@device_faces.register("lwm2m")
class Lwm2mFace:
    """The LwM2M server."""

    name = "lwm2m"
    protocol = "LWM2M"
    listener = ListenerSpec("coap", "LwM2M", "127.0.0.1:5683", "coap")
    campaigns = FIRMWARE_V3
    app = None

    def __init__(self, context: FaceContext, tuning: TransportTuning | None = None) -> None:
        self._runtime = context.runtime
        self._writer = context.writer
        self._time = context.time
        self._bind = context.bind
        self._sink = context.sink
        self._concerns = context.concerns
        self._starts = context.starts
        self._tuning = tuning or replace(DEFAULT_TUNING, burst=BURST, socket_buffer=SOCKET_BUFFER)
        self._endpoint: CoapEndpoint | None = None
        self._sessions: dict[str, Session] = {}
        self._by_location: dict[str, Session] = {}
        self._found: list[Registration] = []
        self._next_location = 0
        self._reserved = 0
        self._packages: dict[str, tuple[FirmwarePackage, Options]] = {}
        self._package_users: Counter[str] = Counter()
        self._ordered: dict[str, Order] = {}
        self._hosts: dict[str, str] = {}
        self.poll = context.poll
        self.on_contact: Callable[[str], None] = lambda _name: None
        """Called with the name of a device that has registered or updated its registration."""
        context.time.on_shift.append(self._shift)

    # -- life ---

    def _load(self, connection: Connection) -> list[Registration]:
        """Read the registrations that a former run left, and reserve fresh locations."""
        self._next_location = int(store.counter(connection, "location") or 1)
        self._reserve(connection)
        return store.load_registrations(connection, self.name)

    def _restore(self, registrations: Iterable[Registration]) -> None:
        """Make a session for every registration that has not run out."""
        now = self._time.now()
        for registration in registrations:
            if registration.expires <= now:
                self._drop_row(registration.location)
                continue
            peer = self.endpoint.peer(registration.host, registration.port)
            self._adopt(Session(self, registration, peer))

    async def start(self) -> None:
        """Read back the registrations."""
        self._found = await self._writer.submit(self._load)

    def open(self) -> None:
        """Open the socket and go on with the registrations. Raises ListenerRefused."""
        random = DeviceRandom(self._runtime.seed, RANDOM_GROUP, self._starts)
        try:
            self._endpoint = CoapEndpoint(
                self._runtime,
                bind=self._bind,
                handler=self._handle,
                tuning=self._tuning,
                random=random,
                max_peers=MAX_PEERS,
            )
        except BindError as error:
            raise ListenerRefused(f"CoAP listener: {error}") from error
        self._restore(self._found)
        self._found = []

    async def introduce(
        self, names: Sequence[str], server: str, office: Administration
    ) -> Introduction:
        """Such devices need nothing but the address: who registers is known from then on."""
        return Introduction(server, deliveries=("push", "pull"))

    async def stop(self) -> None:
        # Sessions first: a request that fails because we close says nothing about its device.
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._by_location.clear()
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    @property
    def endpoint(self) -> CoapEndpoint:
        assert self._endpoint is not None, "the LwM2M face is not started"
        return self._endpoint

    @property
    def local(self) -> tuple[str, int]:
        """Where it listens."""
        return self.endpoint.local

    @property
    def wheel(self) -> TimerWheel:
        return self._runtime.wheel

    def now(self) -> float:
        return self._runtime.clock.now()

    def arm(self, timer: Timer, delay: float) -> None:
        self._runtime.arm(timer, delay)

    def emit(self, event: FaceEvent) -> None:
        self._sink(event)

    # -- DeviceFace ---

    def resume(self) -> None:
        """Registered devices that a campaign waits for are reachable from the first moment on."""
        for session in list(self._sessions.values()):
            if session.order is None and self._concerns(session.name):
                self.emit(FaceEvent(session.name, FaceKind.REGISTERED))

    def reachable(self, device: str) -> bool:
        return device in self._sessions

    def offer(self, order: Order) -> None:
        if self._endpoint is None:
            raise FaceRefused("the LwM2M server is not running")
        if order.device not in self._ordered:
            self._package_users[order.package.digest] += 1
        self._ordered[order.device] = order
        digest = order.package.digest
        if digest not in self._packages:
            etag = bytes.fromhex(digest[:16])
            options = make_options(content_format=codecs.OPAQUE, etag=etag)
            self._packages[digest] = (order.package, options)
        session = self._sessions.get(order.device)
        if session is not None:
            session.begin(order)
        # Else it is not registered any more, and its next registration begins the order.

    def install(self, device: str) -> None:
        session = self._sessions.get(device)
        order = self._ordered.get(device)
        if order is None:
            return
        if session is not None:
            session.install()
        else:
            from_intent = replace(order, position=Position.EXECUTE)
            self._ordered[device] = from_intent

    def withdraw(self, device: str) -> None:
        order = self._ordered.pop(device, None)
        if order is not None:
            digest = order.package.digest
            self._package_users[digest] -= 1
            if not self._package_users[digest]:
                del self._package_users[digest]
                del self._packages[digest]
        session = self._sessions.get(device)
        if session is not None:
            session.withdraw()

    def forget(self, device: str) -> None:
        """Nothing: a client may register under any name, and this one still is."""

    def believed(self, device: str) -> FaceBelief | None:
        session = self._sessions.get(device)
        return None if session is None else session.believed()

    def identities(self) -> list[str]:
        """Every endpoint name that is registered now."""
        return sorted(self._sessions)

    def peer_of(self, device: str) -> UdpPeer | None:
        """Where a registered device is."""
        session = self._sessions.get(device)
        return None if session is None else session.peer

    def awake(self, device: str) -> bool:
        """Whether a device is registered and listens now."""
        session = self._sessions.get(device)
        return session is not None and not session.asleep

    def last_contact(self, device: str) -> float | None:
        """When a registered device registered or updated last, by the backend's time."""
        session = self._sessions.get(device)
        if session is None:
            return None
        return session.registration.expires - session.registration.lifetime * self._time.rate

    # -- requests of devices ---

    def _handle(self, peer: UdpPeer, request: Message, exchange: Exchange) -> Message | None:
        path = request.options.path
        try:
            if path and path[0] == "rd":
                return self._registration(peer, request, exchange)
            if len(path) == 2 and path[0] == FIRMWARE_ROOT:
                return self._firmware(path[1], request)
            if path == (".well-known", "core") and request.code == Code.GET:
                options = make_options(content_format=codecs.LINK)
                return response(Code.CONTENT, options, b'</rd>;rt="core.rd"')
        except BadRegistration as error:
            code = Code.PRECONDITION_FAILED if error.precondition else Code.BAD_REQUEST
            return response(code, payload=str(error).encode())
        return response(Code.NOT_FOUND)

    def _firmware(self, digest: str, request: Message) -> Message:
        if request.code != Code.GET:
            return response(Code.METHOD_NOT_ALLOWED)
        found = self._packages.get(digest)
        if found is None:
            return response(Code.NOT_FOUND)
        package, options = found
        # The endpoint cuts the block that is asked for from these shared bytes.
        return response(Code.CONTENT, options, package.body)

    def _registration(self, peer: UdpPeer, request: Message, exchange: Exchange) -> Message | None:
        path = request.options.path
        if len(path) == 1:
            if request.code != Code.POST:
                return response(Code.METHOD_NOT_ALLOWED)
            return self._register(peer, request, exchange)
        session = self._by_location.get(path[1]) if len(path) == 2 else None
        if session is None:
            return response(Code.NOT_FOUND)
        if request.code in (Code.POST, Code.PUT):
            return self._update(session, peer, request, exchange)
        if request.code == Code.DELETE:
            self._deregister(session, exchange)
            return None
        return response(Code.METHOD_NOT_ALLOWED)

    def _register(self, peer: UdpPeer, request: Message, exchange: Exchange) -> Message | None:
        parameters = parse_queries(request.options.queries)
        name = check_register(parameters)
        content_format = request.options.content_format
        if request.payload and content_format not in (None, codecs.LINK):
            return response(Code.UNSUPPORTED_CONTENT_FORMAT)
        now = self._time.now()
        lifetime = parameters.lifetime or DEFAULT_LIFETIME
        host, port = peer.address
        registration = Registration(
            name=name,
            face=self.name,
            location=self._new_location(),
            host=host,
            port=port,
            lifetime=lifetime,
            version=parameters.version or "1.0",
            binding=parameters.binding or "U",
            queue=parameters.queue,
            objects=parse_objects(request.payload),
            registered=now,
            expires=self._time.after(lifetime),
        )
        former = self._sessions.get(name)
        if former is not None:
            # The same device again, after a restart: what it was doing is known by its order.
            former.close()
            del self._by_location[former.registration.location]
        session = Session(self, registration, peer)
        self._adopt(session)
        session.last_contact = self.now()
        if former is not None:
            session.version, session.source = former.version, former.source
            if former.order is not None:
                session.order, session.position = former.order, former.position

        def committed(_result: object, error: Exception | None) -> None:
            if error is not None:
                exchange.respond(response(Code.INTERNAL_SERVER_ERROR))
                return
            location = make_options(location=("rd", registration.location))
            exchange.respond(response(Code.CREATED, location))
            if self._sessions.get(name) is session:
                self._welcome(session)
                self.on_contact(name)

        self._writer.submit_row(store.PUT_REGISTRATION, store.row_of(registration), committed)
        return None

    def _welcome(self, session: Session) -> None:
        """The registration is durable and acknowledged: ask the device what it runs."""
        order = self._ordered.get(session.name)
        if order is not None and session.order is None:
            session.order, session.position = order, order.position
        session.registered()

    def _update(
        self, session: Session, peer: UdpPeer, request: Message, exchange: Exchange
    ) -> Message | None:
        parameters = parse_queries(request.options.queries)
        registration = session.registration
        self._apply(registration, parameters, request.payload)
        moved = peer is not session.peer
        session.peer = peer
        registration.host, registration.port = peer.address
        registration.expires = self._time.after(registration.lifetime)
        session.last_contact = self.now()
        self._arm_expiry(session)

        def committed(_result: object, error: Exception | None) -> None:
            if error is not None:
                exchange.respond(response(Code.INTERNAL_SERVER_ERROR))
                return
            exchange.respond(response(Code.CHANGED))
            if self._by_location.get(registration.location) is session:
                session.contact(moved)
                self.on_contact(session.name)

        self._writer.submit_row(
            store.REFRESH_REGISTRATION,
            {
                "b_location": registration.location,
                "b_host": registration.host,
                "b_port": registration.port,
                "b_lifetime": registration.lifetime,
                "b_binding": registration.binding,
                "b_objects": registration.objects,
                "b_expires": registration.expires,
            },
            committed,
        )
        return None

    @staticmethod
    def _apply(registration: Registration, parameters: Parameters, payload: bytes) -> None:
        objects = parse_objects(payload) if payload else registration.objects
        if parameters.lifetime is not None:
            registration.lifetime = parameters.lifetime
        if parameters.binding is not None:
            registration.binding = parameters.binding
            registration.queue = parameters.queue
        registration.objects = objects

    def _deregister(self, session: Session, exchange: Exchange) -> None:
        self._remove(session)

        def committed(_result: object, error: Exception | None) -> None:
            code = Code.DELETED if error is None else Code.INTERNAL_SERVER_ERROR
            exchange.respond(response(code))

        self._drop_row(session.registration.location, committed)

    # -- bookkeeping ---

    def _adopt(self, session: Session) -> None:
        registration = session.registration
        self._sessions[registration.name] = session
        self._by_location[registration.location] = session
        self._arm_expiry(session)

    def _remove(self, session: Session) -> None:
        """Take a session off; an order under way waits for the device's next registration."""
        session.close()
        name = session.name
        if session.order is not None and name in self._ordered:
            self._ordered[name] = replace(session.order, position=session.position)
        del self._sessions[name]
        del self._by_location[session.registration.location]
        self.emit(FaceEvent(name, FaceKind.GONE))

    def _drop_row(
        self, location: str, committed: Callable[[object, Exception | None], None] | None = None
    ) -> None:
        self._writer.submit_row(store.DROP_REGISTRATION, {"b_location": location}, committed)

    def _arm_expiry(self, session: Session) -> None:
        if session.expiry is None:
            session.expiry = Timer(lambda _now: self._expired(session))
        self.wheel.arm(session.expiry, self._time.on_wheel(session.registration.expires))

    def _shift(self, shift: Shift) -> None:
        """The time was changed. A lifetime counts by the clock of its device, so the timers stay
        and the instants move."""
        for session in self._by_location.values():
            session.registration.expires = shift.moved(session.registration.expires)
        row = {
            "b_face": self.name,
            "b_before": shift.before,
            "b_after": shift.after,
            "b_factor": shift.factor,
        }
        self._writer.submit_row(store.SHIFT_REGISTRATIONS, row)

    def _expired(self, session: Session) -> None:
        if self._by_location.get(session.registration.location) is session:
            self._remove(session)
            self._drop_row(session.registration.location)

    def _new_location(self) -> str:
        number = self._next_location
        self._next_location += 1
        if self._next_location >= self._reserved:
            # In the queue before the registration that needs it, so durable with it or before.
            self._writer.submit_nowait(self._reserve)
        return f"{number:x}"

    def _reserve(self, connection: Connection) -> None:
        self._reserved = self._next_location + LOCATION_BLOCK
        store.put_counter(connection, "location", self._reserved)

    def package_uri(self, peer: UdpPeer, package: FirmwarePackage) -> str:
        """Where this device can fetch a package: our own address, as the device reaches it."""
        host, port = self.local
        if host in WILDCARDS:
            host = self._host_towards(peer)
        text = f"[{host}]" if ":" in host else host
        return f"coap://{text}:{port}/{FIRMWARE_ROOT}/{package.digest}"

    def _host_towards(self, peer: UdpPeer) -> str:
        """The local address that the system would use towards a device."""
        remote = peer.address[0]
        known = self._hosts.get(remote)
        if known is None:
            family = socket.AF_INET6 if ":" in remote else socket.AF_INET
            # Connecting a datagram socket sends nothing; it only asks the routing table.
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(peer.address)
                known = str(probe.getsockname()[0])
            self._hosts[remote] = known
        return known
