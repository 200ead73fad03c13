"""Whole updates against the stub, over both transports, and everything that goes wrong on the way.

In virtual time: hours of back-off take no time, and the same seed gives the same journal.
"""

from __future__ import annotations

import pytest

from agent.errors import UnusableSettings
from agent.faults import FaultPlan
from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from agent.update import State
from protocols.thingsboard.checksums import ALGORITHMS
from protocols.thingsboard.core import CHUNK_TRIES
from tests.agent.parts import image
from tests.protocols.thingsboard.world import FILES, GOOD, NEW, TOKEN, Package, World, files, run

TRANSPORTS = ("mqtt", "http")
WHOLE = ["DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]

both = pytest.mark.parametrize("transport", TRANSPORTS)


async def update(world: World) -> None:
    """Assign the good package and wait for a final word."""
    world.stub.assign(TOKEN, GOOD)
    await world.until(lambda: world.said("UPDATED") or world.said("FAILED"))
    await world.until(lambda: not world.device.engine.report_pending)
    await world.runtime.clock.sleep(1.0)


@both
def test_a_whole_update(transport: str) -> None:
    world = run(update, transport)
    assert world.server.states() == WHOLE
    assert world.server.last("current_fw_version") == "2.0.0"
    assert world.device.engine.outcome is Outcome.SUCCESS
    assert world.told == [("meter-1", "updated", "UPDATED", "2.0.0")]
    running = world.device.running
    assert running is not None and str(running.version) == "2.0.0"
    assert len(world.server.chunks) == -(-len(NEW) // (16 << 10))
    assert not any(TOKEN in line for line in world.lines)
    assert not any(TOKEN in str(event) for event in world.events)


@both
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_checksum_algorithm(transport: str, algorithm: str) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, Package("meter", "2.0.0", NEW, algorithm))
        await world.until(lambda: world.said("UPDATED"))

    run(story, transport)


@both
def test_software_is_told_with_its_own_prefix(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD, "sw")
        await world.until(lambda: "UPDATED" in world.server.states("sw"))

    world = run(story, transport)
    assert world.server.states("sw") == WHOLE
    assert world.server.states("fw") == []


@both
def test_the_package_that_runs_is_left_alone(transport: str) -> None:
    async def story(world: World) -> None:
        await update(world)
        world.stub.assign(TOKEN, GOOD)
        await world.runtime.clock.sleep(100.0)

    world = run(story, transport)
    assert world.server.states() == WHOLE


@both
def test_a_new_package_during_a_download_replaces_it(transport: str) -> None:
    newer = Package("meter", "3.0.0", image(3, 60_000, 3))

    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: len(world.server.chunks) >= 2)
        world.stub.assign(TOKEN, newer)
        await world.until(lambda: world.said("UPDATED"))

    # A slow link, so that a poll falls into the download.
    world = run(story, transport, bandwidth=10_000.0)
    assert str(world.device.running.version) == "3.0.0"  # type: ignore[union-attr]
    assert world.server.states().count("DOWNLOADING") == 2


@both
def test_a_wrong_checksum_fails_and_is_not_tried_again(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.corrupt = lambda index, data: b"\0" * len(data) if index == 2 else data
        await update(world)
        asked = len(world.server.chunks)
        await world.runtime.clock.sleep(200.0)
        assert len(world.server.chunks) == asked

    world = run(story, transport)
    assert world.server.states()[-1] == "FAILED"
    assert str(world.server.last("fw_error")).startswith("the checksum is wrong: SHA256 is ")
    assert world.device.engine.outcome is Outcome.INTEGRITY
    assert world.told[-1][1] == "failed"


@both
def test_a_package_shorter_than_announced_fails(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.corrupt = lambda index, data: b"" if index == 3 else data
        await update(world)

    world = run(story, transport)
    assert "chunk 3 has 0 bytes" in str(world.server.last("fw_error"))


@both
def test_an_unsigned_image_is_refused(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, Package("meter", "2.0.0", b"no image at all" * 100))
        await world.until(lambda: world.said("FAILED"))

    world = run(story, transport)
    assert world.device.engine.outcome is Outcome.UNSUPPORTED_PACKAGE


@both
def test_attributes_that_make_no_sense_fail_once(transport: str) -> None:
    async def story(world: World) -> None:
        world.server.shared = {"fw_title": "meter", "fw_version": "2.0.0", "fw_size": -1}
        await world.until(lambda: world.said("FAILED"))
        await world.runtime.clock.sleep(60.0)
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, transport)
    assert world.server.states() == ["FAILED", *WHOLE]
    assert "fw_size" in world.server.telemetry[1]["fw_error"]


@both
def test_a_lost_chunk_is_asked_for_again(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.lose_chunks = {1, 4}
        await update(world)

    world = run(story, transport)
    assert world.server.states() == WHOLE
    assert [index for _, index in world.server.chunks].count(4) == 2


@both
def test_a_server_that_never_answers_ends_the_download(transport: str) -> None:
    class Everything(set[int]):
        def __contains__(self, index: object) -> bool:
            return index == 2

        def discard(self, index: int) -> None:
            pass

    async def story(world: World) -> None:
        world.stub.lose_chunks = Everything()
        await update(world)

    world = run(story, transport)
    assert world.device.engine.outcome is Outcome.CONNECTION_LOST
    assert [index for _, index in world.server.chunks].count(2) == CHUNK_TRIES


@both
def test_a_power_cut_in_the_download_resumes_behind_what_is_in_flash(transport: str) -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.device.engine.offset >= 80_000)
        world.device.cut_power(back_after=3.0)
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, transport, bandwidth=20_000.0)
    indices = [index for _, index in world.server.chunks]
    # 64 KiB were safe, so chunks 0 to 3 cross the wire once and chunk 4 twice.
    assert indices.count(0) == 1
    assert indices.count(4) == 2
    assert world.device.engine.outcome is Outcome.SUCCESS


