"""The network in memory, on a wheel that the test turns by hand; and real sockets on loopback."""

from __future__ import annotations

import asyncio

import pytest

from agent.runtime.metrics import Metrics
from agent.runtime.network import MAX_DATAGRAM, Address, BindError, MemoryNetwork, UdpNetwork
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import TimerWheel

Seen = list[tuple[bytes, Address]]


class Net:
    """A memory network and its time."""

    def __init__(self, *, seed: int = 0, **how: float) -> None:
        self.now = 0.0
        self.wheel = TimerWheel()
        self.counters = Metrics().counters
        self.network = MemoryNetwork(
            self.wheel, lambda: self.now, self.counters, DeviceRandom(seed), **how
        )

    def open(self, host: str, port: int, seen: Seen | None = None):
        taken = [] if seen is None else seen
        return self.network.open((host, port), lambda data, source: taken.append((data, source)))

    def run(self, until: float = 1e9) -> None:
        while (deadline := self.wheel.next_deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.wheel.advance(self.now)


def test_datagrams_arrive_in_order_after_the_latency() -> None:
    net = Net(latency=0.5)
    seen: Seen = []
    receiver = net.open("10.0.0.2", 5683, seen)
    sender = net.open("10.0.0.1", 0)
    for n in range(5):
        sender.send(bytes([n]), receiver.local)
    net.run(until=0.49)
    assert not seen
    net.run()
    assert [data for data, _ in seen] == [bytes([n]) for n in range(5)]
    assert {source for _, source in seen} == {sender.local}
    assert 0.5 <= net.now <= 0.5 + 1 / 32
    assert net.counters["datagrams_in"] == net.counters["bytes_out"] == 5


def test_free_ports_are_per_host_real_and_used_again() -> None:
    net = Net()
    first = net.open("a", 0)
    assert first.local == ("a", 49152) == ("a", net.open("b", 0).local[1])
    sockets = [net.open("a", 0) for _ in range(65535 - 49152)]
    assert max(sock.local[1] for sock in sockets) == 65535
    with pytest.raises(BindError, match="a:0: no free port"):
        net.open("a", 0)
    sockets[7].close()
    assert net.open("a", 0).local == sockets[7].local


def test_an_address_in_use_is_named() -> None:
    net = Net()
    net.open("10.0.0.1", 5683)
    with pytest.raises(BindError, match="10.0.0.1:5683"):
        net.open("10.0.0.1", 5683)


def test_a_closed_socket_neither_sends_nor_receives_nor_closes_its_successor() -> None:
    net = Net(latency=0.1)
    old_seen: Seen = []
    new_seen: Seen = []
    other = net.open("b", 1)
    old = net.open("a", 1, old_seen)
    other.send(b"in flight", old.local)
    old.close()
    old.send(b"from the grave", other.local)
    assert net.counters["send_errors"] == 1
    net.run()
    new = net.open("a", 1, new_seen)
    old.close()
    old.send(b"in another's name", other.local)
    other.send(b"hello", new.local)
    net.run()
    assert not old_seen and [data for data, _ in new_seen] == [b"hello"]


def test_a_receiver_that_raises_costs_nobody_else_a_datagram() -> None:
    net = Net()
    seen: Seen = []

    def broken(data: bytes, source: Address) -> None:
        raise ZeroDivisionError

    bad = net.network.open(("bad", 1), broken)
    good = net.open("good", 1, seen)
    sender = net.open("c", 1)
    for to in (good, bad, good):
        sender.send(b"x", to.local)
    with pytest.raises(ZeroDivisionError):
        net.run()
    net.run()
    assert len(seen) == 2


def test_answers_without_latency_still_let_time_pass() -> None:
    net = Net(latency=0.0)
    sockets: list = []

    def echo(data: bytes, source: Address) -> None:
        sockets[0].send(data, source)

    sockets.append(net.network.open(("a", 1), echo))
    sockets[0].send(b"to myself, for ever", ("a", 1))
    net.run(until=1.0)
    assert 30 <= net.counters["datagrams_in"] <= 64


def lossy(seed: int) -> list[bytes]:
    net = Net(seed=seed, loss=0.3, duplication=0.2)
    seen: Seen = []
    receiver = net.open("r", 1, seen)
    sender = net.open("s", 1)
    for n in range(500):
        sender.send(n.to_bytes(2, "big"), receiver.local)
    net.run()
    return [data for data, _ in seen]


def test_loss_and_duplication_are_as_asked_for_and_repeat_with_the_seed() -> None:
    seen = lossy(1)
    assert seen == lossy(1) != lossy(2)
    assert 300 < len(set(seen)) < 400
    assert 40 < len(seen) - len(set(seen)) < 100


async def received(seen: Seen, count: int) -> None:
    async with asyncio.timeout(5):
        while len(seen) < count:
            await asyncio.sleep(0)


async def test_udp_sockets_carry_datagrams_and_show_what_is_too_long() -> None:
    counters = Metrics().counters
    network = UdpNetwork(counters)
    seen: Seen = []
    receiver = network.open(("127.0.0.1", 0), lambda *what: seen.append(what), burst=8)
    sender = network.open(("127.0.0.1", 0), lambda *what: None, buffer=65536)
    sender.send(b"hello", receiver.local)
    sender.send(bytes(MAX_DATAGRAM + 500), receiver.local)
    await received(seen, 2)
    assert seen[0] == (b"hello", sender.local)
    assert len(seen[1][0]) == MAX_DATAGRAM + 1
    sender.close()
    sender.close()
    sender.send(b"late", receiver.local)
    assert counters["send_errors"] == 1
    receiver.close()


async def test_a_socket_closed_by_its_own_datagram_reads_no_further() -> None:
    network = UdpNetwork(Metrics().counters)
    seen: list[bytes] = []

    def once(data: bytes, source: Address) -> None:
        seen.append(data)
        receiver.close()

    receiver = network.open(("127.0.0.1", 0), once, burst=8)
    sender = network.open(("127.0.0.1", 0), lambda *what: None)
    for data in (b"1", b"2"):
        sender.send(data, receiver.local)
    for _ in range(50):
        await asyncio.sleep(0)
    assert seen == [b"1"]
    sender.close()


@pytest.mark.parametrize("bind", [("127.0.0.1", 70000), ("192.0.2.7", 0), ("a" * 70 + ".x", 0)])
async def test_a_bad_local_address_is_named(bind: Address) -> None:
    with pytest.raises(BindError) as caught:
        UdpNetwork(Metrics().counters).open(bind, lambda *what: None)
    assert f"{bind[0]}:{bind[1]}" in str(caught.value)


async def test_names_resolve_to_ipv4_first() -> None:
    assert UdpNetwork(Metrics().counters).resolve("localhost", 5683) == ("127.0.0.1", 5683)
