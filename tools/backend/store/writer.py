"""Group commit: whatever arrives together becomes durable in one transaction.

Every change is a plain function over a synchronous `Connection`, or a statement with one row.
`submit_nowait` queues it and returns; `on_committed` is called after the commit, in the order of
submission, so that an acknowledgement can leave from there without a Task of its own. The queue is
drained by one of two runners:

- `ThreadRunner`: an engine in a thread of its own, for real and scaled time. One Task for the life
  of the backend; while a batch is being committed the next one gathers.
- `SyncRunner`: a sync engine in the loop's own thread, for virtual time, where no thread may end
  anywhere among the callbacks of one instant.

A function that raises spoils its batch; the batch is rolled back and run again one by one, so that
only the culprit's caller gets the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Executable, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from tools.backend.errors import StoreError

T = TypeVar("T")
Work = Callable[[Connection], Any]
OnCommitted = Callable[[Any, Exception | None], None]

MAX_BATCH = 4_000
"""Changes in one transaction: bounds how long the first of a burst waits for the last."""

MEMORY = ":memory:"


@dataclass(slots=True)
class _Change:
    """One queued change: a function, or a statement with one row of parameters."""

    work: Work | None
    statement: Executable | None
    row: Mapping[str, Any] | None
    on_committed: OnCommitted | None
    result: Any = None

    def run(self, connection: Connection) -> None:
        if self.work is not None:
            self.result = self.work(connection)
        elif self.statement is not None:
            connection.execute(self.statement, self.row)


def _run_batch(connection: Connection, batch: Sequence[_Change]) -> None:
    """Run a batch in order, neighbours with one statement as one executemany."""
    index = 0
    while index < len(batch):
        change = batch[index]
        if change.statement is None:
            change.run(connection)
            index += 1
            continue
        rows: list[Mapping[str, Any]] = []
        while index < len(batch) and batch[index].statement is change.statement:
            rows.append(batch[index].row or {})
            index += 1
        connection.execute(change.statement, rows)


class Runner(Protocol):
    """Runs a function in one transaction; the transaction is committed when it returns."""

    inline: bool

    async def run(self, work: Work) -> Any: ...

    def run_inline(self, work: Work) -> Any: ...

    async def close(self) -> None: ...


def _prepare_file(path: str) -> None:
    """Make the file of the database readable by its owner only, before SQLite makes it."""
    if path == MEMORY:
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"cannot open the database {path}: {error.strerror}") from error


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # WAL with NORMAL survives kill -9 at any point; only a power cut may lose the last commits.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    # Another process that reads the database must not fail our commit at once.
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


class SyncRunner:
    """A sync engine in the caller's thread."""

    inline = True

    def __init__(self, path: str) -> None:
        _prepare_file(path)
        self._engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool)
        event.listen(self._engine, "connect", _set_pragmas)

    async def run(self, work: Work) -> Any:
        return self.run_inline(work)

    def run_inline(self, work: Work) -> Any:
        with self._engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        self._engine.dispose()


class ThreadRunner:
    """A sync engine in one thread of its own.

    One crossing of threads for a whole batch. The async engine crosses several times for each
    statement, and every crossing waits for its turn in a loop that devices keep busy."""

    inline = False

    def __init__(self, path: str) -> None:
        _prepare_file(path)
        # One connection, because one writer is all there is; made in one thread, used in another.
        self._engine = create_engine(
            f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        event.listen(self._engine, "connect", _set_pragmas)
        self._thread = ThreadPoolExecutor(1, "backend-writer")

    async def run(self, work: Work) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def run_inline(self, work: Work) -> Any:
        raise StoreError("this runner has a thread of its own")

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _run(self, work: Work) -> Any:
        with self._engine.begin() as connection:
            return work(connection)


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
        self._closed = False
        self.commits = 0
        self.changes = 0

    def start(self) -> None:
        """Begin to drain the queue."""
        if not self._runner.inline and self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._drain(), name="backend-writer"
            )

    async def stop(self) -> None:
        """Commit what is queued, then close the database."""
        if self._closed:
            return
        await self.flushed()
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._runner.close()

    async def flushed(self) -> None:
        """Return when nothing is queued or under way."""
        await self._idle.wait()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query in the order of the changes: it sees all that was submitted before it."""
        return await self.submit(work)

    async def submit(self, work: Callable[[Connection], T]) -> T:
        """Queue `work` and return its result after the commit."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def release(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._push(_Change(work, None, None, release))
        return await future

    def submit_nowait(self, work: Work, on_committed: OnCommitted | None = None) -> None:
        """Queue `work`; `on_committed(result, error)` is called after the commit."""
        self._push(_Change(work, None, None, on_committed))

    def submit_row(
        self,
        statement: Executable,
        row: Mapping[str, Any],
        on_committed: OnCommitted | None = None,
    ) -> None:
        """Queue one row for `statement`; neighbours with the same statement share one call."""
        self._push(_Change(None, statement, row, on_committed))

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
                self._runner.run_inline(change.run)
            except Exception as caught:
                error = _as_store_error(caught)
            self._release([change], error)

    async def _drain(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._take()
                try:
                    await self._runner.run(partial(self._all, batch))
                except Exception:
                    await self._one_by_one(batch)
                else:
                    self._release(batch, None)
            self._idle.set()

    async def _one_by_one(self, batch: Sequence[_Change]) -> None:
        for change in batch:
            error: Exception | None = None
            try:
                await self._runner.run(change.run)
            except Exception as caught:
                error = _as_store_error(caught)
            self._release([change], error)

    def _all(self, batch: Sequence[_Change], connection: Connection) -> None:
        _run_batch(connection, batch)
        if self._before_commit is not None:
            self._before_commit(connection)

    def _take(self) -> list[_Change]:
        batch = self._queue[:MAX_BATCH]
        del self._queue[:MAX_BATCH]
        return batch

    def _release(self, batch: Sequence[_Change], error: Exception | None) -> None:
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
    if isinstance(error, DBAPIError):
        # The driver's own words; SQLAlchemy adds the statement and its values, which may be
        # whole packages and secrets.
        return StoreError(f"the database refused a change: {error.orig}")
    if isinstance(error, SQLAlchemyError):
        return StoreError(f"the database refused a change: {type(error).__name__}")
    return error
