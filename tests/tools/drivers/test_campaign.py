"""Driven runs, whole: real devices and the hawkBit stub on real sockets, and a driver that fails
where a test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from protocols.http import poller
from tests.busy import ANY_LAG
from tests.stubs.hawkbit import HawkbitStub
from tools.drivers import campaign as story
from tools.drivers.base import Campaign, DriverBelief, DriverSettings, Package, Secrets
from tools.drivers.campaign import Driven, DriveTuning, drive
from tools.drivers.errors import CleanupIncomplete, DriverError
from tools.drivers.hawkbit import HawkbitDriver
from tools.fleet import shard
from tools.fleet.audit import Kind
from tools.fleet.factory import derived_key, payload
from tools.fleet.fleet import join
from tools.fleet.spec import FleetSpec

KEY = derived_key(KeyType.ECDSA_P256, 1, "test")
IMAGE = build_image(payload(5000, 1, 1), version=Version(2, 0, 0, 0), key=KEY, security_counter=1)

HANGS = 60.0  # what takes so long here will never end
TUNING = DriveTuning(registered=HANGS, settle_interval=0.05, grace=HANGS, cleanup=HANGS)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boot_seconds", "reboot_delay", "watchdog_seconds"):
        monkeypatch.setattr(f"agent.device.DeviceTiming.{name}", 0.0)
    monkeypatch.setattr(shard, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(poller, "FIRST_POLL_SPREAD", 0.0)


@pytest.fixture
async def stub() -> AsyncIterator[HawkbitStub]:
    async with HawkbitStub.serve() as stub:
        yield stub


def spec_for(stub: HawkbitStub, **fields: object) -> FleetSpec:
    spec = FleetSpec(
        server=stub.url,
        devices=3,
        names=("a", "b", "c"),
        image=IMAGE,
        keys=(KEY.public.to_pem(),),
        protocol="hawkbit",
        options=(("poll", "0.1"),),
        slot_size=64 << 10,
        ramp=1000.0,
        duration=HANGS,
        max_lag=ANY_LAG,
    )
    return replace(spec, **fields)  # type: ignore[arg-type]


class Run:
    """One driven run and all that it said."""

    def __init__(self, stub: HawkbitStub, kind: type[HawkbitDriver] = HawkbitDriver) -> None:
        self.stub = stub
        self.stop = asyncio.Event()
        self.said: list[str] = []
        self.stop_at: str | None = None
        """Ctrl-C when this is said."""
        identity = Secrets("hawkbit", stub.user, stub.password)
        self.driver = kind(DriverSettings(stub.url, identity, "77"))

    def say(self, text: str) -> None:
        self.said.append(text)
        if self.stop_at is not None and self.stop_at in text:
            self.stop.set()

    async def __call__(self, spec: FleetSpec, tuning: DriveTuning = TUNING) -> Driven:
        return await drive(
            self.driver, spec, suffix="77", stop=self.stop, say=self.say, tuning=tuning
        )

    def nothing_left(self) -> bool:
        state = self.stub.state
        kept = [one for one in (*state.sets.values(), *state.modules.values()) if not one.deleted]
        return not state.targets and not kept


async def test_from_nothing_to_nothing(stub: HawkbitStub) -> None:
    run = Run(stub)
    driven = await run(spec_for(stub))
    assert driven.snapshot is not None
    assert driven.spec.names == ("a-77", "b-77", "c-77")
    assert (driven.findings, driven.left) == ((), ())
    result = join("run", [driven.spec], [driven.snapshot], seconds=1.0, beliefs=driven.beliefs)
    assert result.counts.updated == 3
    assert result.audit.agree == 3
    assert run.nothing_left()
    assert run.said == [
        "hawkbit: 3 devices provisioned",
        "hawkbit: version 2.0.0 offered to 3 devices",
    ]


async def test_what_a_person_asks_of_devices_counts_more(stub: HawkbitStub) -> None:
    spec = spec_for(stub, options=(("poll", "0.1"), ("tenant", "default")))
    driven = await Run(stub)(spec)
    assert dict(driven.spec.options) == {"poll": "0.1", "tenant": "default"}


async def test_an_image_that_nobody_can_read_is_published_all_the_same(stub: HawkbitStub) -> None:
    driven = await Run(stub)(spec_for(stub, image=b"not an image" * 100))
    assert driven.snapshot is not None
    result = join("run", [driven.spec], [driven.snapshot], seconds=1.0, beliefs=driven.beliefs)
    assert result.counts.failed == 3
    assert result.audit.agree == 3


async def test_silent_devices_are_waited_for_and_found(stub: HawkbitStub) -> None:
    silent = ((Misbehaviour.NEVER_REPORT, 1.0),)
    driven = await Run(stub)(spec_for(stub, misbehave=silent), replace(TUNING, grace=0.3))
    assert driven.snapshot is not None
    result = join("run", [driven.spec], [driven.snapshot], seconds=1.0, beliefs=driven.beliefs)
    assert result.audit.by_kind() == {Kind.STUCK: 3}


@pytest.mark.parametrize("when", ["provisioned", "offered"])
async def test_ctrl_c_leaves_nothing(stub: HawkbitStub, when: str) -> None:
    run = Run(stub)
    run.stop_at = when
    driven = await run(spec_for(stub, options=(("poll", "30"),)))
    assert run.nothing_left()
    assert driven.snapshot is None or driven.snapshot.interrupted
    assert (driven.beliefs is None) == (when == "provisioned")


async def test_ctrl_c_before_anything(stub: HawkbitStub) -> None:
    run = Run(stub)
    run.stop.set()
    assert await run(spec_for(stub)) == Driven(
        replace(spec_for(stub), names=("a-77", "b-77", "c-77"))
    )
    assert run.nothing_left()


class FailsToStart(HawkbitDriver):
    async def start(self, package: Package, devices: Sequence[str]) -> Campaign:
        await super().start(package, devices)
        raise DriverError("the server changed its mind")


class FailsToUpload(HawkbitDriver):
    async def publish(self, image: bytes, version: str) -> Package:
        await super().publish(image, version)
        raise DriverError("the server changed its mind")


class FailsToProvision(HawkbitDriver):
    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        await super().provision(devices)
        raise DriverError("the server changed its mind")


@pytest.mark.parametrize("kind", [FailsToProvision, FailsToUpload, FailsToStart])
async def test_a_server_that_refuses_is_left_as_it_was(
    stub: HawkbitStub, kind: type[HawkbitDriver]
) -> None:
    run = Run(stub, kind)
    with pytest.raises(DriverError, match="changed its mind"):
        await run(spec_for(stub))
    assert run.nothing_left()


class FailsToTell(HawkbitDriver):
    async def belief(self, campaign: Campaign) -> dict[str, DriverBelief]:
        raise DriverError("no longer there")


async def test_devices_are_known_though_beliefs_are_not(stub: HawkbitStub) -> None:
    run = Run(stub, FailsToTell)
    driven = await run(spec_for(stub))
    assert driven.snapshot is not None
    assert driven.snapshot.error == "no longer there"
    assert driven.beliefs is None
    assert len(driven.snapshot.truths) == 3
    assert run.nothing_left()


class FailsToSettle(HawkbitDriver):
    asked = 0

    async def settled(self, campaign: Campaign) -> bool:
        self.asked += 1
        raise DriverError("cannot tell")


async def test_a_server_that_cannot_tell_is_not_asked_for_ever(stub: HawkbitStub) -> None:
    run = Run(stub, FailsToSettle)
    driven = await run(spec_for(stub))
    assert driven.beliefs is not None
    assert {belief.verdict for belief in driven.beliefs.values()} == {"updated"}
    assert isinstance(run.driver, FailsToSettle)
    assert run.driver.asked == TUNING.settle_failures
    assert run.said.count("cannot tell") == 1


class FailsToCleanUp(HawkbitDriver):
    async def cleanup(self) -> None:
        await super().cleanup()
        raise CleanupIncomplete(["rollouts/4 (405)"])


async def test_what_is_left_is_told(stub: HawkbitStub) -> None:
    run = Run(stub, FailsToCleanUp)
    driven = await run(spec_for(stub))
    assert driven.left == ("rollouts/4 (405)",)
    assert "hawkbit: left behind at the server: rollouts/4 (405)" in run.said


class NeverCleansUp(HawkbitDriver):
    begun = False

    async def cleanup(self) -> None:
        self.begun = True
        await asyncio.Event().wait()


async def test_cleanup_is_bounded(stub: HawkbitStub) -> None:
    run = Run(stub, NeverCleansUp)
    driven = await run(spec_for(stub), replace(TUNING, cleanup=0.1))
    assert driven.left == ("all that was not removed within 0.1 s",)


async def test_a_second_ctrl_c_says_what_to_look_for(stub: HawkbitStub) -> None:
    run = Run(stub, NeverCleansUp)
    task = asyncio.ensure_future(run(spec_for(stub)))
    run.stop.set()
    assert isinstance(run.driver, NeverCleansUp)
    while not run.driver.begun:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.said[-1].endswith("what is left has 77 in its name")


async def test_unless_hands_on_what_fails() -> None:
    async def fails() -> None:
        raise DriverError("refused")

    with pytest.raises(DriverError, match="refused"):
        await story._unless(asyncio.Event(), fails(), lambda: None)
