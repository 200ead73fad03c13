"""Virtual devices of three protocols on real sockets, watched from the outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from agent import Device, Runtime, State
from agent.credentials import NO_CREDENTIAL, Credential
from agent.protocol import ClientSettings
from agent.runtime.network import Address
from protocols.coap.message import Message
from protocols.coap.trace import describe
from protocols.coap.tuning import TransportTuning
from protocols.lwm2m import Lwm2mClient
from tests.agent.parts import old_image, trusted
from tools.fleet.audit import DeviceTruth
from tools.fleet.clients import client_factory

SLOT = 256 * 1024
IMEI = 350_000_000_000_000

TUNING = TransportTuning(ack_timeout=0.8, max_retransmit=9)
"""For a backend that takes its time to start again: to give up after some seconds would be right,
and another attempt, which is not what is tested here."""

_PHASES = {
    State.DOWNLOADING: "push",
    State.DOWNLOADED: "execute",
    State.INSTALLING: "execute",
    State.TRIAL: "report",
}


class Meter:
    """One device, what it did, and what it saw of its server."""

    def __init__(
        self,
        runtime: Runtime,
        index: int,
        protocol: str,
        delivery: str,
        happened: Callable[[str], None],
        *,
        licensed: bool = True,
    ) -> None:
        self.id = str(IMEI + index)
        self.licensed = licensed
        self.protocol = protocol
        self.delivery = delivery
        self.campaigns = False
        """Whether there are any: before that, what a device hears is of no update."""
        self.on_boot: Callable[[Meter], None] = lambda _meter: None
        self.installs = self.packages = 0
        self.lines: list[str] = []
        self._happened = happened
        self.device = Device(
            runtime,
            ("IMEI:" if protocol == "omadm" else "urn:imei:") + self.id,
            image=old_image(),
            trusted=trusted(),
            slot_size=SLOT,
            index=index,
        )
        self.device.on_event = self._event

    def power_on(
        self,
        server: str,
        credential: Credential = NO_CREDENTIAL,
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if self.protocol == "lwm2m":
            self.device.attach(
                partial(Lwm2mClient, server=server, trace=self._message, tuning=TUNING)
            )
        else:
            settings = ClientSettings(
                server=server,
                bind="127.0.0.1",
                credential=lambda _device: credential,
                options=options,
                trace=self._line,
            )
            self.device.attach(client_factory(self.protocol, settings))
        self.device.power_on()

    @property
    def name(self) -> str:
        return self.device.name

    @property
    def settled(self) -> bool:
        """Nothing is under way, and the server has heard how it ended."""
        engine = self.device.engine
        return engine.state is State.IDLE and not engine.report_pending

    def truth(self) -> DeviceTruth:
        engine, running = self.device.engine, self.device.running
        assert running is not None
        return DeviceTruth(
            name=self.name,
            protocol=self.protocol,
            state=engine.state.name.lower(),
            outcome=None if engine.outcome is None else engine.outcome.name.lower(),
            running_version=str(running.version),
            running_digest=running.digest,
            boots=self.device.boots,
            executes=self.installs,
            deliveries=self.packages,
        )

    def _message(self, way: str, peer: Address, kind: int, mid: int, message: Message) -> None:
        self._line(describe(way, peer, kind, mid, message))

    def _line(self, line: str) -> None:
        """A message of its server, or one of its own."""
        self.lines.append(line)
        if not line.startswith("<"):
            return
        engine = self.device.engine
        if engine.state in _PHASES:
            self._happened(_PHASES[engine.state])
        elif engine.outcome is not None:
            self._happened("report")
        elif self.campaigns:
            self._happened("scheduling")

    def _event(self, machine: str, old: str, new: str, _cause: str) -> None:
        self.lines.append(f"= {machine} {old} -> {new}")
        if machine == "device" and new == "RUNNING":
            self.on_boot(self)
        if machine != "update":
            return
        if new == "DOWNLOADED" and old == "DOWNLOADING":
            self.packages += 1
            self._happened("execute")
        elif new == "INSTALLING" and old != "INSTALLING":
            self.installs += 1
            self._happened("execute")
        elif new == "TRIAL":
            self._happened("report")
