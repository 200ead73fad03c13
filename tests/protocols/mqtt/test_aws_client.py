"""The AWS client against the stub, in virtual time: whole jobs, with everything that goes wrong."""

from __future__ import annotations

import pytest

from agent import FaultPlan, State
from agent.flash import CutMode
from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from tests.agent.parts import image, new_image
from tests.protocols.mqtt.aws_world import JOB, World, client_of, play, updated


@pytest.mark.parametrize("encoding", ["json", "cbor"])
@pytest.mark.parametrize(("block", "window"), [("256", "3"), ("4098", "8"), ("131072", "1")])
def test_a_job_from_end_to_end(encoding: str, block: str, window: str) -> None:
    async def scene(world: World) -> None:
        device = world.device(encoding=encoding, block=block, window=window)
        await world.registered(device)
        world.offer(new_image())
        execution = await world.ended("SUCCEEDED")
        assert updated(device)
        tests = [d["self_test"] for _, d in execution.history if "self_test" in d]
        assert tests == ["ready", "active", "accepted"]
        assert execution.details["updatedBy"] == "2.0.0"
        assert execution.details["reason"] == "accepted v2.0.0"
        assert world.told[-1][1] == "updated"
        assert world.told[-1][3] == "2.0.0"
        assert not device.engine.report_pending

    assert play(scene).stub.violations == []


def test_progress_is_told_in_steps() -> None:
    async def scene(world: World) -> None:
        world.device(block="256", window="1")
        world.offer(new_image())
        execution = await world.ended("SUCCEEDED")
        received = [d["receive"] for _, d in execution.history if "receive" in d]
        counts = [int(text.split("/")[0]) for text in received]
        assert counts == sorted(counts)
        assert len(set(counts)) >= 4

    play(scene)


def test_a_job_that_waits_is_found_at_power_up_and_the_next_one_after_it() -> None:
    async def scene(world: World) -> None:
        world.offer(new_image())
        newer = image(3, 11_000, 3)
        world.stub.create_job("second", ["thing-1"], {"afr_ota": {
            "protocols": ["MQTT"], "streamname": "other",
            "files": [{"filesize": len(newer), "fileid": 7}],
        }})  # fmt: skip
        world.stub.add_stream("other", {7: newer})
        device = world.device()
        await world.ended("SUCCEEDED")
        await world.ended("SUCCEEDED", "second")
        assert device.running is not None
        assert str(device.running.version) == "3.0.0"
        assert ("thing-1", "get") in world.stub.requests

    assert play(scene).stub.violations == []


