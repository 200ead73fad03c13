"""Whole devices, in virtual time: a dummy protocol runs whole updates through the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent import Device, FaultPlan, FaultSpec, LocalMisuse, Outcome, PowerLoss, Runtime, State
from agent.bootloader import BootReport
from agent.device import TRANSITIONS, DeviceTiming, Phase
from agent.errors import UnknownName
from agent.flash import CutMode
from agent.protocol import ClientSettings, protocol_clients
from agent.registry import Registry
from agent.runtime import DeviceRandom, Timer, run_virtual
from agent.update import EngineEvent
from firmware_images import as_source
from tests.agent.parts import image, new_image, old_image, trusted

SLOT = 256 * 1024
LARGE = 150_000
BLOCK = 1024


@protocol_clients.register("dummy")
class DummyClient:
    """Pulls the package a block per tick from memory, installs it, and is healthy after a boot."""

    name = "dummy"
    package = b""
    sick = False

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        self.device = device
        self.timer = Timer(self.tick)
        self.calls: list[str] = []
        self.fetched = 0

    def booted(self, report: BootReport) -> None:
        self.calls.append("booted")

    def start(self) -> None:
        self.calls.append("start")
        self.arm()

    def stop(self) -> None:
        self.calls.append("stop")
        self.device.runtime.wheel.disarm(self.timer)

    def power_lost(self) -> None:
        self.calls.append("power lost")
        self.device.runtime.wheel.disarm(self.timer)

    def engine_event(self, event: EngineEvent) -> None:
        self.calls.append(event.cause)

    def arm(self) -> None:
        runtime = self.device.runtime
        runtime.wheel.arm(self.timer, runtime.clock.now() + 0.05)

    def tick(self, now: float) -> None:
        self.device.run(self.work)

    def work(self) -> None:
        engine = self.device.engine
        if engine.state is State.TRIAL and not self.sick:
            self.device.healthy()
        elif engine.state is State.IDLE and engine.outcome is None:
            engine.begin(uri="dummy://package", total_size=len(self.package))
        elif engine.state is State.DOWNLOADING:
            block = self.package[engine.offset : engine.offset + BLOCK]
            self.fetched += len(block)
            if block and not engine.receive(block):
                return
            if engine.offset == len(self.package) and not engine.complete():
                return
        elif engine.state is State.DOWNLOADED and engine.outcome is None:
            engine.install()
            return
        else:
            return
        self.arm()


class Run:
    """One device with the dummy protocol, for some virtual seconds."""

    def __init__(
        self,
        package: bytes,
        *,
        seconds: float = 60.0,
        faults: FaultPlan | None = None,
        sick: bool = False,
        then: Callable[[Device], None] | None = None,
        timing: DeviceTiming | None = None,
    ) -> None:
        self.events: list[tuple[str, str, str, str]] = []
        self.clients: list[DummyClient] = []
        self.lines: list[str] = []
        self.device: Device
        run_virtual(self.main(package, seconds, faults, sick, then, timing or DeviceTiming()))

    async def main(
        self,
        package: bytes,
        seconds: float,
        faults: FaultPlan | None,
        sick: bool,
        then: Callable[[Device], None] | None,
        timing: DeviceTiming,
    ) -> None:
        factory = protocol_clients.get("dummy")

        def make(device: Device) -> DummyClient:
            client = factory(device, ClientSettings(server="dummy://"))
            assert isinstance(client, DummyClient)
            client.package, client.sick = package, sick
            self.clients.append(client)
            return client

        with_runtime = Runtime.in_memory(seed=3, journal=self.lines.append)
        async with with_runtime as runtime:
            device = self.device = Device(
                runtime,
                "meter-1",
                image=as_source(old_image()),
                trusted=trusted(),
                slot_size=SLOT,
                faults=faults,
                timing=timing,
            )
            device.on_event = lambda *event: self.events.append(event)
            device.attach(make)
            device.power_on()
            await asyncio.sleep(seconds)
            if then is not None:
                then(device)

    @property
    def end(self) -> tuple[Phase, State, Outcome | None, int]:
        device = self.device
        running = device.running
        assert running is not None
        return device.phase, device.engine.state, device.engine.outcome, running.version.major


def test_a_dummy_protocol_runs_a_whole_update() -> None:
    run = Run(image(2, LARGE, 2))
    assert run.end == (Phase.RUNNING, State.IDLE, Outcome.SUCCESS, 2)
    device = run.device
    assert device.boots == 2 and device.security_counter == 2
    assert run.clients[0].calls[-2:] == ["install", "power lost"]
    assert run.clients[1].calls == ["booted", "start", "confirmed"]
    journal = [(e[0], e[2]) for e in run.events]
    assert journal == [
        ("device", "BOOTING"),
        ("device", "RUNNING"),
        ("update", "DOWNLOADING"),
        ("update", "DOWNLOADED"),
        ("update", "INSTALLING"),
        ("device", "BOOTING"),
        ("update", "TRIAL"),
        ("device", "RUNNING"),
        ("update", "IDLE"),
    ]
    assert run.events[-1][3] == "confirmed: success"
    assert len(run.lines) == len(run.events)
    history = device.runtime.journal.history(device.ring)
    assert [record.new for record in history] == [new for _, new in journal]
    assert "meter-1" in repr(device)


def test_the_same_run_has_the_same_journal() -> None:
    assert Run(new_image()).lines == Run(new_image()).lines


def test_a_bad_boot_is_reverted() -> None:
    run = Run(new_image(), faults=FaultPlan(bad_boots=1))
    assert run.end == (Phase.RUNNING, State.DOWNLOADED, Outcome.REVERTED, 1)
    assert run.device.boots == 3
    assert ("device", "BOOTING", "BOOTING", "bad boot") in run.events


def test_an_image_that_stays_unhealthy_is_reverted() -> None:
    run = Run(new_image(), sick=True, seconds=700)
    assert run.end == (Phase.RUNNING, State.DOWNLOADED, Outcome.REVERTED, 1)
    assert ("device", "RUNNING", "BOOTING", "reboot: trial not confirmed") in run.events


def test_a_page_corrupted_on_its_way_is_refused() -> None:
    run = Run(new_image(), faults=FaultPlan(corrupt_page=4, seed=3))
    assert run.end == (Phase.RUNNING, State.IDLE, Outcome.INTEGRITY, 1)


def test_a_page_corrupted_in_the_slot_is_found_by_the_bootloader() -> None:
    run = Run(new_image(), faults=FaultPlan(corrupt_slot_page=4, seed=3))
    assert run.end == (Phase.RUNNING, State.DOWNLOADED, Outcome.REVERTED, 1)
    assert run.device.boots == 2


def test_a_counter_that_is_ahead_refuses_the_image() -> None:
    run = Run(new_image(), faults=FaultPlan(counter_bump=5))
    assert run.end == (Phase.RUNNING, State.IDLE, Outcome.DOWNGRADE, 1)
    assert run.device.security_counter == 6


@pytest.mark.parametrize("mode", list(CutMode))
@pytest.mark.parametrize("operation", [1, 5, 100, 160, 180, 250, 400, 700])
def test_the_power_goes_away_and_comes_back(operation: int, mode: CutMode) -> None:
    package = image(2, LARGE, 2)
    run = Run(package, faults=FaultPlan(cut_power_at=operation, cut_mode=mode))
    assert ("power lost" in {event[3] for event in run.events}) == (run.device.boots > 2)
    phase, state, outcome, running = run.end
    assert phase is Phase.RUNNING
    if running == 2:
        assert (state, outcome) == (State.IDLE, Outcome.SUCCESS)
    else:
        assert state is State.DOWNLOADED
        assert outcome in (Outcome.REVERTED, Outcome.INSTALL_FAILED)
    if operation == 100:
        again = run.clients[1].fetched
        assert 0 < again <= len(package) - 64 * 1024, "resumed means fewer bytes"


def test_switched_off_in_order_and_without() -> None:
    run = Run(new_image(), seconds=0.2, then=Device.power_off)
    assert run.device.phase is Phase.OFF
    assert run.clients[0].calls[-1] == "stop"
    run = Run(new_image(), seconds=0.2, then=Device.cut_power)
    assert run.device.phase is Phase.OFF
    assert run.clients[0].calls[-1] == "power lost"
    run.device.cut_power()
    run.device.power_off()
    assert run.device.client is None


def test_nothing_valid_to_run_is_a_brick() -> None:
    def break_it(device: Device) -> None:
        device.flash.damage(0, 2, 3)
        device.reboot("test")
        device._timer_fired(0.0)

    run = Run(new_image(), seconds=0.2, then=break_it)
    assert run.device.phase is Phase.BRICKED
    assert run.device.running is None and run.device.client is None
    run.device._timer_fired(0.0)
    assert run.device.phase is Phase.BRICKED
    run.device.power_off()
    assert run.device.phase is Phase.OFF


@pytest.mark.parametrize("phase", list(Phase))
def test_every_cell_of_the_device_table(phase: Phase) -> None:
    causes = {cause for row in TRANSITIONS.values() for cause in row}
    run = Run(new_image(), seconds=0.1)
    device = run.device
    for cause in sorted(causes):
        device.phase = phase
        if cause in TRANSITIONS[phase]:
            device._move(cause)
            assert device.phase is TRANSITIONS[phase][cause]
        else:
            with pytest.raises(LocalMisuse, match=phase.name):
                device._move(cause)
            assert device.phase is phase


def test_a_silent_store_is_given_up() -> None:
    def silence(device: Device) -> None:
        device.engine.begin()
        device.engine._pending += 1
        device._store_waits()
        device._timer_fired(0.0)

    run = Run(b"", seconds=0.01, then=silence)
    assert run.device.engine.outcome is Outcome.INSTALL_FAILED


def test_a_confirmation_that_is_never_answered_is_reverted_in_the_end() -> None:
    def silence(device: Device) -> None:
        device.engine._pending += 1
        device._store_waits()
        device._timer_fired(0.0)
        assert device.engine.state is State.TRIAL
        device._timer_fired(0.0)

    run = Run(new_image(), sick=True, seconds=20, then=silence)
    assert run.events[-1][3] == "reboot: trial not confirmed"


def test_power_that_is_switched_on_by_hand_does_not_come_back_twice() -> None:
    def both(device: Device) -> None:
        device.cut_power(back_after=5.0)
        device.power_on()
        assert device._timer is not None and not device._timer.armed

    assert Run(new_image(), seconds=0.2, then=both).device.phase is Phase.RUNNING


def test_a_power_loss_ends_the_call_and_not_the_caller() -> None:
    run = Run(new_image(), seconds=0.01)

    def fails() -> None:
        raise PowerLoss

    assert run.device.run(fails) is None
    assert run.device.run(len, "abc") == 3


def test_a_registry_names_what_it_knows() -> None:
    registry: Registry[int] = Registry("fruit")
    with pytest.raises(UnknownName, match="no fruit 'apple'; known: none"):
        registry.get("apple")
    registry.register("pear")(1)
    registry.register("fig")(2)
    registry.register("fig")(2)
    with pytest.raises(UnknownName, match="known: fig, pear"):
        registry.get("apple")
    with pytest.raises(LocalMisuse, match="twice"):
        registry.register("fig")(3000)
    assert list(registry) == ["fig", "pear"] and "fig" in registry and registry.get("fig") == 2
    assert "dummy" in protocol_clients.names()


def test_faults_are_drawn_from_the_device() -> None:
    spec = FaultSpec(bad_boot=0.5, power_cut=0.5, corrupt_download=0.5, corrupt_slot=0.5)
    plans = [spec.draw(DeviceRandom(1, 0, i)) for i in range(200)]
    assert plans == [spec.draw(DeviceRandom(1, 0, i)) for i in range(200)]
    assert 60 < sum(plan is not None and plan.bad_boots for plan in plans) < 140
    assert any(plan is None for plan in plans)
    assert all(FaultSpec().draw(DeviceRandom(1, 0, i)) is None for i in range(50))
    alone = [FaultSpec(bad_boot=0.5).draw(DeviceRandom(1, 0, i)) for i in range(200)]
    for one, all_ in zip(alone, plans, strict=True):
        assert (one is not None) == (all_ is not None and all_.bad_boots == 1)


def test_the_package_offers_its_names() -> None:
    import agent

    for name in agent.__all__:
        assert getattr(agent, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        agent.nonsense  # noqa: B018
