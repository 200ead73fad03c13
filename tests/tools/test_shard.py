"""A whole run with a protocol that exists only here: the fleet must not need to know any."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from agent.bootloader import BootReport
from agent.device import Device
from agent.errors import UnknownName
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.metrics import Histogram
from agent.runtime.wheel import Timer
from agent.update import EngineEvent, Outcome, State
from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from tests.busy import ANY_LAG
from tools.fleet import lag, shard
from tools.fleet.clients import client_maker
from tools.fleet.factory import derived_key, equip, payload, prospect, target_of
from tools.fleet.fleet import join
from tools.fleet.journal_file import JournalFile
from tools.fleet.lag import LagMeter
from tools.fleet.result import exit_code
from tools.fleet.spec import FaultShare, FleetSpec

KEY = derived_key(KeyType.ED25519, 1, "test")
IMAGE = build_image(payload(3000, 1, 1), version=Version(1, 0, 0, 0), key=KEY, security_counter=1)


class DummyClient:
    """Registers at once, feeds itself the image, installs it, and tells its server the outcome."""

    name = "dummy"

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        assert settings.told is not None
        self.device = device
        self.told = settings.told
        self.package = PACKAGES[settings.server]
        self.registered = False
        self._timer = Timer(self._work)

    def booted(self, report: BootReport) -> None:
        """The engine knows."""

    def start(self) -> None:
        self._later()

    def stop(self) -> None:
        self._move("REGISTERED", "DEREGISTERING")
        self._move("DEREGISTERING", "UNREGISTERED")

    def power_lost(self) -> None:
        self.device.runtime.wheel.disarm(self._timer)

    def engine_event(self, event: EngineEvent) -> None:
        if event.outcome is not None:
            self.device.engine.reported()
            verdict = "updated" if event.outcome is Outcome.SUCCESS else "failed"
            self.told(self.device.name, verdict, "told", None)

    def _later(self) -> None:
        self.device.runtime.arm(self._timer, 0.0)

    def _move(self, old: str, new: str) -> None:
        self.registered = new == "REGISTERED"
        self.device.record("registration", old, new, "dummy")

    def _work(self, now: float) -> None:
        self.device.run(self._step)

    def _step(self) -> None:
        device, engine = self.device, self.device.engine
        if not self.registered:
            self._move("REGISTERING", "REGISTERED")
            device.healthy()
        if self.package and engine.state is State.IDLE and engine.outcome is None:
            engine.begin()
            for start in range(0, len(self.package), 1024):
                if not engine.receive(self.package[start : start + 1024]):
                    return
            if engine.complete():
                engine.install()
                device.runtime.wheel.disarm(self._timer)


PACKAGES = {
    "dummy://good": IMAGE,
    "dummy://bad": IMAGE[:600] + bytes([IMAGE[600] ^ 1]) + IMAGE[601:],
    "dummy://silent": b"",
}


@pytest.fixture(autouse=True)
def dummy_protocol(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = {**protocol_clients._members, "dummy": DummyClient}
    monkeypatch.setattr(protocol_clients, "_members", known)
    # Boots and reboots are waited for; here nobody needs to.
    monkeypatch.setattr("agent.device.DeviceTiming.boot_seconds", 0.0)
    monkeypatch.setattr("agent.device.DeviceTiming.reboot_delay", 0.0)
    monkeypatch.setattr(shard, "LOOK_INTERVAL", 0.01)
    yield


def make_spec(server: str = "dummy://good", devices: int = 5) -> FleetSpec:
    return FleetSpec(
        server=server,
        devices=devices,
        names=tuple(f"d{i}" for i in range(devices)),
        image=IMAGE,
        keys=(KEY.public.to_pem(),),
        protocol="dummy",
        slot_size=32 << 10,
        ramp=10_000,
        max_lag=ANY_LAG,
    )


def test_a_run_from_spec_to_result_goes_through_pickle_both_ways(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    spec = replace(make_spec(), journal=str(journal))
    snapshot = shard.run_shard(pickle.loads(pickle.dumps(spec)))
    snapshot = pickle.loads(pickle.dumps(snapshot))
    result = join("run", [spec], [snapshot], seconds=1.0)
    assert result.counts.as_dict() == {"devices": 5, "updated": 5, "failed": 0, "unfinished": 0}
    assert (result.audit.agree, result.audit.unknown) == (5, 0)
    assert exit_code(result) == 0
    assert snapshot.metrics.update.count == 5
    assert snapshot.timeline.states["updated"][-1] == 5
    assert {truth.running_version for truth in snapshot.truths} == {"1.0.0"}
    assert all(truth.executes == truth.deliveries == 1 for truth in snapshot.truths)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    # Each device said goodbye before it was switched off.
    goodbyes = [line for line in lines if line["new"] == "DEREGISTERING"]
    assert {line["device"] for line in goodbyes} == set(spec.names)


def test_a_refused_image_is_a_failed_device_with_its_reason() -> None:
    spec = make_spec("dummy://bad")
    result = join("run", [spec], [shard.run_shard(spec)], seconds=1.0)
    assert result.counts.failed == 5
    assert result.failures == {"integrity": 5} or result.failures == {"signature": 5}
    assert result.audit.agree == 5
    assert exit_code(result) == 3


def test_a_bad_boot_reverts_and_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.device.DeviceTiming.watchdog_seconds", 0.0)
    spec = replace(make_spec(devices=2), faults=(FaultShare("bad-boot"),))
    result = join("run", [spec], [shard.run_shard(spec)], seconds=1.0)
    assert result.failures == {"reverted": 2}
    assert {truth.state for truth in result.truths} == {"downloaded"}
    assert {truth.running_version for truth in result.truths} == {"0.0.0"}


def test_the_duration_ends_a_run_that_nobody_updates() -> None:
    spec = replace(make_spec("dummy://silent"), duration=0.05)
    snapshot = shard.run_shard(spec)
    result = join("run", [spec], [snapshot], seconds=1.0)
    assert result.counts.unfinished == 5
    assert result.audit.unknown == 5
    assert not result.interrupted
    assert exit_code(result) == 3


async def test_a_stop_during_the_ramp_accounts_for_devices_that_never_ran() -> None:
    spec = replace(make_spec("dummy://silent", devices=3), ramp=0.001)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    snapshot = await shard.drive(spec, stop=stop)
    result = join("run", [spec], [snapshot], seconds=1.0)
    assert snapshot.interrupted
    assert [truth.name for truth in snapshot.truths] == ["d0", "d1", "d2"]
    assert result.counts.unfinished == 3
    assert exit_code(result) == 130


async def test_a_backend_that_never_settles_is_waited_for_and_no_longer() -> None:
    async with shard.open_shard(make_spec(devices=2)) as fleet:
        await fleet.start()
        assert await fleet.until_registered(10.0)
        assert await fleet.wait(lambda: False, grace=0.02)
        assert fleet.census.final == 2
        await fleet.power_off()


async def test_devices_that_the_backend_gave_up_end_the_run_unfinished() -> None:
    async with shard.open_shard(make_spec("dummy://silent", devices=2)) as fleet:
        await fleet.start()
        assert not await fleet.wait(lambda: True, grace=0.02)
        assert fleet.census.final == 0
        assert fleet.snapshot().error is None


@pytest.mark.parametrize(("limit", "code"), [(1000.0, 4), (3000.0, 0)])
async def test_a_run_that_lagged_is_invalid(limit: float, code: int) -> None:
    spec = replace(make_spec(devices=1), max_lag=limit)
    async with shard.open_shard(spec) as fleet:
        fleet.runtime.metrics.lag.record(2000.0)  # beside which nothing else counts
        await fleet.start()
        assert await fleet.wait()
        snapshot = fleet.snapshot()
        await fleet.power_off()
    result = join("run", [spec], [snapshot], seconds=1.0)
    assert exit_code(result) == code
    if code == 4:
        assert result.invalid is not None
        assert "lagged by 2e+03 s (99th percentile, at most 1000 s)" in result.invalid


class FakeLoop:
    """A loop whose time is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self.due.append((when, call))


