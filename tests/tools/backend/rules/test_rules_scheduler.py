"""v3: places, attempts and their times, reachability, devices that are added by themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.tools.backend.campaigns.test_campaign_cells import celled, one_day
from tests.tools.backend.campaigns.test_campaign_edits import dates, planned
from tests.tools.backend.campaigns.test_campaign_v1_plans import dm_upgrade, omadm, powered_up
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.test_campaigns import engine, request, statuses, turn
from tests.tools.backend.virtual import virtual
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import FIRMWARE_V3, Lock
from tools.backend.campaigns.reasons import RETRYABLE
from tools.backend.faces.base import Ending, FaceKind
from tools.backend.timing import CELL_LIMIT, DAY, HOUR, MAX_ATTEMPTS, rfc822

NEW = "urn:imei:359999999999999"
UNREACHABLE = "The network reports the device is not reachable."


@rules("BR-028", "BR-029", "BR-030", "BR-031", "BR-032")
@virtual
async def test_the_words_of_v3() -> None:
    async with engine(devices=2, timing="documented") as (backend, face, _firmware, names):
        absent, there = names
        face.here.discard(absent)
        campaign = await backend.engine.create(request(names, end_date="2030-01-01"))
        one, two = (campaign.members[name] for name in names)
        assert (one.status, one.reason) == (states.NO_DATA, UNREACHABLE)
        assert two.reason == "Reachability information received from the network."
        await turn(backend, 1)
        begin, end = (rfc822(at) for at in (campaign.starts, campaign.starts + 4 * HOUR))
        assert (two.status, two.reason) == (
            states.STARTED,
            f"The upgrade is scheduled to begin on {begin}, and the estimated completion is {end}.",
        )
        face.refuse = True
        await turn(backend, HOUR)
        assert (two.status, two.next is not None) == (states.FAULT, True)
        again = rfc822(two.next or 0.0)
        assert two.reason == f"Request to FOTA server failed, estimated retry time on {again}."
        await turn(backend, DAY)
        assert (one.status, one.reason) == (
            states.FAILED,
            "The network does not report this device is reachable, no retry available, "
            "try count 0.",
        )
        assert there in campaign.members


@rules("BR-027")
def test_the_table_of_v3_is_the_documented_one() -> None:
    table = FIRMWARE_V3.device_table

    def leads(old: str, new: str) -> bool:
        return new in table[old].values()

    assert leads(states.NO_DATA, states.DATA) and leads(states.DATA, states.NO_DATA)
    assert leads(states.DATA, states.PENDING) and leads(states.PENDING, states.STARTED)
    assert leads(states.STARTED, states.SUCCESS) and leads(states.STARTED, states.FAILED)
    assert leads(states.STARTED, states.FAULT) and leads(states.FAULT, states.PENDING)
    assert not leads(states.NO_DATA, states.STARTED)


@rules("BR-088", "BR-091")
@virtual
async def test_a_request_that_never_left_is_no_attempt() -> None:
    async with engine(devices=1, timing="documented") as (backend, face, _firmware, [name]):
        campaign = await backend.engine.create(request([name]))
        member = campaign.members[name]
        face.refuse = True
        await turn(backend, HOUR)
        assert (member.status, member.attempts, member.recent) == (states.FAULT, 0, None)
        face.refuse = False
        await turn(backend, 4 * HOUR)
        asked = member.recent
        assert member.attempts == 1 and asked is not None
        face.tell(name, FaceKind.FINAL, Ending.TIMEOUT)
        face.refuse = True
        await turn(backend, 5 * HOUR)
        assert (member.status, member.attempts, member.recent) == (states.FAULT, 1, asked)


@rules("BR-086", "BR-088", "BR-089")
@virtual
async def test_attempts_follow_in_free_slots_of_the_windows() -> None:
    async with engine(devices=1, timing="documented") as (backend, face, _firmware, [name]):
        campaign = await planned(backend, [name], windows=((1, 2), (3, 4)))
        member = campaign.members[name]
        assert (member.recent, member.next) == (None, campaign.starts + HOUR)
        begun: list[float] = []
        while not member.final:
            await turn(backend, 60)
            if name in face.orders:
                begun.append(member.recent or 0.0)
                assert member.next is None
                face.tell(name, FaceKind.FINAL, Ending.CONNECTION_LOST)
                assert member.recent == begun[-1]
        assert len(begun) == MAX_ATTEMPTS == member.attempts
        assert [round((at - campaign.starts) / HOUR, 2) for at in begun] == [1, 25, 49]
        assert member.next is None


@rules("BR-087")
@pytest.mark.parametrize("ending", [item for item in Ending if item is not Ending.SUCCESS])
def test_what_is_tried_again(ending: Ending) -> None:
    @virtual
    async def scene() -> None:
        async with engine(devices=1) as (backend, face, _firmware, [name]):
            campaign = await backend.engine.create(request([name]))
            await turn(backend)
            face.tell(name, FaceKind.FINAL, ending)
            member = campaign.members[name]
            passes = {"CONNECTION_LOST", "TIMEOUT", "UNREACHABLE", "OUT_OF_MEMORY", "DEFERRED"}
            assert (member.status == states.PENDING) is (ending.name in passes)
            assert (ending in RETRYABLE) is (ending.name in passes)
            assert member.reason == FIRMWARE_V3.reasons[ending]

    scene()


@rules("BR-080", "BR-082", "BR-085", "BR-090")
@virtual
async def test_the_journal_never_shows_more_than_the_limit_of_a_cell() -> None:
    async with celled(130, cells=2) as (backend, face, names, where):
        engine_of = backend.engine
        held: Counter[str] = Counter()
        most: Counter[str] = Counter()
        record = engine_of.record

        def watch(subject: str, machine: str, old: str, new: str, cause: str) -> None:
            record(subject, machine, old, new, cause)
            if machine == "attempt" and subject in names:
                cell = where[subject.removeprefix("urn:imei:")]
                held[cell] += (new == "OFFERED") - (new in ("DONE", "WAITING") and old != "WAITING")
                most[cell] = max(most[cell], held[cell])

        engine_of.record = watch
        first = await engine_of.create(one_day(backend, names[:65], concurrency=200))
        second = await engine_of.create(one_day(backend, names[65:], concurrency=200))
        while not (first.final and second.final):
            await turn(backend, 600)
            for name, began in list(face.begun):
                if name in face.orders and backend.time.now() >= began + 9 * HOUR:
                    face.finish(name)
                elif name in face.orders and backend.time.now() >= began + HOUR:
                    face.tell(name, FaceKind.DOWNLOADED)
        assert set(most.values()) == {CELL_LIMIT}
        assert sum(held.values()) == 0
        left = [
            member
            for campaign in (first, second)
            for member in campaign.members.values()
            if member.status == states.FAILED
        ]
        assert left
        assert all(member.reason for member in left)


@rules("BR-055", "BR-056")
@virtual
async def test_an_aborted_device_that_never_reports_is_free_after_the_end_date() -> None:
    async with engine(devices=1) as (backend, face, _firmware, [name]):
        campaign = await backend.engine.create(request([name]))
        await turn(backend)
        face.tell(name, FaceKind.DOWNLOADED)
        await turn(backend)
        await backend.engine.cancel(campaign)
        await turn(backend, campaign.ends - backend.time.now() - 60)
        assert not backend.engine.book.is_free(name, Lock.FIRMWARE)
        await turn(backend, 120)
        assert backend.engine.book.is_free(name, Lock.FIRMWARE)
        assert (campaign.active, statuses(campaign)) == (0, [states.ABORTED])
        [attempt] = await backend.engine.attempts(name)
        assert (attempt.status, attempt.ending) == (states.FAILED, Ending.TIMEOUT)
        assert backend.finished.is_set()


@rules("BR-070", "BR-077", "BR-078")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_queued_device_that_was_told_to_install_is_not_asked_again(stopped: bool) -> None:
    @virtual
    async def scene() -> None:
        async with omadm() as (backend, face, [name]):
            campaign = await backend.engine.create(dm_upgrade(backend, [name]))
            member = campaign.members[name]
            await turn(backend, DAY + 5 * HOUR)
            await powered_up(backend, name)
            face.tell(name, FaceKind.PROGRESS)
            face.tell(name, FaceKind.DOWNLOADED)
            await turn(backend, 1)
            assert (member.executed, face.installed) == (True, [name])
            assert not stopped or await backend.engine.unqueue(name)
            await turn(backend, 9 * HOUR)
            assert (member.status, member.active, member.queued) == (states.FAILED, False, False)
            assert campaign.unfinished == 0
            assert backend.engine.book.is_free(name, Lock.FIRMWARE)
            await powered_up(backend, name)
            assert face.orders == {} and member.attempts == 2

    scene()


# -- devices that are added by themselves ---


@rules("BR-103")
@virtual
async def test_a_campaign_that_adds_devices_goes_on_until_a_day_before_its_end() -> None:
    async with engine(devices=1) as (backend, face, _firmware, names):
        campaign = await backend.engine.create(request(names, auto_add=True))
        await turn(backend)
        face.finish(names[0])
        await turn(backend, 2 * DAY)
        assert campaign.status == states.SCHEDULED
        face.here.add(NEW)
        await backend.load_devices([{"name": NEW, "firmware": "1.0.0"}])
        await turn(backend, 1)
        assert set(face.orders) == {NEW}
        face.finish(NEW)
        await turn(backend, campaign.ends - DAY - backend.time.now() - 1)
        assert campaign.status == states.SCHEDULED
        await turn(backend, 2)
        assert campaign.status == states.ENDED
        assert statuses(campaign) == [states.SUCCESS] * 2


@rules("BR-102")
@virtual
async def test_an_attach_adds_a_device_that_was_busy_when_it_was_loaded() -> None:
    async with engine(devices=2) as (backend, face, _firmware, names):
        busy = await backend.engine.create(request(names[:1]))
        adding = await backend.engine.create(request(names[1:], auto_add=True))
        await turn(backend)
        backend.engine.attached(names[0].removeprefix("urn:imei:"))
        assert names[0] not in adding.members
        face.tell(names[0], FaceKind.FINAL, Ending.SIGNATURE)
        backend.inventory.devices[names[0]].firmware = "1.0.0"
        backend.engine.attached(names[0].removeprefix("urn:imei:"))
        assert busy.final and names[0] in adding.members
        await turn(backend, 1)
        assert names[0] in face.orders


@rules("BR-093")
@virtual
async def test_a_client_that_never_attaches_is_upgraded_without_a_place() -> None:
    async with celled(3) as (backend, face, names, where):
        backend.engine.cell_limit = lambda _cell: 1
        del where[names[2].removeprefix("urn:imei:")]
        campaign = await backend.engine.create(one_day(backend, names))
        await turn(backend, DAY + 1)
        assert set(face.orders) == {names[0], names[2]}
        assert campaign.members[names[1]].status == states.PENDING


@rules("BR-012")
@virtual
async def test_a_change_of_the_end_moves_the_estimates_of_those_who_wait() -> None:
    async with celled(45) as (backend, _face, names, _where):
        asked = one_day(backend, names, concurrency=200)
        campaign = await backend.engine.create(asked)
        await turn(backend, 60)
        before = Counter(round((m.next or 0.0) / HOUR) for m in campaign.members.values())
        later = replace(asked, start_date="2030-01-04", end_date="2030-01-06")
        await backend.engine.redate(
            campaign, dates(campaign, start_date=later.start_date, end_date=later.end_date)
        )
        await turn(backend, 1)
        after = Counter(round((m.next or 0.0) / HOUR) for m in campaign.members.values())
        assert {hour + 48: count for hour, count in before.items()} == dict(after)
