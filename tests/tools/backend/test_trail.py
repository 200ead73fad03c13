"""Trails: what a status went through, in the row of its device, after a restart too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from agent.runtime.runtime import Runtime
from tests.tools.backend.virtual import CONFIG, package, started, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import kinds, states, trail
from tools.backend.store import rows, tables

NAMES = ["urn:imei:350000000000001", "urn:imei:350000000000002"]


def test_every_status_has_a_letter_of_its_own() -> None:
    tables_of = [(kind.campaign_table, kind.device_table) for kind in kinds.KINDS.values()]
    known = {status for pair in tables_of for table in pair for status in table}
    assert known <= set(trail.LETTERS)
    assert len(set(trail.LETTERS.values())) == len(trail.LETTERS)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 253_402_300_799, allow_nan=False), st.sampled_from(list(trail.LETTERS))
        )
    )
)
def test_what_is_written_is_read(gone_through: list[tuple[float, str]]) -> None:
    text = "".join(trail.step(status, when) for when, status in gone_through)
    assert len(text) == rows.STEP * len(gone_through)
    expected = [
        (when, status)
        for index, (when, status) in enumerate(gone_through)
        if not index or gone_through[index - 1][1] != status
    ]
    found = trail.steps(text)
    assert [status for _when, status in found] == [status for _when, status in expected]
    assert all(0 <= a - b < 0.0011 for (a, _), (b, _) in zip(expected, found, strict=True))


async def lived(backend: Backend) -> str:
    """A campaign whose devices go through some statuses; its id."""
    campaign = await backend.create_campaign(NAMES, await package(backend))
    await backend.operator.attach(NAMES[0], "north", None)
    await backend.runtime.clock.sleep(30)
    await backend.operator.detach(NAMES[0])
    await backend.runtime.clock.sleep(30)
    return campaign.id


@virtual
async def test_device_and_campaign_keep_theirs_over_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        async with started(runtime, config) as backend:
            name = await lived(backend)
            before = (await backend.engine.trails(NAMES[0]))[name]
            campaign = backend.engine.book.campaigns[name].trail
            assert [status for _time, status in before][0] == states.NO_DATA
            assert len(before) >= 3 and before == sorted(before)
            other = (await backend.engine.trails(NAMES[1]))[name]
            assert [status for _time, status in other] == [states.NO_DATA]
        async with started(runtime, config) as backend:
            assert (await backend.engine.trails(NAMES[0]))[name] == before
            assert backend.engine.book.campaigns[name].trail == campaign
            await backend.engine.cancel(backend.engine.book.campaigns[name])
            after = (await backend.engine.trails(NAMES[0]))[name]
            assert after[:-1] == before and after[-1][1] == states.ABORTED
            steps = trail.steps(backend.engine.book.campaigns[name].trail)
            assert [status for _time, status in steps] == [
                states.REQUEST_PENDING,
                states.QUEUED,
                states.PRE_SCHEDULED,
                states.SCHEDULED,
                states.ABORTED,
            ]


@virtual
async def test_it_is_bounded() -> None:
    async with Runtime.in_memory(seed=7) as runtime, started(runtime) as backend:
        campaign = await backend.create_campaign(NAMES, await package(backend))
        member = campaign.members[NAMES[0]]
        for number in range(rows.MAX_STEPS + 40):
            member.status = (states.DATA, states.PENDING)[number % 2]
            member.updated = float(number)
            backend.engine.save(member)
        column = select(tables.campaign_devices.c.trail).where(
            tables.campaign_devices.c.device == NAMES[0]
        )
        text = await backend.writer.read(lambda connection: connection.execute(column).scalar_one())
        assert len(text) == rows.STEP * rows.MAX_STEPS
        assert trail.steps(text)[-1] == (float(rows.MAX_STEPS + 39), states.PENDING)
        # The place of the oldest steps is the newest ones', nothing in between is lost.
        times = [time for time, _status in trail.steps(text)]
        assert times == [float(number) for number in range(40, rows.MAX_STEPS + 40)]
