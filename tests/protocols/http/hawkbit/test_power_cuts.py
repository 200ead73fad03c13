"""Power is lost at any flash operation of an update: what the server believes is what is so."""

from __future__ import annotations

import pytest

from agent.faults import FaultPlan
from agent.flash import CutMode
from agent.runtime import run_virtual
from tests.protocols.http.hawkbit.world import Sim, World, new_image, world

OPERATIONS = 102
"""Flash operations of an update of our image, install and all records included."""


async def update(built: World, sim: Sim) -> str:
    """The status of the action, once the device has nothing more to tell."""
    ds = await built.publish("fw", {"app.bin": new_image()})
    action = await built.assign(ds, sim)
    status = (await built.until_closed(sim, action))["status"]
    await built.until(lambda: sim.settled and not sim.device.engine.report_pending)
    await built.polls(2)
    return str(status)


async def play(plan: FaultPlan | None) -> int:
    """The flash operations of one update, whose end is as it should be."""
    async with world(poll=1.0) as built:
        sim = await built.device("cut", faults=plan)
        status = await update(built, sim)
        assert sim.version == {"finished": "2.0.0", "error": "1.0.0"}[status], sim.events
        verdicts = [verdict for verdict, _, _ in sim.told]
        # Nothing when the power went between the server's 200 and our note of it.
        assert verdicts in ([], ["updated" if status == "finished" else "failed"])
        history = await built.history(sim, "1")
        assert sum(one in ("finished", "error") for one in history) == 1
        return sim.device.flash.operations


def test_operations() -> None:
    """The range below covers an update from its first operation to its last."""
    assert run_virtual(play(None)) == OPERATIONS


@pytest.mark.parametrize("start", range(1, OPERATIONS + 1, 9))
def test_every_operation(start: int) -> None:
    modes = tuple(CutMode)
    for at in range(start, start + 9):
        plan = FaultPlan(
            cut_power_at=at, cut_mode=modes[at % len(modes)], seed=at, outage_seconds=1.0
        )
        run_virtual(play(plan))
