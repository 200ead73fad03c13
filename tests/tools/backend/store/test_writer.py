"""Group commit: order, isolation of failures, both runners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from agent.runtime.clock import run_virtual
from tests.tools.backend.rules_marker import rules
from tools.backend.errors import StoreError
from tools.backend.store import rows as store
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
