"""Places in cells: how many devices of a cell may be upgraded at once, over all campaigns.

A campaign that names many devices of one cell is in effect split into parts that follow each other
[documented: `several smaller campaigns`]; nobody manages the parts. A device whose cell is not
known (a foreign client, a real board) needs no place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.backend.campaigns.records import Member

__all__ = ["CellPlaces"]


class CellPlaces:
    """Who has a place in a cell, and who waits for one."""

    def __init__(self, cell_of: Callable[[str], str], limit_of: Callable[[str], int]) -> None:
        """`cell_of` takes a device id and gives the serving cell, empty when it is unknown."""
        self._cell_of = cell_of
        self._limit_of = limit_of
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[Member]] = {}

    def active(self, cell: str) -> int:
        """How many places of a cell are taken."""
        return self._taken.get(cell, 0)

    def waiting(self, cell: str) -> int:
        """How many devices wait for a place in a cell."""
        return sum(member.waits == cell for member in self._waiting.get(cell, ()))

    def take(self, member: Member) -> bool:
        """Give a device a place where it is now; False when there is none."""
        cell = self._cell_of(member.device_id)
        if member.cell and member.cell == cell:
            return True
        if cell and self.active(cell) >= self._limit_of(cell):
            return False
        self.release(member)
        member.waits = ""
        if cell:
            member.cell = cell
            self._taken[cell] = self.active(cell) + 1
        return True

    def hold(self, member: Member) -> None:
        """A device whose attempt is under way keeps its place over a restart, free or not."""
        member.cell = self._cell_of(member.device_id)
        if member.cell:
            self._taken[member.cell] = self.active(member.cell) + 1

    def release(self, member: Member) -> str:
        """The device needs its place no more; returns the cell."""
        cell, member.cell = member.cell, ""
        if cell:
            self._taken[cell] -= 1
            if not self._taken[cell]:
                del self._taken[cell]
        return cell

    def wait(self, member: Member) -> int:
        """Queue a device for a place in its cell; returns how many wait before it."""
        self.release(member)
        cell = self._cell_of(member.device_id)
        queue = self._waiting.setdefault(cell, deque())
        if member.waits != cell:
            member.waits = cell
            queue.append(member)
        return len(queue) - 1

    def rounds(self, cell: str, before: int) -> int:
        """How many slots pass until somebody with so many before it has its turn; 1 at least."""
        return 1 + before // max(1, self._limit_of(cell))

    def next(self, cell: str, may_begin: Callable[[Member], bool]) -> Iterator[Member]:
        """Those whose turn has come, as many as there are places free; each waits no more. Whoever
        may not begin now keeps its place in the queue."""
        queue = self._waiting.get(cell)
        if queue is None:
            return
        free = self._limit_of(cell) - self.active(cell)
        kept: list[Member] = []
        while queue and free > 0:
            member = queue.popleft()
            if member.waits != cell:
                continue  # it has moved, or its campaign is over
            if not may_begin(member):
                kept.append(member)
                continue
            member.waits = ""
            free -= 1
            yield member
        queue.extendleft(reversed(kept))
        if not queue:
            del self._waiting[cell]
