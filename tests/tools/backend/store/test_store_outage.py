"""A database that is lost: who waits is refused in the end, what is in force is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from agent.runtime.runtime import Runtime
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.virtual import CONFIG
from tools.backend.backend import Backend
from tools.backend.errors import StoreError, StoreUnavailable
from tools.backend.store import rows, writer
from tools.backend.store.database import MEMORY
from tools.backend.store.runners import ThreadRunner, Work
from tools.backend.store.schema import open_schema
from tools.backend.store.writer import Writer


class Fragile(ThreadRunner):
    """Can be cut off, also between a commit and its answer."""

    def __init__(self, path: str = MEMORY, durable: str = "normal") -> None:
        super().__init__(path, durable)
        self.gone = False
        self.cut_after_commit = False
        self.committed = False
        self.attempts = 0

    async def run(self, work: Work) -> Any:
        self.committed = False
        self.check()
        result = await super().run(work)
        if self.cut_after_commit:
            self.cut_after_commit, self.gone, self.committed = False, True, True
            self.check()
        return result

    async def recover(self) -> bool:
        self.attempts += 1
        self.check()
        return self.committed

    def check(self) -> None:
        if self.gone:
            raise StoreUnavailable("the database is out for lunch")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(writer, "PATIENCE", 0.05)
    monkeypatch.setattr(writer, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(writer, "LAST_RETRY", 0.02)
    yield


async def opened(runner: Fragile) -> Writer:
    made = Writer(runner)
    await made.open(open_schema)
    return made


def put(name: str) -> Work:
    return lambda connection: rows.put_counter(connection, name, 1.0)


def counters(connection: Connection) -> set[str]:
    return {row.name for row in connection.execute(rows.tables.counters.select())}


async def test_a_short_loss_is_seen_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 60.0)
    runner = Fragile()
    made = await opened(runner)
    runner.gone = True
    change = asyncio.ensure_future(made.submit(put("a")))
    while runner.attempts < 3:
        await asyncio.sleep(0.005)
    assert not change.done() and "lunch" in made.unavailable
    runner.gone = False
    await change
    assert made.unavailable == ""
    assert await made.read(counters) == {"a"}
    await made.stop()


async def test_who_waits_is_refused_and_what_is_in_force_is_kept() -> None:
    runner = Fragile()
    made = await opened(runner)
    runner.gone = True
    told: list[Exception | None] = []
    made.submit_row(rows.PUT_COUNTER, {"name": "kept", "value": 1.0})
    made.submit_row(
        rows.PUT_COUNTER,
        {"name": "in force", "value": 1.0},
        lambda _result, error: told.append(error),
        keep=True,
    )
    for name in ("refused", "refused too"):
        with pytest.raises(StoreUnavailable, match="lunch"):
            await made.submit(put(name))
    assert told == []
    runner.gone = False
    await made.submit(put("later"))
    assert await made.read(counters) == {"kept", "in force", "later"}
    assert told == [None]
    await made.stop()


async def test_a_commit_whose_answer_was_lost_is_not_repeated() -> None:
    runner = Fragile()
    made = await opened(runner)
    runner.cut_after_commit = True
    calls: list[str] = []

    def once(connection: Connection) -> str:
        calls.append("once")
        put("once")(connection)
        return "its result"

    change = asyncio.ensure_future(made.submit(once))
    while not runner.attempts:
        await asyncio.sleep(0.001)
    runner.gone = False
    assert await change == "its result"
    assert calls == ["once"]
    assert await made.read(counters) == {"once"}
    await made.stop()


async def test_order_is_kept_over_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 60.0)
    runner = Fragile()
    made = await opened(runner)
    runner.gone = True
    for number in range(20):
        row = {"name": "last", "value": float(number)}
        made.submit_row(rows.PUT_COUNTER, row)
        await asyncio.sleep(0.002)
    runner.gone = False
    assert await made.read(lambda connection: rows.counter(connection, "last")) == 19.0
    await made.stop()


async def test_a_failure_in_a_batch_and_then_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 60.0)
    runner = Fragile()
    made = await opened(runner)
    lost: list[bool] = []

    def bad(_connection: Connection) -> None:
        if not lost:
            lost.append(True)
        else:
            runner.gone = True
        raise StoreError("no")

    results = asyncio.gather(
        made.submit(put("a")), made.submit(bad), made.submit(put("b")), return_exceptions=True
    )
    while not runner.attempts:
        await asyncio.sleep(0.001)
    runner.gone = False
    first, second, third = await results
    assert (first, third) == (None, None) and isinstance(second, StoreError)
    assert await made.read(counters) == {"a", "b"}
    await made.stop()


async def test_stopping_without_a_database_says_what_is_lost() -> None:
    runner = Fragile()
    made = await opened(runner)
    runner.gone = True
    made.submit_row(rows.PUT_COUNTER, {"name": "kept", "value": 1.0})
    with pytest.raises(StoreError, match="1 changes could not be stored: .*lunch"):
        await made.stop()


async def test_a_request_is_answered_503_and_later_200(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Fragile()
    monkeypatch.setattr("tools.backend.backend.open_runner", lambda *_a, **_k: runner)
    async with Runtime.real(seed=1) as runtime:
        backend = Backend(runtime, CONFIG)
        await backend.start()
        async with logged_in(backend) as api:
            path = f"/api/fota/v2/logging/{backend.account.name}/devices/350000000000000"
            await backend.load_devices([{"deviceId": "350000000000000", "protocol": "HTTP"}])
            runner.gone = True
            refused = await api.put(path)
            assert refused.status_code == 503, refused.text
            assert refused.json()["errorCode"] == "SERVICE_UNAVAILABLE"
            runner.gone = False
            answer: httpx.Response = await api.put(path)
            assert answer.status_code == 200
        await backend.stop()
