"""A database that an earlier release wrote is migrated when it is opened, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.store.schemas import contents, differences, old_database
from tests.tools.backend.virtual import CONFIG, virtual
from tools.backend.backend import Backend
from tools.backend.campaigns import states
from tools.backend.config import Listen
from tools.backend.store.runners import SyncRunner
from tools.backend.store.schema import open_schema

ADDRESS = ("10.0.0.1", 5683)
LIMIT = 60.0

KILLED = """
import os, signal, sys
from sqlalchemy import event
from tools.backend.backend import Backend
from tools.backend.store.runners import SyncRunner
from tools.backend.store.schema import open_schema
path, after = sys.argv[1], int(sys.argv[2])
runner = SyncRunner(path)
left = [after]
def executed(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(runner._engine, "after_cursor_execute", executed)
runner.run_inline(open_schema)
"""


async def test_every_row_is_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old_database(path)
    runner = SyncRunner(str(path))
    before = await runner.run(contents)
    await runner.run(open_schema)
    after = await runner.run(contents)
    assert await runner.run(differences) == []
    await runner.close()
    before["counters"] = [row for row in before["counters"] if row["name"] != "schema"]
    # Since when histories are kept: the last instant of the former program.
    clock = next(row["value"] for row in before["counters"] if row["name"] == "clock")
    after["counters"].remove({"name": "history", "value": clock})
    assert {row["trail"] for row in after["campaigns"] + after["campaign_devices"]} == {""}
    for name, rows in before.items():
        shown = [{key: row[key] for key in rows[0]} for row in after[name]] if rows else after[name]
        assert sorted(shown, key=repr) == rows, name
    assert {name: len(rows) for name, rows in before.items() if rows} == {
        "counters": 3,
        "accounts": 1,
        "devices": 7,
        "registrations": 2,
        "contents": 2,
        "packages": 3,
        "files": 1,
        "campaigns": 4,
        "campaign_devices": 6,
        "reports": 1,
        "check_ins": 2,
        "logging": 1,
        "logs": 1,
        "dm_accounts": 2,
        "attachments": 1,
        "short_messages": 2,
    }


@virtual
async def test_the_backend_goes_on_where_the_former_one_was(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old_database(path)
    async with Runtime.in_memory(seed=3) as runtime:
        # The device that was told to install before the backend was killed.
        meter = ScriptedDevice(runtime, ADDRESS, "urn:imei:350000000000002")
        meter.version, meter.result = meter.new_version, 1
        backend = Backend(runtime, replace(CONFIG, db=str(path), listen={"coap": Listen(ADDRESS)}))
        await backend.start()
        assert backend.account.secret == "fixture-secret-0"
        believed = {name: belief.verdict for name, belief in backend.beliefs().items()}
        assert believed["urn:imei:350000000000001"] == "updated"
        titles = {item.title: item for item in backend.engine.book.campaigns.values()}
        assert titles["done"].status == states.ENDED
        [downloading] = titles["software"].members.values()
        assert (downloading.status, downloading.attempts) == ("UpgradePending", 1)
        assert len(titles["oma-dm"].members) == 2
        assert backend.operator.waiting("IMEI:350000000000021") > 0
        assert len(backend.logs.logging(backend.config.account)) == 1
        assert 0 < backend.page.sampler.since <= backend.time.now()
        assert backend.inventory.by_token(b"fixture-secret-1") is not None
        meter.register()
        while not titles["half way"].members[meter.name].final:
            await runtime.clock.sleep(1)
        assert backend.belief(meter.name).verdict == "updated"
        assert meter.executes == 0
        # What it went through from here on is kept; of before there is nothing.
        gone_through = await backend.engine.trails(meter.name)
        assert [status for _time, status in gone_through[titles["half way"].id]] == [states.SUCCESS]
        meter.close()
        await backend.stop()


@pytest.mark.parametrize("after", [12, 25, 40, 60])
async def test_killed_in_the_middle_it_is_opened_at_the_next_try(
    tmp_path: Path, after: int
) -> None:
    path = tmp_path / "old.db"
    old_database(path)
    with sqlite3.connect(path) as connection:
        before = list(connection.iterdump())
    connection.close()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(path), str(after), stderr=asyncio.subprocess.PIPE
    )
    _out, error = await asyncio.wait_for(process.communicate(), LIMIT)
    assert process.returncode == -signal.SIGKILL, error.decode()
    with sqlite3.connect(path) as connection:
        assert list(connection.iterdump()) == before
    connection.close()
    runner = SyncRunner(str(path))
    await runner.run(open_schema)
    assert await runner.run(differences) == []
    await runner.close()