def test_a_stall_is_recorded_for_every_tick_that_it_delayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = FakeLoop()
    monkeypatch.setattr(lag.asyncio, "get_running_loop", lambda: loop)
    histogram = Histogram()
    LagMeter(histogram).start()
    loop.now = 3.05
    loop.due.pop()[1]()
    assert histogram.count == 30
    assert histogram.percentile(100) == pytest.approx(2.95, rel=0.01)
    assert loop.due[0][0] == pytest.approx(3.1)


def test_the_same_seed_makes_the_same_factory() -> None:
    spec = make_spec()
    assert equip(spec) == equip(spec)
    assert equip(replace(spec, seed=1)).running != equip(spec).running
    running = cast(bytes, equip(spec).running)
    assert target_of(IMAGE, running).factory_digest == target_of(running).digest


def test_what_devices_will_do_with_the_image_is_said_before() -> None:
    assert prospect(equip(make_spec())) == "will be accepted: version 1.0.0, replacing 0.0.0"
    broken = replace(make_spec(), image=PACKAGES["dummy://bad"])
    assert prospect(equip(broken)).startswith("will be refused: ")
    nonsense = replace(make_spec(), image=b"nonsense")
    assert prospect(equip(nonsense)).startswith("will be refused: ")
    assert target_of(b"nonsense").version == "unreadable"


def test_an_unknown_protocol_lists_the_known_ones() -> None:
    for name in ("nonsense", "..", "coap"):
        with pytest.raises(UnknownName, match=f"no protocol '{name}'; known: .*lwm2m"):
            client_maker(name)


def test_a_full_disk_ends_the_journal_and_is_told(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with JournalFile(str(full)) as journal:
        journal.write("x" * 100_000)
        journal.write("more")
    assert journal.error is not None and "No space left" in journal.error
