"""Capacities of cells: how many of its devices may be upgraded at once.

A cell that nobody has spoken of has the default. A smaller capacity stops nothing that runs: it
holds for whoever comes next.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, bindparam, delete, select

from tools.backend.errors import RequestRefused
from tools.backend.store import tables
from tools.backend.store.rows import upsert
from tools.backend.store.writer import Writer
from tools.backend.timing import CELL_LIMIT

MAX_CELL = 64
"""Characters of a cell's name."""

MAX_CAPACITY = 1_000_000
"""Ours: beyond what any cell serves."""

MAX_CELLS = 100_000
"""Cells with a capacity of their own; each is held in memory."""

PUT_CELL = upsert(tables.cells, "name")
DROP_CELL = delete(tables.cells).where(tables.cells.c.name == bindparam("b_name"))


def check_cell(name: str) -> str:
    """The name of a cell as given, or RequestRefused."""
    if not 0 < len(name) <= MAX_CELL or not name.isprintable():
        raise RequestRefused(f"cell: 1 to {MAX_CELL} printable characters")
    return name


class CellCapacities:
    """The cells whose capacity is not the default."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._capacities: dict[str, int] = {}
        self.on_change: Callable[[str], None] = lambda _cell: None
        """Called when a capacity has changed and that is durable."""

    def load(self, connection: Connection) -> None:
        """Read what a former run left."""
        for row in connection.execute(select(tables.cells)):
            self._capacities[row.name] = row.capacity

    def limit(self, cell: str) -> int:
        """How many devices of a cell may be upgraded at once."""
        return self._capacities.get(cell, CELL_LIMIT)

    def own(self) -> dict[str, int]:
        """The cells that have a capacity of their own."""
        return dict(self._capacities)

    async def set(self, cell: str, capacity: int) -> None:
        """Give a cell a capacity, durably; 0 lets nobody begin there. Raises RequestRefused."""
        check_cell(cell)
        if not 0 <= capacity <= MAX_CAPACITY:
            raise RequestRefused(f"capacity: 0 to {MAX_CAPACITY}")
        if cell not in self._capacities and len(self._capacities) >= MAX_CELLS:
            raise RequestRefused(f"There are {MAX_CELLS} cells already")
        row = {"name": cell, "capacity": capacity}
        await self._writer.submit(lambda connection: connection.execute(PUT_CELL, row))
        self._capacities[cell] = capacity
        self.on_change(cell)

    async def reset(self, cell: str) -> None:
        """Give a cell the default again, durably."""
        row = {"b_name": check_cell(cell)}
        await self._writer.submit(lambda connection: connection.execute(DROP_CELL, row))
        self._capacities.pop(cell, None)
        self.on_change(cell)
