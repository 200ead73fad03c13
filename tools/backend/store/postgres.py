"""What runs a transaction on PostgreSQL, and finds the database again when it was lost.

SQLAlchemy's asyncio engine on asyncpg, in a thread with a loop of its own: a batch crosses threads
once, and its many answers do not wait for their turn in the loop that devices keep busy.

There is one connection. It holds an advisory lock, so that no second backend uses the database: all
decisions come from memory, and another one's writes would never be seen. A commit whose answer was
lost with the connection is looked up by its transaction id, so that nothing is written twice and
nothing that was written is reported as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, TextClause, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from tools.backend.errors import StoreError, StoreUnavailable
from tools.backend.store import rows, tables
from tools.backend.store.database import Database
from tools.backend.store.runners import Work, words

T = TypeVar("T")

LOCK = 0x666F7461
"""Our advisory lock; any number that nobody else in that database uses ("fota" in ASCII)."""

LOCK_PATIENCE = 5.0
"""Seconds to wait for the lock: the server may take a moment to notice that its holder died."""

LOCK_RETRY = 0.1

CONNECT_TIMEOUT = 10.0

STATEMENT_TIMEOUT = 120.0
"""Seconds: a connection that is silent for so long in one statement is given up."""

# SQLSTATE classes and codes of a server that cannot serve now: connection exceptions, insufficient
# resources, shutdown, crash and start-up (PostgreSQL manual, appendix A).
UNAVAILABLE = ("08", "53", "57P")

_TRY_LOCK = text("SELECT pg_try_advisory_lock(:key, hashtext(current_schema()))")
_IDENTITY = text(
    "SELECT pid, backend_start::text, current_setting('server_encoding')"
    " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
_END_FORMER = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid = :pid AND backend_start::text = :began AND usename = current_user"
)
_TRANSACTION = text("SELECT txid_current_if_assigned()")
_STATUS = text("SELECT txid_status(:id)")


class PostgresRunner:
    """One connection to a PostgreSQL database, in a thread of its own."""

    inline = False

    def __init__(self, database: Database, durable: str = "normal") -> None:
        assert database.url is not None
        self._database = database
        # Compiling a plan costs more than our statements take.
        settings = {"application_name": "fotilla", "jit": "off"}
        if durable == "full":
            settings["synchronous_commit"] = "on"
        try:
            self._driver = create_async_engine(
                database.url,
                poolclass=NullPool,
                connect_args={
                    "timeout": CONNECT_TIMEOUT,
                    "command_timeout": STATEMENT_TIMEOUT,
                    "server_settings": settings,
                },
            )
        except Exception as error:
            raise StoreError(f"{database} is no URL for asyncpg: {type(error).__name__}") from None
        self._connection: AsyncConnection | None = None
        self._identity: tuple[int, str] | None = None
        self._transaction: int | None = None
        self._start: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="backend-writer", daemon=True)
        self._thread.start()

    # -- the thread ---

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _there(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it in the database's loop."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return await asyncio.wrap_future(future)

    async def run(self, work: Work) -> Any:
        return await self._there(self._run(work))

    def run_inline(self, work: Work) -> Any:
        raise StoreError("this runner has a thread of its own")

    async def recover(self) -> bool:
        return await self._there(self._recover())

    async def close(self) -> None:
        await self._there(self._close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _close(self) -> None:
        await self._drop()
        await self._driver.dispose()

    # -- transactions, in the thread ---

    async def _run(self, work: Work) -> Any:
        connection = self._connection or await self._connect()
        self._transaction = None
        try:
            async with connection.begin():
                result = await connection.run_sync(self._work, work)
                self._transaction = (await connection.execute(_TRANSACTION)).scalar_one()
            self._transaction = None
        except Exception as error:
            lost = self._lost(connection, error)
            if lost is None:
                self._transaction = None
                raise
            await self._drop()
            raise lost from None
        return result

    def _work(self, connection: Connection, work: Work) -> Any:
        result = work(connection)
        if self._start is None:
            self._start = _start_of(connection)
        return result

    async def _recover(self) -> bool:
        connection = self._connection or await self._connect()
        try:
            async with connection.begin():
                if await connection.run_sync(_start_of) != self._start:
                    raise StoreUnavailable(
                        f"another backend has used {self._database} meanwhile: start this one again"
                    )
                committed = await self._was_committed(connection)
        except StoreUnavailable:
            raise
        except Exception as error:
            await self._drop()
            raise self._unavailable(error) from None
        self._transaction = None
        return committed

    async def _was_committed(self, connection: AsyncConnection) -> bool:
        if self._transaction is None:
            return False
        status = (await connection.execute(_STATUS, {"id": self._transaction})).scalar_one()
        if status == "in progress":
            raise StoreUnavailable(f"{self._database} has not ended the former session yet")
        return bool(status == "committed")

    # -- the connection ---

    async def _connect(self) -> AsyncConnection:
        """Connect and become the only backend there. Raises StoreError."""
        try:
            connection = await self._driver.connect()
        except Exception as error:
            if _state(error).startswith("28") or _state(error) == "3D000":
                # A wrong password, no such role, no such database: waiting changes nothing.
                raise StoreError(f"{self._database} refuses us: {words(error)}") from None
            if isinstance(error, TypeError):
                raise StoreError(
                    f"{self._database}: the URL has a parameter that asyncpg does not know"
                ) from None
            raise self._unavailable(error) from None
        try:
            await self._prepare(connection)
        except BaseException as error:
            with contextlib.suppress(Exception):
                await connection.close()
            if isinstance(error, StoreError) or not isinstance(error, Exception):
                raise
            raise self._unavailable(error) from None
        self._connection = connection
        return connection

    async def _prepare(self, connection: AsyncConnection) -> None:
        async with connection.begin():
            pid, began, encoding = (await connection.execute(_IDENTITY)).one()
            if encoding != "UTF8":
                raise StoreError(f"{self._database} has the encoding {encoding}, not UTF8")
            if self._identity is not None:
                # Our own former session may not know yet that we are gone, and holds the lock.
                former = dict(zip(("pid", "began"), self._identity, strict=True))
                await connection.execute(_END_FORMER, former)
        deadline = self._loop.time() + LOCK_PATIENCE
        while not await self._execute(connection, _TRY_LOCK, {"key": LOCK}):
            if self._loop.time() >= deadline:
                raise StoreError("another backend uses this database")
            await asyncio.sleep(LOCK_RETRY)
        self._identity = (pid, began)

    @staticmethod
    async def _execute(connection: AsyncConnection, query: TextClause, row: dict[str, Any]) -> Any:
        async with connection.begin():
            return (await connection.execute(query, row)).scalar_one()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()

    # -- errors ---

    def _lost(self, connection: AsyncConnection, error: Exception) -> StoreUnavailable | None:
        """The error to raise when the database was lost; None for a change that was refused."""
        if isinstance(error, StoreError):
            return error if isinstance(error, StoreUnavailable) else None
        lost = (
            connection.invalidated
            or isinstance(error, OSError | TimeoutError)
            or (isinstance(error, DBAPIError) and error.connection_invalidated)
            or _state(error).startswith(UNAVAILABLE)
        )
        return self._unavailable(error) if lost else None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._database} cannot be reached: {words(error)}")


def _start_of(connection: Connection) -> float | None:
    """Which start of a backend this database has seen last."""
    if not inspect(connection).has_table(tables.counters.name):
        return None
    return rows.counter(connection, "starts")


def _state(error: BaseException) -> str:
    """The SQLSTATE of an error, empty without one."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(origin, "sqlstate", None) or "")
