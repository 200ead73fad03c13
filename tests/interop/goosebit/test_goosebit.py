"""Our DDI devices under gooseBit, started and read back by our driver.

gooseBit was written by others, against other devices, and keeps its own database: what it serves,
refuses and believes is its own. Its faults are told as such where the audit finds them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import pytest

from agent.credentials import Credential
from agent.misbehaviour import Misbehaviour
from firmware_images.swu import Hardware, build_swu
from tests.busy import ANY_LAG
from tests.interop.goosebit.relay import relay_to
from tests.interop.goosebit.server import CALL_SECONDS, PASSWORD, USER, Goosebit
from tests.interop.images import FACTORY, FACTORY_COUNTER, KEY, SLOT_SIZE, VERSION, WRONG, signed
from tools.drivers.base import Campaign, DriverBelief, DriverSettings, Package, Secrets, Tally
from tools.drivers.campaign import Driven, DriveTuning, drive
from tools.drivers.errors import DriverError, RequestRefused, WrongCredentials
from tools.drivers.goosebit import GoosebitDriver
from tools.fleet.audit import AuditResult, Kind
from tools.fleet.fleet import join
from tools.fleet.names import device_names
from tools.fleet.result import RunResult
from tools.fleet.spec import FaultShare, FleetSpec

IMAGE = signed(counter=FACTORY_COUNTER + 1)
IDENTITY = Secrets("goosebit", USER, PASSWORD)

RUN_SECONDS = 240.0
"""Bound of a run; 200 devices take half a minute on a quiet machine."""


class FoundIn(dict[str, int]):
    """Differences by kind, for a readable comparison."""

    def __init__(self, audit: AuditResult) -> None:
        super().__init__({kind.value: count for kind, count in audit.by_kind().items()})


def spec_for(url: str, devices: int, **fields: object) -> FleetSpec:
    spec = FleetSpec(
        server=url,
        devices=devices,
        names=device_names("meter-{index:03d}", devices),
        image=IMAGE,
        keys=(KEY.public.to_pem(),),
        running=FACTORY,
        slot_size=SLOT_SIZE,
        protocol="hawkbit",
        options=(("poll", "2"),),
        ramp=100.0,
        duration=RUN_SECONDS,
        max_lag=ANY_LAG,
    )
    return replace(spec, **fields)  # type: ignore[arg-type]


async def driven(
    url: str,
    spec: FleetSpec,
    *,
    grace: float = 30.0,
    kind: type[GoosebitDriver] = GoosebitDriver,
) -> tuple[Driven, RunResult]:
    """One run to its end; `grace` is how long the server may lag behind the devices."""
    suffix = secrets.token_hex(4)
    driver = kind(DriverSettings(url, IDENTITY, suffix))
    said: list[str] = []
    run = await drive(
        driver,
        spec,
        suffix=suffix,
        stop=asyncio.Event(),
        say=said.append,
        tuning=DriveTuning(grace=grace),
    )
    assert run.snapshot is not None, said
    assert run.beliefs is not None, said
    assert run.left == ()
    return run, join("run", [run.spec], [run.snapshot], seconds=1.0, beliefs=run.beliefs)


@pytest.fixture
async def console(goosebit: Goosebit) -> AsyncIterator[httpx.AsyncClient]:
    """The server's administrator, without our driver in between."""
    async with httpx.AsyncClient(
        base_url=goosebit.url, timeout=CALL_SECONDS, trust_env=False
    ) as client:
        answer = await client.post("/login", data={"username": USER, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


async def left_behind(console: httpx.AsyncClient) -> dict[str, int]:
    kinds = ("devices", "software", "rollouts")
    answers = {kind: (await console.get(f"/api/v1/{kind}")).json()[kind] for kind in kinds}
    return {kind: len(entries) for kind, entries in answers.items()}


async def test_two_hundred_devices_with_a_token_each(
    goosebit: Goosebit, console: httpx.AsyncClient
) -> None:
    run, result = await driven(goosebit.url, spec_for(goosebit.url, 200))
    assert result.counts.updated == 200
    assert result.audit.agree == 200
    assert run.beliefs is not None
    assert {belief.detail for belief in run.beliefs.values()} == {"Finished"}
    assert {belief.version for belief in run.beliefs.values()} == {VERSION}
    assert len({credential.token for credential in run.spec.credentials}) == 200
    assert await left_behind(console) == {"devices": 0, "software": 0, "rollouts": 0}


async def test_downloads_that_were_cut_go_on_by_range(goosebit: Goosebit) -> None:
    async with relay_to(goosebit.url) as relay:
        faults = (FaultShare("cut-download", 1.0),)
        spec = spec_for(relay.url, 20, faults=faults)
        _, result = await driven(relay.url, spec)
    assert result.counts.updated == 20
    assert result.audit.agree == 20
    begun = [path for path, offset in relay.downloads if not offset]
    resumed = [offset for _, offset in relay.downloads if offset]
    assert len(begun) == len(set(begun)) == 20, "nobody began again"
    assert len(resumed) >= 10, "cuts fall into the first 64 KiB, the package has some 42"
    # The rest is all that came: the server counted it out (RFC 9110, section 14.4).
    assert sorted(offset for offset, _ in relay.parts) == sorted(resumed)
    assert {size for _, size in relay.parts} == {relay.parts[0][1]}
    assert relay.parts[0][1] > len(IMAGE)


async def test_what_devices_refuse_is_believed_to_have_failed(goosebit: Goosebit) -> None:
    """One campaign for each wrong image; the factory image goes on running."""
    for wrong in WRONG:
        if wrong.kind == "too-large":
            continue  # the next test
        _, result = await driven(goosebit.url, spec_for(goosebit.url, 2, image=wrong.image))
        assert result.counts.failed == 2, wrong.kind
        assert result.audit.agree == 2, (wrong.kind, FoundIn(result.audit))


async def test_a_package_that_does_not_fit(goosebit: Goosebit) -> None:
    image = signed(counter=FACTORY_COUNTER + 1, payload=bytes(SLOT_SIZE))
    _, result = await driven(goosebit.url, spec_for(goosebit.url, 2, image=image))
    assert (result.counts.failed, result.audit.agree) == (2, 2)
    assert set(result.failures) == {"no space"}


async def test_faults_on_the_way_and_at_boot(goosebit: Goosebit) -> None:
    faults = (
        FaultShare("power-cut", 0.3),
        FaultShare("bad-boot", 0.2),
        FaultShare("corrupt-download", 0.2),
    )
    _, result = await driven(goosebit.url, spec_for(goosebit.url, 40, faults=faults))
    assert result.counts.unfinished == 0
    assert result.counts.failed > 0
    assert result.audit.agree == 40, FoundIn(result.audit)


async def test_lies_are_found(goosebit: Goosebit) -> None:
    image = WRONG[-1].image
    lies = ((Misbehaviour.FALSE_SUCCESS, 1.0),)
    spec = spec_for(goosebit.url, 3, image=image, misbehave=lies)
    _, result = await driven(goosebit.url, spec)
    assert result.counts.failed == 3
    assert FoundIn(result.audit) == {Kind.FALSE_SUCCESS.value: 3}


async def test_a_second_success_is_counted_twice(goosebit: Goosebit) -> None:
    """A fault of gooseBit 0.2.12: its totals do not follow from its devices. One device at a time,
    because it also loses counts when two devices end at once."""
    twice = ((Misbehaviour.DUPLICATE_REPORT, 1.0),)
    run, result = await driven(goosebit.url, spec_for(goosebit.url, 1, misbehave=twice))
    assert result.audit.agree == 1
    assert run.findings == ("the server counts 2 updated devices and lists 1",)


class Meddling(GoosebitDriver):
    """Before anybody asks what the server believes, every device reports the failure of an action
    that is not its own."""

    async def provision(self, devices: Sequence[str]) -> dict[str, Credential]:
        self.credentials = await super().provision(devices)
        return self.credentials

    async def belief(self, campaign: Campaign) -> dict[str, DriverBelief]:
        for name in campaign.devices:
            device = Device(self, name, self.credentials[name].token)
            await device.report("4711", "closed", "failure")
        return await super().belief(campaign)


async def test_a_failure_for_a_foreign_action_is_believed(goosebit: Goosebit) -> None:
    """A fault of gooseBit 0.2.12: what a device says of another action is taken for this one."""
    foreign = ((Misbehaviour.FOREIGN_REPORT, 1.0),)
    spec = spec_for(goosebit.url, 3, misbehave=foreign)
    run, result = await driven(goosebit.url, spec, kind=Meddling)
    verdict = result.misbehaviours[("hawkbit", Misbehaviour.FOREIGN_REPORT.value)]
    assert (verdict.kept, verdict.broken) == (0, 3)
    assert result.counts.updated == 3
    assert FoundIn(result.audit) == {Kind.FALSE_FAILURE.value: 3}
    assert run.beliefs is not None
    assert {belief.detail for belief in run.beliefs.values()} == {"Error"}


async def test_a_step_that_comes_late_opens_what_was_closed(goosebit: Goosebit) -> None:
    """A fault of gooseBit 0.2.12: `proceeding` after closed/success sets a device to Running, and
    nothing ever ends that."""
    late = ((Misbehaviour.LATE_REPORT, 1.0),)
    spec = spec_for(goosebit.url, 3, misbehave=late)
    _, result = await driven(goosebit.url, spec, grace=5.0)
    verdict = result.misbehaviours[("hawkbit", Misbehaviour.LATE_REPORT.value)]
    assert (verdict.kept, verdict.broken) == (0, 3)
    assert FoundIn(result.audit) == {Kind.STUCK.value: 3}


# --- the driver alone


@pytest.fixture
async def driver(goosebit: Goosebit) -> AsyncIterator[GoosebitDriver]:
    driver = GoosebitDriver(DriverSettings(goosebit.url, IDENTITY, secrets.token_hex(4)))
    await driver.open()
    try:
        yield driver
    finally:
        await driver.cleanup()
        await driver.close()


class Device:
    """A device of a few calls, which reports what the test wants."""

    def __init__(self, driver: GoosebitDriver, name: str, token: str) -> None:
        self.options = driver.device_options
        self.base = f"{driver.device_server}/{self.options['tenant']}/controller/v1/{name}"
        self.headers = {"Authorization": f"TargetToken {token}"}

    async def call(self, method: str, url: str, body: object = None) -> httpx.Response:
        async with httpx.AsyncClient(
            timeout=CALL_SECONDS, trust_env=False, headers=self.headers
        ) as client:
            return await client.request(method, url, json=body)

    async def introduce(self, version: str) -> None:
        data = {**self.options, "sw_version": version}
        assert (await self.call("PUT", f"{self.base}/configData", {"data": data})).is_success

    async def report(self, action: str, execution: str, finished: str) -> None:
        body = {"status": {"execution": execution, "result": {"finished": finished}}}
        path = f"{self.base}/deploymentBase/{action}/feedback"
        assert (await self.call("POST", path, body)).is_success


async def started(
    driver: GoosebitDriver, *names: str
) -> tuple[Campaign, Package, dict[str, Device]]:
    credentials = await driver.provision(names)
    package = await driver.publish(IMAGE, VERSION)
    campaign = await driver.start(package, names)
    devices = {name: Device(driver, name, credentials[name].token) for name in names}
    return campaign, package, devices


async def test_beliefs_and_totals(driver: GoosebitDriver) -> None:
    campaign, package, devices = await started(driver, "good", "bad", "busy", "away")
    for name, device in devices.items():
        if name != "away":
            await device.introduce("1.0.0")
    await devices["busy"].report(package.id, "proceeding", "none")
    await devices["bad"].report(package.id, "closed", "failure")
    await devices["good"].report(package.id, "closed", "success")
    assert not await driver.settled(campaign)
    beliefs = await driver.belief(campaign)
    assert {name: belief.state for name, belief in beliefs.items()} == {
        "good": "Finished",
        "bad": "Error",
        "busy": "Running",
        "away": "Unknown",
    }
    assert {name: driver.believed(one, campaign).verdict for name, one in beliefs.items()} == {
        "good": "updated",
        "bad": "failed",
        "busy": "unfinished",
        "away": "unfinished",
    }
    assert [beliefs[name].version for name in ("good", "bad")] == [VERSION, "1.0.0"]
    assert await driver.tally(campaign) == Tally(1, 1)
    for name in ("busy", "away"):
        await devices[name].report(package.id, "closed", "success")
    assert await driver.settled(campaign)


async def test_a_foreign_failure_sets_a_good_device_to_error(driver: GoosebitDriver) -> None:
    """The fault behind the misbehaviour's verdict, seen in the server's own state."""
    campaign, package, devices = await started(driver, "good")
    await devices["good"].introduce("1.0.0")
    await devices["good"].report(package.id, "closed", "success")
    await devices["good"].report("4711", "closed", "failure")
    belief = (await driver.belief(campaign))["good"]
    assert driver.believed(belief, campaign).verdict == "failed"


async def test_a_paused_rollout_is_offered_to_nobody(driver: GoosebitDriver) -> None:
    campaign, _, devices = await started(driver, "late")
    await devices["late"].introduce("1.0.0")
    base = devices["late"].base
    assert "deploymentBase" in (await devices["late"].call("GET", base)).json()["_links"]
    await driver.cancel(campaign)
    assert (await devices["late"].call("GET", base)).json()["_links"] == {}


async def test_only_its_own_token_opens_a_device(driver: GoosebitDriver) -> None:
    credentials = await driver.provision(["mine", "yours"])
    for token, status in ((credentials["mine"].token, 200), (credentials["yours"].token, 401)):
        device = Device(driver, "mine", token)
        assert (await device.call("GET", device.base)).status_code == status


async def test_a_device_that_exists_is_not_taken_over(
    driver: GoosebitDriver, goosebit: Goosebit
) -> None:
    owner = GoosebitDriver(DriverSettings(goosebit.url, IDENTITY, "owner"))
    try:
        theirs = await owner.provision(["theirs"])
        with pytest.raises(DriverError, match="1 devices exist already, 'theirs' first"):
            await driver.provision(["ours", "theirs"])
        device = Device(driver, "theirs", theirs["theirs"].token)
        assert (await device.call("GET", device.base)).status_code == 200
    finally:
        await owner.cleanup()
        await owner.close()


async def test_a_bare_image_is_refused_by_the_server_and_packed_by_the_driver(
    driver: GoosebitDriver, console: httpx.AsyncClient
) -> None:
    answer = await console.put("/api/v1/software", files={"file": ("firmware.bin", IMAGE)})
    assert answer.status_code == 422
    await driver.publish(IMAGE, VERSION)
    (software,) = (await console.get("/api/v1/software")).json()["software"]
    assert software["version"] == VERSION
    (hardware,) = software["compatibility"]
    assert hardware["model"] == driver.device_options["hw_boardname"]
    assert hardware["revision"] == driver.device_options["hw_revision"]


async def test_a_package_of_the_same_version_for_the_same_hardware_is_refused(
    driver: GoosebitDriver,
) -> None:
    hardware = Hardware("fotilla", driver.device_options["hw_revision"])
    packed = build_swu(IMAGE, version=VERSION, hardware=[hardware])
    await driver.publish(packed, VERSION)
    with pytest.raises(RequestRefused, match="409: Software with same version"):
        await driver.publish(packed, VERSION)


@pytest.mark.parametrize(
    "identity", [Secrets("goosebit", USER, "wrong"), Secrets("goosebit", token="not.a.token")]
)
async def test_wrong_credentials(goosebit: Goosebit, identity: Secrets) -> None:
    driver = GoosebitDriver(DriverSettings(goosebit.url, identity, "x"))
    with pytest.raises(WrongCredentials) as raised:
        await driver.open()
    await driver.close()
    assert not any(secret in str(raised.value) for secret in identity.values())


async def test_ctrl_c_in_mid_campaign_leaves_nothing(
    goosebit: Goosebit, console: httpx.AsyncClient
) -> None:
    suffix = secrets.token_hex(4)
    driver = GoosebitDriver(DriverSettings(goosebit.url, IDENTITY, suffix))
    stop = asyncio.Event()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "offered" in text:
            stop.set()

    run = await drive(driver, spec_for(goosebit.url, 20), suffix=suffix, stop=stop, say=say)
    assert run.snapshot is not None
    assert run.snapshot.interrupted
    states = Counter(truth.state for truth in run.snapshot.truths)
    assert states["idle"] < 20 or run.beliefs is not None
    assert await left_behind(console) == {"devices": 0, "software": 0, "rollouts": 0}
