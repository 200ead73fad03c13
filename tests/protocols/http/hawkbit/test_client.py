"""What servers, networks and people do to a DDI client, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
from typing import Any

import pytest

from agent import Device, Runtime
from agent.credentials import Credential
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime import run_virtual
from agent.runtime.http import HttpLink
from agent.update import Outcome, State
from firmware_images.swu import Hardware, build_swu
from protocols.http.hawkbit import HawkbitClient
from protocols.http.hawkbit.options import Confirm
from protocols.http.memory_transport import MemoryHttp
from tests.agent.parts import image, new_image, old_image, trusted
from tests.protocols.http.hawkbit.scenes import SLOW, downloading, third_image
from tests.protocols.http.hawkbit.world import URL, Sim, Slow, World, virtual, world


async def deploy(built: World, sim: Sim, package: bytes | None = None, **more: object) -> str:
    number = len(built.made)
    ds = await built.publish(f"fw{number}", {"app.bin": package or new_image()})
    return await built.assign(ds, sim, **more)


async def ends(built: World, sim: Sim, action: str) -> str:
    found = await built.until_closed(sim, action)
    await built.until(lambda: bool(sim.told))
    return str(found["status"])


def feedback(sim: Sim) -> list[str]:
    return [line for line in sim.lines if "feedback" in line and line.startswith("<")]


# -- reports that get lost, and one that does not -------------------------------------------------


@virtual
async def test_429_meets_only_steps() -> None:
    """hawkBit's quota: the history is full in mid-download, and the end still lands."""
    async with world(poll=1.0) as built:
        sim = await built.device("quota", bandwidth=SLOW)
        action = await deploy(built, sim)
        await built.until(lambda: sim.device.engine.offset > 0)
        built.stub.state.settings.max_status_entries = 4
        assert await ends(built, sim, action) == "finished"
        assert [line for line in feedback(sim) if line.startswith("< 429")]
        assert sim.told[-1][0] == "updated"


@virtual
async def test_steps_are_lost_and_not_repeated() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("lossy")
        built.bent.bend("POST", "/feedback", 503, times=3)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert [line[:5] for line in feedback(sim)] == ["< 503"] * 3 + ["< 200"] * 2


@virtual
@pytest.mark.parametrize("status", [429, 500, 503, 400, 401, 415])
async def test_the_end_is_sent_until_it_lands(status: int) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("end")
        action = await deploy(built, sim)
        await built.until(lambda: sim.device.engine.state is State.INSTALLING)
        built.bent.bend("POST", "/feedback", status, times=4)
        assert await ends(built, sim, action) == "finished"
        assert len([line for line in feedback(sim) if line.startswith(f"< {status}")]) == 4
        assert len(sim.told) == 1
        await built.polls(3)
        assert sim.client.memory.action is None


@virtual
async def test_an_unreachable_server_is_told_later() -> None:
    """Success is reported after the reboot, when a poll was answered: not before."""
    async with world(poll=1.0) as built:
        sim = await built.device("away")
        action = await deploy(built, sim)
        engine = sim.device.engine
        await built.until(lambda: engine.state is State.INSTALLING)
        built.network.refuse(URL)
        await built.until(lambda: engine.state is State.TRIAL)
        await built.sleep(5)
        assert engine.state is State.TRIAL, "an image that never reached its server is on trial"
        built.network.serve(URL, built.bent)
        assert await ends(built, sim, action) == "finished"
        assert engine.outcome is Outcome.SUCCESS


@virtual
async def test_an_image_that_never_reaches_its_server_is_reverted() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("alone")
        action = await deploy(built, sim)
        engine = sim.device.engine
        await built.until(lambda: engine.state is State.INSTALLING)
        built.network.refuse(URL)
        await built.until(lambda: engine.outcome is Outcome.REVERTED, within=120)
        built.network.serve(URL, built.bent)
        assert await ends(built, sim, action) == "error"
        assert (sim.version, sim.told) == ("1.0.0", [("failed", "reverted", None)])


