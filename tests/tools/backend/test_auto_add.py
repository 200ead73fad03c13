"""Campaigns that add devices by themselves: who matches, until when, how many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, engine, request, statuses, turn
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, package, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.config import Listen
from tools.backend.faces.base import FaceEvent, FaceKind
from tools.backend.timing import DAY, PILOT_SIZE

NEW = "urn:imei:359999999999999"


@rules("BR-102", "BR-116")
@virtual
async def test_a_device_that_comes_later_is_updated_too() -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names, auto_add=True))
        face.here.add(NEW)
        await backend.load_devices([{"name": NEW, "firmware": "1.0.0"}])
        assert statuses(campaign) == [states.DATA, states.DATA]
        await turn(backend)
        assert set(face.orders) == {*names, NEW}
        face.finish(NEW)
        face.finish(names[0])
        assert campaign.status == states.SCHEDULED  # others may still come
        assert backend.belief(NEW).verdict == "updated"


@rules("BR-105")
@pytest.mark.parametrize(
    ("flag", "record", "taken"),
    [
        (True, {"firmware": "1.0.0"}, True),
        (False, {"firmware": "1.0.0"}, False),
        (True, {"firmware": "0.9"}, False),
        (True, {"firmware": ""}, False),
        (True, {"firmware": "1.0.0", "model": "other"}, False),
        (True, {"firmware": "1.0.0", "make": "other"}, False),
        (True, {"firmware": "1.0.0", "protocol": "HTTP"}, False),
    ],
)
@virtual
async def test_only_what_matches(flag: bool, record: dict[str, Any], taken: bool) -> None:
    async with engine(devices=1) as (backend, _face, _firmware, names):
        await backend.add_package(b"x", name="app", version="2.0.0", version_from="1.0.0")
        campaign = await backend.engine.create(request(names, auto_add=flag, version_from="1.0.0"))
        await backend.load_devices([{"name": NEW, **record}])
        assert (NEW in campaign.members) is taken


@rules("BR-102")
@virtual
async def test_a_version_that_begins_to_match() -> None:
    async with engine(devices=1) as (backend, _face, _firmware, names):
        await backend.add_package(b"x", name="app", version="2.0.0", version_from="1.0.0")
        campaign = await backend.engine.create(request(names, auto_add=True, version_from="1.0.0"))
        await backend.load_devices([{"name": NEW, "firmware": "0.9"}])
        assert NEW not in campaign.members
        backend.engine.face_event(FaceEvent(NEW, FaceKind.VERSION, version="1.0.0"))
        assert NEW in campaign.members


@rules("BR-103")
@virtual
async def test_not_in_the_last_day_and_not_after_the_end() -> None:
    async with engine(devices=1) as (backend, _face, _firmware, names):
        campaign = await backend.engine.create(request(names, auto_add=True))
        await turn(backend, campaign.ends - DAY - backend.time.now() + 1)
        await backend.load_devices([{"name": NEW, "firmware": "1.0.0"}])
        assert NEW not in campaign.members


@virtual
async def test_a_busy_device_stays_where_it_is() -> None:
    async with engine(devices=2) as (backend, _face, _firmware, names):
        first = await backend.engine.create(request(names[:1]))
        second = await backend.engine.create(request(names[1:], auto_add=True))
        await backend.load_devices([{"name": names[0], "firmware": "1.0.0"}])
        assert set(first.members) == set(names[:1])
        assert set(second.members) == set(names[1:])


@rules("BR-113")
@virtual
async def test_without_a_pilot_twenty_are_all() -> None:
    async with engine(devices=1, pilot_waived=False) as (backend, _face, _firmware, names):
        campaign = await backend.engine.create(request(names, auto_add=True))
        more = [{"name": f"urn:imei:{351000000000000 + n}", "firmware": "1"} for n in range(30)]
        await backend.load_devices(more)
        assert len(campaign.members) == PILOT_SIZE


@virtual
async def test_who_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    async with Runtime.in_memory(seed=3) as runtime:
        config = replace(CONFIG, db=str(tmp_path / "b.db"), listen={"coap": Listen(ADDRESS)})
        backend = Backend(runtime, config)
        await backend.start()
        backend.engine.attach("LWM2M", FakeFace(backend))
        await package(backend)
        await backend.load_devices([{"name": "urn:imei:350000000000000"}])
        campaign = await backend.engine.create(request(["urn:imei:350000000000000"], auto_add=True))
        await backend.load_devices([{"name": NEW, "firmware": "1"}])
        await turn(backend)
        kill(backend)
        backend = Backend(runtime, config)
        await backend.start()
        again = backend.engine.book.campaigns[campaign.id]
        assert NEW in again.members
        third = "urn:imei:358888888888888"
        await backend.load_devices([{"name": third, "firmware": "1"}])
        assert third in again.members
        await backend.stop()
