"""What only a server can do: end sessions, restart, crash, refuse, and lose an answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.engine import make_url

from agent.runtime.runtime import Runtime
from tests.interop.postgres.cluster import ESCAPED, PASSWORD, Cluster
from tests.tools.backend.process import BackendProcess, ok
from tests.tools.backend.virtual import CONFIG
from tools.backend.backend import Backend
from tools.backend.config import BackendConfig
from tools.backend.errors import StoreError, StoreUnavailable
from tools.backend.store import rows, tables
from tools.backend.store.database import parse_database
from tools.backend.store.postgres import PostgresRunner
from tools.backend.store.schema import open_schema
from tools.backend.store.writer import Writer

LIMIT = 60.0
NewDatabase = Callable[[], str]


@asynccontextmanager
async def writing(url: str, durable: str = "normal") -> AsyncIterator[Writer]:
    writer = Writer(PostgresRunner(parse_database(url), durable))
    await writer.open(open_schema)
    try:
        yield writer
    finally:
        await writer.stop()


def put(name: str, value: float = 1.0) -> Callable[[Connection], None]:
    return lambda connection: rows.put_counter(connection, name, value)


def end_sessions(cluster: Cluster, url: str) -> None:
    name = make_url(url).username
    cluster.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
    )


# -- who may come in ---


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(ESCAPED, "wrong" + ESCAPED), ("user\\d+:", "nobody:"), ("/postgres$", "/nowhere")],
)
async def test_a_refusal_says_who_and_never_the_password(
    new_database: NewDatabase, pattern: str, replacement: str
) -> None:
    url = re.sub(pattern, replacement, new_database())
    async with Runtime.real(seed=1) as runtime:
        backend = Backend(runtime, BackendConfig(db=url))
        with pytest.raises(StoreError, match="cannot use postgresql.*refuses us") as caught:
            await backend.start()
    shown: BaseException | None = caught.value
    while shown is not None:
        assert PASSWORD not in str(shown) and ESCAPED not in str(shown)
        shown = None if shown.__suppress_context__ else shown.__cause__ or shown.__context__


async def test_nobody_there_is_a_clear_error(new_database: NewDatabase) -> None:
    url = re.sub(r":\d+/", ":1/", new_database())
    async with Runtime.real(seed=1) as runtime:
        with pytest.raises(StoreUnavailable, match="127.0.0.1:1/postgres cannot be reached"):
            async with writing(url):
                pass
        with pytest.raises(StoreError, match="postgresql.* cannot be reached"):
            await Backend(runtime, BackendConfig(db=url)).start()


async def test_an_unknown_parameter_is_named_as_one(new_database: NewDatabase) -> None:
    with pytest.raises(StoreError, match="a parameter that asyncpg does not know"):
        async with writing(new_database() + "?colour=blue"):
            pass


async def test_an_encoding_that_cannot_hold_everything(
    cluster: Cluster, new_database: NewDatabase
) -> None:
    cluster.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match="the encoding LATIN1, not UTF8"):
            async with writing(re.sub("/postgres$", "/latin", new_database())):
                pass
    finally:
        cluster.execute("DROP DATABASE latin WITH (FORCE)")


async def test_a_second_backend_is_refused_and_a_killed_one_forgotten(
    new_database: NewDatabase, on_postgres: Callable[[str], str], tmp_path: Any
) -> None:
    process = BackendProcess(tmp_path)
    await process.start()
    async with Runtime.real(seed=1) as runtime:
        second = Backend(runtime, BackendConfig(db=process.database))
        with pytest.raises(StoreError, match="another backend uses this database"):
            await second.start()
        process.kill()
        third = Backend(runtime, BackendConfig(db=process.database))
        await third.start()
        await third.stop()
    async with writing(new_database()), writing(new_database()):
        pass  # two schemas of one database are two stores


@pytest.mark.parametrize(("durable", "level"), [("normal", "off"), ("full", "on")])
async def test_full_overrules_a_server_that_answers_early(
    cluster: Cluster, new_database: NewDatabase, durable: str, level: str
) -> None:
    url = new_database()
    cluster.execute(f"ALTER ROLE {make_url(url).username} SET synchronous_commit = off")
    async with writing(url, durable) as writer:
        query = text("SHOW synchronous_commit")
        assert await writer.read(lambda c: c.execute(query).scalar_one()) == level


# -- what it stores ---


async def test_values_that_sqlite_takes_are_taken(new_database: NewDatabase) -> None:
    def work(connection: Connection) -> Any:
        row = dict.fromkeys((c.name for c in tables.devices.columns), "x" * 5000)
        row |= {"name": "a\0b\ud800", "created": 1, "updated": 2.5, "upgraded": None}
        connection.execute(rows.PUT_DEVICE, row)
        report = {"device": "d", "campaign": "c", "seq": 2**40, "time": 1.0}
        connection.execute(rows.PUT_REPORT, [report, {**report, "seq": 2**41}])
        seq = connection.execute(select(tables.reports.c.seq)).scalar_one()
        return connection.execute(select(tables.devices.c.name)).scalar_one(), seq

    async with writing(new_database()) as writer:
        assert await writer.submit(work) == ("a\ufffdb\ufffd", 2**41)


async def test_a_refused_change_repeats_no_value(new_database: NewDatabase) -> None:
    secret = "a-secret-of-a-row"
    account = {
        **{column.name: 1 for column in tables.accounts.columns},
        "name": "a",
        "secret": secret,
        "purchase_type": "t",
        "omadm_mode": "m",
        "pilot_waived": True,
        "v3_abort": True,
    }
    async with writing(new_database()) as writer:
        for spoilt in ({"licence_count": None}, {"licence_count": secret}):
            with pytest.raises(StoreError, match="refused a change") as caught:
                await writer.submit(
                    lambda c, row={**account, **spoilt}: c.execute(insert(tables.accounts), row)
                )
            assert secret not in str(caught.value)


# -- what becomes of a lost connection ---


async def test_an_ended_session_is_seen_by_nobody(
    cluster: Cluster, new_database: NewDatabase
) -> None:
    url = new_database()
    async with writing(url) as writer:
        for number in range(5):
            end_sessions(cluster, url)
            await writer.submit(put("n", float(number)))
        assert await writer.read(lambda c: rows.counter(c, "n")) == 4.0


async def test_a_session_that_ends_within_a_batch(new_database: NewDatabase) -> None:
    calls: list[int] = []

    def work(connection: Connection) -> None:
        calls.append(1)
        rows.put_counter(connection, "n", float(len(calls)))
        if len(calls) == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with writing(new_database()) as writer:
        await writer.submit(work)
        assert len(calls) == 2
        assert await writer.read(lambda c: rows.counter(c, "n")) == 2.0


class Relay:
    """Between us and the server; can lose the answer to a COMMIT, and the connection with it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cut = False
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, server = await asyncio.open_connection("127.0.0.1", self.port)
        lost = asyncio.Event()

        async def onwards() -> None:
            while data := await reader.read(65536):
                if self.cut and b"COMMIT" in data:
                    self.cut = False
                    lost.set()
                server.write(data)
            server.close()

        async def back() -> None:
            while data := await upstream.read(65536):
                if lost.is_set():
                    self.cuts += 1
                    break
                writer.write(data)
            writer.close()

        tasks = [asyncio.create_task(onwards()), asyncio.create_task(back())]
        await asyncio.wait(tasks)
        server.close()