def test_lost_blocks_are_asked_for_by_bitmap() -> None:
    async def scene(world: World) -> None:
        lost = {1, 3, 4, 9}

        def lose(index: int) -> bool:
            gone = index in lost
            lost.discard(index)
            return gone

        world.stub.lose_block = lose
        device = world.device(block="1024", window="8", encoding="json")
        world.offer(new_image())
        await world.ended("SUCCEEDED")
        assert updated(device)
        gets = [rest for _, rest in world.stub.requests if "/get/json" in rest]
        windows = -(-len(new_image()) // (8 * 1024))
        assert len(gets) == windows + 2  # blocks 1, 3, 4 in one request, 9 in another

    assert play(scene).stub.violations == []


def test_duplicates_and_losses_change_nothing() -> None:
    async def scene(world: World) -> None:
        device = world.device(block="1024", window="4")
        world.offer(new_image())
        execution = await world.ended("SUCCEEDED")
        assert updated(device)
        finals = [status for status, _ in execution.history if status == "SUCCEEDED"]
        assert len(finals) == 1

    assert play(scene, duplication=0.5, loss=0.2).stub.violations == []


def test_a_version_mismatch_is_resolved_by_get() -> None:
    async def scene(world: World) -> None:
        device = world.device(block="256", window="1")
        world.offer(new_image())
        await world.until(lambda: device.engine.state is State.DOWNLOADING)
        world.stub.touch(JOB, "thing-1")
        await world.ended("SUCCEEDED")
        assert ("thing-1", f"{JOB}/get") in world.stub.requests
        assert updated(device)

    assert play(scene).stub.violations == []


@pytest.mark.parametrize("how", ["cancel", "delete", "cancel, state first"])
@pytest.mark.parametrize("hears", [True, False])
def test_a_job_that_is_taken_back_is_dropped_without_a_report(how: str, hears: bool) -> None:
    async def scene(world: World) -> None:
        world.stub.version_first = how != "cancel, state first"
        device = world.device(block="256", window="1")
        world.offer(new_image())
        await world.until(lambda: device.engine.offset > 2000)
        if not hears:
            # The notification is lost with the connection.
            world.broker.down = True
            world.broker.cut("thing-1")
            await world.runtime.clock.sleep(1.0)
        if how == "delete":
            world.stub.delete(JOB, "thing-1")
        else:
            world.stub.cancel(JOB, "thing-1")
        world.broker.down = False
        updates = world.stub.requests.count(("thing-1", f"{JOB}/update"))
        await world.until(lambda: device.engine.state is State.IDLE)
        assert device.engine.outcome is Outcome.CANCELLED
        await world.runtime.clock.sleep(60.0)
        assert str(device.running.version) == "1.0.0" if device.running else False
        # One that was on its way may still have arrived, and been refused.
        assert world.stub.requests.count(("thing-1", f"{JOB}/update")) <= updates + 1
        if how != "delete":
            assert world.job().status == "CANCELED"
        # The next job is done as if nothing had been.
        world.offer(new_image(), job="again")
        await world.ended("SUCCEEDED", "again")
        assert updated(device)

    assert play(scene).stub.violations == []


def test_a_cancel_between_download_and_install_is_the_last_that_counts() -> None:
    async def scene(world: World) -> None:
        device = world.device()
        world.offer(new_image())
        await world.until(lambda: device.engine.state is State.DOWNLOADED)
        world.stub.cancel(JOB, "thing-1")
        await world.until(lambda: device.engine.state is State.IDLE)
        assert device.engine.outcome is Outcome.CANCELLED
        assert device.boots == 1

    play(scene)


def test_the_step_timeout_ends_a_job_that_stands_still() -> None:
    async def scene(world: World) -> None:
        device = world.device(step_timeout="2")
        world.stub.lose_block = lambda index: True
        world.offer(new_image())
        await world.ended("TIMED_OUT")
        assert device.engine.state is State.IDLE
        assert device.engine.outcome is Outcome.CANCELLED

    play(scene)


def test_a_stream_that_never_answers_ends_the_attempt() -> None:
    async def scene(world: World) -> None:
        device = world.device(step_timeout="0")
        world.stub.lose_block = lambda index: True
        world.offer(new_image())
        execution = await world.ended("FAILED")
        assert execution.details["reason"] == "connection lost"
        assert device.engine.outcome is Outcome.CONNECTION_LOST

    play(scene)


def test_reconnect_in_the_middle_of_a_download() -> None:
    async def scene(world: World) -> None:
        device = world.device(block="256", window="2")
        world.offer(new_image())
        for share in (0.2, 0.5, 0.8):
            await world.until(lambda share=share: device.engine.offset > share * 13_000)
            world.broker.cut("thing-1")
            await world.runtime.clock.sleep(0.5)
        execution = await world.ended("SUCCEEDED")
        assert updated(device)
        assert device.engine.attempt == 1
        assert world.stub.requests.count(("thing-1", "$next/get")) >= 4
        assert [status for status, _ in execution.history].count("SUCCEEDED") == 1

    assert play(scene).stub.violations == []


def test_answers_that_are_lost_are_asked_for_again() -> None:
    async def scene(world: World) -> None:
        world.stub.throttle = 2
        device = world.device()
        await world.registered(device)
        world.stub.mute = True
        world.offer(new_image())
        await world.runtime.clock.sleep(15.0)
        world.stub.mute = False
        await world.ended("SUCCEEDED")
        assert updated(device)

    play(scene)


@pytest.mark.parametrize(
    ("package", "status", "reason"),
    [
        (b"no image at all" * 200, "REJECTED", "unsupported package"),
        (new_image()[:-40] + bytes(40), "FAILED", None),
        (image(1, 9000, 1)[:-1], "FAILED", None),
    ],
)
def test_images_that_are_refused(package: bytes, status: str, reason: str | None) -> None:
    async def scene(world: World) -> None:
        device = world.device()
        world.offer(package)
        await world.until(lambda: world.job().status not in ("QUEUED", "IN_PROGRESS"))
        execution = world.job()
        assert execution.status in ("REJECTED", "FAILED")
        if reason is not None:
            assert (execution.status, execution.details["reason"]) == (status, reason)
        await world.runtime.clock.sleep(2.0)
        assert device.boots == 1
        assert world.told[-1][1] == "failed"

    assert play(scene).stub.violations == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"operation": "reboot"},
        {"afr_ota": {"protocols": ["MQTT"], "streamname": "s", "files": []}},
        {"afr_ota": {"protocols": ["BLE"], "streamname": "s",
                     "files": [{"filesize": 9, "fileid": 0}]}},
        {"afr_ota": {"protocols": ["MQTT"], "streamname": "s",
                     "files": [{"filesize": 9, "fileid": 0}] * 2}},
        {"afr_ota": {"protocols": ["MQTT"], "streamname": "../s",
                     "files": [{"filesize": 9, "fileid": 0}]}},
    ],
)  # fmt: skip
def test_documents_that_are_rejected(document: dict[str, object]) -> None:
    async def scene(world: World) -> None:
        world.device()
        world.stub.create_job(JOB, ["thing-1"], document)
        execution = await world.ended("REJECTED")
        assert "unsupported" in execution.details["reason"]

    assert play(scene).stub.violations == []


