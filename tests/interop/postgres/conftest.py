"""The backend's own tests, on PostgreSQL.

Nothing is copied: the modules here import tests of `tests/tools/backend`, and the fixture below
puts a fresh schema of a private cluster where those would have an SQLite file. A file that several
backends open one after the other is one schema. In virtual time the loop stands still while
PostgreSQL works, which a product must not do, and a test may.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.interop.postgres.cluster import Cluster
from tests.tools.backend.process import BackendProcess
from tools.backend.store.database import MEMORY, Database, parse_database
from tools.backend.store.postgres import PostgresRunner
from tools.backend.store.runners import Runner, Work


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # Not in pytest's folders: every run of pytest closes those to other users again.
    with tempfile.TemporaryDirectory(prefix="fotilla-postgres-") as folder:
        made = Cluster(Path(folder))
        made.create()
        made.start()
        yield made
        made.stop("immediate")


@pytest.fixture
def new_database(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Gives the URL of a schema that nobody has used yet."""
    names: list[str] = []

    def make() -> str:
        names.append(f"user{next(_numbers)}")
        return cluster.add_user(names[-1])

    yield make
    for name in names:
        cluster.drop_user(name)


_numbers = count()


@pytest.fixture
def on_postgres(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Every backend of the test is on PostgreSQL; gives the URL in the place of a file."""
    urls: dict[str, str] = {}

    def url_of(path: str) -> str:
        if path == MEMORY:
            return new_database()
        if path not in urls:
            urls[path] = new_database()
        return urls[path]

    def open_runner(database: Database, *, virtual: bool, durable: str = "normal") -> Runner:
        there = database if database.url is not None else parse_database(url_of(database.path))
        return (InlineRunner if virtual else PostgresRunner)(there, durable)

    monkeypatch.setattr("tools.backend.backend.open_runner", open_runner)
    monkeypatch.setattr(
        BackendProcess, "database", property(lambda self: url_of(str(self.folder / "b.db")))
    )
    return url_of


class InlineRunner(PostgresRunner):
    """Holds up the loop for as long as a transaction takes."""

    inline = True

    def run_inline(self, work: Work) -> Any:
        return asyncio.run_coroutine_threadsafe(self._run(work), self._loop).result()

    async def run(self, work: Work) -> Any:
        return self.run_inline(work)

    @property
    def _engine(self) -> InlineRunner:
        """What a test disposes of to let go of the database without a word."""
        return self

    def dispose(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._end()

    async def close(self) -> None:
        self.dispose()
