"""How many devices may be in a campaign before a pilot has succeeded: at the edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, engine, request, statuses, turn
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, package, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import checks, states
from tools.backend.campaigns.pilots import was_good_pilot
from tools.backend.config import Listen
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending
from tools.backend.inventory import SUSPENDED
from tools.backend.timing import PILOT_SIZE

STRANGER = 380_000_000_000_000
LATER = "2030-01-03"


def named(first: int, count: int) -> list[str]:
    return [f"urn:imei:{first + number}" for number in range(count)]


def accepted(found: list[str]) -> int:
    return len(found) - found.count(states.REJECTED)


@rules("BR-108")
@pytest.mark.parametrize("length", [-1, 0, 1, 3])
@pytest.mark.parametrize(("good", "taken"), [(PILOT_SIZE, True), (PILOT_SIZE + 1, False)])
def test_a_long_list_has_the_limit_of_a_short_one(length: int, good: int, taken: bool) -> None:
    """Just below, at and above the length from which devices are checked after the answer."""

    @virtual
    async def scene() -> None:
        async with engine(devices=good, pilot_waived=False) as (backend, _face, _firmware, names):
            count = checks.CHECKED_AT_ONCE + length
            asked = request([*named(STRANGER, count - good), *names], start_date=LATER)
            if taken:
                campaign = await backend.engine.create(asked)
                await turn(backend, 5)
                assert accepted(statuses(campaign)) == good
                assert campaign.status == states.PRE_SCHEDULED
            else:
                with pytest.raises(RequestRefused, match="at most 20"):
                    await backend.engine.create(asked)
                assert not backend.engine.book.campaigns

    scene()


@rules("BR-108")
@pytest.mark.parametrize("restarted", [False, True])
def test_who_passes_only_after_the_answer_does_not_make_it_too_large(
    tmp_path: Path, restarted: bool
) -> None:
    @virtual
    async def scene() -> None:
        config = replace(
            CONFIG,
            db=str(tmp_path / "b.db"),
            timing="documented",
            pilot_waived=False,
            listen={"coap": Listen(ADDRESS)},
        )
        async with Runtime.in_memory(seed=3) as runtime:
            backend = Backend(runtime, config)
            await backend.start()
            backend.engine.attach("LWM2M", FakeFace(backend))  # type: ignore[arg-type]
            await package(backend)
            names = named(350_000_000_000_000, 30)
            await backend.load_devices([{"name": name} for name in names])
            for name in names[10:]:
                backend.inventory.devices[name].line = SUSPENDED
            asked = request([*names, *named(STRANGER, checks.CHECKED_AT_ONCE)], start_date=LATER)
            campaign = await backend.engine.create(asked)
            if restarted:
                kill(backend)
                backend = Backend(runtime, config)
                await backend.start()
                campaign = backend.engine.book.campaigns[campaign.id]
            assert campaign.status == states.REQUEST_PENDING
            for name in names[10:]:
                backend.inventory.devices[name].line = "active"
            await turn(backend, 5)
            assert accepted(statuses(campaign)) == PILOT_SIZE
            left = [campaign.members[name] for name in names[PILOT_SIZE:]]
            assert {member.reason for member in left} == {campaign.kind.wording.no_pilot}
            await backend.stop()

    scene()


@rules("BR-111", "BR-113")
@virtual
async def test_a_pilot_that_grows_afterwards_stays_one() -> None:
    async with engine(devices=60, pilot_waived=False) as (backend, face, _firmware, names):
        pilot = await backend.engine.create(request(names[:5], auto_add=True))
        await turn(backend)
        for name in names[:5]:
            face.finish(name)
        # It is proven, and takes in more than a pilot may have.
        more = named(351_000_000_000_000, 30)
        face.here.update(more)
        await backend.load_devices([{"name": name, "firmware": "1"} for name in more])
        assert len(pilot.members) == 35
        await turn(backend)
        for name in more:
            face.finish(name, Ending.INTEGRITY)
        assert statuses(pilot).count(states.FAILED) == 30
        large = await backend.engine.create(request(names[5:], start_date=LATER))
        assert len(large.members) == 55
        # A restart, which has nothing but the results, comes to the same.
        assert was_good_pilot(pilot)


@rules("BR-111")
@pytest.mark.parametrize(
    ("rounds", "lifted"),
    [
        ([(3, 2), (0, 15)], True),  # there was a moment
        ([(2, 3), (5, 0)], True),
        ([(2, 3), (0, 5), (1, 4)], False),
        ([(4, 0)], False),
        ([(4, 0), (0, 1)], True),
        ([(0, 1), (4, 20)], False),  # none with 5 to 20 results
    ],
)
def test_there_was_a_moment(rounds: list[tuple[int, int]], lifted: bool) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=30) as (backend, face, _firmware, names):
            campaign = await backend.engine.create(request(names, concurrency=30))
            await turn(backend)
            waiting = iter(names)
            for good, bad in rounds:
                for _ in range(good):
                    face.finish(next(waiting))
                for _ in range(bad):
                    face.finish(next(waiting), Ending.INTEGRITY)
                await turn(backend, 60)
            assert was_good_pilot(campaign) is lifted

    scene()
