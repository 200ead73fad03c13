"""Our devices under Leshan: quick to boot, so that a test waits for the protocol alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from agent import Device, DeviceTiming, FaultPlan, Runtime
from protocols.coap import DEFAULT_TUNING, CoapEndpoint, Code, Message, make_options
from protocols.lwm2m import Lwm2mClient
from tests.interop.images import FACTORY, SLOT_SIZE, TRUSTED
from tests.interop.leshan.server import Event, EventLog, Leshan, LeshanApi
from tests.interop.libcoap import coap_server

T = TypeVar("T")

# Both peers and hundreds of devices share the machine: nobody should repeat what is only late.
PATIENT = dataclasses.replace(DEFAULT_TUNING, ack_timeout=5.0)
# Gives up after 3 s or so, for the one who talks to nobody.
IMPATIENT = dataclasses.replace(DEFAULT_TUNING, ack_timeout=0.1)
# REST calls under way at once.
TOGETHER = 64
# How long a whole stage (everybody registers, downloads, reboots) may take.
STAGE_SECONDS = 240.0


class QuickTiming(DeviceTiming):
    boot_seconds = 0.3
    reboot_delay = 0.2
    watchdog_seconds = 0.3


TIMING = QuickTiming()


async def each(names: Iterable[T], call: Callable[[T], Awaitable[None]]) -> None:
    """Call for every name, a bounded number at a time; the first failure ends it."""
    gate = asyncio.Semaphore(TOGETHER)

    async def one(name: T) -> None:
        async with gate:
            await call(name)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))


def registrations(events: list[Event]) -> Counter[str]:
    """How often each endpoint registered so far."""
    return Counter(event.data["endpoint"] for event in events if event.name == "REGISTRATION")


def departed(events: list[Event]) -> set[str]:
    return {event.data["endpoint"] for event in events if event.name == "DEREGISTRATION"}


class Fleet:
    """Devices that are registered with one Leshan server."""

    def __init__(self, runtime: Runtime, leshan: Leshan, api: LeshanApi, log: EventLog) -> None:
        self.runtime = runtime
        self.leshan = leshan
        self.api = api
        self.log = log
        self.devices: dict[str, Device] = {}
        self._leaving: set[str] = set()
        self._left = asyncio.Event()

    @property
    def names(self) -> list[str]:
        return list(self.devices)

    def add(
        self,
        name: str,
        *,
        faults: FaultPlan | None = None,
        slot_size: int = SLOT_SIZE,
        impatient: bool = False,
    ) -> Device:
        device = Device(
            self.runtime,
            name,
            image=FACTORY,
            trusted=TRUSTED,
            slot_size=slot_size,
            index=len(self.devices),
            faults=faults,
            timing=TIMING,
        )
        server = self.leshan.coap_uri
        tuning = IMPATIENT if impatient else PATIENT
        device.attach(
            lambda device: Lwm2mClient(device, server=server, lifetime=300, tuning=tuning)
        )
        self.devices[name] = device
        device.power_on()
        return device

    async def registered(self, times: Mapping[str, int] | int = 1) -> None:
        """Wait until everybody registered so often (a reboot registers again)."""
        wanted = times if isinstance(times, Mapping) else dict.fromkeys(self.devices, times)

        def reached(events: list[Event]) -> bool:
            seen = registrations(events)
            return all(seen[name] >= count for name, count in wanted.items())

        await self.log.until(reached, STAGE_SECONDS)

    async def notified(self, wanted: Mapping[str, str], path: str) -> None:
        """Wait until each name's resource was notified with its value."""

        def reached(events: list[Event]) -> bool:
            seen = {
                (event.data["ep"], event.data["val"]["value"])
                for event in events
                if event.name == "NOTIFICATION" and event.data["res"] == path
            }
            return seen >= set(wanted.items())

        await self.log.until(reached, STAGE_SECONDS)

    async def firmware(self, name: str) -> tuple[str, str]:
        """(State, Update Result) as Leshan reads them."""
        state = await self.api.value(name, "/5/0/3", "TLV")
        return state, await self.api.value(name, "/5/0/5", "SENML_CBOR")

    async def leave(self) -> None:
        """Everybody deregisters; the server saw it, and every device got its answer."""
        self._leaving = set(self.devices)
        for device in self.devices.values():
            device.on_event = self._watch(device.name)
            device.power_off()
        await self.log.until(lambda events: departed(events) >= set(self.devices), STAGE_SECONDS)
        async with asyncio.timeout(STAGE_SECONDS):
            await self._left.wait()

    def _watch(self, name: str) -> Callable[[str, str, str, str], None]:
        def on_event(machine: str, old: str, new: str, cause: str) -> None:
            if machine == "registration" and new == "UNREGISTERED":
                assert cause == "deregistered", (name, cause)
                self._leaving.discard(name)
                if not self._leaving:
                    self._left.set()

        return on_event


@contextlib.asynccontextmanager
async def running_fleet(leshan: Leshan) -> AsyncIterator[Fleet]:
    async with (
        Runtime.real(seed=7) as runtime,
        leshan.api() as api,
        api.events() as log,
    ):
        fleet = Fleet(runtime, leshan, api, log)
        try:
            yield fleet
        except BaseException:
            for device in fleet.devices.values():
                device.cut_power()
            raise
        await fleet.leave()


@contextlib.asynccontextmanager
async def package_server(runtime: Runtime, packages: Mapping[str, bytes]) -> AsyncIterator[str]:
    """libcoap's server with these packages; devices pull from `{uri}/{name}`."""
    endpoint = CoapEndpoint(runtime, random=runtime.random(1, 0))
    try:
        async with coap_server(endpoint) as port:
            peer = endpoint.peer("127.0.0.1", port)
            for name, package in packages.items():
                put = Message(Code.PUT, options=make_options(path=[name]))
                answer = await endpoint.ask(peer, put, body=package)
                assert answer.code == Code.CREATED, (name, answer)
            yield f"coap://127.0.0.1:{port}"
    finally:
        endpoint.close()
