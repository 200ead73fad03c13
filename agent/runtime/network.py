"""Datagram networks: own sockets on the real one, and one in memory for virtual time.

A device owns one :class:`DatagramSocket`, bound explicitly: it must ask and answer from the same
address and port (RFC 7252 section 4.4 matches on it). ``receive(data, source)`` is called for each
datagram; nothing is awaited and no Task exists per packet.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Protocol

from agent.runtime.random import DeviceRandom
from agent.runtime.readiness import Readiness
from agent.runtime.wheel import Timer, TimerWheel

__all__ = [
    "MAX_DATAGRAM",
    "Address",
    "BindError",
    "DatagramNetwork",
    "DatagramSocket",
    "MemoryNetwork",
    "Receive",
    "UdpNetwork",
]

Address = tuple[str, int]
Receive = Callable[[bytes, Address], None]

# RFC 7252 section 4.6 sizes messages for an MTU of 1280 (1024 of payload). What is longer than this
# is cut by the kernel; one byte more is read, so that the receiver sees it and refuses the rest.
MAX_DATAGRAM = 2048
EPHEMERAL_PORTS = (49152, 65535)  # RFC 6335 section 6; what MemoryNetwork gives for port 0
# With hundreds of devices behind one loop a single busy socket must not starve the others.
BURST = 64


class BindError(OSError):
    """A local address that cannot be used; the text names it."""


class DatagramSocket(Protocol):
    @property
    def local(self) -> Address:
        """The address and port that it is bound to."""

    def send(self, data: bytes, destination: Address) -> None:
        """Hand ``data`` to the network. A full buffer loses it, as on any network."""

    def close(self) -> None:
        """No datagram is delivered after this."""


class DatagramNetwork(Protocol):
    def open(
        self, bind: Address, receive: Receive, *, burst: int = 1, buffer: int | None = None
    ) -> DatagramSocket:
        """A socket bound to ``bind`` (port 0: any free one). Raises :class:`BindError`."""

    def resolve(self, host: str, port: int) -> Address:
        """The address behind a name. Raises :class:`OSError` when there is none."""


class _UdpSocket:
    __slots__ = (
        "_burst",
        "_counters",
        "_readiness",
        "_receive",
        "_socket",
    )

    def __init__(
        self,
        sock: socket.socket,
        readiness: Readiness,
        receive: Receive,
        counters: dict[str, int],
        burst: int,
    ) -> None:
        self._socket: socket.socket | None = sock
        self._readiness = readiness
        self._receive = receive
        self._counters = counters
        self._burst = burst
        readiness.watch(sock.fileno(), self._readable)

    @property
    def local(self) -> Address:
        """Asked of the kernel, which has it anyway; nobody has an address once it is closed."""
        if self._socket is None:
            return ("", 0)
        name = self._socket.getsockname()
        return (name[0], name[1])

    def _readable(self) -> None:
        counters = self._counters
        sock = self._socket
        for _ in range(self._burst):
            if sock is None:
                return
            try:
                data, source = sock.recvfrom(MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier send (nobody listens there). Retransmission and its
                # limit decide what it means; the socket itself is well.
                counters["icmp_errors"] += 1
                continue
            counters["datagrams_in"] += 1
            counters["bytes_in"] += len(data)
            self._receive(data, source if len(source) == 2 else (source[0], source[1]))
            sock = self._socket

    def send(self, data: bytes, destination: Address) -> None:
        counters = self._counters
        try:
            if self._socket is None:
                raise OSError("the socket is closed")
            self._socket.sendto(data, destination)
        except OSError:
            counters["send_errors"] += 1
            return
        counters["datagrams_out"] += 1
        counters["bytes_out"] += len(data)

    def close(self) -> None:
        sock = self._socket
        if sock is None:
            return
        self._readiness.forget(sock.fileno())
        sock.close()
        self._socket = None


class UdpNetwork:
    """The machine's own network: one non-blocking socket per device."""

    def __init__(self, counters: dict[str, int]) -> None:
        self._counters = counters
        self._numeric: dict[Address, Address] = {}
        self._readiness = Readiness(asyncio.get_running_loop())

    def open(
        self, bind: Address, receive: Receive, *, burst: int = 1, buffer: int | None = None
    ) -> DatagramSocket:
        family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise BindError(f"no socket for {bind[0]}:{bind[1]}: {error.strerror}") from error
        try:
            sock.setblocking(False)
            if buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.bind(bind)
        except (OSError, OverflowError, UnicodeError) as error:
            sock.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise BindError(f"cannot bind UDP {bind[0]}:{bind[1]}: {reason}") from error
        return _UdpSocket(sock, self._readiness, receive, self._counters, max(1, min(burst, BURST)))

    def resolve(self, host: str, port: int) -> Address:
        known = self._numeric.get((host, port))
        if known is not None:
            return known
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        # IPv4 first: a device bound to an IPv4 address cannot speak to an IPv6 one.
        infos.sort(key=lambda info: info[0] != socket.AF_INET)
        resolved = (str(infos[0][4][0]), int(infos[0][4][1]))
        if resolved[0] == host:
            # A number, not a name that may move: one object for all devices of a server.
            self._numeric[resolved] = resolved
        return resolved