@both
def test_a_reverted_image_is_reported_and_kept_out(transport: str) -> None:
    world = run(update, transport, faults=FaultPlan(bad_boots=1))
    assert world.server.states()[-1] == "FAILED"
    assert "reverted" in str(world.server.last("fw_error"))
    assert world.server.last("current_fw_version") == "1.0.0"
    assert world.device.engine.state is State.DOWNLOADED


@both
def test_the_same_seed_gives_the_same_journal(transport: str) -> None:
    journals: list[list[str]] = [[], []]
    for journal in journals:
        run(update, transport, journal=journal, faults=FaultPlan(bad_boots=1))
    assert journals[0] == journals[1] != []


def test_a_broken_connection_goes_on_where_it_was() -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: len(world.server.chunks) >= 4)
        world.broker.cut("meter-1")
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, "mqtt")
    indices = [index for _, index in world.server.chunks]
    assert indices.count(0) == 1
    assert indices == sorted(indices)


def test_no_answer_to_a_former_life_is_taken() -> None:
    async def story(world: World) -> None:
        await update(world)

    world = run(story, "mqtt", faults=FaultPlan(bad_boots=1))
    ids = [int(request) for request, _ in world.server.chunks]
    assert min(ids) > 1 << 16
    zero = run(story, "mqtt", options={"persona": "ids-from-zero"})
    assert min(int(request) for request, _ in zero.server.chunks) < 10


def test_a_device_that_lost_power_claims_success_in_one_persona() -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.device.engine.offset > 0)
        world.device.cut_power(back_after=1.0)
        await world.until(lambda: world.said("UPDATED"))
        await world.runtime.clock.sleep(60.0)

    world = run(story, "mqtt", options={"persona": "updated-after-reboot"}, bandwidth=20_000.0)
    assert world.server.last("current_fw_version") == "1.0.0"
    assert str(world.device.running.version) == "1.0.0"  # type: ignore[union-attr]


def test_chunks_above_the_servers_limit_cost_the_connection() -> None:
    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.broker.connects >= 3)

    world = run(story, "mqtt", options={"persona": "large-chunks"})
    assert not world.said("UPDATED")


def test_a_lost_chunk_stalls_one_persona() -> None:
    async def story(world: World) -> None:
        world.stub.lose_chunks = {1}
        world.stub.assign(TOKEN, GOOD)
        await world.runtime.clock.sleep(900.0)

    world = run(story, "mqtt", options={"persona": "lost-chunk-stalls"})
    assert world.server.states() == ["DOWNLOADING"]


@both
def test_a_wrong_token_is_kept_out(transport: str) -> None:
    async def story(world: World) -> None:
        await world.runtime.clock.sleep(300.0)

    world = run(story, transport, token="wrong")
    assert world.server.telemetry == []
    assert not getattr(world.device.client, "registered", False)