def test_a_stream_that_is_not_there() -> None:
    async def scene(world: World) -> None:
        world.device()
        world.offer(new_image())
        world.stub.streams.clear()
        execution = await world.ended("FAILED")
        assert execution.details["reason"] == "bad URI"

    play(scene)


def test_an_image_too_large_for_the_slot() -> None:
    async def scene(world: World) -> None:
        world.device()
        world.offer(bytes(100_000))
        execution = await world.ended("FAILED")
        assert execution.details["reason"] == "no space"

    play(scene)


def test_a_new_image_that_never_comes_up_is_reverted_and_reported() -> None:
    async def scene(world: World) -> None:
        device = world.device(faults=FaultPlan(bad_boots=1))
        world.offer(new_image())
        execution = await world.ended("FAILED")
        assert execution.details == {"reason": "reverted", "self_test": "rejected"}
        assert device.running is not None
        assert str(device.running.version) == "1.0.0"
        # It can be updated again.
        world.offer(new_image(), job="again")
        await world.ended("SUCCEEDED", "again")

    assert play(scene).stub.violations == []


def test_power_cuts_anywhere_end_in_a_truthful_report() -> None:
    """At any flash operation of the update: the job ends, and says what the device runs."""
    for operation in range(1, 120, 6):
        for mode in CutMode:

            async def scene(world: World, at: int = operation, mode: CutMode = mode) -> None:
                faults = FaultPlan(cut_power_at=at, cut_mode=mode, seed=at)
                device = world.device(block="1024", window="4", faults=faults)
                world.offer(new_image())
                await world.until(
                    lambda: world.job().status not in ("QUEUED", "IN_PROGRESS"), 4000.0
                )
                await world.runtime.clock.sleep(20.0)
                succeeded = world.job().status == "SUCCEEDED"
                assert succeeded == updated(device), (at, mode, world.job().history)

            world = play(scene)
            assert world.stub.violations == [], (operation, mode)


def test_power_cuts_in_the_second_job_do_not_borrow_the_first_ones_end() -> None:
    newer = image(3, 11_000, 3)
    cut = set()
    for operation in (*range(85, 110), *range(110, 200, 3)):

        async def scene(world: World, at: int = operation) -> None:
            faults = FaultPlan(cut_power_at=at, cut_mode=CutMode.AFTER)
            device = world.device(block="1024", window="4", faults=faults)
            world.offer(new_image())
            await world.until(lambda: world.job().status not in ("QUEUED", "IN_PROGRESS"))
            boots = device.boots
            world.offer(newer, job="second")
            await world.until(lambda: world.job("second").status not in ("QUEUED", "IN_PROGRESS"))
            await world.runtime.clock.sleep(20.0)
            assert device.running is not None
            succeeded = world.job("second").status == "SUCCEEDED"
            assert succeeded == (str(device.running.version) == "3.0.0"), (at, world.job().history)
            if device.boots > boots + 1:
                cut.add(at)

        assert play(scene).stub.violations == [], operation
    assert len(cut) > 40


def test_the_job_is_cancelled_while_the_new_image_is_on_trial() -> None:
    async def scene(world: World) -> None:
        device = world.device()
        world.offer(new_image())
        await world.until(lambda: device.engine.state is State.INSTALLING)
        world.stub.cancel(JOB, "thing-1")
        await world.until(lambda: updated(device))
        await world.runtime.clock.sleep(5.0)
        assert world.job().status == "CANCELED"
        # What runs was confirmed; the next job is taken.
        newer = image(3, 9000, 3)
        world.offer(newer, job="next")
        await world.ended("SUCCEEDED", "next")

    assert play(scene).stub.violations == []


