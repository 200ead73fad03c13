"""Whole deployments against the stub, and everything that goes wrong on the way."""

from __future__ import annotations

import pytest

from agent.credentials import Credential
from agent.errors import UnusableSettings
from agent.faults import FaultPlan
from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from agent.update import State
from firmware_images.keys import KeyType, generate_key
from tests.agent.parts import image
from tests.protocols.http.mender.world import IDENTITY, World, artifact, run
from tests.stubs.mender import MenderStub

WHOLE = ["downloading", "installing", "rebooting", "success"]


async def deploy(world: World) -> None:
    """One deployment, to the end that the server is told, and the next question."""
    world.deploy(artifact())
    await world.until(lambda: world.said("success") or world.said("failure"))
    await world.until(lambda: not world.device.engine.report_pending)
    await world.runtime.clock.sleep(6.0)


def test_a_whole_deployment() -> None:
    world = run(deploy)
    assert world.stub.statuses(IDENTITY) == WHOLE
    assert world.device.engine.outcome is Outcome.SUCCESS
    assert world.told == [("meter-1", "updated", "success", "2.0.0")]
    assert world.server.attributes == {
        "device_type": "fotilla",
        "artifact_name": "release-2",
        "firmware_version": "2.0.0",
    }
    assert world.server.provides[0] == {"artifact_name": "factory", "device_type": "fotilla"}
    assert world.server.provides[-1]["artifact_name"] == "release-2"
    # One token for each uptime, and none of it in what is shown.
    assert world.stub.auth_requests == 2
    assert not any("eyJ" in line or "s3cret" in line for line in world.lines)


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519", "rsa"])
def test_every_kind_of_key_and_it_survives_a_reboot(kind: str) -> None:
    world = run(deploy, options={"key": kind})
    assert len(world.stub.devices) == 1
    assert world.said("success")


def test_a_key_that_was_given() -> None:
    pem = generate_key(KeyType.ED25519)
    world = run(deploy, credential=Credential(private_key=pem.to_pem()))
    assert world.server.pubkey == pem.public.to_pem().decode()
    with pytest.raises(UnusableSettings, match="private key of meter-1"):
        run(deploy, credential=Credential(private_key=b"-----BEGIN nonsense"))


def test_a_device_waits_until_it_is_accepted() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: world.stub.auth_requests >= 3)
        assert not world.server.attributes
        world.server.accepted = True
        await deploy(world)

    world = run(story, stub=MenderStub(accept_all=False))
    assert world.stub.statuses(IDENTITY) == WHOLE


def test_a_token_that_runs_out_is_renewed() -> None:
    world = run(deploy, stub=MenderStub(token_uses=3))
    assert world.stub.statuses(IDENTITY)[-1] == "success"
    assert world.stub.auth_requests > 2


@pytest.mark.parametrize(("api", "v2"), [("v1", True), ("v2", False)])
def test_the_first_version_of_the_api(api: str, v2: bool) -> None:
    world = run(deploy, stub=MenderStub(v2=v2), options={"api": api})
    assert world.stub.statuses(IDENTITY) == WHOLE


def test_what_runs_already_is_not_installed_again() -> None:
    async def story(world: World) -> None:
        world.deploy(artifact(name="factory"), "factory")
        await world.until(lambda: world.said("already-installed"))
        await world.runtime.clock.sleep(1.0)

    world = run(story)
    assert world.stub.downloads == []
    assert world.told == [("meter-1", "updated", "already-installed", "1.0.0")]
    assert world.device.engine.outcome is None


def test_a_signed_artifact_and_one_that_is_not() -> None:
    async def story(world: World) -> None:
        world.deploy(artifact(signed=True))
        await world.until(lambda: world.said("success"))

    assert run(story, options={"signed": "yes"}).said("success")
    unsigned = run(deploy, options={"signed": "yes"})
    assert unsigned.device.engine.outcome is Outcome.SIGNATURE
    assert unsigned.stub.statuses(IDENTITY) == ["downloading", "failure"]


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (artifact(device_type="toaster"), Outcome.WRONG_DEVICE),
        (artifact(b"no image at all" * 99), Outcome.UNSUPPORTED_PACKAGE),
        (artifact(image(3, 400_000, 3)), Outcome.NO_SPACE),
        (b"not a tar archive at all" * 50, Outcome.UNSUPPORTED_PACKAGE),
        (artifact()[:9000], Outcome.UNSUPPORTED_PACKAGE),
    ],
)
def test_a_bad_artifact_fails_with_a_log(content: bytes, outcome: Outcome) -> None:
    async def story(world: World) -> None:
        world.deploy(content)
        await world.until(lambda: world.said("failure"))
        await world.until(lambda: bool(world.server.logs))
        await world.runtime.clock.sleep(60.0)

    world = run(story)
    assert world.device.engine.outcome is outcome
    assert world.stub.statuses(IDENTITY) == ["downloading", "failure"]
    assert world.told[-1][1] == "failed"
    (log,) = world.server.logs
    assert any("update: DOWNLOADING -> IDLE" in line["message"] for line in log["messages"])


def test_an_image_that_does_not_come_up_is_a_failure() -> None:
    world = run(deploy, faults=FaultPlan(bad_boots=1))
    assert world.device.engine.outcome is Outcome.REVERTED
    assert world.stub.statuses(IDENTITY) == [*WHOLE[:-1], "failure"]
    assert world.server.provides[-1]["artifact_name"] == "factory"


def test_another_deployment_follows_a_failed_one() -> None:
    async def story(world: World) -> None:
        await deploy(world)
        world.deploy(artifact(image(3, 50_000, 3), "release-3"), "release-3")
        await world.until(lambda: world.said("success"))

    world = run(story, faults=FaultPlan(bad_boots=1))
    assert str(world.device.running.version) == "3.0.0"  # type: ignore[union-attr]


