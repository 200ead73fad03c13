"""Which sockets have something to read: one descriptor of the event loop for all of them.

asyncio's ``add_reader`` costs a handle, a selector key and two dictionary entries per socket, and
some 3 µs per event. An epoll descriptor is itself readable when one of its sockets is, so all
sockets of a worker hang on one that the loop watches: asyncio stays, its price per packet goes.
Where there is no epoll (macOS) every socket is watched by the loop itself.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable

__all__ = ["Readiness"]

# Events taken per turn of the loop: enough to spread its cost, few enough for timers to stay
# punctual (256 packets are some 4 ms).
EVENTS_PER_TURN = 256


class Readiness:
    """Calls each socket's reader when it has something to read (level-triggered)."""

    __slots__ = ("_epoll", "_loop", "_readers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._readers: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None

    def watch(self, descriptor: int, reader: Callable[[], None]) -> None:
        if not sys.platform.startswith("linux"):
            self._loop.add_reader(descriptor, reader)
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._ready)
        self._readers[descriptor] = reader
        self._epoll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        if self._epoll is None:
            self._loop.remove_reader(descriptor)
            return
        del self._readers[descriptor]
        self._epoll.unregister(descriptor)
        if not self._readers:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _ready(self) -> None:
        assert self._epoll is not None
        readers = self._readers
        for descriptor, _ in self._epoll.poll(0, EVENTS_PER_TURN):
            reader = readers.get(descriptor)
            if reader is None:
                continue  # closed by a reader before it in this turn
            try:
                reader()
            except Exception as error:  # one device's defect must not cost another its packet
                context = {"message": "a datagram reader failed", "exception": error}
                self._loop.call_exception_handler(context)
