"""The licences of one account in memory: who has one, who gives his back first. No store, no time.

An account subscribes to a number of licences; each is assigned to a device. While more are assigned
than subscribed, those in excess go: first those on the cancellation list, in its order, then the
others, the oldest assignment first [documented]. A licence whose device is being upgraded stays
until that is over, so `excess` names it again and again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED

MAX_MARKS = 1_000
"""Ends of pages that are remembered; a client that pages needs one."""

PAGING = 20 * 60.0
"""Seconds in which somebody who turns pages by their index asks for the next one: his session ends
after so many idle ones. Later on an index is a number again, and nothing else; ours."""

PURCHASE_TYPES = (EVENT_BILLED, MONTHLY_BILLED)


class Verdict(enum.Enum):
    """What became of one device in a request about licences."""

    ASSIGNED = "assigned"
    PREEXISTING = "preexisting"
    REMOVED = "removed"
    UNKNOWN_DEVICE = "unknown device"
    POOL_EMPTY = "pool empty"
    NOT_LICENSED = "not licensed"
    UPGRADED = "upgraded since the assignment"
    IN_PROGRESS = "upgrade in progress"


# Tuples and not dataclasses: a request makes a hundred thousand of them while others wait.
class Licence(NamedTuple):
    """A licence and the device that has it; a row of the store."""

    device_id: str
    account: str
    number: int
    """Its place in the order of assignment."""
    assigned: float


class Candidate(NamedTuple):
    """An entry of the cancellation list; a row of the store."""

    device_id: str
    account: str
    number: int
    """Its place in the order of the list."""
    listed: float


# Asked for every device of a campaign.
@lru_cache(maxsize=64)
def purchase_types(text: str) -> frozenset[str]:
    """The single types of a comma list, none of an empty one. Raises ValueError for a type that the
    API does not have."""
    found = frozenset(part.strip() for part in text.split(",")) if text else frozenset()
    unknown = sorted(found - set(PURCHASE_TYPES))
    if unknown:
        raise ValueError(f"unknown purchase type {unknown[0][:64]!r}")
    return found


class Pool:
    """The licences of one account."""

    __slots__ = ("account", "cap", "ends", "going", "held", "listed", "marks")

    def __init__(self, account: str) -> None:
        self.account = account
        self.held: dict[str, Licence] = {}
        """By device id, in the order of assignment."""
        self.listed: dict[str, Candidate] = {}
        """The cancellation list, in its order."""
        self.going = 0
        """Licences that were taken out and are in the store still: nobody else may have them."""
        self.cap: int | None = None
        """What the number of licences is about to become; holds while that is being stored."""
        self.marks: dict[str, int] = {}
        self.ends: dict[int, tuple[int, float]] = {}
        """By the index of the next page: the number of the last licence, and when that was."""

    def total(self, subscribed: int) -> int:
        """How many licences there may be at most."""
        return subscribed if self.cap is None else min(subscribed, self.cap)

    def free(self, subscribed: int) -> int:
        """How many licences can be assigned."""
        return max(0, self.total(subscribed) - len(self.held) - self.going)

    # -- changes ---

    def add(self, licences: Iterable[Licence]) -> None:
        """Take in new licences."""
        for licence in licences:
            self.held[licence.device_id] = licence

    def drop(self, licences: Iterable[Licence]) -> None:
        """Take out licences, where they are still the same."""
        for licence in licences:
            if self.held.get(licence.device_id) is licence:
                del self.held[licence.device_id]

    def put_back(self, licences: Iterable[Licence]) -> None:
        """Undo `drop`, but for devices that have another licence by now."""
        for licence in licences:
            self.held.setdefault(licence.device_id, licence)
        self.held = dict(sorted(self.held.items(), key=lambda item: item[1].number))

    # -- order ---

    def _release_order(self) -> Iterator[Licence]:
        for device_id in self.listed:
            licence = self.held.get(device_id)
            if licence is not None:
                yield licence
        for device_id, licence in self.held.items():
            if device_id not in self.listed:
                yield licence

    def excess(self, subscribed: int) -> Iterator[Licence]:
        """The licences that go because there are too many, in their order."""
        return islice(self._release_order(), max(0, len(self.held) - subscribed))

    # -- pages ---

    def after(self, last_seen: str) -> Iterator[Licence]:
        """The licences that were assigned after that of `last_seen`, in order; KeyError for a
        device that ended no page and has no licence."""
        mark = self.marks.get(last_seen)
        number = self.held[last_seen].number if mark is None else mark
        return (licence for licence in self.held.values() if licence.number > number)

    def from_index(self, index: int, now: float) -> Iterator[Licence]:
        """The licences from a zero-based number on, in order; IndexError for one beyond them. Where
        a page has just ended before `index`, those after its last one: the numbers of the others
        shift when a licence of that page goes."""
        end = self.ends.get(index)
        if end is not None and now - end[1] <= PAGING:
            return (licence for licence in self.held.values() if licence.number > end[0])
        if index and index >= len(self.held):
            raise IndexError(index)
        return islice(self.held.values(), index, None)

    def mark_index(self, index: int, licence: Licence, now: float) -> None:
        """Remember that a page has ended before `index`, with that licence."""
        self.ends.pop(index, None)
        while len(self.ends) >= MAX_MARKS:
            del self.ends[next(iter(self.ends))]
        self.ends[index] = (licence.number, now)

    def mark(self, licence: Licence) -> None:
        """Remember the end of a page: the next one begins there, even when the device has no
        licence by then, or another one."""
        self.marks.pop(licence.device_id, None)
        while len(self.marks) >= MAX_MARKS:
            del self.marks[next(iter(self.marks))]
        self.marks[licence.device_id] = licence.number
