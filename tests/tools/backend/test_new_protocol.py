"""A protocol that nobody has heard of: a client, a face with its kind of campaign, and their
registrations are all it takes to be served, to have options, and to be in a demo."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from agent.bootloader import BootReport
from agent.device import Device
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.wheel import Timer
from agent.update import EngineEvent, Outcome
from tests.busy import ANY_LAG
from tests.tools.backend.virtual import virtual, world
from tools.backend import cli
from tools.backend.administration import Administration
from tools.backend.campaigns.kinds import FIRMWARE_V3, KINDS
from tools.backend.faces.base import (
    Ending,
    FaceBelief,
    FaceContext,
    FaceEvent,
    FaceKind,
    Introduction,
    ListenerSpec,
    Order,
    device_faces,
)
from tools.backend.serve import ListenOptions
from tools.fleet import demo
from tools.fleet.clients import client_maker
from tools.fleet.spec import FaultShare, SpecError
from tools.options import DemoOptions

CAMPAIGNS = replace(FIRMWARE_V3, name="pigeon firmware", protocols=frozenset({"PIGEON"}))


class PigeonFace:
    """Talks to its devices by calling them."""

    name = "pigeon"
    protocol = "PIGEON"
    listener = ListenerSpec("loft", "Pigeon", "127.0.0.1:1149", "pigeon", "/loft", tls=True)
    campaigns = CAMPAIGNS
    app = None
    loft: ClassVar[PigeonFace]

    def __init__(self, context: FaceContext) -> None:
        PigeonFace.loft = self
        self.local = (context.bind[0], 1149)
        self._tell = context.sink
        self._clients: dict[str, PigeonClient] = {}
        self._orders: dict[str, Order] = {}
        self.opened = False

    async def start(self) -> None:
        assert not self.opened

    def open(self) -> None:
        self.opened = True

    def resume(self) -> None:
        assert self.opened

    async def stop(self) -> None:
        self._clients.clear()

    async def introduce(
        self, names: Sequence[str], server: str, office: Administration
    ) -> Introduction:
        await office.load_devices({"name": name, "protocol": self.protocol} for name in names)
        return Introduction(server, options=(("corn", "1"),), deliveries=("push",))

    def reachable(self, device: str) -> bool:
        return device in self._clients

    def offer(self, order: Order) -> None:
        assert order.delivery == "push"
        self._orders[order.device] = order
        event = FaceEvent(order.device, FaceKind.DOWNLOADED)
        asyncio.get_running_loop().call_soon(self._tell, event)

    def install(self, device: str) -> None:
        self._tell(FaceEvent(device, FaceKind.INSTALLING))
        self._clients[device].take(self._orders[device].package.body)

    def withdraw(self, device: str) -> None:
        self._orders.pop(device, None)

    def forget(self, device: str) -> None:
        """Nothing is remembered of a device."""

    def believed(self, device: str) -> FaceBelief | None:
        return None

    def identities(self) -> list[str]:
        return sorted(self._clients)

    def came(self, name: str, client: PigeonClient) -> None:
        self._clients[name] = client
        self._tell(FaceEvent(name, FaceKind.REGISTERED))

    def ended(self, name: str, ending: Ending) -> None:
        version = self._orders[name].package.version if ending is Ending.SUCCESS else ""
        self._tell(FaceEvent(name, FaceKind.FINAL, ending, version=version))


class PigeonClient:
    """A device's end of it."""

    name = "pigeon"

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        self.device = device
        self.registered = False
        self._server = settings.server
        self._options = settings.options
        self._body = b""
        self._timer = Timer(lambda _now: device.run(self._work))

    def booted(self, report: BootReport) -> None:
        """The engine knows."""

    def start(self) -> None:
        assert (self._server, dict(self._options)) == (
            "pigeon://127.0.0.1:1149/loft",
            {"corn": "1"},
        )
        self.device.runtime.arm(self._timer, 0.0)

    def stop(self) -> None:
        self.device.record("registration", "REGISTERED", "DEREGISTERING", "pigeon")
        self.device.record("registration", "DEREGISTERING", "UNREGISTERED", "pigeon")

    def power_lost(self) -> None:
        self.device.runtime.wheel.disarm(self._timer)

    def engine_event(self, event: EngineEvent) -> None:
        if event.outcome is not None and self.registered:
            self._report(event.outcome)

    def take(self, body: bytes) -> None:
        self._body = body
        self.device.runtime.arm(self._timer, 0.0)

    def _report(self, outcome: Outcome) -> None:
        self.device.engine.reported()
        ending = Ending.SUCCESS if outcome is Outcome.SUCCESS else Ending.REVERTED
        PigeonFace.loft.ended(self.device.name, ending)

    def _work(self) -> None:
        device, engine = self.device, self.device.engine
        if not self.registered:
            self.registered = True
            device.record("registration", "REGISTERING", "REGISTERED", "pigeon")
            device.healthy()
            PigeonFace.loft.came(device.name, self)
            if engine.report_pending and engine.outcome is not None:
                self._report(engine.outcome)
        if self._body:
            body, self._body = self._body, b""
            engine.begin()
            for start in range(0, len(body), 1024):
                if not engine.receive(body[start : start + 1024]):
                    return
            if engine.complete():
                engine.install()


