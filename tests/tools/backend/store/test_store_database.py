"""How a database is named, who may use it, and what is never said about it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Executable, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.schema import CreateTable

from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.store.schemas import tables
from tests.tools.backend.virtual import CONFIG
from tools.backend.backend import Backend, BackendConfig
from tools.backend.errors import StoreError
from tools.backend.serve import ServeOptions
from tools.backend.store import rows
from tools.backend.store.database import MEMORY, parse_database
from tools.backend.store.runners import FileLock, SyncRunner, ThreadRunner, open_runner
from tools.backend.store.types import String
from tools.cli import call

POSTGRES = PGDialect_asyncpg()
LIMIT = 30.0


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("b.db", "b.db"),
        ("/var/b.db", "/var/b.db"),
        ("sqlite:///b.db", "b.db"),
        ("sqlite:////var/b.db", "/var/b.db"),
        ("sqlite://", MEMORY),
        (MEMORY, MEMORY),
    ],
)
def test_an_sqlite_file_is_named(named: str, path: str) -> None:
    database = parse_database(named)
    assert (database.path, database.url, str(database)) == (path, None, path)


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres"])
def test_a_postgresql_database_is_named_without_its_password(scheme: str) -> None:
    named = f"{scheme}://me:hid%2Fden@[::1]:5433/fota?sslmode=require&passfile=hidden"
    database = parse_database(named)
    assert database.url is not None and database.url.password == "hid/den"
    assert database.url.query == {"ssl": "require", "passfile": "hidden"}
    assert str(database) == "postgresql+asyncpg://me@[::1]:5433/fota"
    config, options = BackendConfig(db=named), ServeOptions(db=named)
    for shown in (repr(database), str(database), repr(config), repr(options)):
        assert "hid" not in shown


@pytest.mark.parametrize(
    "named",
    [
        "",
        "mysql://me:hidden@host/db",
        "postgresql:me:hidden@host/db",
        "postgresql://me:hidden@host:port/db",
        "postgresql+psycopg://me:hidden@host/db",
        "sqlite://host/hidden.db",
    ],
)
def test_what_is_no_database_is_refused_without_being_repeated(named: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_database(named)
    assert "hidden" not in str(caught.value)


def test_virtual_time_has_no_postgresql() -> None:
    async def main() -> None:
        async with Runtime.in_memory(seed=1) as runtime:
            await Backend(runtime, replace(CONFIG, db="postgresql://me@host/db")).start()

    with pytest.raises(StoreError, match="virtual time needs an SQLite database"):
        run_virtual(main())


@rules("BR-166")
@pytest.mark.parametrize(("durable", "level"), [("normal", 1), ("full", 2)])
async def test_how_durable_a_commit_is(tmp_path: Path, durable: str, level: int) -> None:
    database = parse_database(str(tmp_path / "b.db"))
    for virtual in (False, True):
        runner = open_runner(database, virtual=virtual, durable=durable)
        found = await runner.run(
            lambda connection: connection.execute(text("PRAGMA synchronous")).scalar_one()
        )
        await runner.close()
        assert found == level
    with pytest.raises(StoreError, match="normal, full"):
        open_runner(database, virtual=False, durable="very")


# -- one backend for each database ---


@pytest.mark.parametrize("runner", [SyncRunner, ThreadRunner])
async def test_a_second_backend_is_refused(
    tmp_path: Path, runner: type[SyncRunner] | type[ThreadRunner]
) -> None:
    path = tmp_path / "b.db"
    (tmp_path / "link.db").symlink_to(path)
    first = runner(str(path))
    await first.run(lambda connection: connection.execute(text("CREATE TABLE t (a)")))
    for name in (path, tmp_path / "link.db"):
        async with Runtime.real(seed=1) as runtime:
            backend = Backend(runtime, replace(CONFIG, db=str(name)))
            with pytest.raises(StoreError, match=f"{name}: another backend uses this database"):
                await backend.start()
    lock = tmp_path / "b.db.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    await first.close()
    assert not lock.exists()
    second = runner(str(path))
    assert await second.run(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
    await second.close()


async def test_the_lock_of_a_killed_backend_is_free(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    program = (
        "import sys, time\n"
        "from tools.backend.store.runners import FileLock\n"
        "FileLock(sys.argv[1]).acquire()\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"held\n"
    lock = FileLock(str(path))
    with pytest.raises(StoreError, match="another backend"):
        lock.acquire()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    lock.acquire()
    lock.release()


def test_a_lock_file_that_was_removed_in_between_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.db"
    lock = FileLock(str(path))
    opened = os.open
    calls: list[int] = []

    def removed(name: str, flags: int, mode: int) -> int:
        descriptor = opened(name, flags, mode)
        calls.append(descriptor)
        if len(calls) == 1:
            os.unlink(name)
        return descriptor

    monkeypatch.setattr("tools.backend.store.runners.os.open", removed)
    lock.acquire()
    monkeypatch.undo()
    assert len(calls) == 2
    with pytest.raises(StoreError, match="another backend"):
        FileLock(str(path)).acquire()
    lock.release()


# -- both databases take the same ---


def test_every_column_takes_any_text_and_64_bits_on_both() -> None:
    for table in tables.metadata.sorted_tables:
        for column in table.columns:
            name = f"{table.name}.{column.name}"
            assert type(column.type).__module__ == String.__module__ or not isinstance(
                column.type.python_type(), str
            ), f"{name}: use the String of store/types.py"
        written = str(CreateTable(table).compile(dialect=POSTGRES))
        assert "VARCHAR(" not in written and " INTEGER" not in written and " SERIAL" not in written


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        ("", ""),
        ("plain", "plain"),
        ("grün €", "grün €"),
        ("a\0b", "a\ufffdb"),
        ("\ud800x", "\ufffdx"),
        ("\U0001f4e1\0", "\U0001f4e1\ufffd"),
    ],
)
def test_text_that_postgresql_refuses_is_replaced(given: str | None, stored: str | None) -> None:
    process = String(8).bind_processor(POSTGRES)
    assert process(given) == stored


def test_statements_are_written_for_both() -> None:
    statements = [item for item in vars(rows).values() if isinstance(item, Executable)]
    assert len(statements) > 15
    for statement in statements:
        assert "VALUES" in (text := str(statement.compile(dialect=POSTGRES))) or "WHERE" in text


async def test_an_upsert_inserts_and_replaces(tmp_path: Path) -> None:
    def work(connection: Connection) -> list[float | None]:
        tables.metadata.create_all(connection)
        found = []
        for value in (1.0, 2.0):
            rows.put_counter(connection, "x", value)
            found.append(rows.counter(connection, "x"))
        for body in (b"first", b"second"):
            connection.execute(rows.PUT_CONTENT, {"digest": "d", "body": body})
        assert rows.load_content(connection, "d") == b"first"
        return found

    runner = SyncRunner(str(tmp_path / "b.db"))
    assert await runner.run(work) == [1.0, 2.0]
    await runner.close()


@pytest.mark.parametrize("flag", ["--db", "--database"])
@pytest.mark.parametrize(
    ("more", "said"),
    [([], "kind 'mysql' is not supported"), (["--durable", "very"], "none of normal, full")],
)
def test_the_command_line(
    flag: str, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["backend", flag, "mysql://me:hidden@host/db", *more]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "hidden" not in shown.err + shown.out


@pytest.mark.parametrize("runner", [SyncRunner, ThreadRunner])
async def test_a_file_that_is_no_database_is_left_alone(
    tmp_path: Path, runner: type[SyncRunner] | type[ThreadRunner]
) -> None:
    path = tmp_path / "app.bin"
    path.write_bytes(b"something else" * 100)
    opened = runner(str(path))
    with pytest.raises(StoreError, match="file is not a database"):
        await opened.run(lambda connection: None)
    await opened.close()
    assert path.read_bytes() == b"something else" * 100
    assert [one.name for one in tmp_path.iterdir()] == ["app.bin"]
