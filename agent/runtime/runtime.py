"""The ground that a shard of devices stands on; handed in, never reached for."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from agent.image_store import ImageStore
from agent.misbehaviour import Ledger
from agent.runtime.clock import Clock, LoopClock
from agent.runtime.http import HttpTransport
from agent.runtime.journal import RING, Journal
from agent.runtime.metrics import Metrics
from agent.runtime.network import DatagramNetwork, MemoryNetwork, UdpNetwork
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer, TimerWheel

if TYPE_CHECKING:
    from agent.runtime.mqtt import MqttTransport

__all__ = ["Runtime"]

NETWORK_GROUP = 0xFFFFFFFF  # the in-memory network draws its numbers apart from every device


class Runtime:
    """Clock, timers, network, journal, images, metrics and the seed of one worker.

    Make one with :meth:`real`, :meth:`scaled` or :meth:`in_memory` while an event loop runs; the
    last is virtual time when that loop is a :class:`~agent.runtime.clock.VirtualLoop`.
    It is an (async) context manager; leaving it stops the clock.
    """

    __slots__ = (
        "clock",
        "http",
        "images",
        "journal",
        "metrics",
        "misbehaviours",
        "mqtt",
        "network",
        "seed",
        "wheel",
    )

    def __init__(
        self,
        clock: Clock,
        wheel: TimerWheel,
        network: DatagramNetwork,
        journal: Journal,
        metrics: Metrics,
        images: ImageStore,
        seed: int,
    ) -> None:
        self.clock = clock
        self.wheel = wheel
        self.network = network
        self.journal = journal
        self.metrics = metrics
        self.images = images
        self.seed = seed
        self.misbehaviours = Ledger()
        self.http: HttpTransport | None = None
        """None until a protocol that speaks HTTP brings its adapter, or a test its own."""
        self.mqtt: MqttTransport | None = None
        """Likewise."""
        clock.drive(wheel)

    @classmethod
    def real(
        cls,
        *,
        seed: int = 0,
        rate: float = 1.0,
        journal: Callable[[str], object] | None = None,
        ring_size: int = RING,
        share_images: bool = True,
        images: ImageStore | None = None,
    ) -> Runtime:
        """Own UDP sockets; time runs with the wall, ``rate`` times as fast. ``images`` is the store
        of another runtime in this process, to share with."""
        clock = LoopClock(rate=rate)
        metrics = Metrics()
        return cls(
            clock,
            TimerWheel(),
            UdpNetwork(metrics.counters),
            Journal(clock.now, journal, ring_size),
            metrics,
            ImageStore(share=share_images) if images is None else images,
            seed,
        )

    @classmethod
    def in_memory(
        cls,
        *,
        seed: int = 0,
        latency: float = 0.02,
        loss: float = 0.0,
        duplication: float = 0.0,
        utc_origin: datetime.datetime | None = None,
        journal: Callable[[str], object] | None = None,
        ring_size: int = RING,
    ) -> Runtime:
        """Datagrams in memory; virtual time on a virtual loop, real time on any other."""
        clock = LoopClock(utc_origin=utc_origin)
        metrics = Metrics()
        wheel = TimerWheel()
        network = MemoryNetwork(
            wheel,
            clock.now,
            metrics.counters,
            DeviceRandom(seed, NETWORK_GROUP),
            latency=latency,
            loss=loss,
            duplication=duplication,
        )
        return cls(
            clock,
            wheel,
            network,
            Journal(clock.now, journal, ring_size),
            metrics,
            ImageStore(share=True),
            seed,
        )

    def random(self, group: int, index: int) -> DeviceRandom:
        """The generator of device ``index`` of ``group``: the same numbers under the same seed."""
        return DeviceRandom(self.seed, group, index)

    def arm(self, timer: Timer, delay: float) -> None:
        """Let ``timer`` fire ``delay`` seconds from now."""
        self.wheel.arm(timer, self.clock.now() + delay)

    def close(self) -> None:
        """Stop the clock: no timer fires any more."""
        self.clock.stop()

    async def aclose(self) -> None:
        """Stop the clock and close what the protocols opened."""
        self.close()
        for transport in (self.http, self.mqtt):
            if transport is not None:
                await transport.close()
        self.http = self.mqtt = None

    async def __aenter__(self) -> Runtime:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
