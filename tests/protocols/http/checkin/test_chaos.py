"""Everything goes wrong at once, at random: answers are lost, servers refuse, the power fails.

Whatever happens, the backend never sees two different reports under one number, what it holds to be
so is what the device runs, and the device comes to an end.
"""

from __future__ import annotations

import pytest

from agent.faults import FaultPlan
from agent.flash import CutMode
from agent.runtime.random import DeviceRandom
from agent.update import Outcome
from tests.protocols.http.checkin.world import DAY, package, version, virtual, world

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_device_comes_through(seed):
    @virtual
    async def run():
        async with world(seed=seed) as w:
            chaos = DeviceRandom(seed, 99)
            w.backend.next_check_in = 30
            w.backend.order("dev-1", package())
            w.backend.lose = lambda what, body: chaos.below(4) == 0

            def refuse(what, body):
                roll = chaos.below(12)
                if roll == 0:
                    return 503, {"retry-after": str(chaos.below(40))}
                if roll == 1:
                    return 500, {}
                if roll == 2 and body.get("state") in ("downloading", "downloaded"):
                    return 429, {"retry-after": "3"}
                return None

            w.backend.refuse = refuse
            plan = FaultPlan(
                bad_boots=chaos.below(3) // 2,
                cut_power_at=1 + chaos.below(150) if chaos.below(2) else None,
                cut_mode=tuple(CutMode)[chaos.below(3)],
                cut_downloads=tuple(chaos.below(13_000) for _ in range(chaos.below(4))),
                seed=seed,
            )
            device = w.device(faults=plan)
            for _ in range(chaos.below(4)):
                await w.sleep(chaos.uniform(1.0, 20.0))
                if device.client is not None:
                    device.cut_power(back_after=2.0)
            key = ("dev-1", "campaign-1")
            await w.until(
                lambda: key in w.backend.closed and not device.engine.report_pending, DAY / 4
            )
            state, reason = w.backend.results[key]
            outcome = device.engine.outcome
            if outcome is Outcome.SUCCESS:
                assert (state, reason, version(device)) == ("success", "", "2.0.0")
            else:
                assert outcome is not None and outcome is not Outcome.CANCELLED
                assert (state, version(device)) == ("failed", "1.0.0")
                assert reason == outcome.name.lower().replace("_", "-")
            said: dict[int, dict[str, object]] = {}
            for _, _, body, _ in w.backend.reports:
                assert said.setdefault(body["seq"], body) == body
            assert device.boots < 15

    run()
