"""kill -9 at fifty points drawn from seeds, and many times over. Run by `make sweeps`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.backend.killing.points import Point
from tests.tools.backend.killing.run import FLEET, kill_at
from tests.tools.backend.killing.stores import SqliteStore

BLOWS = 7
SLOWLY = 2.0
"""How fast devices live through all of them: a download that nobody serves is given up in the end,
as it should be, and that is not to happen here."""


@pytest.mark.parametrize("seed", range(100, 150))
async def test_a_backend_outlives_its_death(tmp_path: Path, seed: int) -> None:
    await kill_at(Point.drawn(seed), tmp_path, SqliteStore(tmp_path / "b.db"))


@pytest.mark.parametrize("seed", range(200, 206))
async def test_a_backend_that_dies_again_and_again(tmp_path: Path, seed: int) -> None:
    store = SqliteStore(tmp_path / "b.db")
    await kill_at(Point.many(seed, BLOWS), tmp_path, store, 3 * FLEET, SLOWLY)
