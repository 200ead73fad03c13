"""kill -9 at fifty points drawn from seeds. Run by `make sweeps`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.backend.killing.run import kill_at
from tests.tools.backend.killing.stores import SqliteStore


@pytest.mark.parametrize("seed", range(100, 150))
async def test_a_backend_outlives_its_death(tmp_path: Path, seed: int) -> None:
    await kill_at(seed, tmp_path, SqliteStore(tmp_path / "b.db"))
