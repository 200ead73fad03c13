"""kill -9 at five points drawn from seeds, on SQLite and on PostgreSQL: other points on each, so
that every phase is met in one run of both. Fifty are in `make sweeps`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.backend.killing.points import Point
from tests.tools.backend.killing.run import kill_at
from tests.tools.backend.killing.stores import PostgresStore, SqliteStore


@pytest.mark.parametrize("seed", range(5))
async def test_on_sqlite(tmp_path: Path, seed: int) -> None:
    await kill_at(Point.drawn(seed), tmp_path, SqliteStore(tmp_path / "b.db"))


@pytest.mark.parametrize("seed", range(5, 10))
async def test_on_postgresql(tmp_path: Path, seed: int, new_database: Callable[[], str]) -> None:
    await kill_at(Point.drawn(seed), tmp_path, PostgresStore(new_database()))
