"""From a change to a row, from rows to a message: over kills and with a broken store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_room import (
    ACCOUNT,
    URL,
    Room,
    ScriptedListener,
    room,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.callbacks import outbox, rows
from tools.backend.campaigns import states
from tools.backend.errors import StoreError
from tools.backend.store import tables
from tools.backend.timing import DAY, HOUR


def devices_of(listener: ScriptedListener) -> list[tuple[str, str]]:
    """What the listener accepted of devices, in order."""
    return [
        (item["deviceId"], item["status"])
        for arrival in listener.accepted
        for item in arrival.body["deviceList"]
    ]


@rules("BR-129")
@virtual
async def test_changes_of_a_second_are_one_message(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        campaign = made.campaign(devices=3)
        first, second, third = campaign.members.values()
        start = made.runtime.clock.now()
        made.change(first, states.DATA)
        await made.runtime.clock.sleep(0.9)
        made.change(second, states.DATA)
        assert not listener.arrivals
        await made.runtime.clock.sleep(1)
        made.change(third, states.DATA)
        await made.runtime.clock.sleep(3)
        sizes = [len(arrival.body["deviceList"]) for arrival in listener.arrivals]
        assert sizes == [2, 1]
        assert 1.0 <= listener.arrivals[0].when - start < 1.1
        assert await made.rows(tables.outbox_changes) == []


@virtual
async def test_a_status_that_changes_twice_is_told_twice(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        [member] = made.campaign(devices=1).members.values()
        made.change(member, states.DATA)
        made.change(member, states.PENDING)
        await made.runtime.clock.sleep(2)
        told = [(member.device_id, states.DATA), (member.device_id, states.PENDING)]
        assert devices_of(listener) == told


@virtual
async def test_without_a_listener_nothing_is_written(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db", register=(1, 2)) as (made, listener):
        campaign = made.campaign(3, devices=1)
        before = made.writer.changes
        made.move(campaign, states.QUEUED)
        for member in campaign.members.values():
            made.change(member, states.DATA)
        await made.writer.flushed()
        assert made.writer.changes == before
        await made.runtime.clock.sleep(5)
        assert await made.rows(tables.outbox) == []
        assert not listener.arrivals


@virtual
async def test_another_account_hears_nothing(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        campaign = made.campaign(devices=1)
        campaign.account = "0000000000-00009"
        made.move(campaign, states.QUEUED)
        await made.runtime.clock.sleep(5)
        assert not listener.arrivals


@virtual
async def test_the_row_is_written_before_the_change_that_it_tells(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, _listener):
        campaign = made.campaign(devices=2_500)
        order: list[int] = []

        def look(connection: Any) -> None:
            query = text("SELECT count(*) FROM outbox_changes")
            order.append(connection.execute(query).scalar_one())

        wanted = 0
        for member in campaign.members.values():
            wanted += 1
            made.change(member, states.DATA)
            made.writer.submit_nowait(look)
        await made.writer.flushed()
        # At the place of each change its own row was there already.
        assert all(found >= place + 1 for place, found in enumerate(order))
        assert len(order) == wanted


@virtual
async def test_a_pass_over_a_fleet_is_told_in_thousands(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        campaign = made.campaign(devices=12_345)
        for member in campaign.members.values():
            made.change(member, states.PENDING)
        made.move(campaign, states.ENDED)
        await made.runtime.clock.sleep(5)
        sizes = [len(arrival.body["deviceList"]) for arrival in listener.arrivals]
        assert sizes == [1000] * 12 + [345, 0]
        assert listener.arrivals[-1].body["status"] == states.ENDED
        ids = [device_id for device_id, _status in devices_of(listener)]
        assert ids == [member.device_id for member in campaign.members.values()]
        assert await made.rows(tables.outbox_changes) == []


@rules("BR-130")
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.0, 1.02, 1.5])
@pytest.mark.parametrize("answer", [200, 503])
@virtual
async def test_killed_after_a_change(tmp_path: Path, delay: float, answer: int) -> None:
    """Whenever it is killed, what was committed is delivered by the next run."""
    listener = ScriptedListener(answer=answer)
    async with Runtime.in_memory() as runtime:
        listener.now = runtime.clock.now
        former = Room(runtime, tmp_path / "b.db", "immediate", listener)
        await former.start()
        await former.callbacks.register(ACCOUNT, 3, URL)
        campaign = former.campaign(devices=5)
        former.move(campaign, states.SCHEDULED)
        for member in campaign.members.values():
            former.change(member, states.PENDING)
        # The change itself would be submitted here; from its commit on it must be told.
        await former.writer.flushed()
        await runtime.clock.sleep(delay)
        await former.kill()
        listener.answer = 200
        later = Room(runtime, tmp_path / "b.db", "immediate", listener)
        later.campaigns.update(former.campaigns)
        await later.start()
        await runtime.clock.sleep(30)
        told = {device_id for device_id, _status in devices_of(listener)}
        assert told == {member.device_id for member in campaign.members.values()}
        assert await later.rows(tables.outbox_changes) == []
        assert not later.callbacks.pending()
        # A message that was told twice has one number.
        by_number = {arrival.number: arrival.body for arrival in listener.arrivals}
        assert all(by_number[arrival.number] == arrival.body for arrival in listener.arrivals)
        await later.stop()


@virtual
async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    listener = ScriptedListener()
    async with Runtime.in_memory() as runtime:
        for _ in range(3):
            made = Room(runtime, tmp_path / "b.db", "immediate", listener)
            await made.start()
            await made.callbacks.register(ACCOUNT, 3, URL)
            made.move(made.campaign(), states.QUEUED)
            await runtime.clock.sleep(2)
            await made.stop()
    assert [arrival.number for arrival in listener.arrivals] == [1, 2, 3]


@virtual
async def test_a_store_that_refuses_messages_gets_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(tmp_path / "b.db") as (made, listener):
        broken = True
        insert = outbox._insert

        def refuse(*values: Any) -> None:
            if broken:
                raise StoreError("the disk is full")
            insert(*values)

        monkeypatch.setattr(outbox, "_insert", refuse)
        campaign = made.campaign(devices=2)
        first, second = campaign.members.values()
        made.change(first, states.DATA)
        await made.runtime.clock.sleep(8)
        made.change(second, states.DATA)
        made.change(first, states.PENDING)
        await made.runtime.clock.sleep(8)
        assert not listener.arrivals
        assert len(await made.rows(tables.outbox_changes)) == 3
        broken = False
        await made.runtime.clock.sleep(8)
        assert devices_of(listener) == [
            (first.device_id, states.DATA),
            (second.device_id, states.DATA),
            (first.device_id, states.PENDING),
        ]
        assert await made.rows(tables.outbox_changes) == []


@virtual
async def test_changes_that_the_store_refuses_are_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(tmp_path / "b.db") as (made, listener):

        def refuse(*_values: Any) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(rows, "add_changes", refuse)
        made.move(made.campaign(), states.QUEUED)
        await made.runtime.clock.sleep(3)
        assert [arrival.body["status"] for arrival in listener.arrivals] == [states.QUEUED]


@virtual
async def test_a_block_that_is_rolled_back_is_written_again(tmp_path: Path) -> None:
    """A neighbour in the same transaction fails: the rows are there once."""
    async with room(tmp_path / "b.db") as (made, _listener):

        def fail(_connection: Any) -> None:
            raise StoreError("no")

        campaign = made.campaign(devices=3)
        for member in campaign.members.values():
            made.change(member, states.DATA)
        made.writer.submit_nowait(fail, lambda _result, _error: None)
        found = await made.rows(tables.outbox_changes)
        assert [row["number"] for row in found] == [1, 2, 3]


# -- v1: its devices are published once a day ---


def told_of(listener: ScriptedListener) -> list[tuple[str, list[tuple[str, str]]]]:
    found = []
    for arrival in listener.accepted:
        progress = arrival.body["upgradeProgress"]
        if progress:
            items = [(item["deviceId"], item["status"]) for item in progress["deviceList"]]
            found.append((progress["status"], items))
    return found


@virtual
async def test_v1_devices_are_told_at_the_publication(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db", "documented", register=(1,)) as (made, listener):
        campaign = made.campaign(1, devices=2)
        first, second = campaign.members.values()
        clock = made.runtime.clock
        await clock.sleep(10 * HOUR)  # the run begins at midnight
        made.move(campaign, states.QUEUED)
        made.change(first, states.PENDING)
        made.change(first, states.FAILED, "Firmware update failed to device")
        made.change(second, states.PENDING)
        await clock.sleep(2)
        # The upgrade itself is live.
        assert [arrival.body["type"] for arrival in listener.arrivals] == [
            "upgradeScheduled",
            "upgradeProgress",
        ]
        assert told_of(listener) == [("Queued", [])]
        assert len(await made.rows(tables.outbox_changes)) == 3
        made.move(campaign, states.SCHEDULED)
        await clock.sleep(2 * HOUR)
        # The status that nobody was shown is not told.
        items = [(first.device_id, "UpgradeFailed"), (second.device_id, "UpgradePending")]
        assert told_of(listener)[1:] == [("InProgress", []), ("InProgress", items)]
        assert 12 * HOUR <= listener.arrivals[-1].when < 12 * HOUR + 1
        assert await made.rows(tables.outbox_changes) == []
        made.change(second, states.SUCCESS)
        await clock.sleep(DAY - 0.1 * HOUR)
        assert len(told_of(listener)) == 3
        await clock.sleep(0.2 * HOUR)
        assert told_of(listener)[3:] == [("InProgress", [(second.device_id, "UpgradeSuccess")])]


@virtual
async def test_v1_devices_wait_for_their_publication_over_a_restart(tmp_path: Path) -> None:
    listener = ScriptedListener()
    async with Runtime.in_memory() as runtime:
        listener.now = runtime.clock.now
        former = Room(runtime, tmp_path / "b.db", "documented", listener)
        await former.start()
        await former.callbacks.register(ACCOUNT, 1, URL)
        campaign = former.campaign(1, devices=1)
        [member] = campaign.members.values()
        former.change(member, states.SUCCESS)
        await former.writer.flushed()
        await former.kill()
        await runtime.clock.sleep(HOUR)
        later = Room(runtime, tmp_path / "b.db", "documented", listener)
        later.campaigns.update(former.campaigns)
        await later.start()
        await runtime.clock.sleep(10 * HOUR)
        assert not listener.arrivals
        await runtime.clock.sleep(2 * HOUR)
        assert [items for _status, items in told_of(listener)] == [
            [(member.device_id, "UpgradeSuccess")]
        ]
        await later.stop()


@rules("BR-037")
@virtual
async def test_v1_tells_at_once_where_everything_is_published_at_once(tmp_path: Path) -> None:
    async with room(tmp_path / "b.db", register=(1,)) as (made, listener):
        campaign = made.campaign(1, devices=1)
        [member] = campaign.members.values()
        made.move(campaign, states.SCHEDULED)
        made.change(member, states.SUCCESS)
        made.move(campaign, states.ENDED)
        await made.runtime.clock.sleep(2)
        items = [(member.device_id, "UpgradeSuccess")]
        assert told_of(listener) == [("InProgress", items), ("Finished", [])]
