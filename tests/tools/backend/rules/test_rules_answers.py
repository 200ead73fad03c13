"""Tokens and their lives, and the clock that campaigns go by."""

from __future__ import annotations

from tests.tools.backend.campaigns.test_campaign_edits import planned
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.rest_world import ACCOUNT, V3, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import engine, turn
from tests.tools.backend.virtual import virtual
from tools.backend.campaigns import states
from tools.backend.timing import DAY

DEVICES = f"{V3}/devices/{ACCOUNT}"


@rules("BR-023")
@virtual
async def test_a_session_ends_after_twenty_idle_minutes_and_a_token_after_an_hour() -> None:
    async with rest_world() as world:
        for _ in range(3):
            await world.sleep(19 * 60)
            assert (await world.api.get(DEVICES)).status_code == 200
        await world.sleep(4 * 60)  # an hour and a minute after the login
        answer = await world.api.get(DEVICES)
        assert (answer.status_code, answer.json()["fault"]["code"]) == (401, "900901")
        async with world.again() as again:
            await world.sleep(20 * 60 + 1)
            answer = await again.api.get(DEVICES)
            assert answer.status_code == 401
            assert answer.json()["errorCode"].endswith("SessionToken.Expired")


@rules("BR-021")
@virtual
async def test_a_campaign_follows_a_clock_that_is_moved() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, names):
        campaign = await planned(backend, names)
        async with administrator(backend) as admin:
            before = backend.time.now()
            answer = await admin.post("/admin/clock", json={"advanceBy": -1})
            assert answer.status_code == 400
            answer = await admin.post("/admin/clock", json={"advanceBy": DAY})
            assert answer.status_code == 200
            assert backend.time.now() >= before + DAY
        await turn(backend, 1)
        assert campaign.status == states.SCHEDULED
        assert set(face.orders) == set(names)