@pytest.fixture(autouse=True)
def pigeons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registrations: what importing the modules of a protocol would do."""
    for name in ("lwm2m", "http"):  # a client that is first imported now would be forgotten
        client_maker(name)
    faces = {**device_faces._members, "pigeon": PigeonFace}
    monkeypatch.setattr(device_faces, "_members", faces)
    monkeypatch.setitem(KINDS, CAMPAIGNS.name, CAMPAIGNS)
    clients = {**protocol_clients._members, "pigeon": PigeonClient}
    monkeypatch.setattr(protocol_clients, "_members", clients)
    for name in ("boot_seconds", "reboot_delay"):
        monkeypatch.setattr(f"agent.device.DeviceTiming.{name}", 0.0)


def demo_options(tmp_path: Path, groups: str = "pigeon", **more: object) -> DemoOptions:
    return DemoOptions(
        groups=tuple((name, 3) for name in groups.split()),
        image_size=4096,
        slot_size=64 << 10,
        ramp=1000,
        duration=60.0,
        max_lag=ANY_LAG,
        report_dir=str(tmp_path),
        as_json=True,
        **more,  # type: ignore[arg-type]
    )


def test_its_devices_are_in_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.demo(demo_options(tmp_path, "pigeon http")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["by_protocol"]["pigeon"]["updated"] == told["by_protocol"]["http"]["updated"] == 3


def test_its_failures_are_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = demo_options(tmp_path, faults=(FaultShare("bad-boot"),))
    assert demo.demo(options) == 3
    assert json.loads(capsys.readouterr().out)["failed"] == 3


async def test_settings_go_to_the_groups_that_can_do_them(tmp_path: Path) -> None:
    late = ((Misbehaviour.LATE_REPORT, 0.5),)
    options = demo_options(tmp_path, "lwm2m http", misbehave=late, bandwidth=1000.0)
    lwm2m, http = await demo.with_settings(demo.group_specs(options), options)
    assert (lwm2m.misbehave, lwm2m.bandwidth) == ((), None)
    assert (http.misbehave, http.bandwidth) == (late, 1000.0)
    options = demo_options(tmp_path, "lwm2m", misbehave=late)
    with pytest.raises(SpecError, match="misbehave: lwm2m devices cannot do late-report"):
        await demo.with_settings(demo.group_specs(options), options)


@virtual
async def test_it_is_served() -> None:
    async with world() as backend:
        face = backend.faces["pigeon"]
        assert isinstance(face, PigeonFace)
        assert face.opened
        assert backend.url("pigeon") == "pigeon://127.0.0.1:1149/loft"
        # Those that are served as applications have no listener in virtual time.
        assert (backend.address("http"), backend.url("http")) == (None, "http://http.invalid")
        [device] = await backend.load_devices([{"name": "a", "protocol": "PIGEON"}])
        assert device.protocol == "PIGEON"


def test_its_listener_has_options() -> None:
    given: dict[str, object] = {}

    def command(**listeners: object) -> int:
        given.update(listeners)
        return 0

    app = cli.typer.Typer()
    app.command()(cli.with_listeners(command))
    line = ["--loft", "[::1]:7", "--loft-cert", "c", "--loft-key", "k"]
    assert app(args=line, standalone_mode=False) in (0, None)
    assert cli.listen_options(given)["loft"] == ListenOptions("[::1]:7", Path("c"), Path("k"))
    assert "loft_client_ca" not in given
