"""The database that these tests are about: SQLite here; `tests/interop/postgres` has the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest


@pytest.fixture
def new_database(tmp_path: Path) -> Callable[[], str]:
    """Gives the name of a database that nobody has used yet."""
    numbers = count()
    return lambda: str(tmp_path / f"{next(numbers)}.db")