async def test_a_commit_whose_answer_is_lost_happens_once(
    cluster: Cluster, new_database: NewDatabase
) -> None:
    relay = Relay(cluster.port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = new_database().replace(f":{cluster.port}/", f":{port}/") + "?ssl=disable"
        async with writing(url) as writer:
            await writer.submit(put("n", 0.0))
            once = update(tables.counters).values(value=tables.counters.c.value + 1)
            for _ in range(3):
                relay.cut = True
                await asyncio.wait_for(writer.submit(lambda c: c.execute(once) and None), LIMIT)
            assert relay.cuts == 3
            assert await writer.read(lambda c: rows.counter(c, "n")) == 3.0


async def test_a_backend_that_was_replaced_writes_no_more(
    cluster: Cluster, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.backend.store.writer.PATIENCE", 0.2)
    url = new_database()
    async with Runtime.real(seed=1) as runtime:
        first, second = (Backend(runtime, BackendConfig(db=url)) for _ in range(2))
        await first.start()
        end_sessions(cluster, url)
        await second.start()
        with pytest.raises(StoreUnavailable, match="another backend uses this database"):
            await first.load_devices([{"name": "one"}])
        await second.stop()
        with pytest.raises(StoreUnavailable, match="another backend has used"):
            await first.load_devices([{"name": "two"}])
        await first.stop()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_restarts_is_waited_for(
    cluster: Cluster, new_database: NewDatabase, mode: str
) -> None:
    async with writing(new_database()) as writer:
        row = {"device": "d", "client_type": "", "result": "", "failure": "", "time": 1.0}
        for _ in range(500):
            writer.submit_row(rows.ADD_CHECK_IN, row)
        await writer.flushed()
        await asyncio.to_thread(cluster.stop, mode)
        changes = [asyncio.ensure_future(writer.submit(put(f"n{n}"))) for n in range(20)]
        writer.submit_row(rows.ADD_CHECK_IN, row)
        await asyncio.sleep(0)
        await asyncio.to_thread(cluster.start)
        await asyncio.wait_for(asyncio.gather(*changes), LIMIT)
        count = select(func.count()).select_from(tables.check_ins)
        assert await writer.read(lambda c: c.execute(count).scalar_one()) == 501


async def test_without_its_database_a_backend_answers_503_and_recovers(
    cluster: Cluster, on_postgres: Callable[[str], str], tmp_path: Any
) -> None:
    process = BackendProcess(tmp_path)
    await process.start()
    await asyncio.to_thread(cluster.stop)
    up = False
    try:
        async with process.login() as api, process.administrator() as admin:
            listed = f"/api/fota/v3/devices/{process.ready['account']['name']}"
            load = {"json": [{"deviceId": "350000000000000"}], "timeout": LIMIT}
            refused = await admin.put("/admin/devices", **load)
            assert refused.status_code == 503, refused.text
            assert refused.json()["errorCode"] == "SERVICE_UNAVAILABLE"
            await ok(await api.get(listed, timeout=LIMIT))  # what is in memory is answered
            await asyncio.to_thread(cluster.start)
            up = True
            async with asyncio.timeout(LIMIT):
                while (await admin.put("/admin/devices", **load)).status_code != 200:
                    await asyncio.sleep(0.1)
        assert process.interrupt() == 0
        shown = (tmp_path / "stderr").read_text()
        assert PASSWORD not in shown and ESCAPED not in shown and "Traceback" not in shown
    finally:
        if not up:
            cluster.start()
        process.kill()


async def test_stopped_without_its_database(
    cluster: Cluster, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.backend.store.writer.PATIENCE", 0.2)
    url = new_database()
    async with Runtime.real(seed=1) as runtime:
        backend = Backend(runtime, BackendConfig(db=url, timing=CONFIG.timing))
        await backend.start()
        await asyncio.to_thread(cluster.stop)
        try:
            backend.writer.submit_row(rows.PUT_COUNTER, {"name": "x", "value": 1.0})
            with pytest.raises(StoreError, match="could not be stored"):
                await asyncio.wait_for(backend.stop(), LIMIT)
        finally:
            await asyncio.to_thread(cluster.start)
