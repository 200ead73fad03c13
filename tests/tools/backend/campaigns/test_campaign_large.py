"""A campaign whose device list is too long for one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select

from tests.tools.backend.test_campaigns import engine, request, turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import checks, states
from tools.backend.campaigns.book import CampaignBook
from tools.backend.campaigns.records import Campaign, member_row
from tools.backend.errors import StoreError
from tools.backend.store import rows as store
from tools.backend.store import tables
from tools.backend.timing import DAY, date_text

FIRST = 358_000_000_000_000
MANY = 2 * checks.WRITTEN_AT_ONCE + 1


async def create(backend: Backend, names: list[str]) -> Campaign:
    """A campaign of tomorrow, with very many devices that nobody knows."""
    now = backend.time.now()
    unknown = tuple(str(FIRST + number) for number in range(MANY - len(names)))
    base = request(names)
    return await backend.engine.create(
        replace(
            base,
            devices=(*base.devices, *unknown),
            start_date=date_text(now + DAY),
            end_date=date_text(now + 5 * DAY),
        )
    )


async def written(backend: Backend) -> int:
    query = select(func.count()).select_from(tables.campaign_devices)
    found: int = await backend.writer.read(lambda rows: rows.execute(query).scalar_one())
    return found


def row_of(campaign: Campaign, device: str) -> dict[str, object]:
    """A device of a campaign, as the store has it."""
    return member_row(CampaignBook.member(campaign, None, device, "push", campaign.created))


@virtual
async def test_all_parts_are_durable_when_it_is_answered() -> None:
    async with engine(devices=3, timing="documented") as (backend, _face, _firmware, names):
        campaign = await create(backend, names)
        assert campaign.status == states.REQUEST_PENDING
        assert await written(backend) == len(campaign.members) == MANY
        await turn(backend, 5)
        assert campaign.status == states.PRE_SCHEDULED
        accepted = [item for item in campaign.members.values() if item.status != states.REJECTED]
        assert [item.device for item in accepted] == names


@virtual
async def test_changes_of_others_come_between_the_parts() -> None:
    async with engine(devices=3, timing="documented") as (backend, _face, _firmware, names):
        task = asyncio.ensure_future(create(backend, names))
        seen = []
        while not task.done():
            seen.append(await written(backend))
        assert len({count for count in seen if 0 < count < MANY}) >= 2
        # Until it is whole nobody knows of it.
        assert (await task).id in backend.engine.book.campaigns


@virtual
async def test_a_part_that_fails_leaves_nothing() -> None:
    async with engine(devices=3, timing="documented") as (backend, _face, _firmware, names):
        # The last but one device is there already.
        draft = backend.engine.book.draft

        def known_id(*arguments: object) -> Campaign:
            campaign = draft(*arguments)  # type: ignore[arg-type]
            row = row_of(campaign, str(FIRST + MANY - 5))
            backend.writer.submit_row(store.ADD_MEMBER, row)
            return campaign

        backend.engine.book.draft = known_id  # type: ignore[assignment,method-assign]
        with pytest.raises(StoreError):
            await create(backend, names)
        assert await written(backend) == 0
        assert not backend.engine.book.campaigns
        backend.engine.book.draft = draft  # type: ignore[method-assign]
        assert (await create(backend, names)).members


@virtual
async def test_devices_of_a_campaign_that_was_never_written_are_dropped() -> None:
    async with engine(devices=1, timing="documented") as (backend, _face, _firmware, names):
        campaign = await create(backend, names)
        row = {**row_of(campaign, str(FIRST)), "campaign": "of a request that was never answered"}
        await backend.writer.submit(
            lambda rows: rows.execute(insert(tables.campaign_devices).values(**row))
        )
        assert await written(backend) == MANY + 1
        await backend.writer.submit(lambda rows: rows.execute(store.DROP_ORPHANS))
        assert await written(backend) == MANY
