"""v3: places in cells, and what a device reads of its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, engine, request, statuses, turn
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.records import CampaignRequest
from tools.backend.faces.base import FaceKind, Position
from tools.backend.timing import CELL_LIMIT, DAY, HOUR, date_text

TAKES = 4 * HOUR  # an upgrade in these scenarios: a whole slot


@asynccontextmanager
async def celled(
    devices: int, cells: int = 1, timing: str = "documented"
) -> AsyncIterator[tuple[Backend, FakeFace, list[str], dict[str, str]]]:
    """Devices spread over cells; the dictionary says where each one is, by device id."""
    async with engine(devices=devices, timing=timing) as (backend, face, _firmware, names):
        where = {
            name.removeprefix("urn:imei:"): f"cell-{number % cells}"
            for number, name in enumerate(names)
        }
        backend.engine.cell_of = lambda device_id: where.get(device_id, "")
        yield backend, face, names, where


def one_day(backend: Backend, names: list[str], **changes: object) -> CampaignRequest:
    tomorrow = date_text(backend.time.now() + DAY)
    return replace(request(names), start_date=tomorrow, end_date=tomorrow, **changes)  # type: ignore[arg-type]


def in_cells(face: FakeFace, where: dict[str, str]) -> Counter[str]:
    return Counter(where[name.removeprefix("urn:imei:")] for name in face.orders)


@rules("BR-085")
@virtual
async def test_500_devices_in_one_cell_and_one_day() -> None:
    async with celled(500) as (backend, face, names, where):
        campaign = await backend.engine.create(one_day(backend, names, concurrency=500))
        most = 0
        while not campaign.final:
            await turn(backend, 60)
            most = max(most, *in_cells(face, where).values(), 0)
            for name, began in list(face.begun):
                if name in face.orders and backend.time.now() >= began + TAKES - HOUR / 2:
                    face.finish(name)
        assert most == CELL_LIMIT
        results = Counter(statuses(campaign))
        # A day has six slots and a bit; the rest is told why.
        assert results[states.SUCCESS] >= 6 * CELL_LIMIT
        assert results[states.SUCCESS] + results[states.FAILED] == 500
        left = [item for item in campaign.members.values() if item.status == states.FAILED]
        assert left and all(item.reason for item in left)
        assert any("before a place in the cell" in item.reason for item in left)


@rules("BR-081")
@virtual
async def test_each_cell_has_its_own_limit() -> None:
    async with celled(90, cells=3) as (backend, face, names, where):
        backend.engine.cell_limit = {"cell-0": 5, "cell-1": 20, "cell-2": 30}.__getitem__
        campaign = await backend.engine.create(one_day(backend, names))
        await turn(backend, DAY + 1)
        assert in_cells(face, where) == {"cell-0": 5, "cell-1": 20, "cell-2": 30}
        assert Counter(statuses(campaign)) == {states.STARTED: 55, states.PENDING: 35}
        waiting = [item for item in campaign.members.values() if item.status == states.PENDING]
        assert all(item.next is not None and item.next > backend.time.now() for item in waiting)
        for name in list(face.orders):
            face.finish(name)
        await turn(backend, 1)
        assert in_cells(face, where) == {"cell-0": 5, "cell-1": 10}


@rules("BR-081")
@virtual
async def test_a_limit_that_grows_lets_more_begin() -> None:
    async with celled(10) as (backend, face, names, _where):
        limit = {"cell-0": 2}
        backend.engine.cell_limit = limit.__getitem__
        await backend.engine.create(one_day(backend, names))
        await turn(backend, DAY + 1)
        assert len(face.orders) == 2
        limit["cell-0"] = 6
        backend.engine.cell_changed("cell-0")
        await turn(backend, 1)
        assert len(face.orders) == 6


@rules("BR-093")
@virtual
async def test_a_device_without_a_cell_needs_no_place() -> None:
    async with celled(50) as (backend, face, names, where):
        where.clear()
        await backend.engine.create(one_day(backend, names))
        await turn(backend, DAY + 1)
        assert len(face.orders) == 50


@rules("BR-080")
@virtual
async def test_two_campaigns_share_the_places_of_a_cell() -> None:
    async with celled(40) as (backend, face, names, _where):
        first = await backend.engine.create(one_day(backend, names[:25]))
        second = await backend.engine.create(one_day(backend, names[25:]))
        await turn(backend, DAY + 1)
        assert len(face.orders) == CELL_LIMIT
        while not (first.final and second.final):
            for name in list(face.orders):
                face.finish(name)
            await turn(backend, 1)
            assert len(face.orders) <= CELL_LIMIT
        assert statuses(first) + statuses(second) == [states.SUCCESS] * 40


@rules("BR-031", "BR-082", "BR-083")
@virtual
async def test_before_the_start_the_first_ones_have_a_place_and_the_others_an_estimate() -> None:
    async with celled(45) as (backend, face, names, _where):
        today = date_text(backend.time.now())
        campaign = await backend.engine.create(
            replace(request(names), start_date=today, end_date=date_text(backend.time.now() + DAY))
        )
        await turn(backend, 60)
        assert campaign.status == states.PRE_SCHEDULED
        assert face.orders == {}
        members = list(campaign.members.values())
        assert statuses(campaign) == [states.STARTED] * 20 + [states.PENDING] * 25
        assert {item.next for item in members[:20]} == {campaign.starts}
        assert {item.next for item in members[20:40]} == {campaign.starts + 4 * HOUR}
        assert {item.next for item in members[40:]} == {campaign.starts + 8 * HOUR}
        assert members[0].reason.startswith("The upgrade is scheduled to begin on ")
        assert "estimated to be scheduled for" in members[20].reason
        assert {item.recent for item in members} == {None}
        await turn(backend, 90 * 60)
        assert len(face.orders) == 20
        assert members[0].position is Position.OFFERED
        assert members[0].recent is not None and members[0].recent - campaign.starts < 1


@rules("BR-084")
@virtual
async def test_a_device_that_moves_into_a_full_cell_waits_again() -> None:
    async with celled(4) as (backend, face, names, where):
        backend.engine.cell_limit = lambda _cell: 2
        first, second, third, fourth = where
        where[third] = where[fourth] = "cell-1"
        today = date_text(backend.time.now())
        campaign = await backend.engine.create(
            replace(request(names), start_date=today, end_date=date_text(backend.time.now() + DAY))
        )
        await turn(backend, 60)
        assert statuses(campaign) == [states.STARTED] * 4
        where[fourth] = "cell-0"
        await turn(backend, 90 * 60)
        assert statuses(campaign) == [states.STARTED] * 3 + [states.PENDING]
        assert set(face.orders) == set(names[:3])
        # It moves on to where there is room, which the network tells.
        where[fourth] = "cell-1"
        backend.engine.attached(fourth)
        await turn(backend, 1)
        assert set(face.orders) == set(names)
        assert first and second


@rules("BR-092", "BR-096")
@virtual
async def test_reachability_comes_and_goes_before_the_start() -> None:
    async with celled(1) as (backend, face, [name], where):
        device_id = name.removeprefix("urn:imei:")
        face.here.clear()
        where.clear()
        campaign = await backend.engine.create(one_day(backend, [name]))
        member = campaign.members[name]
        assert member.status == states.NO_DATA
        where[device_id] = "cell-0"
        backend.engine.attached(device_id)
        assert member.status == states.PENDING
        where.clear()
        backend.engine.detached(device_id)
        assert member.status == states.NO_DATA
        assert member.reason == "The network reports the device is not reachable."
        face.here.add(name)
        face.tell(name, FaceKind.REGISTERED)
        assert member.status == states.PENDING
        await turn(backend, DAY + 1)
        assert name in face.orders
