"""What a customer changes in a campaign: devices, dates, cancel; and what lost licences do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import engine, request, statuses, turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import edits, states
from tools.backend.campaigns.kinds import SOFTWARE_V2
from tools.backend.campaigns.records import Campaign, CampaignDates
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending, FaceKind
from tools.backend.store import rows as store
from tools.backend.timing import DAY, HOUR, date_text


def ids(names: list[str]) -> list[str]:
    return [name.removeprefix("urn:imei:") for name in names]


async def planned(backend: Backend, names: list[str], **changes: object) -> Campaign:
    """A campaign that starts tomorrow."""
    now = backend.time.now()
    base = replace(
        request(names), start_date=date_text(now + DAY), end_date=date_text(now + 5 * DAY)
    )
    campaign = await backend.engine.create(replace(base, **changes))  # type: ignore[arg-type]
    await turn(backend, 1)
    return campaign


async def stored(backend: Backend, campaign: Campaign) -> dict[str, str]:
    rows = await backend.writer.read(lambda connection: list(store.load_members(connection)))
    return {row["device_id"]: row["status"] for row in rows if row["campaign"] == campaign.id}


# -- devices ---


@virtual
async def test_added_devices_take_part() -> None:
    async with engine(devices=4, timing="documented") as (backend, face, _firmware, names):
        campaign = await planned(backend, names[:2])
        results = await backend.engine.append(campaign, ids(names[2:]))
        assert [(item.ok, item.reason) for item in results] == [(True, edits.ADDED)] * 2
        assert set(await stored(backend, campaign)) == set(ids(names))
        await turn(backend, DAY + 1)
        assert set(face.orders) == set(names)


@rules("BR-058", "BR-059")
@virtual
async def test_each_refused_device_says_why_and_the_others_are_taken() -> None:
    async with engine(devices=4, timing="documented") as (backend, _face, _firmware, names):
        campaign = await planned(backend, names[:1])
        other = await planned(backend, names[1:2])
        asked = [*ids(names[:3]), "359999999999999"]
        results = await backend.engine.append(campaign, asked)
        assert [item.ok for item in results] == [False, False, True, False]
        assert results[0].reason == edits.ALREADY_IN
        assert results[1].reason == campaign.kind.wording.already
        assert results[3].reason == campaign.kind.wording.not_found
        assert set(await stored(backend, campaign)) == {*ids(names[:1]), ids(names)[2]}
        assert set(await stored(backend, other)) == set(ids(names[1:2]))


@virtual
async def test_a_rejected_device_can_be_added_once_it_is_free() -> None:
    async with engine(devices=2, timing="documented") as (backend, _face, _firmware, names):
        first = await planned(backend, names[:1])
        second = await planned(backend, names)
        assert statuses(second)[0] == states.REJECTED
        await backend.engine.cancel(first)
        [result] = await backend.engine.append(second, ids(names[:1]))
        assert result.ok
        assert (await stored(backend, second))[ids(names)[0]] == states.DATA


@rules("BR-060")
@virtual
async def test_removed_devices_are_free_and_the_last_one_cancels() -> None:
    async with engine(devices=3, timing="documented") as (backend, face, _firmware, names):
        campaign = await planned(backend, names)
        results = await backend.engine.remove(campaign, [*ids(names[:1]), "359999999999999"])
        assert [(item.ok, item.reason) for item in results] == [
            (True, edits.REMOVED),
            (False, edits.NOT_IN),
        ]
        assert set(await stored(backend, campaign)) == set(ids(names[1:]))
        other = await planned(backend, names[:1])
        assert other.status == states.PRE_SCHEDULED
        await backend.engine.remove(campaign, ids(names[1:]))
        assert campaign.status == states.CANCELLED
        await turn(backend, DAY + 1)
        assert set(face.orders) == set(names[:1])


@virtual
async def test_a_removed_device_frees_its_place_in_the_cell() -> None:
    async with engine(devices=3, timing="documented") as (backend, _face, _firmware, names):
        backend.engine.cell_of = lambda _device_id: "c"
        backend.engine.cell_limit = lambda _cell: 2
        now = backend.time.now()
        campaign = await backend.engine.create(
            replace(request(names), start_date=date_text(now), end_date=date_text(now + DAY))
        )
        await turn(backend, 1)
        assert statuses(campaign) == [states.STARTED] * 2 + [states.PENDING]
        await backend.engine.remove(campaign, ids(names[:1]))
        assert backend.engine.cells.active("c") == 1


@rules("BR-057")
@pytest.mark.parametrize("what", ["append", "remove"])
def test_after_the_start_no_devices_come_or_go(what: str) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=3) as (backend, _face, _firmware, names):
            campaign = await backend.engine.create(request(names[:2]))
            await turn(backend, 1)
            with pytest.raises(RequestRefused, match="started"):
                await getattr(backend.engine, what)(campaign, ids(names))
            assert set(campaign.members) == set(names[:2])

    scene()


@rules("BR-114")
@virtual
async def test_a_pilot_does_not_grow_beyond_its_size() -> None:
    async with engine(devices=25, timing="documented", pilot_waived=False) as (
        backend,
        _face,
        _firmware,
        names,
    ):
        campaign = await planned(backend, names[:18])
        with pytest.raises(RequestRefused, match="at most 20 devices"):
            await backend.engine.append(campaign, ids(names[18:]))
        assert len(campaign.members) == len(await stored(backend, campaign)) == 18
        await backend.engine.append(campaign, ids(names[18:20]))
        assert len(campaign.members) == 20


@rules("BR-063")
@virtual
async def test_edits_of_one_campaign_follow_each_other() -> None:
    async with engine(devices=6, timing="documented") as (backend, _face, _firmware, names):
        campaign = await planned(backend, names[:1])
        await asyncio.gather(
            backend.engine.append(campaign, ids(names[1:4])),
            backend.engine.append(campaign, ids(names[2:6])),
            backend.engine.remove(campaign, ids(names[:2])),
        )
        assert set(campaign.members) == set(names[2:])
        assert set(await stored(backend, campaign)) == set(ids(names[2:]))
        assert campaign.unfinished == 4


# -- dates ---


def dates(campaign: Campaign, **changes: object) -> CampaignDates:
    base = CampaignDates(campaign.start_date, campaign.end_date, campaign.windows)
    return replace(base, **changes)  # type: ignore[arg-type]


@rules("BR-008")
@virtual
async def test_before_the_start_everything_may_change() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, names):
        campaign = await planned(backend, names)
        now = backend.time.now()
        new = dates(
            campaign,
            start_date=date_text(now + 2 * DAY),
            end_date=date_text(now + 9 * DAY),
            windows=((6, 8),),
        )
        await backend.engine.redate(campaign, new)
        [row] = await backend.writer.read(lambda connection: list(store.load_campaigns(connection)))
        assert (row["start_date"], row["end_date"]) == (new.start_date, new.end_date)
        assert (row["starts"], row["ends"]) == (campaign.starts, campaign.ends)
        await turn(backend, 2 * DAY + 5.9 * HOUR)
        assert face.orders == {}
        await turn(backend, 0.2 * HOUR)
        assert set(face.orders) == set(names)


@rules("BR-012")
@virtual
async def test_a_change_moves_the_estimates() -> None:
    async with engine(timing="documented") as (backend, _face, _firmware, names):
        campaign = await planned(backend, names)
        before = [member.next for member in campaign.members.values()]
        later = date_text(backend.time.now() + 3 * DAY)
        await backend.engine.redate(campaign, dates(campaign, start_date=later))
        after = [member.next for member in campaign.members.values()]
        assert [(new or 0) - (old or 0) for old, new in zip(before, after, strict=True)] == [
            2 * DAY
        ] * 3


@rules("BR-009", "BR-011")
@virtual
async def test_after_the_start_only_the_end_may_move_and_not_close() -> None:
    async with engine(timing="documented") as (backend, _face, _firmware, names):
        campaign = await planned(backend, names, windows=((0, 6),))
        await turn(backend, DAY + HOUR)
        now = backend.time.now()
        engine_of = backend.engine
        await engine_of.redate(campaign, dates(campaign, end_date=date_text(now + 9 * DAY)))
        for wrong, text in (
            ({"end_date": date_text(now)}, "24 hours"),
            ({"start_date": date_text(now + DAY)}, "startDate cannot change"),
            ({"windows": ((0, 6), (8, 9))}, "windows cannot change"),
            ({"windows": ()}, "windows cannot change"),
        ):
            with pytest.raises(RequestRefused, match=text):
                await engine_of.redate(campaign, dates(campaign, **wrong))
        assert campaign.end_date == date_text(now + 9 * DAY)
        assert campaign.windows == ((0, 6),)


# -- cancel ---


@rules("BR-052")
@virtual
async def test_an_account_may_forbid_to_abort_v3() -> None:
    async with engine() as (backend, _face, _firmware, names):
        account = backend.account
        backend.inventory.accounts[account.name] = replace(account, v3_abort=False)
        campaign = await backend.engine.create(request(names))
        await turn(backend, 1)
        with pytest.raises(RequestRefused, match="started"):
            await backend.engine.cancel(campaign)
        assert campaign.status == states.SCHEDULED


@virtual
async def test_a_reserved_place_is_given_back_by_a_cancel() -> None:
    async with engine(timing="documented") as (backend, _face, _firmware, names):
        backend.engine.cell_of = lambda _device_id: "c"
        now = backend.time.now()
        campaign = await backend.engine.create(
            replace(request(names), start_date=date_text(now), end_date=date_text(now + DAY))
        )
        await turn(backend, 1)
        assert backend.engine.cells.active("c") == 3
        await backend.engine.cancel(campaign)
        assert backend.engine.cells.active("c") == 0
        assert statuses(campaign) == [states.CANCELLED] * 3


# -- licences ---


@rules("BR-123")
@virtual
async def test_a_lost_licence_cancels_what_has_not_begun() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, names):
        campaign = await planned(backend, names, concurrency=1)
        await turn(backend, DAY + 1)
        [running] = face.orders
        backend.engine.release(names)
        await turn(backend, 1)
        assert statuses(campaign).count(states.CANCELLED) == 2
        assert backend.engine.in_progress(running)
        face.finish(running)
        await turn(backend, 1)
        assert statuses(campaign).count(states.SUCCESS) == 1
        assert campaign.status == states.ENDED


@virtual
async def test_the_last_licence_cancels_a_campaign_that_has_not_started() -> None:
    async with engine(timing="documented") as (backend, _face, _firmware, names):
        campaign = await planned(backend, names)
        backend.engine.release(names)
        assert campaign.status == states.CANCELLED
        assert all(backend.engine.book.is_free(name, campaign.kind.lock) for name in names)


# -- lists that are checked afterwards ---


@virtual
async def test_a_long_list_is_checked_after_the_answer() -> None:
    async with engine(devices=1_700, timing="documented") as (backend, _face, _firmware, names):
        taken = await planned(backend, names[:3])
        now = backend.time.now()
        asked = replace(
            request([*names, "urn:imei:359999999999999"]),
            start_date=date_text(now + DAY),
            end_date=date_text(now + 2 * DAY),
        )
        campaign = await backend.engine.create(asked)
        assert campaign.status == states.REQUEST_PENDING
        assert len(await stored(backend, campaign)) == 1_701
        with pytest.raises(RequestRefused, match="still being checked"):
            await backend.engine.remove(campaign, ids(names[:1]))
        await turn(backend, 5)
        assert campaign.status == states.PRE_SCHEDULED
        rejected = [item for item in campaign.members.values() if item.status == states.REJECTED]
        assert len(rejected) == 4
        assert campaign.unfinished == 1_697
        assert list((await stored(backend, campaign)).values()).count(states.REJECTED) == 4
        assert statuses(taken) == [states.PENDING] * 3


@rules("BR-046")
@virtual
async def test_a_long_list_without_one_good_device_fails() -> None:
    async with engine(devices=1, timing="documented") as (backend, _face, _firmware, _names):
        strangers = [f"urn:imei:{360000000000000 + number}" for number in range(1_200)]
        campaign = await planned(backend, strangers)
        await turn(backend, 5)
        assert campaign.status == states.REQUEST_FAILED
        assert campaign.final and campaign.unfinished == 0


@rules("BR-045")
@virtual
async def test_of_two_long_lists_each_device_is_in_one() -> None:
    async with engine(devices=1_200, timing="documented") as (backend, _face, _firmware, names):
        first, second = await asyncio.gather(planned(backend, names), planned(backend, names))
        await turn(backend, 5)
        accepted = [
            {name for name, item in campaign.members.items() if not item.final}
            for campaign in (first, second)
        ]
        assert accepted[0] | accepted[1] == set(names)
        assert not accepted[0] & accepted[1]


@rules("BR-090")
@virtual
async def test_the_end_of_a_large_campaign_reaches_everybody() -> None:
    async with engine(devices=1_300) as (backend, face, _firmware, names):
        face.here.clear()
        campaign = await backend.engine.create(request(names))
        await turn(backend, 8 * DAY)
        assert campaign.status == states.ENDED
        assert set(statuses(campaign)) == {states.FAILED}
        assert set((await stored(backend, campaign)).values()) == {states.FAILED}


@virtual
async def test_an_attempt_that_ends_after_an_abort_leaves_counts_right() -> None:
    async with engine(devices=2) as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names))
        await turn(backend, 1)
        face.tell(names[0], FaceKind.DOWNLOADED)
        await turn(backend, 1)
        await backend.engine.cancel(campaign)
        assert campaign.unfinished == 0
        face.tell(names[0], FaceKind.FINAL, Ending.SUCCESS)
        await turn(backend, 1)
        assert (campaign.unfinished, campaign.active) == (0, 0)
        assert campaign.members[names[0]].status == states.SUCCESS


@rules("BR-010")
@virtual
async def test_v2_takes_more_windows_after_the_start_and_gives_none_up() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, [name, *_rest]):
        backend.engine.attach("HTTP", face)
        await backend.add_package(b"x", name="http", version="2.0.0", protocol="HTTP")
        await backend.load_devices([{"name": name, "protocol": "HTTP"}])
        campaign = await planned(backend, [name], kind=SOFTWARE_V2, package="http", protocol="HTTP")
        await turn(backend, DAY + HOUR)
        assert campaign.status == states.SCHEDULED
        await backend.engine.redate(campaign, dates(campaign, windows=((1, 5),)))
        await backend.engine.redate(campaign, dates(campaign, windows=((1, 5), (20, 24))))
        with pytest.raises(RequestRefused, match="only be added"):
            await backend.engine.redate(campaign, dates(campaign, windows=((20, 24),)))
        assert campaign.windows == ((1, 5), (20, 24))