@virtual
async def test_a_step_that_meets_410_ends_the_work() -> None:
    async with world(poll=30.0) as built:
        sim = await built.device("gone", bandwidth=SLOW)
        built.bent.bend("POST", "/feedback", 410, times=1)
        await deploy(built, sim)
        await built.until(lambda: bool(feedback(sim)))
        await built.sleep(1)
        assert sim.client.memory.action is None
        assert not sim.client.busy
        assert sim.device.engine.outcome is Outcome.CANCELLED
        assert not sim.told


@virtual
async def test_an_answer_that_got_lost_is_410_the_second_time() -> None:
    """The end landed, and the device lost its power before it could note that."""
    async with world(poll=1.0, latency=0.3) as built:
        sim = await built.device("twice")
        action = await deploy(built, sim)
        found = built.stub.state.actions[int(action)]
        await built.until(lambda: not found.active)
        sim.device.cut_power(back_after=1.0)  # the answer is on its way
        await built.until(lambda: any(line.startswith("< 410") for line in sim.lines))
        await built.polls(2)
        assert sim.client.memory.action is None and not sim.device.engine.report_pending
        assert sim.version == "2.0.0"


# -- power --------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("moment", ["feedback", "artifacts", "deploymentBase/1 ", "configData"])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_power_goes_while_a_request_is_out(moment: str, number: int) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("plug", bandwidth=8000.0)
        action = await deploy(built, sim)
        await built.until(lambda: len(sim.requests(moment)) >= number or bool(sim.told), within=120)
        sim.device.cut_power(back_after=2.0)
        assert (await built.until_closed(sim, action))["status"] == "finished"
        await built.until(lambda: sim.settled)
        assert sim.version == "2.0.0"
        assert sim.device.engine.outcome is Outcome.SUCCESS
        installs = [event for event in sim.events if event[2] == "INSTALLING"]
        assert len(installs) == 1, "installed once"


@virtual
async def test_a_download_goes_on_after_a_power_cut() -> None:
    """`resumed` is said, and what is in flash is not downloaded again."""
    package = image(2, 180_000, 2)
    async with world(poll=1.0) as built:
        sim = await built.device("resume", bandwidth=30_000.0, slot_size=256 * 1024)
        action = await deploy(built, sim, package)
        await built.until(lambda: sim.device.engine.offset > 140_000)
        sim.device.cut_power(back_after=1.0)
        assert await ends(built, sim, action) == "finished"
        starts = [line for line in sim.lines if "> GET" in line and "artifacts" in line]
        assert starts[0].endswith("from 0")
        assert starts[1].endswith(f"from {128 * 1024}")
        assert "goes on with the download" in await built.messages(sim, action)


@virtual
async def test_a_window_survives_a_reboot() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("night")
        window = {"schedule": built.later(40), "duration": "00:30:00", "timezone": "+00:00"}
        action = await deploy(built, sim, maintenanceWindow=window)
        await built.until(lambda: sim.device.engine.state is State.DOWNLOADED)
        await built.polls(1)
        sim.device.cut_power(back_after=1.0)
        assert await ends(built, sim, action) == "finished"
        history = await built.history(sim, action)
        assert history.count("downloaded") == 1, "said before the cut, and not again"
        assert built.now > 39


