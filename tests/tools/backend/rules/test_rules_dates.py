"""Dates and windows: the first and the last second of a campaign, and what lies across them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tools.backend.campaigns.test_campaign_edits import dates, planned
from tests.tools.backend.rest_world import ACCOUNT, V2, V3, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import engine, request, statuses, turn
from tests.tools.backend.virtual import virtual
from tools.backend.campaigns import states
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending, FaceKind, Position
from tools.backend.timing import DAY, HOUR, TIMINGS, date_text, in_window, next_opening

NIGHT = ((22, 24), (0, 3), (2, 4))


@rules("BR-001", "BR-003")
@virtual
async def test_both_days_belong_to_the_campaign() -> None:
    async with engine(devices=2, timing="documented") as (backend, face, _firmware, names):
        now = backend.time.now()
        first, last = date_text(now + DAY), date_text(now + 2 * DAY)
        asked = replace(request(names), start_date=first, end_date=last)
        campaign = await backend.engine.create(asked)
        face.here.discard(names[1])
        await turn(backend, DAY - 1)
        assert (campaign.status, face.orders) == (states.PRE_SCHEDULED, {})
        await turn(backend, 2)
        assert (campaign.status, set(face.orders)) == (states.SCHEDULED, {names[0]})
        face.finish(names[0])
        await turn(backend, 2 * DAY - 10)
        assert campaign.status == states.SCHEDULED
        face.here.add(names[1])
        face.tell(names[1], FaceKind.REGISTERED)
        await turn(backend, 1)
        assert set(face.orders) == {names[1]}  # some seconds before midnight
        await turn(backend, 10)
        assert campaign.status == states.ENDED
        assert statuses(campaign) == [states.SUCCESS, states.FAILED]
        assert face.orders == {}


@rules("BR-002")
@pytest.mark.parametrize(
    ("first", "last"), [("2029-12-31", "2030-01-02"), ("2030-01-03", "2030-01-02")]
)
def test_a_day_that_is_over_and_an_end_before_the_start(first: str, last: str) -> None:
    @virtual
    async def scene() -> None:
        async with rest_world() as world:
            changes = {"startDate": first, "endDate": last}
            for path, body in (
                (f"{V2}/campaigns/{ACCOUNT}", world.software(**changes)),
                (f"{V2}/campaigns/software/{ACCOUNT}", world.software(**changes)),
                (f"{V3}/campaigns/firmware/{ACCOUNT}", world.firmware(**changes)),
            ):
                await world.refused("POST", path, "Date", json=body)

    scene()


@rules("BR-004", "BR-005")
@virtual
async def test_a_day_is_enough_and_today_is_on_demand() -> None:
    async with engine(timing="documented") as (backend, face, _firmware, names):
        await turn(backend, 5 * HOUR)
        today = date_text(backend.time.now())
        asked = replace(request(names), start_date=today, end_date=today)
        campaign = await backend.engine.create(asked)
        assert campaign.starts - campaign.created == backend.timing.pilot_lead
        await turn(backend, backend.timing.pilot_lead + 1)
        assert set(face.orders) == set(names)


@rules("BR-008")
@virtual
async def test_dates_may_change_while_the_start_of_yesterday_is_still_to_come() -> None:
    """On demand just before midnight: the whole payload is sent, and startDate is over by now."""
    async with engine(devices=25, timing="documented") as (backend, face, _firmware, names):
        await turn(backend, 23.5 * HOUR)
        asked = replace(request(names), start_date="2030-01-01", end_date="2030-01-03")
        campaign = await backend.engine.create(asked)
        starts = campaign.starts
        await turn(backend, HOUR)
        assert campaign.status == states.PRE_SCHEDULED
        await backend.engine.redate(campaign, dates(campaign, end_date="2030-01-09"))
        assert (campaign.end_date, campaign.starts) == ("2030-01-09", starts)
        with pytest.raises(RequestRefused, match="in the past"):
            await backend.engine.redate(campaign, dates(campaign, start_date="2029-12-31"))
        await turn(backend, HOUR)
        assert set(face.orders) == set(names)


@rules("BR-007")
@pytest.mark.parametrize(("devices", "lead"), [(5, "pilot_lead"), (25, "on_demand_lead")])
def test_a_campaign_that_is_moved_to_today_is_on_demand(devices: int, lead: str) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=devices, timing="documented") as (backend, _face, _fw, names):
            campaign = await planned(backend, names)
            now = backend.time.now()
            await backend.engine.redate(campaign, dates(campaign, start_date=date_text(now)))
            assert campaign.starts - now == getattr(backend.timing, lead)

    scene()


@rules("BR-006")
def test_lead_times_are_in_one_place_and_two_profiles() -> None:
    documented, immediate = TIMINGS["documented"], TIMINGS["immediate"]
    assert set(TIMINGS) == {documented.name, immediate.name}
    assert documented.on_demand_lead == 90 * 60
    assert documented.pilot_lead == 10 * 60
    assert documented.slot == documented.retry_delay == 4 * HOUR
    assert documented.publication == 12 * HOUR
    assert (immediate.on_demand_lead, immediate.pilot_lead, immediate.publication) == (0, 0, None)


# -- windows ---


@rules("BR-015", "BR-016")
def test_overlaps_are_one_opening() -> None:
    midnight = 20_000 * DAY
    hours = [hour for hour in range(24) if in_window(NIGHT, midnight + hour * HOUR)]
    assert hours == [0, 1, 2, 3, 22, 23]
    assert next_opening(NIGHT, midnight + 4 * HOUR) == midnight + 22 * HOUR
    assert next_opening((), midnight + 4 * HOUR) == midnight + 4 * HOUR


@rules("BR-014", "BR-016")
@virtual
async def test_windows_are_echoed_as_they_were_sent() -> None:
    """Overlaps too; hours as strings where the SDK types strings."""
    async with rest_world() as world:
        sent = [{"startTime": 2, "endTime": 6}, {"startTime": 1, "endTime": 4}]
        made = await world.json(
            "POST",
            f"{V3}/campaigns/firmware/{ACCOUNT}",
            "FirmwareCampaign",
            json=world.firmware(campaignTimeWindowList=sent),
        )
        assert made["campaignTimeWindowList"] == sent
        path = f"{V3}/campaigns/{ACCOUNT}/{made['id']}"
        assert (await world.json("GET", path, "Campaign"))["campaignTimeWindowList"] == sent
        texts = [{"startTime": "2", "endTime": "6"}, {"startTime": "1", "endTime": "4"}]
        made = await world.json(
            "POST",
            f"{V2}/campaigns/software/{ACCOUNT}",
            "UploadAndScheduleFileResponse",
            json=world.software(downloadTimeWindowList=texts),
        )
        assert made["downloadTimeWindowList"] == texts
        campaign = world.backend.engine.book.campaigns[made["id"]]
        assert campaign.windows == ((2, 6), (1, 4))


@rules("BR-017", "BR-018")
@virtual
async def test_an_action_may_run_on_for_a_slot_past_its_window() -> None:
    async with engine(devices=3, timing="documented") as (backend, face, _firmware, names):
        soon, late, lost = names
        campaign = await planned(backend, names, windows=((1, 2),))
        await turn(backend, DAY + 0.5 * HOUR)
        assert face.orders == {}
        await turn(backend, HOUR)  # 01:30
        assert set(face.orders) == set(names)
        await turn(backend, 2.5 * HOUR)  # 04:00, after the window and inside the slot
        for name in (soon, late):
            face.tell(name, FaceKind.PROGRESS)
        face.tell(soon, FaceKind.DOWNLOADED)
        face.tell(lost, FaceKind.FINAL, Ending.CONNECTION_LOST)
        await turn(backend, 1)
        assert face.installed == [soon]
        assert campaign.members[lost].next == campaign.starts + DAY + HOUR
        await turn(backend, HOUR - 2)  # the last second of the slot of four hours is 05:00
        face.tell(late, FaceKind.FINAL, Ending.CONNECTION_LOST)
        await turn(backend, 6 * HOUR)
        assert set(face.orders) == {soon}
        await turn(backend, 16 * HOUR)
        assert set(face.orders) == set(names)  # in the next window


@rules("BR-017")
@virtual
async def test_who_is_ready_after_its_slot_installs_in_the_next_window() -> None:
    async with engine(devices=1, timing="documented") as (backend, face, _firmware, [name]):
        timing = replace(backend.timing, attempt_limit=30 * HOUR)
        backend.engine.timing = timing
        campaign = await planned(backend, [name], windows=((1, 2),))
        await turn(backend, DAY + 6 * HOUR)
        face.tell(name, FaceKind.DOWNLOADED)
        await turn(backend, 10 * HOUR)
        assert campaign.members[name].position is Position.DOWNLOADED
        assert face.installed == []
        await turn(backend, 10 * HOUR)
        assert face.installed == [name]


@rules("BR-019")
@virtual
async def test_nothing_runs_on_past_the_end_date() -> None:
    async with engine(devices=2, timing="documented") as (backend, face, _firmware, names):
        now = backend.time.now()
        campaign = await planned(backend, names, windows=((23, 24),), end_date=date_text(now + DAY))
        await turn(backend, DAY + 23.5 * HOUR)
        assert set(face.orders) == set(names)
        face.tell(names[0], FaceKind.PROGRESS)
        await turn(backend, 0.6 * HOUR)
        assert (campaign.status, face.orders) == (states.ENDED, {})
        assert statuses(campaign) == [states.FAILED] * 2
        face.tell(names[0], FaceKind.DOWNLOADED)
        await turn(backend, HOUR)
        assert face.installed == []


@rules("BR-020")
@virtual
async def test_a_device_that_comes_outside_the_window_only_is_not_upgraded() -> None:
    async with rest_world(http=2) as world:
        [inside, outside] = world.http
        campaign = await world.v2_campaign(
            startDate="2030-01-02",
            endDate="2030-01-04",
            downloadTimeWindowList=[{"startTime": 3, "endTime": 5}],
        )
        for _day in range(4):
            await world.sleep(4 * HOUR)
            order = (await inside.check_in()).get("campaign")
            if order is not None:
                await inside.update(order)
            await world.sleep(8 * HOUR)
            assert "campaign" not in await outside.check_in()
            await world.sleep(12 * HOUR)
        await world.sleep(DAY)
        found = world.backend.engine.book.campaigns[campaign].members
        assert [found[device.name].status for device in world.http] == [
            states.SUCCESS,
            states.FAILED,
        ]
        assert found[outside.name].attempts == 0


@rules("BR-019", "BR-090")
@virtual
async def test_a_campaign_for_today_that_could_not_begin_any_more_ends_with_its_day() -> None:
    async with engine(devices=25, timing="documented") as (backend, face, _firmware, names):
        await turn(backend, 23 * HOUR)
        asked = replace(request(names), start_date="2030-01-01", end_date="2030-01-01")
        campaign = await backend.engine.create(asked)
        await turn(backend, HOUR + 5)
        assert campaign.status == states.ENDED
        assert set(statuses(campaign)) == {states.FAILED}
        await turn(backend, HOUR)
        assert face.begun == []
