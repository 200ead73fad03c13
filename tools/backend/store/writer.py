"""Group commit: whatever arrives together becomes durable in one transaction.

Every change is a plain function over a synchronous `Connection`, or a statement with one row.
`submit_nowait` queues it and returns; `on_committed` is called after the commit, in the order of
submission, so that an acknowledgement can leave from there without a Task of its own. The queue is
drained by a runner:

- `ThreadRunner`: SQLite in a thread of its own, for real and scaled time. One Task for the life of
  the backend; while a batch is being committed the next one gathers. `PostgresRunner` is the same
  for PostgreSQL.
- `SyncRunner`: SQLite in the loop's own thread, for virtual time, where no thread may end
  anywhere among the callbacks of one instant.

A function that raises spoils its batch; the batch is rolled back and run again one by one, so that
only the culprit's caller gets the error.

A database that is lost is waited for. Whoever asked for a change is refused when it does not come
back soon; but a change that is in force in memory already, and that nobody would repeat, is kept
until it can be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tools.backend.errors import StoreError, StoreUnavailable
from tools.backend.store.runners import Runner, Work, words
from tools.backend.store.statements import execute_rows

T = TypeVar("T")
OnCommitted = Callable[[Any, Exception | None], None]

MAX_BATCH = 4_000
"""Changes in one transaction: bounds how long the first of a burst waits for the last."""

PATIENCE = 5.0
"""Seconds that a change waits for a database that was lost: a server that is restarted is back by
then, and who waits for an answer has not given up yet."""

FIRST_RETRY = 0.05
LAST_RETRY = 1.0
"""Seconds between two attempts to reach it again, doubling; also how long a change that comes in
the meantime waits for its refusal."""


@dataclass(slots=True)
class _Change:
    """One queued change: a function, or a statement with one row of parameters."""

    work: Work | None
    statement: Executable | None
    row: Mapping[str, Any] | None
    on_committed: OnCommitted | None
    kept: bool
    """Nobody would repeat it: it waits for a database that was lost, however long that takes."""
    reads: bool = False
    """It changes nothing."""
    result: Any = None

    def run(self, connection: Connection) -> None:
        if self.work is not None:
            self.result = self.work(connection)
        elif self.statement is not None:
            execute_rows(connection, self.statement, [self.row or {}])


def _run_batch(connection: Connection, batch: Sequence[_Change]) -> None:
    """Run a batch; rows of one statement go together as one executemany.

    A statement may pass those of other tables, as no table refers to another one, but none of its
    own table, and no function: so every row is written in the order in which it was handed in."""
    waiting: dict[Executable, list[Mapping[str, Any]]] = {}
    tables: dict[Any, Executable] = {}

    def flush() -> None:
        for statement, rows in waiting.items():
            execute_rows(connection, statement, rows)
        waiting.clear()
        tables.clear()

    for change in batch:
        statement, table = change.statement, getattr(change.statement, "table", None)
        if statement is None or table is None:
            flush()
            change.run(connection)
            continue
        if tables.setdefault(table, statement) is not statement:
            flush()
            tables[table] = statement
        waiting.setdefault(statement, []).append(change.row or {})
    flush()


class Writer:
    """The one queue of changes in front of the database."""

    def __init__(self, runner: Runner, *, before_commit: Work | None = None) -> None:
        self._runner = runner
        self._before_commit = before_commit
        self._queue: list[_Change] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._scheduled = False
        self._stopping = False
        self._closed = False
        self._lost = 0
        self.commits = 0
        self.changes = 0
        self.commit_seconds = 0.0
        """How long the transactions took, by the loop's clock."""
        self.unavailable = ""
        """Why the database cannot be reached; empty while it can."""

    @property
    def queued(self) -> int:
        """Changes that no transaction has yet."""
        return len(self._queue)

    async def open(self, work: Callable[[Connection], T]) -> T:
        """Run the function that makes the database ready, and begin to drain the queue. Raises
        StoreError."""
        try:
            result: T = await self._runner.run(work)
        except Exception as error:
            raise _as_store_error(error) from None
        self.start()
        return result

    def start(self) -> None:
        """Begin to drain the queue."""
        if not self._runner.inline and self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._drain(), name="backend-writer"
            )

    async def stop(self) -> None:
        """Commit what is queued, then close the database. Raises StoreError when the database was
        lost and changes with it."""
        if self._closed:
            return
        self._stopping = True
        if self._task is not None or self._runner.inline:
            await self.flushed()
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._runner.close()
        if self._lost:
            raise StoreError(f"{self._lost} changes could not be stored: {self.unavailable}")

    async def flushed(self) -> None:
        """Return when nothing is queued or under way."""
        await self._idle.wait()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query in the order of the changes: it sees all that was submitted before it."""
        return await self._submit(work, reads=True)

    async def submit(self, work: Callable[[Connection], T]) -> T:
        """Queue `work` and return its result after the commit."""
        return await self._submit(work, reads=False)

    async def _submit(self, work: Callable[[Connection], T], reads: bool) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def release(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._push(_Change(work, None, None, release, kept=False, reads=reads))
        return await future

    def submit_nowait(
        self, work: Work, on_committed: OnCommitted | None = None, *, keep: bool = False
    ) -> None:
        """Queue `work`; `on_committed(result, error)` is called after the commit. A change that is
        to be kept, or that nobody waits for, outlasts the loss of the database."""
        self._push(_Change(work, None, None, on_committed, keep or on_committed is None))

    def submit_row(
        self,
        statement: Executable,
        row: Mapping[str, Any],
        on_committed: OnCommitted | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Queue one row for `statement`; neighbours with the same statement share one call. For the
        rest see `submit_nowait`."""
        self._push(_Change(None, statement, row, on_committed, keep or on_committed is None))

    def _push(self, change: _Change) -> None:
        if self._closed:
            if change.on_committed is not None:
                change.on_committed(None, StoreError("the backend is stopping"))
            return
        self._queue.append(change)
        self._idle.clear()
        if self._runner.inline:
            # At the end of this instant, so that what arrived together is one transaction.
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._flush_inline)
        else:
            self._wake.set()

    def _flush_inline(self) -> None:
        self._scheduled = False
        while self._queue:
            batch = self._take()
            try:
                self._runner.run_inline(partial(self._all, batch))
                self._release(batch, None)
            except Exception:
                self._one_by_one_inline(batch)
        self._idle.set()

    def _one_by_one_inline(self, batch: Sequence[_Change]) -> None:
        for change in batch:
            error: Exception | None = None
            try:
                self._runner.run_inline(partial(self._all, [change]))
            except Exception as caught:
                error = _as_store_error(caught)
            self._release([change], error)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._take()
                began = loop.time()
                try:
                    await self._runner.run(partial(self._all, batch))
                except StoreUnavailable as error:
                    await self._outlast(batch, error)
                except Exception:
                    await self._one_by_one(batch)
                else:
                    self.commit_seconds += loop.time() - began
                    self._release(batch, None)
            self._idle.set()

    async def _one_by_one(self, batch: Sequence[_Change]) -> None:
        for index, change in enumerate(batch):
            error: Exception | None = None
            try:
                await self._runner.run(partial(self._all, [change]))
            except StoreUnavailable as caught:
                self._queue[:0] = batch[index + 1 :]
                await self._outlast([change], caught)
                return
            except Exception as caught:
                error = _as_store_error(caught)
            self._release([change], error)

    async def _outlast(self, batch: Sequence[_Change], error: StoreUnavailable) -> None:
        """Wait until the database is back. The batch that was under way may have been committed all
        the same; otherwise it is queued again, before everything else."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + PATIENCE
        pause = FIRST_RETRY
        while True:
            self.unavailable = str(error)
            try:
                committed = await self._runner.recover()
                break
            except StoreError as caught:
                error = StoreUnavailable(str(caught))
            if loop.time() >= limit:
                batch = self._refuse(batch, error)
                queue, self._queue = self._queue, []
                self._queue[:0] = self._refuse(queue, error)
                if self._stopping:
                    self._lost += len(batch) + len(self._queue)
                    self._queue.clear()
                    return
            # Of the wall clock: the database does not live in the time of the run.
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)
        self.unavailable = ""
        if committed:
            self._release(batch, None)
        else:
            self._queue[:0] = batch

    def _refuse(self, changes: Sequence[_Change], error: StoreUnavailable) -> list[_Change]:
        """Give an error to those who wait; returns what is kept."""
        refused = [change for change in changes if not change.kept]
        if refused:
            self._release(refused, error)
        return [change for change in changes if change.kept]

    def _all(self, batch: Sequence[_Change], connection: Connection) -> None:
        _run_batch(connection, batch)
        if self._before_commit is not None and not all(change.reads for change in batch):
            self._before_commit(connection)

    def _take(self) -> list[_Change]:
        batch = self._queue[:MAX_BATCH]
        del self._queue[:MAX_BATCH]
        return batch

    def _release(self, batch: Sequence[_Change], error: Exception | None) -> None:
        if error is None:
            self.commits += 1
            self.changes += len(batch)
        for change in batch:
            if change.on_committed is None:
                continue
            try:
                change.on_committed(None if error else change.result, error)
            except Exception as caught:
                # One caller's callback must not keep the others from being released.
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a callback after a commit failed", "exception": caught}
                )


def _as_store_error(error: Exception) -> Exception:
    if isinstance(error, DBAPIError | sqlite3.Error):
        # The driver's own words; SQLAlchemy adds the statement and its values, which may be
        # whole packages and secrets.
        return StoreError(f"the database refused a change: {words(error)}")
    if isinstance(error, SQLAlchemyError):
        return StoreError(f"the database refused a change: {type(error).__name__}")
    return error