def has_loopback_range() -> bool:
    """Whether all of 127.0.0.0/8 is local without configuration (Linux: yes, macOS: no)."""
    return sys.platform.startswith("linux")


class _MemorySocket:
    __slots__ = ("_network", "_receive", "local")

    def __init__(self, network: MemoryNetwork, local: Address, receive: Receive) -> None:
        self._network = network
        self._receive = receive
        self.local = local

    def send(self, data: bytes, destination: Address) -> None:
        self._network.carry(data, self, destination)

    def close(self) -> None:
        self._network.close(self)


class MemoryNetwork:
    """Datagrams between sockets of one process, on the wheel's time.

    ``latency`` seconds each way; ``loss`` and ``duplication`` are probabilities drawn from the
    network's own seeded generator, so a run with loss repeats exactly.
    """

    __slots__ = (
        "_flight",
        "_counters",
        "_next_ports",
        "_now",
        "_random",
        "_sockets",
        "_timer",
        "_wheel",
        "duplication",
        "latency",
        "loss",
    )

    def __init__(
        self,
        wheel: TimerWheel,
        now: Callable[[], float],
        counters: dict[str, int],
        random: DeviceRandom,
        *,
        latency: float = 0.0,
        loss: float = 0.0,
        duplication: float = 0.0,
    ) -> None:
        self._wheel = wheel
        self._now = now
        self._counters = counters
        self._random = random
        self._sockets: dict[Address, _MemorySocket] = {}
        self._flight: deque[tuple[float, bytes, Address, Address]] = deque()
        self._timer = Timer(self._deliver)
        self._next_ports: dict[str, int] = {}
        self.latency = latency
        self.loss = loss
        self.duplication = duplication

    def open(
        self, bind: Address, receive: Receive, *, burst: int = 1, buffer: int | None = None
    ) -> DatagramSocket:
        host, port = bind
        if port == 0:
            port = self._free_port(host)
        if (host, port) in self._sockets:
            raise BindError(f"cannot bind UDP {host}:{port}: Address already in use")
        sock = _MemorySocket(self, (host, port), receive)
        self._sockets[sock.local] = sock
        return sock

    def _free_port(self, host: str) -> int:
        first, last = EPHEMERAL_PORTS
        start = self._next_ports.get(host, first)
        for port in chain(range(start, last + 1), range(first, start)):
            if (host, port) not in self._sockets:
                self._next_ports[host] = port + 1 if port < last else first
                return port
        raise BindError(f"cannot bind UDP {host}:0: no free port")

    def resolve(self, host: str, port: int) -> Address:
        return (host, port)

    def close(self, sock: _MemorySocket) -> None:
        if self._sockets.get(sock.local) is sock:
            del self._sockets[sock.local]

    def carry(self, data: bytes, sender: _MemorySocket, destination: Address) -> None:
        counters = self._counters
        source = sender.local
        if self._sockets.get(source) is not sender:
            counters["send_errors"] += 1  # closed: nothing leaves a device without power
            return
        counters["datagrams_out"] += 1
        counters["bytes_out"] += len(data)
        if self.loss and self._random.uniform(0.0, 1.0) < self.loss:
            return
        copies = 1
        if self.duplication and self._random.uniform(0.0, 1.0) < self.duplication:
            copies = 2
        due = self._now() + self.latency
        for _ in range(copies):
            self._flight.append((due, data, source, destination))
        if not self._timer.armed:
            self._wheel.arm(self._timer, due)

    def _deliver(self, now: float) -> None:
        # Each link is first in, first out: who lowers the latency overtakes nothing in flight.
        flight = self._flight
        counters = self._counters
        try:
            # Only what is in flight now: an answer without latency must still take a tick.
            for _ in range(len(flight)):
                if flight[0][0] > now:
                    break
                _, data, source, destination = flight.popleft()
                sock = self._sockets.get(destination)
                if sock is not None:
                    counters["datagrams_in"] += 1
                    counters["bytes_in"] += len(data)
                    sock._receive(data, source)
        finally:
            if flight:
                self._wheel.arm(self._timer, flight[0][0])


def source_address(bind: str | None, server: str, index: int) -> Address:
    """Where device ``index`` binds: its own address *and* port.

    With ``bind`` that address. Without: one of 127.16.0.0/12 when the server is on loopback and the
    system has the range, else whatever the route to the server gives.
    """
    if bind is not None:
        return (bind, 0)
    if ":" in server:
        return ("::", 0)
    if server.startswith("127."):
        if not has_loopback_range():
            return ("127.0.0.1", 0)
        # .0 and .255 of each /24 stay unused: some tools take them for network and broadcast.
        block, host = divmod(index, 254)
        return (f"127.{16 + (block >> 8 & 0xF)}.{block & 0xFF}.{host + 1}", 0)
    return ("0.0.0.0", 0)
