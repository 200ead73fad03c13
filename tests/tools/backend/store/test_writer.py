"""Group commit: order, isolation of failures, both runners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Executable,
    Float,
    Integer,
    MetaData,
    Table,
    bindparam,
    delete,
    select,
    text,
    update,
)

from agent.runtime.clock import run_virtual
from tests.tools.backend.rules_marker import rules
from tools.backend.errors import StoreError
from tools.backend.store import rows as store
from tools.backend.store import writer as writer_module
from tools.backend.store.database import MEMORY
from tools.backend.store.runners import SyncRunner, ThreadRunner
from tools.backend.store.schema import open_schema
from tools.backend.store.writer import Writer


@pytest.fixture(params=[ThreadRunner, SyncRunner])
async def writer(request: pytest.FixtureRequest) -> AsyncIterator[Writer]:
    writer = Writer(request.param(MEMORY))
    writer.start()
    await writer.submit(open_schema)
    yield writer
    await writer.stop()


@rules("BR-167")
async def test_what_arrives_together_is_one_commit(writer: Writer) -> None:
    before = writer.commits
    order: list[int] = []
    for number in range(50):
        row = {"name": f"n{number}", "value": float(number)}
        writer.submit_row(
            store.PUT_COUNTER, row, lambda _result, _error, number=number: order.append(number)
        )
    await writer.flushed()
    assert order == list(range(50))
    assert writer.commits == before + 1
    assert await writer.read(lambda connection: store.counter(connection, "n49")) == 49.0


async def test_a_failure_costs_only_its_own_caller(writer: Writer) -> None:
    def bad(connection: Connection) -> None:
        store.put_counter(connection, "spoiled", 1.0)
        connection.execute(text("insert into nowhere values (1)"))

    good = writer.submit(lambda connection: store.put_counter(connection, "good", 1.0))
    results = await asyncio.gather(good, writer.submit(bad), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], StoreError)
    assert await writer.read(lambda connection: store.counter(connection, "good")) == 1.0
    assert await writer.read(lambda connection: store.counter(connection, "spoiled")) is None


async def test_a_callback_may_submit_again(writer: Writer) -> None:
    done = asyncio.Event()

    def again(_result: object, _error: Exception | None) -> None:
        writer.submit_nowait(lambda _connection: None, lambda _result, _error: done.set())

    writer.submit_nowait(lambda _connection: None, again)
    await done.wait()


async def test_a_stopped_writer_says_so() -> None:
    writer = Writer(ThreadRunner(MEMORY))
    writer.start()
    await writer.stop()
    with pytest.raises(StoreError, match="stopping"):
        await writer.submit(lambda _connection: None)


def test_virtual_time_uses_no_thread() -> None:
    async def main() -> float | None:
        writer = Writer(SyncRunner(MEMORY))
        await writer.submit(open_schema)
        await writer.submit(lambda connection: store.put_counter(connection, "here", 2.0))
        found = await writer.read(lambda connection: store.counter(connection, "here"))
        await writer.stop()
        return found

    assert run_virtual(main()) == 2.0


def test_a_database_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(StoreError, match="/nowhere/at/all.db"):
        SyncRunner("/nowhere/at/all.db")


# -- rows of one statement go together ---

SHEETS = [
    Table(
        name,
        MetaData(),
        Column("key", Integer, primary_key=True),
        Column("value", Float),
    )
    for name in ("left", "right")
]
STATEMENTS: list[Executable] = [
    statement
    for sheet in SHEETS
    for statement in (
        store.upsert(sheet, "key"),
        update(sheet)
        .where(sheet.c.key == bindparam("key"))
        .values(value=sheet.c.value * 2 + bindparam("value", type_=Float)),
        delete(sheet).where(sheet.c.key == bindparam("key")),
    )
]
MOVE = text("INSERT INTO right SELECT key + 100, value FROM left WHERE key = :key")

Step = tuple[int, int, float]

steps = st.lists(
    st.tuples(st.integers(0, len(STATEMENTS)), st.integers(0, 3), st.integers(0, 9).map(float)),
    max_size=40,
)


def change(step: Step) -> tuple[Executable, dict[str, Any]]:
    """A statement and its row; the last of them is one that names no table."""
    which, key, value = step
    if which == len(STATEMENTS):
        return MOVE, {"key": key}
    is_deletion = which % 3 == 2
    return STATEMENTS[which], {"key": key} if is_deletion else {"key": key, "value": value}


def left_by(steps: Sequence[Step], *, together: bool) -> list[list[tuple[int, float]]]:
    """What is in both tables after the steps: handed in together, or one after the other."""

    async def main() -> list[list[tuple[int, float]]]:
        writer = Writer(SyncRunner(MEMORY))
        for sheet in SHEETS:
            await writer.submit(sheet.create)
        for step in steps:
            writer.submit_row(*change(step))
            if not together:
                await writer.flushed()
        await writer.flushed()

        def read(connection: Connection) -> list[list[tuple[int, float]]]:
            return [
                [(key, value) for key, value in connection.execute(select(sheet).order_by("key"))]
                for sheet in SHEETS
            ]

        found: list[list[tuple[int, float]]] = await writer.read(read)
        await writer.stop()
        return found

    return run_virtual(main())


@given(steps)
def test_together_or_one_by_one_is_the_same(steps: list[Step]) -> None:
    # A copy that is there already fails alone in both cases, as it takes its batch apart.
    assert left_by(steps, together=True) == left_by(steps, together=False)


async def test_rows_of_two_tables_in_turns_are_two_statements(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []

    def counted(connection: Connection, statement: Executable, rows: Sequence[Any]) -> None:
        groups.append(len(rows))
        store.execute_rows(connection, statement, rows)

    for sheet in SHEETS:
        await writer.submit(sheet.create)
    monkeypatch.setattr(writer_module, "execute_rows", counted)
    for key in range(20):
        for sheet in (0, 3):
            writer.submit_row(STATEMENTS[sheet], {"key": key, "value": 1.0})
    await writer.flushed()
    assert groups == [20, 20]