@pytest.mark.parametrize(
    "name",
    [
        Misbehaviour.LATE_REPORT,
        Misbehaviour.DUPLICATE_REPORT,
        Misbehaviour.OUT_OF_ORDER,
        Misbehaviour.FOREIGN_REPORT,
        Misbehaviour.OVERSIZED_REPORT,
    ],
)
@pytest.mark.parametrize("right", [True, False])
def test_misbehaviour_meets_what_a_right_service_answers(name: Misbehaviour, right: bool) -> None:
    async def scene(world: World) -> None:
        if not right:
            answer_everything(world)
        device = world.device(misbehave=frozenset({name}))
        world.offer(new_image())
        await world.until(lambda: updated(device), 3000.0)
        await world.runtime.clock.sleep(60.0)
        kept, broken = world.judged()[name.value]
        assert bool(kept) == right
        assert bool(broken) != right

    play(scene)


def answer_everything(world: World) -> None:
    """A service that accepts every update that says it is stray."""
    stub = world.stub
    inner = stub.received

    def received(topic: str, payload: bytes, qos: int, duplicate: bool) -> None:
        if b'"stray.' in payload:
            token = payload.rpartition(b'"clientToken":')[2].rstrip(b"}")
            world.broker.publish(f"{topic}/accepted", b'{"clientToken":%s}' % token)
        else:
            inner(topic, payload, qos, duplicate)

    stub.received = received  # type: ignore[method-assign]


def test_a_device_that_ignores_a_cancel() -> None:
    async def scene(world: World) -> None:
        device = world.device(
            block="256", window="1", misbehave=frozenset({Misbehaviour.IGNORE_CANCEL})
        )
        world.offer(new_image())
        await world.until(lambda: device.engine.offset > 2000)
        world.stub.cancel(JOB, "thing-1")
        await world.until(lambda: updated(device), 3000.0)
        kept, broken = world.judged()["ignore-cancel"]
        assert kept
        assert not broken
        assert world.job().status == "CANCELED"

    play(scene)


@pytest.mark.parametrize(
    ("name", "bad_boots", "status", "runs_new"),
    [
        (Misbehaviour.FALSE_SUCCESS, 1, "SUCCEEDED", False),
        (Misbehaviour.FALSE_FAILURE, 0, "FAILED", True),
        (Misbehaviour.NEVER_REPORT, 0, "TIMED_OUT", True),
    ],
)
def test_liars(name: Misbehaviour, bad_boots: int, status: str, runs_new: bool) -> None:
    async def scene(world: World) -> None:
        device = world.device(misbehave=frozenset({name}), faults=FaultPlan(bad_boots=bad_boots))
        world.offer(new_image())
        await world.ended(status)
        assert updated(device) == runs_new
        assert world.judged() == {}

    play(scene)


@pytest.mark.parametrize("right", [True, False])
def test_a_clone_is_refused_by_a_right_broker(right: bool) -> None:
    async def scene(world: World) -> None:
        if right:
            world.broker.refuses = lambda s: "Not authorized" if s.client_id == "thing-2" else ""
        device = world.device(misbehave=frozenset({Misbehaviour.CLONED_IDENTITY}))
        await world.registered(device)
        world.offer(new_image())
        await world.ended("SUCCEEDED")
        # Once for each of the two boots.
        assert world.judged()["cloned-identity"] == ((2, 0) if right else (0, 2))

    play(scene)


def test_garbage_from_the_service_costs_nothing() -> None:
    async def scene(world: World) -> None:
        device = world.device(block="1024", encoding="json")
        await world.registered(device)
        base = "$aws/things/thing-1/"
        garbage = [b"", b"{", b"[]", b"\xff", b'{"execution":7}', b'{"execution":{"jobId":"a/b"}}',
                   b"[" * 100_000, b'{"jobs":{"QUEUED":[{}]}}', bytes(300_000)]  # fmt: skip
        for payload in garbage:
            for topic in ("jobs/notify", "jobs/notify-next", "jobs/get/accepted", "jobs/a/b/c",
                          "jobs/x/update/accepted", "streams/s/data/json"):  # fmt: skip
                world.broker.publish(base + topic, payload)
        world.offer(new_image())
        for payload in garbage:
            world.broker.publish(f"{base}streams/AFR_OTA-stream/data/json", payload)
            world.broker.publish(f"{base}jobs/{JOB}/update/rejected", payload)
        await world.ended("SUCCEEDED")
        assert updated(device)
        assert world.runtime.metrics.counters["malformed"] > 10

    play(scene)


def test_two_hundred_devices() -> None:
    async def scene(world: World) -> None:
        devices = [world.device(f"thing-{number}") for number in range(200)]
        world.offer(new_image(), *(device.name for device in devices))
        await world.until(lambda: all(updated(device) for device in devices), 3000.0)
        await world.runtime.clock.sleep(5.0)
        statuses = {world.job(thing=device.name).status for device in devices}
        assert statuses == {"SUCCEEDED"}
        assert all(client_of(device).registered for device in devices)

    assert play(scene).stub.violations == []
