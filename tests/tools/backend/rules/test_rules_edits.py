"""Who may be in a campaign, and what is changed while it starts: overlap, edits, pilots, cancel."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.campaigns.test_campaign_edits import dates, ids, planned
from tests.tools.backend.campaigns.test_campaign_v1_plans import upgrade
from tests.tools.backend.http_device import devices as http_devices
from tests.tools.backend.http_device import in_process
from tests.tools.backend.rest_world import ACCOUNT, FORM, STORED, UPLOAD, V2, V3, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import FakeFace, engine, request, statuses, turn
from tests.tools.backend.test_restart import ADDRESS, kill
from tests.tools.backend.virtual import CONFIG, package, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FIRMWARE_V1_LWM2M, FIRMWARE_V3
from tools.backend.campaigns.records import Campaign
from tools.backend.config import Listen
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Ending, FaceKind
from tools.backend.timing import DAY, HOUR, PILOT_SIZE

V1 = "/api/fota/v1"
ALREADY = (
    "Device scheduled for firmware upgrade previously, needs to be completed before another "
    "upgrade is scheduled."
)


# -- overlap ---


@rules("BR-042", "BR-046", "BR-047")
@pytest.mark.parametrize(("first", "second"), [(1, 3), (3, 1), (1, 1), (3, 3)])
def test_a_device_is_in_one_campaign_whatever_the_version(first: int, second: int) -> None:
    @virtual
    async def scene() -> None:
        async with engine(timing="documented") as (backend, face, _firmware, names):
            kinds = {1: FIRMWARE_V1_LWM2M, 3: FIRMWARE_V3}
            await backend.engine.create(upgrade(backend, names, kind=kinds[first]))
            other = await backend.engine.create(upgrade(backend, names, kind=kinds[second]))
            assert other.status == states.REQUEST_FAILED
            assert {(m.status, m.reason) for m in other.members.values()} == {
                (states.REJECTED, ALREADY)
            }
            await turn(backend, DAY + 1)
            for name in names:
                face.finish(name)
            await turn(backend, 1)
            third = await backend.engine.create(upgrade(backend, names, kind=kinds[second]))
            assert third.status != states.REQUEST_FAILED  # they are free again

    scene()


@rules("BR-042", "BR-045")
@virtual
async def test_of_two_posts_at_once_exactly_one_gets_the_device() -> None:
    async with rest_world(lwm2m=1) as world:
        body = world.firmware()
        answers = await asyncio.gather(
            *(world.api.post(f"{V3}/campaigns/firmware/{ACCOUNT}", json=body) for _ in range(4))
        )
        assert [answer.status_code for answer in answers] == [200] * 4
        await world.sleep(1)
        book = world.backend.engine.book
        found = [book.campaigns[answer.json()["id"]] for answer in answers]
        failed = [campaign.status == states.REQUEST_FAILED for campaign in found]
        assert sorted(failed) == [False, True, True, True]


@rules("BR-043", "BR-044")
@virtual
async def test_a_file_and_a_software_campaign_take_turns_on_a_device() -> None:
    async with rest_world(http=1) as world:
        [device] = world.http
        await world.api.post(f"{V2}/files/{ACCOUNT}", data=FORM, files=UPLOAD)
        await world.v2_campaign(startDate="2030-01-01")
        asked = world.software(startDate="2030-01-01", fileName=STORED, fileVersion="7")
        answer = await world.api.post(f"{V2}/campaigns/files/{ACCOUNT}", json=asked)
        assert answer.status_code == 200
        await world.sleep(1)
        name = device.name
        first = (await device.check_in())["campaign"]
        for _ in range(3):
            assert (await device.check_in())["campaign"]["id"] == first["id"]
            active = [m for m in world.backend.engine.book.open_members(name) if m.active]
            assert len(active) == 1
        await device.update(first)
        second = (await device.check_in())["campaign"]
        assert {first["kind"], second["kind"]} == {"firmware", "file"}
        await device.update(second)
        assert [m.status for m in world.backend.engine.book.members_of(name)] == [
            states.SUCCESS,
            states.SUCCESS,
        ]


# -- edits ---


@rules("BR-063")
@pytest.mark.parametrize("moment", [-0.5, 0.0, 0.5])
def test_an_edit_that_races_the_start_is_whole_or_refused(moment: float) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=6, timing="documented") as (backend, face, _firmware, names):
            campaign = await planned(backend, names[:3])
            await turn(backend, campaign.starts - backend.time.now() + moment)
            try:
                await backend.engine.append(campaign, ids(names[3:]))
                wanted = set(names)
            except RequestRefused:
                wanted = set(names[:3])
            assert (wanted == set(names)) is (moment < 0)
            await turn(backend, 2)
            assert set(campaign.members) == set(face.orders) == wanted
            for name in wanted:
                face.finish(name)
            await turn(backend, 1)
            assert (campaign.status, campaign.unfinished) == (states.ENDED, 0)

    scene()


@rules("BR-062")
@virtual
async def test_of_a_device_that_is_named_twice_there_is_one() -> None:
    async with engine(devices=4, timing="documented") as (backend, _face, _firmware, names):
        campaign = await planned(backend, [*names[:2], *names[:2]])
        assert campaign.unfinished == 2
        results = await backend.engine.append(campaign, ids([names[2], names[2]]))
        assert [item.ok for item in results] == [True]
        results = await backend.engine.remove(campaign, ids([names[0], names[0]]))
        assert [item.ok for item in results] == [True]
        assert campaign.unfinished == len(campaign.members) == 2


@rules("BR-060", "BR-164")
@pytest.mark.parametrize("what", ["remove", "cancel", "redate", "append"])
def test_what_was_answered_outlives_a_kill(tmp_path: Path, what: str) -> None:
    @virtual
    async def scene() -> None:
        async with Runtime.in_memory(seed=3) as runtime:
            config = replace(
                CONFIG,
                db=str(tmp_path / "b.db"),
                timing="documented",
                listen={"coap": Listen(ADDRESS)},
            )
            names = ["urn:imei:350000000000000", "urn:imei:350000000000001"]
            backend = Backend(runtime, config)
            await backend.start()
            backend.engine.attach("LWM2M", FakeFace(backend))
            await package(backend)
            await backend.load_devices([{"name": name} for name in names])
            campaign = await planned(backend, names[:1])
            if what == "remove":
                await backend.engine.remove(campaign, ids(names[:1]))
            elif what == "cancel":
                await backend.engine.cancel(campaign)
            elif what == "append":
                await backend.engine.append(campaign, ids(names[1:]))
            else:
                await backend.engine.redate(campaign, dates(campaign, end_date="2030-03-01"))
            kill(backend)
            again = Backend(runtime, config)
            await again.start()
            found = again.engine.book.campaigns[campaign.id]
            assert (found.status == states.CANCELLED) is (what in ("remove", "cancel"))
            assert set(found.members) == set(campaign.members)
            assert (found.end_date == "2030-03-01") is (what == "redate")
            await again.stop()

    scene()


# -- cancel and abort ---


@rules("BR-053", "BR-054", "BR-055", "BR-056")
@virtual
async def test_an_abort_of_v2_reaches_each_device_at_its_next_contact() -> None:
    async with rest_world(http=3) as world:
        loading, installing, absent = world.http
        campaign_id = await world.v2_campaign(startDate="2030-01-01")
        orders = [(await device.check_in())["campaign"] for device in (loading, installing)]
        await installing.told(orders[1]["id"], "downloaded")
        await installing.told(orders[1]["id"], "installing")
        path = f"{V2}/campaigns/{ACCOUNT}/{campaign_id}"
        assert (await world.api.delete(path)).json() == {"success": True}
        await world.refused("DELETE", path, "")
        members = world.backend.engine.book.campaigns[campaign_id].members
        assert "campaign" not in await absent.check_in()
        assert campaign_id in str((await loading.check_in()).get("cancel"))
        assert (await loading.fetch(orders[0]["url"])).status_code in (404, 410)
        await installing.told(orders[1]["id"], "success")
        assert [members[device.name].status for device in world.http] == [
            states.ABORTED,
            states.SUCCESS,
            states.ABORTED,
        ]


# -- pilots ---


async def pilot(
    backend: Backend, face: FakeFace, names: list[str], good: int, bad: int
) -> Campaign:
    """A campaign of which so many succeed, so many fail, and the others are never tried."""
    campaign = await backend.engine.create(request(names, concurrency=good + bad))
    await turn(backend)
    for index, name in enumerate(list(face.orders)):
        face.finish(name, Ending.SUCCESS if index < good else Ending.INTEGRITY)
        if index + 1 == good + bad:
            break
    return campaign


@rules("BR-111", "BR-112")
@pytest.mark.parametrize(
    ("good", "bad", "lifted"),
    [(5, 0, True), (3, 2, True), (3, 3, True), (2, 3, False), (4, 0, False), (0, 5, False)],
)
def test_what_lifts_the_limit(good: int, bad: int, lifted: bool) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=50, pilot_waived=False) as (backend, face, _firmware, names):
            tried = await pilot(backend, face, names[: good + bad], good, bad)
            assert tried.final
            large = request(names[20:])
            if lifted:
                for _ in range(2):  # for good
                    campaign = await backend.engine.create(large)
                    assert len(campaign.members) == 30
                    await backend.engine.cancel(campaign)
            else:
                with pytest.raises(RequestRefused, match="at most 20"):
                    await backend.engine.create(large)

    scene()


@rules("BR-112")
@virtual
async def test_devices_without_a_result_do_not_count() -> None:
    async with engine(devices=50, pilot_waived=False) as (backend, face, _firmware, names):
        for name in names[4:10]:
            face.here.discard(name)
        strangers = [f"urn:imei:{390000000000000 + number}" for number in range(5)]
        campaign = await backend.engine.create(request([*names[:10], *strangers]))
        await turn(backend)
        for name in names[:4]:
            face.finish(name)
        await backend.engine.cancel(campaign)
        assert statuses(campaign).count(states.SUCCESS) == 4
        with pytest.raises(RequestRefused, match="at most 20"):
            await backend.engine.create(request(names[20:]))


@rules("BR-110")
@pytest.mark.parametrize("other", ["name", "from", "to"])
def test_a_pilot_counts_for_its_own_firmware(other: str) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=50, pilot_waived=False) as (backend, face, _firmware, names):
            await pilot(backend, face, names[:5], 5, 0)
            name = "other" if other == "name" else "app"
            version = "3.0.0" if other == "to" else "2.0.0"
            since = "1.0.0" if other == "from" else ""
            await backend.add_package(b"x", name=name, version=version, version_from=since)
            asked = request(names[20:], package=name, version_to=version, version_from=since)
            with pytest.raises(RequestRefused, match="at most 20"):
                await backend.engine.create(asked)

    scene()


@rules("BR-109")
@virtual
async def test_v1_knows_no_pilots() -> None:
    async with engine(devices=50, timing="documented", pilot_waived=False) as (
        backend,
        _face,
        _firmware,
        names,
    ):
        campaign = await backend.engine.create(upgrade(backend, names))
        assert len(campaign.members) == 50
        today = upgrade(backend, names[:1], start_date="2030-01-01")
        await backend.engine.cancel(campaign)
        small = await backend.engine.create(today)
        assert small.starts - small.created == backend.timing.on_demand_lead


@rules("BR-108", "BR-114")
@virtual
async def test_files_need_a_pilot_too_and_a_refusal_writes_nothing() -> None:
    async with rest_world(http=21, pilot_waived=False) as world:
        await world.api.post(f"{V2}/files/{ACCOUNT}", data=FORM, files=UPLOAD)
        asked = world.software(fileName=STORED, fileVersion="7")
        await world.refused("POST", f"{V2}/campaigns/files/{ACCOUNT}", "pilot", json=asked)
        await world.refused("POST", f"{V2}/campaigns/{ACCOUNT}", "pilot", json=world.software())
        asked["deviceList"] = world.ids()[:PILOT_SIZE]
        made = await world.api.post(f"{V2}/campaigns/files/{ACCOUNT}", json=asked)
        assert made.status_code == 200
        await world.sleep(1)
        more = {"Type": "append", "deviceList": world.ids()[PILOT_SIZE:]}
        path = f"{V2}/campaigns/{ACCOUNT}/{made.json()['id']}"
        await world.refused("PUT", path, "pilot", json=more)


@rules("BR-113")
@virtual
async def test_a_pilot_that_adds_devices_stops_at_twenty() -> None:
    async with engine(devices=1, pilot_waived=False) as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names, auto_add=True))
        await turn(backend)
        face.finish(names[0])
        more = [f"urn:imei:{351000000000000 + number}" for number in range(30)]
        for name in more:
            await backend.load_devices([{"name": name, "firmware": "1"}])
        assert len(campaign.members) == PILOT_SIZE
        await turn(backend, HOUR)
        for name in more:
            backend.engine.attached(name.removeprefix("urn:imei:"))
        assert len(campaign.members) == PILOT_SIZE


@rules("BR-139")
@virtual
async def test_a_campaign_delivers_the_bytes_that_it_was_made_with() -> None:
    async with engine(devices=1, timing="documented") as (backend, face, firmware, [name]):
        await planned(backend, [name])
        await backend.add_package(b"another image", name="app", version="2.0.0")
        await turn(backend, DAY + 1)
        assert face.orders[name].package.digest == firmware.digest
        assert face.orders[name].package.body != b"another image"
        face.tell(name, FaceKind.FINAL, Ending.SIGNATURE)


@rules("BR-020")
@virtual
async def test_both_sides_know_the_window() -> None:
    async with rest_world(http=0) as world, in_process(world.backend) as client:
        [device] = await http_devices(world.backend, client, 1)
        windows = [{"startTime": 0, "endTime": 24}]
        await world.v2_campaign(
            startDate="2030-01-01",
            deviceList=[device.name.removeprefix("urn:imei:")],
            downloadTimeWindowList=windows,
        )
        order = (await device.check_in())["campaign"]
        assert order["windows"]["download"] == windows
        assert (order["dates"]["start"], order["dates"]["end"]) == ("2030-01-01", "2030-01-07")