# -- what servers answer --------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    "body",
    [
        b"<html>maintenance</html>",
        b"[1]",
        b"{" * 5000,
        b"",
        b'{"config":{}}',
        b"x" * (2 << 20),
        b'{"config":{"polling":{"sleep":"00:00:30"}},"_links":{"deploymentBase":{"href":"x"}}}',
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_bad_poll_fails_and_is_tried_again(body: bytes) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("bad")
        built.bent.bend("GET", f"/controller/v1/{sim.name}", body, times=4)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert [line for line in sim.lines if line.startswith("! ")]


def without_hashes(answer: Any) -> Any:
    answer["deployment"]["chunks"][0]["artifacts"][0]["hashes"] = {}
    return answer


def with_ftp(answer: Any) -> Any:
    links = answer["deployment"]["chunks"][0]["artifacts"][0]["_links"]
    links["download-http"]["href"] = "ftp://elsewhere/app.bin"
    return answer


def of_another_action(answer: Any) -> Any:
    return {**answer, "id": "777"}


def without_artifacts(answer: Any) -> Any:
    answer["deployment"]["chunks"] = []
    return answer


@virtual
@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (without_hashes, "hashes has none of sha256, sha1, md5"),
        (with_ftp, "the link download-http"),
        (of_another_action, "describes action 777"),
        (without_artifacts, "none of 0 artifacts is a mcuboot package"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_a_deployment_that_describes_nothing_usable_fails(change: Any, detail: str) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("useless")
        built.bent.bend("GET", "/deploymentBase/", change)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "error"
        assert sim.device.engine.outcome is Outcome.UNSUPPORTED_PACKAGE
        assert any(detail in message for message in await built.messages(sim, action))
        assert not sim.requests("artifacts")


def hash_of_something_else(answer: Any) -> Any:
    answer["deployment"]["chunks"][0]["artifacts"][0]["hashes"]["md5"] = "0" * 32
    return answer


def smaller(answer: Any) -> Any:
    answer["deployment"]["chunks"][0]["artifacts"][0]["size"] = 700
    return answer


def sha1_only(answer: Any) -> Any:
    hashes = answer["deployment"]["chunks"][0]["artifacts"][0]["hashes"]
    del hashes["sha256"], hashes["md5"]
    return answer


@virtual
@pytest.mark.parametrize("change", [hash_of_something_else, smaller])
async def test_every_hash_and_the_size_count(change: Any) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("hash")
        built.bent.bend("GET", "/deploymentBase/", change)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "error"
        assert sim.device.engine.outcome is Outcome.INTEGRITY


@virtual
async def test_one_hash_is_enough() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("sha1")
        built.bent.bend("GET", "/deploymentBase/", sha1_only)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"


@virtual
@pytest.mark.parametrize(("status", "outcome"), [(404, Outcome.BAD_URI), (401, Outcome.BAD_URI)])
async def test_artifacts_that_are_refused(status: int, outcome: Outcome) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("none")
        built.bent.bend("GET", "/softwaremodules/", status)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "error"
        assert sim.device.engine.outcome is outcome


@virtual
async def test_the_other_artifacts_are_hashed_too() -> None:
    def spoiled(answer: Any) -> Any:
        chunk = answer["deployment"]["chunks"][0]
        (notes,) = (one for one in chunk["artifacts"] if one["filename"] == "notes.txt")
        notes["hashes"]["sha1"] = "0" * 40
        return answer

    async with world(poll=1.0) as built:
        sim = await built.device("extra")
        built.bent.bend("GET", "/deploymentBase/", spoiled)
        ds = await built.publish("extra", {"notes.txt": b"n" * 90, "app.bin": new_image()})
        action = await built.assign(ds, sim)
        assert await ends(built, sim, action) == "error"
        assert sim.device.engine.outcome is Outcome.INTEGRITY
        assert sim.version == "1.0.0"


@virtual
@pytest.mark.parametrize(
    ("status", "times", "outcome"),
    [
        (404, 99, Outcome.BAD_URI),
        (503, 99, Outcome.CONNECTION_LOST),
        (503, 3, Outcome.SUCCESS),
        (429, 2, Outcome.SUCCESS),
        (416, 1, Outcome.UNSUPPORTED_PACKAGE),
    ],
)
async def test_the_first_bytes_of_artifacts(status: int, times: int, outcome: Outcome) -> None:
    """They tell which of several artifacts is the image."""
    async with world(poll=1.0) as built:
        built.patience = 400.0
        sim = await built.device("heads")
        built.bent.bend("GET", "/artifacts/app.bin", status, times=times)
        ds = await built.publish("heads", {"notes.txt": b"n" * 90, "app.bin": new_image()})
        action = await built.assign(ds, sim)
        success = outcome is Outcome.SUCCESS
        assert await ends(built, sim, action) == ("finished" if success else "error")
        assert sim.device.engine.outcome is outcome


@virtual
@pytest.mark.parametrize("step", [1, 2, 3, 4])
async def test_any_step_that_meets_410_ends_the_work(step: int) -> None:
    async with world(poll=5.0) as built:
        sim = await built.device("steps")
        await deploy(built, sim)
        built.bent.bend("POST", "/feedback", 200, times=step - 1)
        built.bent.bend("POST", "/feedback", 410, times=1)
        await built.until(lambda: any(line.startswith("< 410") for line in sim.lines))
        await built.sleep(1)
        assert sim.settled and not sim.client.busy
        assert sim.device.engine.outcome is Outcome.CANCELLED
        assert sim.version == "1.0.0" and not sim.told


@virtual
@pytest.mark.parametrize("status", [404, 410, 418, 500])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_cancel_that_is_answered_strangely(method: str, status: int) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("odd", bandwidth=SLOW)
        action = await deploy(built, sim)
        await downloading(built, sim)
        built.bent.bend(method, "/cancelAction/", status, times=2)
        await built.cancel(sim, action)
        assert (await built.until_closed(sim, action))["status"] == "canceled"
        assert sim.version == "1.0.0"
        await built.until(lambda: sim.settled)


@virtual
@pytest.mark.parametrize("status", [404, 418, 500])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_confirmation_that_is_answered_strangely(method: str, status: int) -> None:
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("odd", options={"confirm": "auto"})
        built.bent.bend(method, "/confirmationBase", status, times=2)
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"


@virtual
@pytest.mark.parametrize("status", [404, 418])
async def test_an_installed_base_that_is_answered_strangely(status: int) -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("odd", options={"read_installed": "on"})
        built.bent.bend("GET", "/installedBase/", status, times=2)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        await built.until(lambda: any("! installedBase 1: " in line for line in sim.lines))
        await built.polls(2)
        assert len(sim.requests("installedBase")) == 3


@virtual
async def test_a_token_stays_at_home() -> None:
    """An artifact elsewhere is fetched without it; a link to an action must not lead away."""
    seen: list[tuple[str, list[bytes]]] = []

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        names = [name for name, _ in scope["headers"]]
        seen.append((scope["path"], names))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": new_image()})

    def moved(answer: Any) -> Any:
        links = answer["deployment"]["chunks"][0]["artifacts"][0]["_links"]
        links["download"] = {"href": "http://cdn.example/app.bin?signature=1"}
        return answer

    async with world(poll=1.0) as built:
        built.network.serve("http://cdn.example", elsewhere)
        sim = await built.device("cdn")
        built.bent.bend("GET", "/deploymentBase/", moved)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert [path for path, _ in seen] == ["/app.bin"]
        assert not any(b"authorization" in names for _, names in seen)

        def away(answer: Any) -> Any:
            for link in answer.get("_links", {}).values():
                link["href"] = link["href"].replace(URL, "http://cdn.example")
            return answer

        built.bent.bend("GET", f"/controller/v1/{sim.name}", away)
        await deploy(built, sim, third_image())
        await built.until(lambda: any("leads away from" in line for line in sim.lines))
        assert len(seen) == 1


@virtual
async def test_a_deployment_that_is_gone_is_asked_for_at_the_next_poll() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("later")
        built.bent.bend("GET", "/deploymentBase/", 404, times=2)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"


@virtual
async def test_a_bad_answer_in_mid_download_ends_nothing() -> None:
    """What is under way is not given up because a repeated fetch went wrong."""
    async with world(poll=1.0) as built:
        sim = await built.device("firm", bandwidth=SLOW)
        action = await deploy(built, sim, type="soft")
        await downloading(built, sim)
        built.bent.bend("GET", "/deploymentBase/", without_hashes, times=1)
        await built.management.call(
            "PUT", f"/targets/{sim.name}/actions/{action}", {"forceType": "forced"}
        )
        assert await ends(built, sim, action) == "finished"
        assert len([event for event in sim.events if event[3] == "begin"]) == 1


@virtual
async def test_quit_and_assigned_anew_between_two_polls() -> None:
    """The older action is gone without a cancel, and a newer one is there."""
    async with world(poll=20.0) as built:
        sim = await built.device("swap", bandwidth=400.0)
        first = await deploy(built, sim)
        await built.until(lambda: sim.device.engine.offset > 1000)
        await built.cancel(sim, first)
        await built.cancel(sim, first, force=True)
        second = await deploy(built, sim, third_image())
        assert await ends(built, sim, second) == "finished"
        assert sim.version == "3.0.0"


@virtual
async def test_the_same_action_again_is_another_try() -> None:
    """gooseBit's actions are software ids: after a failure the same one is offered again."""
    async with world(poll=1.0) as built:
        sim = await built.device("again")
        action = await deploy(built, sim, b"z" * 800)
        assert await ends(built, sim, action) == "error"
        found = built.stub.state.actions[int(action)]
        found.active = True
        found.status = type(found.status).RUNNING
        (artifact,) = found.distribution_set.modules[0].artifacts
        sim.told.clear()
        await built.until(lambda: bool(sim.told))
        assert len(sim.requests("artifacts")) == 2
        assert artifact.filename == "app.bin"


@virtual
async def test_the_servers_sleep() -> None:
    async with world() as built:
        sim = await built.device("sleep", options={"poll": "7"})
        await built.sleep(30)
        assert 4 <= len(sim.requests("GET")) <= 6
        plain = await built.device("server")
        client = plain.client
        client.options = type(client.options)()
        plain.lines.clear()
        await built.sleep(300 * 3 + 30)
        assert 3 <= len(plain.requests("GET")) <= 5, "five minutes, as hawkBit says by default"


@virtual
async def test_a_server_that_takes_no_notice_is_not_hurried() -> None:
    """A cancel that is answered and offered again all the same."""
    async with world(poll=10.0) as built:
        sim = await built.device("stuck", on=False)
        link = {"href": f"{URL}/DEFAULT/controller/v1/{sim.name}/cancelAction/5"}
        answer = {"config": {"polling": {"sleep": "00:00:30"}}, "_links": {"cancelAction": link}}
        built.bent.bend("POST", "/cancelAction/", 200)
        built.bent.bend("GET", "/cancelAction/", b'{"id":"5","cancelAction":{"stopId":"5"}}')
        built.bent.bend("GET", f"/controller/v1/{sim.name}", json.dumps(answer).encode())
        sim.device.power_on()
        await built.sleep(61)
        polls = [line for line in sim.requests("GET") if line.split()[2].endswith(sim.name)]
        assert len(polls) <= 40


@virtual
async def test_a_closed_action_that_is_offered_for_ever() -> None:
    """Each try takes a pause: a server in trouble is not run down."""
    async with world(poll=10.0) as built:
        sim = await built.device("loop")
        link = {"href": f"{URL}/DEFAULT/controller/v1/{sim.name}/deploymentBase/1?c=5"}
        answer = {"config": {"polling": {"sleep": "00:00:30"}}, "_links": {"deploymentBase": link}}
        built.bent.bend("GET", f"/controller/v1/{sim.name}/deploymentBase", without_artifacts)
        built.bent.bend("POST", "/feedback", 200)
        await deploy(built, sim)
        poll = json.dumps(answer).encode()
        built.bent.bend("GET", f"/controller/v1/{sim.name}", poll)
        await built.sleep(100)
        assert 8 <= len(sim.told) <= 11
        assert {verdict for verdict, _, _ in sim.told} == {"failed"}


@virtual
async def test_a_cancel_that_comes_too_late_is_rejected() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("late", timing=Slow())
        action = await deploy(built, sim)
        await built.until(lambda: sim.device.engine.state is State.INSTALLING)
        await built.cancel(sim, action)
        await built.until(lambda: bool(sim.requests(f"cancelAction/{action}/feedback")))
        assert sim.device.engine.state is State.INSTALLING
        assert await ends(built, sim, action) == "finished"
        assert "cancel_rejected" in await built.history(sim, action)
        assert sim.version == "2.0.0"


@virtual
@pytest.mark.parametrize("persona", ["rauc-hawkbit-updater", "swupdate"])
async def test_terse_personas(persona: str) -> None:
    """They say `proceeding` and `closed`, and nothing else."""
    async with world(poll=1.0) as built:
        sim = await built.device("terse", options={"persona": persona})
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        history = await built.history(sim, action)
        steps = [one for one in history if one not in ("retrieved", "download")]
        assert steps == ["running"] * 5 + ["finished"], "the assignment, and four steps"
        assert "downloaded" not in history


# -- lies and silence -----------------------------------------------------------------------------


@virtual
async def test_a_false_success() -> None:
    async with world(poll=1.0) as built:
        lies = frozenset({Misbehaviour.FALSE_SUCCESS})
        sim = await built.device("liar", misbehave=lies)
        action = await deploy(built, sim, b"x" * 4000)
        assert await ends(built, sim, action) == "finished"
        assert sim.told[-1][0] == "updated"
        assert sim.version == "1.0.0"


@virtual
async def test_a_false_failure() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("sad", misbehave=frozenset({Misbehaviour.FALSE_FAILURE}))
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "error"
        assert sim.told[-1][0] == "failed"
        assert sim.version == "2.0.0"


@virtual
async def test_silence() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("mute", misbehave=frozenset({Misbehaviour.NEVER_REPORT}))
        action = await deploy(built, sim)
        await built.until(lambda: sim.device.engine.outcome is Outcome.SUCCESS)
        await built.polls(4)
        assert sim.version == "2.0.0"
        assert not sim.requests("feedback") and not sim.told
        assert (await built.action(sim, action))["active"]
        assert len([event for event in sim.events if event[3] == "begin"]) == 1


@virtual
async def test_a_server_that_keeps_nothing_is_named() -> None:
    """The same misbehaviours against a server that takes everything: all broken."""
    wrong = frozenset(
        {
            Misbehaviour.LATE_REPORT,
            Misbehaviour.DUPLICATE_REPORT,
            Misbehaviour.FOREIGN_REPORT,
            Misbehaviour.OVERSIZED_REPORT,
            Misbehaviour.STALE_CREDENTIAL,
            Misbehaviour.CLONED_IDENTITY,
        }
    )
    async with world(poll=1.0) as built:
        sim = await built.device("wild-2", misbehave=wrong, on=False)
        poll = b'{"config":{"polling":{"sleep":"00:00:30"}}}'
        clone = sim.name.replace("-2-1", "-2-0")
        built.bent.bend("GET", f"/controller/v1/{clone}", poll)
        built.bent.bend("GET", f"/controller/v1/{sim.name}", poll, times=1)
        built.bent.bend("POST", "/feedback", 200)
        await deploy(built, sim)
        sim.device.power_on()
        await built.until(lambda: bool(sim.told))
        await built.sleep(1)
        ledger = built.runtime.misbehaviours.snapshot()
        assert {name for _, name in ledger} == {one.value for one in wrong}
        for (_, name), judgement in ledger.items():
            assert judgement.broken >= 1, name
            assert sim.name in judgement.examples[0]
        assert ledger["hawkbit", "late-report"].examples == (
            f"{sim.name}: a step after the end was answered 200, 410 expected",
        )
        assert ledger["hawkbit", "oversized-report"].examples == (
            f"{sim.name}: 60 messages at once was answered 200, 400 or 413 or 429 expected",
        )


# -- people ---------------------------------------------------------------------------------------


def made(runtime: Runtime, **settings: Any) -> HawkbitClient:
    device = Device(runtime, "one", image=old_image(), trusted=trusted(), slot_size=64 * 1024)
    server = settings.pop("server", URL)
    client = protocol_clients.get("hawkbit")(device, ClientSettings(server, **settings))
    assert isinstance(client, HawkbitClient)
    return client


@virtual
async def test_settings_that_cannot_be() -> None:
    async with Runtime.in_memory() as runtime:
        runtime.http = MemoryHttp(runtime)
        with pytest.raises(UnusableSettings, match="hawkbit has no option 'speed'; known: cancel"):
            made(runtime, options={"speed": "9"})
        with pytest.raises(UnusableSettings, match="poll='x'"):
            made(runtime, options={"poll": "x"})
        with pytest.raises(UnusableSettings, match="http:// or https://"):
            made(runtime, server="coap://h")
        client = made(runtime, server="https://h:8443/ddi/", options={"tenant": "acme"})
        assert client.base == "https://h:8443/ddi/acme/controller/v1/one"
        assert client.link == HttpLink()


@virtual
async def test_no_secret_is_shown() -> None:
    lines: list[str] = []
    async with world(poll=1.0) as built:
        built.runtime.journal = type(built.runtime.journal)(
            built.runtime.clock.now, lines.append, 8
        )
        secret = "s3cr3t-t0ken"
        sim = await built.device(
            "secret",
            credential=Credential(token=secret),
            misbehave=frozenset({Misbehaviour.STALE_CREDENTIAL}),
        )
        built.stub.state.targets[sim.name].security_token = secret
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert secret not in "\n".join([*sim.lines, *lines, repr(sim.client), repr(sim.device)])


@virtual
async def test_switched_off_in_mid_download() -> None:
    """Nothing of a device goes on when it is off."""
    async with world(poll=1.0) as built:
        sim = await built.device("off", bandwidth=SLOW)
        await deploy(built, sim)
        await downloading(built, sim)
        sim.device.power_off()
        count = len(sim.lines)
        await built.sleep(20)
        assert len(sim.lines) == count
        assert not built.network.tasks


@virtual
async def test_a_device_between_polls_owns_no_task() -> None:
    async with world(poll=60.0) as built:
        await built.device("idle")
        await built.sleep(20)
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}


# -- settings of the device -----------------------------------------------------------------------


@virtual
async def test_a_device_that_denies_withdraws_its_standing_consent() -> None:
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("moody", options={"confirm": "auto"})
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"
        options = dataclasses.replace(sim.client.options, confirm=Confirm.DENY)
        sim.client.options = options
        await built.until(lambda: bool(sim.requests("deactivateAutoConfirm")))
        await built.polls(2)
        action = await deploy(built, sim, third_image(), confirmationRequired=True)
        await built.until(lambda: bool(sim.requests(f"confirmationBase/{action}/feedback")))
        await built.polls(3)
        assert len(sim.requests("deactivateAutoConfirm")) == 1
        assert sim.version == "2.0.0"


@virtual
async def test_standing_consent_that_the_server_overlooks() -> None:
    """Active already, and asked all the same: the answer is yes."""
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("overlooked", options={"confirm": "auto"})
        state = b'{"autoConfirm":{"active":true},"_links":{}}'
        built.bent.bend("GET", "/confirmationBase", state, times=1)
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"
        assert len(sim.requests(f"confirmationBase/{action}/feedback")) == 1
        assert not sim.requests("activateAutoConfirm")


@virtual
async def test_a_confirmation_that_nobody_waits_for() -> None:
    async with (
        world(poll=1.0) as built,
        built.setting("user.confirmation.flow.enabled", True),
    ):
        sim = await built.device("late-yes")
        built.bent.bend("POST", "/confirmationBase/", 410, times=2)
        action = await deploy(built, sim, confirmationRequired=True)
        assert await ends(built, sim, action) == "finished"


@virtual
async def test_attributes_by_mode() -> None:
    async with world(poll=1.0) as built:
        await built.device("old", options={"hw_revision": "7"})
        sim = await built.device("mode", options={"mode": "replace", "hw_boardname": "gauge"})
        await built.until(lambda: bool(sim.requests("configData")))
        await built.polls(1)
        found = await built.management.call("GET", f"/targets/{sim.name}/attributes")
        assert found == {
            "hw_boardname": "gauge",
            "hw_revision": "1.0",
            "sw_version": "1.0.0",
            "device_type": "fotilla",
            "serial": sim.name,
        }


@virtual
async def test_attributes_that_are_refused_stop_nothing() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("refused")
        built.bent.bend("PUT", "/configData", 400)
        action = await deploy(built, sim)
        assert await ends(built, sim, action) == "finished"
        assert "! configData was answered 400" in sim.lines


@virtual
async def test_an_installed_set_that_the_server_does_not_know() -> None:
    """Said once in an uptime, and the device goes on."""
    async with world(poll=1.0) as built:
        sim = await built.device("unknown", options={"installed": "nothing:9"})
        await built.polls(5)
        assert len([line for line in sim.requests("PUT") if "installedBase" in line]) == 1
        assert "! installedBase was answered 404" in sim.lines
        assert sim.client.registered


def test_the_same_seed_says_the_same() -> None:
    def told() -> list[str]:
        async def play() -> list[str]:
            async with world(poll=1.0) as built:
                sims = [await built.device(f"same{n}", bandwidth=SLOW) for n in range(3)]
                ds = await built.publish("same", {"a.bin": new_image()}, {"b.bin": b"b" * 50})
                actions = [await built.assign(ds, sim) for sim in sims]
                for sim, action in zip(sims, actions, strict=True):
                    await built.until_closed(sim, action)
                return [f"{built.now} {line}" for sim in sims for line in sim.lines]

        return run_virtual(play())

    assert told() == told()


@virtual
async def test_a_herd_polls_at_one_instant() -> None:
    async with world(poll=5.0) as built:
        herd = frozenset({Misbehaviour.HERD})
        sims = [await built.device(f"herd{n}", misbehave=herd, on=False) for n in range(5)]
        others = [await built.device(f"calm{n}", on=False) for n in range(5)]
        for sim in [*sims, *others]:
            sim.device.power_on()
        await built.sleep(0.02)
        assert all(sim.requests("GET") for sim in sims)
        assert not all(sim.requests("GET") for sim in others)


@virtual
async def test_home_by_any_spelling() -> None:
    async with Runtime.in_memory() as runtime:
        runtime.http = MemoryHttp(runtime)
        token = {"credential": lambda device: Credential(token="t")}
        client = made(runtime, server="http://Bücher.example:80/ddi", **token)
        home = (("Authorization", "TargetToken t"),)
        assert client.fields_for("http://xn--bcher-kva.example/other") == home
        assert client.fields_for("http://BÜCHER.example:80/a b") == home
        for away in ("https://xn--bcher-kva.example/", "http://xn--bcher-kva.example:81/", "x"):
            assert client.fields_for(away) == ()


@virtual
async def test_names_that_need_escapes() -> None:
    async with world(poll=1.0) as built:
        sim = await built.device("urn:imei:01 ä")
        action = await deploy(built, sim)
        assert built.stub.state.actions[int(action)].target.controller_id == sim.name
        await built.until(lambda: bool(sim.told))
        assert sim.told[-1][0] == "updated"


@virtual
async def test_a_package_that_is_unpacked_begins_again_after_a_power_cut() -> None:
    """What unpacks it lived in RAM; the action is the same, and only one end is reported."""
    async with world(poll=1.0) as built:
        options = {"format": "swu", "hw_boardname": "gauge", "hw_revision": "7"}
        sim = await built.device("unpack", options=options, bandwidth=SLOW)
        package = build_swu(new_image(), version="2.0.0", hardware=[Hardware("gauge", "7")])
        ds = await built.publish("unpack", {"n.txt": b"n" * 400, "app.swu": package})
        action = await built.assign(ds, sim)
        await downloading(built, sim)
        sim.device.cut_power(back_after=1.0)
        assert await ends(built, sim, action) == "finished"
        assert sim.version == "2.0.0"
        history = await built.history(sim, action)
        assert history.count("finished") == 1
        others = [line for line in sim.lines if line.startswith("< 200 GET") and "n.txt" in line]
        assert len(others) == 1, "what was checked is not downloaded again"