@both
@pytest.mark.parametrize(
    ("name", "verdict"),
    [(Misbehaviour.FALSE_SUCCESS, "updated"), (Misbehaviour.FALSE_FAILURE, "failed")],
)
def test_lies_reach_the_server_and_not_the_device(
    transport: str, name: Misbehaviour, verdict: str
) -> None:
    bad = FaultPlan(bad_boots=1) if name is Misbehaviour.FALSE_SUCCESS else None
    world = run(update, transport, misbehave=frozenset({name}), faults=bad)
    assert world.told[-1][1] == verdict
    truly = world.device.engine.outcome is Outcome.SUCCESS
    assert truly is (verdict == "failed")


@both
def test_repeated_reports_and_silence(transport: str) -> None:
    twice = run(update, transport, misbehave=frozenset({Misbehaviour.DUPLICATE_REPORT}))
    assert twice.server.states() == [word for word in WHOLE for _ in range(2)]

    async def story(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.device.engine.outcome is Outcome.SUCCESS)

    silent = run(story, transport, misbehave=frozenset({Misbehaviour.NEVER_REPORT}))
    assert silent.server.states() == []


@both
def test_answers_to_misbehaviour_are_judged(transport: str) -> None:
    async def story(world: World) -> None:
        await world.runtime.clock.sleep(30.0)

    stale = run(story, transport, misbehave=frozenset({Misbehaviour.STALE_CREDENTIAL}))
    judgement = stale.runtime.misbehaviours.judgements["thingsboard", "stale-credential"]
    assert judgement.kept > 0 and judgement.broken == 0

    async def foreign(world: World) -> None:
        world.stub.assign(TOKEN, GOOD)
        await world.until(lambda: world.said("UPDATED"))

    asked = run(foreign, transport, misbehave=frozenset({Misbehaviour.FOREIGN_REPORT}))
    judgement = asked.runtime.misbehaviours.judgements["thingsboard", "foreign-report"]
    assert judgement.kept > 0 and judgement.broken == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"persona": "odd"}, "no persona 'odd'; known: default"),
        ({"chunk": "0"}, "chunk is '0'"),
        ({"interval": "soon"}, "interval is 'soon'"),
        ({"interval": "0"}, "interval is 0 s"),
    ],
)
def test_settings_that_make_no_sense_are_named(options: dict[str, str], says: str) -> None:
    async def story(world: World) -> None:
        pass

    with pytest.raises(UnusableSettings, match=says):
        run(story, options=options)


def test_over_http_a_device_is_its_token() -> None:
    async def story(world: World) -> None:
        pass

    needs = "meter-1: ThingsBoard over HTTP needs an access"
    with pytest.raises(UnusableSettings, match=needs) as refused:
        run(story, "http", token="")
    assert refused.value.what == "credentials"


@both
def test_a_package_at_a_url_of_its_own(transport: str) -> None:
    url = f"{FILES}/meter.bin?signature=s3cret-too"

    async def story(world: World) -> None:
        world.web.serve(FILES, files({"/meter.bin": NEW}))
        world.stub.assign(TOKEN, Package("meter", "2.0.0", NEW, url=url))
        await world.until(lambda: world.said("UPDATED"))

    world = run(story, transport)
    assert world.server.states() == WHOLE
    assert world.server.chunks == []
    assert not any("s3cret" in line for line in world.lines)


@both
@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        (f"{FILES}/gone.bin", Outcome.BAD_URI),
        ("ftp://files.test/meter.bin", Outcome.UNSUPPORTED_PROTOCOL),
        ("http://", Outcome.BAD_URI),
    ],
)
def test_a_url_that_leads_nowhere(transport: str, url: str, outcome: Outcome) -> None:
    async def story(world: World) -> None:
        world.web.serve(FILES, files({}))
        world.stub.assign(TOKEN, Package("meter", "2.0.0", NEW, url=url))
        await world.until(lambda: world.said("FAILED"))
        await world.runtime.clock.sleep(60.0)

    world = run(story, transport)
    assert world.device.engine.outcome is outcome
    assert world.server.states().count("FAILED") == 1


@both
def test_a_power_cut_in_a_download_by_url(transport: str) -> None:
    asked: list[str] = []

    async def story(world: World) -> None:
        world.web.serve(FILES, files({"/meter.bin": NEW}, asked))
        world.stub.assign(TOKEN, Package("meter", "2.0.0", NEW, url=f"{FILES}/meter.bin"))
        await world.until(lambda: world.device.engine.offset >= 80_000)
        world.device.cut_power(back_after=3.0)
        await world.until(lambda: world.said("UPDATED"))

    run(story, transport, bandwidth=20_000.0)
    assert asked == ["", "bytes=65536-"]
