"""What is reported, what gets lost, and what survives a power cut."""

from __future__ import annotations

import pytest

from agent.update import Outcome, State
from tests.agent.parts import image
from tests.protocols.http.hawkbit.actions import deploy, ends, feedback
from tests.protocols.http.hawkbit.scenes import SLOW
from tests.protocols.http.hawkbit.world import URL, virtual, world

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
