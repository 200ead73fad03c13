"""Servers that fail in part, answers that make no sense, and what artifacts depend on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from agent.faults import FaultPlan
from agent.outcome import Outcome
from agent.update import State
from firmware_images.mender import build_artifact
from tests.agent.parts import image
from tests.protocols.http.mender.world import IDENTITY, NEW, SERVER, World, artifact, run
from tests.stubs.mender import MenderStub


def answering(world: World, path_ends: str, answer: Callable[[], tuple[int, bytes]]) -> None:
    """The server answers requests of that path with `answer`: status and Retry-After; status 0
    leaves the request to the stub."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status, wait = answer() if scope["path"].endswith(path_ends) else (0, b"")
        if not status:
            await world.stub.app(scope, receive, send)
            return
        fields = [(b"content-length", b"0")] + ([(b"retry-after", wait)] if wait else [])
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b""})

    world.web.serve(SERVER, app)


def test_a_device_whose_server_is_gone_is_offline_in_spite_of_its_token() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: bool(world.stub.devices) and bool(world.server.provides))
        world.web.refuse(SERVER)
        began = world.runtime.clock.now()
        await world.until(lambda: not world.device.client.registered)  # type: ignore[union-attr]
        tries = len(world.lines)
        await world.runtime.clock.sleep(1200.0)
        # The back-off grows: not one try every five seconds.
        assert len(world.lines) - tries < 30
        assert world.runtime.clock.now() - began > 1200.0
        world.web.serve(SERVER, world.stub.app)
        await world.until(lambda: world.device.client.registered)  # type: ignore[union-attr]

    run(story)


def test_a_log_that_is_lost_costs_nothing_but_the_log() -> None:
    asked: list[int] = []

    async def story(world: World) -> None:
        def busy() -> tuple[int, bytes]:
            asked.append(1)
            return 503, b""

        answering(world, "/log", busy)
        world.deploy(artifact(device_type="toaster"))
        await world.until(lambda: bool(world.told))
        await world.runtime.clock.sleep(300.0)

    world = run(story)
    assert asked == [1]
    assert world.stub.statuses(IDENTITY) == ["downloading", "failure"]
    assert not world.device.engine.report_pending


def test_a_deployment_that_nobody_knows_any_more_is_dropped() -> None:
    async def story(world: World) -> None:
        world.deploy(artifact())
        await world.until(lambda: world.device.engine.offset > 0)
        world.stub.deployments.clear()
        await world.until(lambda: world.device.engine.state is State.IDLE)
        await world.runtime.clock.sleep(60.0)

    world = run(story, bandwidth=20_000.0)
    assert world.stub.statuses(IDENTITY) == ["downloading"]
    assert str(world.device.running.version) == "1.0.0"  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_status_that_is_refused_for_a_while(status: int) -> None:
    left = [3]

    async def story(world: World) -> None:
        def refusing() -> tuple[int, bytes]:
            left[0] -= 1
            return (status, b"") if left[0] >= 0 else (0, b"")

        answering(world, "/status", refusing)
        world.deploy(artifact())
        await world.until(lambda: world.said("success"))

    world = run(story)
    # Nothing is installed of which the server knows nothing.
    assert world.stub.statuses(IDENTITY) == ["downloading", "installing", "rebooting", "success"]


def test_a_busy_server_is_not_asked_earlier_than_it_wants() -> None:
    times: list[float] = []

    async def story(world: World) -> None:
        def busy() -> tuple[int, bytes]:
            times.append(world.runtime.clock.now())
            return (429, b"60") if len(times) < 3 else (0, b"")

        answering(world, "/status", busy)
        world.deploy(artifact())
        await world.until(lambda: world.said("success"))

    run(story)
    assert all(60.0 <= later - earlier <= 75.0 for earlier, later in pairwise(times[:3]))


def needing(version: str, depends: dict[str, list[str]], number: int) -> bytes:
    return build_artifact(
        image(number, 50_000, number),
        name=f"release-{number}",
        device_types=["fotilla"],
        software_version=version,
        depends=depends,
    )


def test_what_an_artifact_provides_the_next_may_depend_on() -> None:
    async def story(world: World) -> None:
        world.deploy(needing("2.0", {}, 2), "release-2")
        await world.until(lambda: world.said("success"))
        wrong = {"rootfs-image.version": ["1.0"]}
        right = {"rootfs-image.version": ["1.0", "2.0"]}
        world.deploy(needing("3.0", wrong, 3), "release-3")
        await world.until(lambda: world.said("failure"))
        assert world.device.engine.outcome is Outcome.DEPENDENCY
        world.deploy(needing("4.0", right, 4), "release-4")
        await world.until(lambda: world.stub.statuses(IDENTITY).count("success") == 2)
        await world.runtime.clock.sleep(10.0)

    world = run(story)
    last = world.server.provides[-1]
    assert (last["artifact_name"], last["rootfs-image.version"]) == ("release-4", "4.0")
    assert "rootfs-image.version" not in world.server.provides[0]
    # Over the first version of the API only these two are told.
    assert world.server.provides[-1].keys() > {"artifact_name", "device_type"}


def test_what_was_not_installed_provides_nothing() -> None:
    async def story(world: World) -> None:
        world.deploy(needing("2.0", {}, 2), "release-2")
        await world.until(lambda: world.said("failure"))
        await world.runtime.clock.sleep(30.0)

    world = run(story, faults=FaultPlan(bad_boots=1))
    assert world.server.provides[-1] == {"artifact_name": "factory", "device_type": "fotilla"}


