"""What servers answer, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.update import Outcome, State
from tests.agent.parts import new_image
from tests.protocols.http.hawkbit.actions import deploy, ends
from tests.protocols.http.hawkbit.scenes import SLOW, downloading, third_image
from tests.protocols.http.hawkbit.world import URL, Slow, virtual, world

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
