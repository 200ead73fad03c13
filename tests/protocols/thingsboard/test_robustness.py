"""Power cuts at any flash operation, two packages at once, packages that are taken back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from agent.faults import FaultPlan
from agent.outcome import Outcome
from agent.update import State
from tests.agent.parts import image
from tests.protocols.thingsboard.world import (
    FILES,
    GOOD,
    HTTP,
    NEW,
    TOKEN,
    Package,
    World,
    files,
    run,
)

both = pytest.mark.parametrize("transport", ("mqtt", "http"))


@both
@pytest.mark.parametrize("operation", range(1, 160, 3))
def test_a_power_cut_anywhere_ends_in_the_new_image(transport: str, operation: int) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED") or world.said("FAILED"), 1200.0)
        await world.until(lambda: not world.device.engine.report_pending)

    world = run(story, transport, faults=FaultPlan(cut_power_at=operation, outage_seconds=2.0))
    running = world.device.running
    assert running is not None
    updated = str(running.version) == "2.0.0"
    assert world.server.states()[-1] == ("UPDATED" if updated else "FAILED")
    assert world.server.last("current_fw_version") == str(running.version)


@both
def test_firmware_and_software_come_one_after_the_other_and_once(transport: str) -> None:
    software = Package("app", "3.0.0", image(3, 100_000, 3))

    async def story(world: World) -> None:
        # The firmware is polled for while the software comes in, slowly.
        world.stub.assign(TOKEN, software, "sw")
        await world.until(lambda: "DOWNLOADING" in world.server.states("sw"))
        world.stub.assign(TOKEN, Package("meter", "4.0.0", image(4, 100_000, 4)))
        await world.until(lambda: world.said("UPDATED"))
        await world.runtime.clock.sleep(300.0)

    world = run(story, transport, bandwidth=10_000.0)
    whole = ["DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]
    assert world.server.states("sw") == whole
    assert world.server.states("fw") == whole
    assert str(world.device.running.version) == "4.0.0"  # type: ignore[union-attr]


@both
def test_a_package_that_failed_stays_so_beside_another_that_makes_no_sense(transport: str) -> None:
    async def story(world: World) -> None:
        world.server.shared = {"sw_title": "app", "sw_version": "3.0.0", "sw_size": -1}
        world.stub.assign(TOKEN, Package("meter", "2.0.0", b"no image at all" * 100))
        await world.until(lambda: world.said("FAILED") and "FAILED" in world.server.states("sw"))
        await world.runtime.clock.sleep(300.0)

    world = run(story, transport)
    assert world.server.states("fw").count("FAILED") == 1
    assert world.server.states("sw").count("FAILED") == 1


@both
def test_a_package_that_is_taken_back_is_dropped(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.device.engine.offset > 0)
        world.stub.withdraw(TOKEN)
        await world.until(lambda: world.device.engine.state is State.IDLE)
        await world.runtime.clock.sleep(60.0)
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, transport, bandwidth=10_000.0)
    assert world.device.engine.outcome is Outcome.SUCCESS


def test_a_late_chunk_of_a_replaced_package_is_not_taken_for_one_of_the_new() -> None:
    """Both begin with chunk 0: the answer to the first comes while the new one is announced."""
    newer = Package("meter", "3.0.0", image(3, 100_000, 3))

    async def story(world: World) -> None:
        async def slow(scope: Any, receive: Any, send: Any) -> None:
            sleep = world.runtime.clock.sleep
            if b"version=2.0.0" in scope["query_string"]:
                await sleep(3.0)
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": NEW[: 16 << 10]})
                late.append(world.device.engine.offset)
                return
            if scope["path"].endswith("/telemetry"):
                await sleep(5.0)
            await world.stub.app(scope, receive, send)

        world.web.serve(HTTP, slow)
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("DOWNLOADING"))
        world.stub.assign(TOKEN, newer)
        await world.until(lambda: world.said("UPDATED") or world.said("FAILED"))

    late: list[int] = []
    world = run(story, "http")
    assert late == [0]
    assert world.server.states()[:2] == ["DOWNLOADING", "DOWNLOADING"]
    assert "FAILED" not in world.server.states()
    assert str(world.device.running.version) == "3.0.0"  # type: ignore[union-attr]


def test_a_busy_server_is_not_asked_earlier_than_it_wants() -> None:
    times: list[float] = []

    async def story(world: World) -> None:
        async def busy(scope: Any, receive: Any, send: Any) -> None:
            if not scope["path"].endswith("/firmware"):
                await world.stub.app(scope, receive, send)
                return
            times.append(world.runtime.clock.now())
            if len(times) < 3:
                fields = [(b"retry-after", b"60"), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 503, "headers": fields})
                await send({"type": "http.response.body", "body": b""})
            else:
                await world.stub.app(scope, receive, send)

        world.web.serve(HTTP, busy)
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    run(story, "http")
    # Polls go on every five seconds meanwhile, and none of them asks again.
    assert all(60.0 <= later - earlier <= 66.0 for earlier, later in pairwise(times[:3]))


def test_a_lost_chunk_stalls_one_persona_over_http_too() -> None:
    async def story(world: World) -> None:
        world.stub.lose_chunks = {1}
        world.stub.assign(TOKEN, GOOD)
        await world.runtime.clock.sleep(900.0)

    world = run(story, "http", options={"persona": "lost-chunk-stalls"})
    assert world.server.states() == ["DOWNLOADING"]
    assert [index for _, index in world.server.chunks] == [0, 1]


@pytest.mark.parametrize("bandwidth", [None, 20_000.0])
def test_chunks_that_nobody_asked_for_change_nothing(bandwidth: float | None) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        for count in range(1, 5):
            await world.until(lambda count=count: len(world.server.chunks) >= count)  # type: ignore[misc]
            request, index = world.server.chunks[-1]
            for topic in (
                f"fw/response/{request}/chunk/{index + 1}",
                f"fw/response/{request}/chunk/{index}x",
                f"sw/response/{request}/chunk/{index}",
                f"fw/response/1{request}/chunk/{index}",
                f"fw/response/{request}/chunk/{'9' * 5000}",
            ):
                world.broker.deliver("meter-1", f"v2/{topic}", b"\0" * 100)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, "mqtt", bandwidth=bandwidth)
    assert "FAILED" not in world.server.states()


def test_a_chunk_that_waits_for_the_link_is_not_asked_for_after_its_package_is_gone() -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: len(world.server.chunks) >= 2)
        await world.runtime.clock.sleep(0.3)  # each chunk keeps the link busy for 1.6 s
        asked.append(len(world.server.chunks))
        world.stub.withdraw(TOKEN)
        await world.runtime.clock.sleep(60.0)
        asked.append(len(world.server.chunks))

    asked: list[int] = []
    world = run(story, "mqtt", bandwidth=10_000.0)
    assert asked[0] == asked[1]
    assert world.server.states() == ["DOWNLOADING"]


@both
@pytest.mark.parametrize("name", ["fw_title", "fw_version", "fw_url", "fw_checksum"])
def test_text_that_has_no_encoding_is_named(transport: str, name: str) -> None:
    async def story(world: World) -> None:
        world.server.shared = {**GOOD.attributes("fw"), name: "\ud800"}
        await world.until(lambda: world.said("FAILED"))
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, transport)
    assert name in str(world.server.telemetry[1]["fw_error"])


@pytest.mark.parametrize(
    "answer", [b"no json", b"[]", b'{"shared":7}', b"[" * 100_000, b'{"shared":' + b"9" * 5000]
)
def test_attributes_that_are_none_cost_a_poll_and_no_secret(answer: bytes) -> None:
    left = [3]

    async def story(world: World) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if left[0]:
                left[0] -= 1
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": answer})
            else:
                await world.stub.app(scope, receive, send)

        world.web.serve(HTTP, app)
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, "http")
    assert not any(TOKEN in line for line in world.lines)


def test_a_server_that_is_gone_or_leads_elsewhere_costs_no_secret() -> None:
    async def story(world: World) -> None:
        await world.until(lambda: bool(world.server.telemetry))
        world.web.refuse(HTTP)
        await world.runtime.clock.sleep(60.0)

        async def away(scope: Any, receive: Any, send: Any) -> None:
            where = b"http://elsewhere.test" + scope["path"].encode()
            await send(
                {"type": "http.response.start", "status": 307, "headers": [(b"location", where)]}
            )
            await send({"type": "http.response.body", "body": b""})

        world.web.serve(HTTP, away)
        await world.runtime.clock.sleep(300.0)
        world.web.serve(HTTP, world.stub.app)
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, "http")
    assert any("307" in line or "redirect" in line.lower() for line in world.lines)
    assert not any(TOKEN in line for line in world.lines)
    assert not any(TOKEN in str(event) for event in world.events)


@both
def test_the_longest_words_that_a_server_may_send(transport: str) -> None:
    """All of it is kept in a device's 4 KiB."""
    title, path = "\U0001f4a1" * 255, "/" + "p" * 1000

    async def story(world: World) -> None:
        world.web.serve(FILES, files({path: NEW}))
        for version, number in (("2.0.0", 2), ("\U0001f4a1" * 255, 3)):
            content = image(number, 50_000, number)
            world.stub.assign(TOKEN, Package(title, version, content))
            await world.until(
                lambda number=number: world.server.states().count("UPDATED") == number - 1
            )  # type: ignore[misc]
        world.stub.assign(TOKEN, Package(title, "4.0.0", NEW, url=f"{FILES}{path}"))
        await world.until(lambda: world.said("FAILED") or world.server.states()[-1] == "DOWNLOADED")

    world = run(story, transport)
    assert world.server.states().count("UPDATED") == 2
    assert world.server.last("current_fw_title") == title