def test_provides_without_measure_are_not_kept() -> None:
    async def story(world: World) -> None:
        huge = {f"part-{number}": "x" * 200 for number in range(40)}
        package = build_artifact(NEW, name="release-2", device_types=["fotilla"], provides=huge)
        world.deploy(package)
        await world.until(lambda: world.said("success"))
        await world.runtime.clock.sleep(10.0)

    world = run(story)
    assert world.server.provides[-1] == {"artifact_name": "release-2", "device_type": "fotilla"}


@pytest.mark.parametrize("parts", [1, 40])
@pytest.mark.parametrize(("length", "taken"), [(100, 0), (980, 0), (100, 800), (100, 1100)])
def test_a_device_with_little_room_updates_all_the_same(
    parts: int, length: int, taken: int
) -> None:
    """An RSA key, long names and long links fill its 4 KiB; provides are what is left out."""
    huge = {f"part-{number}": "x" * 90 for number in range(parts)}

    async def story(world: World) -> None:
        if taken:
            world.device.nvm.set("another application", "its own", bytes(taken))
        for number in (2, 3, 4):
            name = f"{'r' * 250}{number}"
            path = f"/files/{'p' * length}{number}"
            world.stub.files[path] = build_artifact(
                image(number, 50_000, number), name=name, device_types=["fotilla"], provides=huge
            )
            offer = world.stub.deploy(IDENTITY, name, b"", ["fotilla"], SERVER)
            offer.uri = f"{SERVER}{path}?X-Amz-Signature=s3cret"
            await world.until(lambda offer=offer: offer.final != "")  # type: ignore[misc]
        await world.runtime.clock.sleep(10.0)

    world = run(story, options={"key": "rsa"})
    assert world.stub.statuses(IDENTITY).count("success") == 3
    assert world.server.provides[-1]["artifact_name"] == "r" * 250 + "4"
    if (parts, length, taken) == (1, 100, 0):
        assert world.server.provides[-1]["part-0"] == "x" * 90


@pytest.mark.parametrize("name", ["inside", "r" * 9000])
def test_an_artifact_under_another_name_is_refused(name: str) -> None:
    """As mender-client does: see tests/interop/test_mender_client.py."""

    async def story(world: World) -> None:
        world.deploy(artifact(name=name), "outside")
        await world.until(lambda: world.said("failure"))

    world = run(story)
    assert world.stub.statuses(IDENTITY) == ["downloading", "failure"]
    assert world.device.engine.outcome is Outcome.UNSUPPORTED_PACKAGE


def test_a_bomb_ends_at_the_size_of_the_slot() -> None:
    async def story(world: World) -> None:
        world.deploy(artifact(bytes(20 << 20)))
        await world.until(lambda: world.said("failure"))

    assert run(story).device.engine.outcome is Outcome.NO_SPACE


@pytest.mark.parametrize(
    "uri",
    [
        *("not a url?X=s3cret", "/relative?X=s3cret", "ftp://host/a?X=s3cret", "http://?X=s3cret"),
        *("http://nowhere.test/a.mender?X=s3cret", "http://user:s3cret@nowhere.test/a.mender"),
        f"{SERVER}/gone.mender?X=s3cret",
        "http://host:99999/a?X=s3cret",
        "http://h\u00e9\ud7ff/\n?X=s3cret",
    ],
)
def test_links_that_lead_nowhere_fail_and_stay_secret(uri: str) -> None:
    async def story(world: World) -> None:
        world.deploy(artifact()).uri = uri
        await world.until(lambda: world.said("failure"))

    world = run(story)
    assert world.device.engine.outcome in (
        *(Outcome.BAD_URI, Outcome.CONNECTION_LOST, Outcome.UNSUPPORTED_PROTOCOL),
    )
    assert not any("s3cret" in line for line in world.lines)
    assert not any("s3cret" in str(event) for event in world.events)
    assert "s3cret" not in str(world.server.logs)


@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"id":"1","artifact":{"artifact_name":"\\ud800","source":{"uri":"http://x/"}}}',
        b'{"id":"1","artifact":{"artifact_name":"x","source":{"uri":"\\udfff"}}}',
        b"[" * 100_000,
        b'{"id":' + b"9" * 5000 + b"}",
    ],
)
def test_answers_that_make_no_sense_cost_a_poll(answer: bytes) -> None:
    left = [2]

    async def story(world: World) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if left[0] and scope["path"].endswith("/next"):
                left[0] -= 1
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": answer})
            else:
                await world.stub.app(scope, receive, send)

        world.web.serve(SERVER, app)
        world.deploy(artifact())
        await world.until(lambda: world.said("success"))

    run(story)


@pytest.mark.parametrize("token", [b"", b"two words", b"\xff\xfe", b"line\nbreak", b"x" * 20_000])
def test_tokens_that_are_none(token: bytes) -> None:
    left = [2]

    async def story(world: World) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if left[0] and scope["path"].endswith("/auth_requests"):
                left[0] -= 1
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": token})
            else:
                await world.stub.app(scope, receive, send)

        world.web.serve(SERVER, app)
        world.deploy(artifact())
        await world.until(lambda: world.said("success"))

    run(story)


def test_a_deployment_aborted_at_each_of_its_steps() -> None:
    for step in ("downloading", "installing", "rebooting"):

        async def story(world: World, step: str = step) -> None:
            world.deploy(artifact()).aborted_at = step
            await world.until(lambda: world.stub.deployments[IDENTITY][0].aborted)
            await world.runtime.clock.sleep(60.0)

        world = run(story, stub=MenderStub())
        assert world.device.engine.state is State.IDLE
        assert str(world.device.running.version) == "1.0.0"  # type: ignore[union-attr]
        assert step not in world.stub.statuses(IDENTITY)
        assert world.told == []
