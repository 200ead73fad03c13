"""What runs a transaction on SQLite: in the loop's own thread, or in one for the database alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from tools.backend.errors import StoreError
from tools.backend.store.database import DURABILITIES, MEMORY, Database

Work = Callable[[Connection], Any]

BUSY_TIMEOUT = 5_000
"""Milliseconds: another process that reads the database must not fail our commit at once."""

PAGE_CACHE = 32_768
"""KiB of pages that SQLite keeps in memory, as far as there are so many: 100,000 devices and their
campaign."""

LOG_PAGES = 4_000
"""Pages of 4 KiB in the write-ahead log at which it is copied back."""

BEGIN = "BEGIN IMMEDIATE"


class Runner(Protocol):
    """Runs a function in one transaction; the transaction is committed when it returns."""

    inline: bool

    async def run(self, work: Work) -> Any:
        """Raises StoreUnavailable when the database cannot be reached, and what `work` raises."""

    def run_inline(self, work: Work) -> Any: ...

    async def recover(self) -> bool:
        """Reach the database again after StoreUnavailable; raises it as long as that fails. True
        when the transaction that failed so was committed all the same."""

    async def close(self) -> None: ...


class FileLock:
    """A file beside the database that one backend holds while it has it open.

    The kernel lets go of it when the process ends, however it ends. Not the database's own file:
    SQLite keeps POSIX locks there, which any close of that file in this process would drop."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path) + ".lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises StoreError when another one has it."""
        while self._descriptor is None:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = self._is_named(descriptor)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise StoreError("another backend uses this database") from None
                raise StoreError(f"cannot lock {self._path}: {error.strerror}") from None
            if held:
                self._descriptor = descriptor
            else:  # the former holder removed it between our open and our lock
                os.close(descriptor)

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self._descriptor is not None:
            os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None


def _engine(path: str, durable: str, connect_args: dict[str, Any]) -> Engine:
    """One connection, because one writer is all there is."""
    if path != MEMORY:
        # Readable by its owner only, before SQLite makes it: there are secrets in it.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(f"cannot open the database {path}: {error.strerror}") from error
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args=connect_args)

    lock = None if path == MEMORY else FileLock(path)

    def connected(connection: Any, _record: Any) -> None:
        # SQLAlchemy begins and ends the transactions; the driver would leave DDL out of them.
        connection.isolation_level = None
        try:
            prepare(connection.cursor())
        except sqlite3.Error as error:
            # SQLAlchemy does not take the connection, and never closes it.
            if lock is not None:
                lock.release()
            raise StoreError(str(error)) from None

    def prepare(cursor: sqlite3.Cursor) -> None:
        # WAL with NORMAL survives kill -9 at any point; only a power cut may lose the last commits.
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable == 'full' else 'NORMAL'}")
        # A transaction of a large campaign has more pages than SQLite's 2 MiB, and would be written
        # and read again piece by piece; for the same reason the log is copied back less often.
        cursor.execute(f"PRAGMA cache_size=-{PAGE_CACHE}")
        cursor.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
        cursor.close()

    def begin(connection: Connection) -> None:
        # Past SQLAlchemy, which takes longer for these two words than SQLite does.
        driver: Any = connection.connection.driver_connection
        driver.execute(BEGIN)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    if lock is not None:
        event.listen(engine, "do_connect", lambda *_arguments: lock.acquire())
        event.listen(engine, "close", lambda *_arguments: lock.release())
    return engine


class SyncRunner:
    """A sync engine in the caller's thread."""

    inline = True

    def __init__(self, path: str, durable: str = "normal") -> None:
        self._engine = _engine(path, durable, {})
        # Held open, and always in a transaction as far as SQLAlchemy knows: to fetch it from the
        # pool, to begin and to commit costs more there than a small commit does.
        self._connection: Connection | None = None
        self._driver: Any = None

    async def run(self, work: Work) -> Any:
        return self.run_inline(work)

    def run_inline(self, work: Work) -> Any:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._engine.connect()
            self._driver = connection.connection.driver_connection
            connection.begin()
        else:
            self._driver.execute(BEGIN)
        try:
            result = work(connection)
            self._driver.execute("COMMIT")
        except BaseException:
            self._driver.rollback()
            raise
        return result

    async def recover(self) -> bool:
        return False

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class ThreadRunner:
    """A sync engine in one thread of its own.

    One crossing of threads for a whole batch. The async engine crosses several times for each
    statement, and every crossing waits for its turn in a loop that devices keep busy."""

    inline = False

    def __init__(self, path: str, durable: str = "normal") -> None:
        # Made in one thread, used in another.
        self._engine = _engine(path, durable, {"check_same_thread": False})
        self._thread = ThreadPoolExecutor(1, "backend-writer")

    async def run(self, work: Work) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def run_inline(self, work: Work) -> Any:
        raise StoreError("this runner has a thread of its own")

    async def recover(self) -> bool:
        return False

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _run(self, work: Work) -> Any:
        with self._engine.begin() as connection:
            return work(connection)


def words(error: BaseException) -> str:
    """What the database said, without the details of a PostgreSQL server: they repeat whole rows.
    What its driver says of values that it cannot encode repeats them too, so only the kind of such
    an error is told."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, sqlite3.Error):
        return str(origin)
    origin = getattr(origin, "__cause__", None) or origin
    if isinstance(origin, OSError) and not isinstance(origin, TimeoutError):
        return origin.strerror or str(origin)
    return str(vars(origin).get("message") or type(origin).__name__)


def open_runner(database: Database, *, virtual: bool, durable: str = "normal") -> Runner:
    """The runner for a database. Raises StoreError, also where virtual time cannot have it."""
    if durable not in DURABILITIES:
        raise StoreError(f"durable is one of {', '.join(DURABILITIES)}, not {durable!r}")
    if database.url is None:
        return (SyncRunner if virtual else ThreadRunner)(database.path, durable)
    if virtual:
        raise StoreError(
            "virtual time needs an SQLite database: an answer of a server would arrive at no "
            "instant of it"
        )
    # Its driver is not imported by those who have no use for it.
    from tools.backend.store.postgres import PostgresRunner

    return PostgresRunner(database, durable)