def test_the_server_aborts_while_it_is_downloaded() -> None:
    async def story(world: World) -> None:
        deployment = world.deploy(artifact())
        await world.until(lambda: world.device.engine.offset > 0)
        deployment.aborted = True
        await world.until(lambda: world.device.engine.state is State.IDLE)
        await world.runtime.clock.sleep(60.0)

    world = run(story, bandwidth=20_000.0)
    # A 409 to "installing": stop, roll back, be silent.
    assert world.stub.statuses(IDENTITY) == ["downloading"]
    assert world.device.engine.outcome is None
    assert world.told == []
    assert str(world.device.running.version) == "1.0.0"  # type: ignore[union-attr]


def test_connections_that_break_cost_no_byte_twice() -> None:
    world = run(deploy, faults=FaultPlan(cut_downloads=(30_000, 70_000)))
    assert world.said("success")
    assert world.stub.downloads == ["", "bytes=30000-", "bytes=70000-"]


def test_a_power_cut_in_the_download_begins_it_again() -> None:
    async def story(world: World) -> None:
        world.deploy(artifact())
        await world.until(lambda: world.device.engine.offset >= 70_000)
        world.device.cut_power(back_after=3.0)
        await world.until(lambda: world.said("success"))

    # What is unpacked on the way cannot be resumed: its unpacker lived in RAM.
    world = run(story, bandwidth=20_000.0)
    assert world.stub.downloads == ["", ""]


@pytest.mark.parametrize("operation", range(1, 200, 3))
def test_a_power_cut_anywhere_ends_in_one_image_and_one_report(operation: int) -> None:
    world = run(deploy, faults=FaultPlan(cut_power_at=operation, outage_seconds=2.0))
    final = [s for s in world.stub.statuses(IDENTITY) if s in ("success", "failure")]
    assert len(final) == 1
    succeeded = world.device.engine.outcome is Outcome.SUCCESS
    assert (final == ["success"]) is succeeded
    last = world.server.provides[-1]
    assert last["artifact_name"] == ("release-2" if succeeded else "factory")
    assert ("rootfs-image.version" in last) is succeeded


def test_a_server_that_fails_for_a_while() -> None:
    async def story(world: World) -> None:
        world.deploy(artifact())
        await world.until(lambda: world.device.engine.offset > 0)
        world.web.refuse("http://mender.test")
        await world.runtime.clock.sleep(40.0)
        world.web.serve("http://mender.test", world.stub.app)
        await world.until(lambda: world.said("success"))

    run(story, bandwidth=20_000.0)


def test_the_same_seed_gives_the_same_journal() -> None:
    journals: list[list[str]] = [[], []]
    for journal in journals:
        run(deploy, journal=journal, faults=FaultPlan(bad_boots=1))
    assert journals[0] == journals[1] != []


@pytest.mark.parametrize("name", [Misbehaviour.DUPLICATE_REPORT, Misbehaviour.FOREIGN_REPORT])
def test_answers_to_misbehaviour(name: Misbehaviour) -> None:
    world = run(deploy, misbehave=frozenset({name}))
    judgement = world.runtime.misbehaviours.judgements["mender", name.value]
    assert judgement.kept > 0 and judgement.broken == 0
    assert world.said("success")


def test_a_clone_and_a_stale_token_are_kept_out() -> None:
    async def story(world: World) -> None:
        await world.runtime.clock.sleep(120.0)

    stub = MenderStub()
    assert run(story, stub=stub).server.accepted
    clone = run(story, stub=stub, misbehave=frozenset({Misbehaviour.CLONED_IDENTITY}))
    judgement = clone.runtime.misbehaviours.judgements["mender", "cloned-identity"]
    assert judgement.kept > 1 and judgement.broken == 0
    stale = run(story, misbehave=frozenset({Misbehaviour.STALE_CREDENTIAL}))
    judgement = stale.runtime.misbehaviours.judgements["mender", "stale-credential"]
    assert judgement.kept == 1 and judgement.broken == 0


def test_a_device_that_ignores_an_abort() -> None:
    async def story(world: World) -> None:
        deployment = world.deploy(artifact())
        await world.until(lambda: world.device.engine.offset > 0)
        deployment.aborted = True
        await world.until(lambda: world.device.engine.outcome is Outcome.SUCCESS)
        await world.runtime.clock.sleep(30.0)

    world = run(story, bandwidth=20_000.0, misbehave=frozenset({Misbehaviour.IGNORE_CANCEL}))
    judgement = world.runtime.misbehaviours.judgements["mender", "ignore-cancel"]
    assert judgement.kept == 2 and judgement.broken == 0
    assert str(world.device.running.version) == "2.0.0"  # type: ignore[union-attr]


def test_lies_and_silence() -> None:
    liar = run(
        deploy,
        misbehave=frozenset({Misbehaviour.FALSE_SUCCESS}),
        faults=FaultPlan(bad_boots=1),
    )
    assert liar.told[-1][1] == "updated"
    assert liar.device.engine.outcome is Outcome.REVERTED
    gloomy = run(deploy, misbehave=frozenset({Misbehaviour.FALSE_FAILURE}))
    assert gloomy.told[-1][1] == "failed"

    async def story(world: World) -> None:
        world.deploy(artifact())
        await world.until(lambda: world.device.engine.outcome is Outcome.SUCCESS)
        await world.runtime.clock.sleep(30.0)

    silent = run(story, misbehave=frozenset({Misbehaviour.NEVER_REPORT}))
    assert silent.stub.statuses(IDENTITY) == []
