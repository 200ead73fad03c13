"""A UDP relay that loses and duplicates by a list, so that a bad link is the same one every time.

It also counts what passed, which tells whether a retransmission really was one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import cast

Address = tuple[str, int]

# A confirmable message is sent five times in all (RFC 7252 section 4.8); a link may not eat more in
# a row than leaves it a way through, both ways together.
MOST_LOST_IN_A_ROW = 2


def fates(seed: int, *, loss: float, duplication: float) -> Iterator[int]:
    """Copies to deliver of each datagram, without end: 0 lost, 1, 2 duplicated."""
    numbers = random.Random(seed)
    lost = 0
    while True:
        draw = numbers.random()
        if draw < loss and lost < MOST_LOST_IN_A_ROW:
            lost += 1
            yield 0
            continue
        lost = 0
        yield 2 if draw > 1.0 - duplication else 1


def listed(copies: Iterable[int]) -> Iterator[int]:
    """These fates first, then a perfect link."""
    yield from copies
    while True:
        yield 1


class _Port(asyncio.DatagramProtocol):
    def __init__(self, relay: Relay, client: Address | None) -> None:
        self.relay = relay
        self.client = client
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        if self.client is None:
            self.relay.from_client(data, address)
        else:
            self.relay.from_server(data, self.client)

    def error_received(self, exc: Exception) -> None:
        """A peer that went away; the endpoints find that out for themselves."""


class Relay:
    """Clients talk to ``.port``; each gets a socket of its own towards the server."""

    def __init__(self, server: Address, up: Iterator[int], down: Iterator[int]) -> None:
        self.server = server
        self.up = up
        self.down = down
        self.lost = 0
        self.duplicated = 0
        self.datagrams: list[tuple[str, bytes]] = []
        self._front: _Port
        self._ports: dict[Address, _Port] = {}
        self._early: dict[Address, list[bytes]] = {}
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self._front.transport.get_extra_info("sockname")[1])

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._front = await loop.create_datagram_endpoint(
            lambda: _Port(self, None), local_addr=("127.0.0.1", 0)
        )

    def _copies(self, way: str, data: bytes, fate: Iterator[int]) -> int:
        self.datagrams.append((way, data))
        copies = next(fate)
        self.lost += copies == 0
        self.duplicated += copies == 2
        return copies

    def from_client(self, data: bytes, client: Address) -> None:
        for _ in range(self._copies("up", data, self.up)):
            if client in self._ports:
                self._ports[client].transport.sendto(data, self.server)
            elif client in self._early:
                self._early[client].append(data)
            else:
                self._early[client] = [data]
                task = asyncio.create_task(self._open_port(client))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    async def _open_port(self, client: Address) -> None:
        loop = asyncio.get_running_loop()
        _, port = await loop.create_datagram_endpoint(
            lambda: _Port(self, client), local_addr=("127.0.0.1", 0)
        )
        self._ports[client] = port
        for data in self._early.pop(client):
            port.transport.sendto(data, self.server)

    def from_server(self, data: bytes, client: Address) -> None:
        for _ in range(self._copies("down", data, self.down)):
            self._front.transport.sendto(data, client)

    def close(self) -> None:
        for task in self._opening:
            task.cancel()
        for port in self._ports.values():
            port.transport.close()
        self._front.transport.close()


@asynccontextmanager
async def relayed(
    server: Address, *, up: Iterator[int] | None = None, down: Iterator[int] | None = None
) -> AsyncIterator[Relay]:
    relay = Relay(server, up or listed(()), down or listed(()))
    await relay.open()
    try:
        yield relay
    finally:
        relay.close()
        await asyncio.sleep(0)  # lets the transports call their connection_lost
