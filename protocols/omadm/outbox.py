"""What a side has to say: commands in order, packed into messages that the other side can take.

Commands wait as drafts, without a CmdID: it is given when a message is packed, from 1. A message
holds as many as fit the other side's MaxMsgSize, and is never larger than that: where a message
could not take even one of them, `NoRoom` is raised and nothing is lost. Results that fit no message
go in several (one per item), and an item that fits none travels as a large object: chunks with
MoreData, Size with the first of them, nothing beside them in their messages but the Status of the
header. Answers that belong `Together` are not divided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from protocols.omadm.model import (
    Alert,
    Command,
    Header,
    Item,
    Message,
    Meta,
    MgmtTree,
    Replace,
    Results,
    Status,
)

__all__ = ["Draft", "Drafts", "NoRoom", "Outbox", "Room", "Together", "item_length"]


@dataclass(frozen=True, slots=True)
class Together:
    """Statuses that one message has to hold, all of them."""

    statuses: tuple[Status, ...]


Draft = Status | Results | Alert | Replace
Drafts = Draft | Together

LONGEST_NUMBER = 99_999
"""Of a CmdID: a message is measured as if each had so many digits."""


AMPLE = 8 << 10
"""MaxMsgSize from which on a frame and a chunk fit in any case: a URI has 1 KiB at most."""
SMALLEST_CHUNK = 64
"""Octets of a large object for which a message is worth being used."""


class NoRoom(Exception):
    """The other side takes no message that is large enough."""


class Outbox:
    """The drafts of one session."""

    __slots__ = ("_carried", "_rest", "_waiting", "limit", "size_of")

    def __init__(
        self,
        size_of: Callable[[Message], int],
        carried: Callable[[Item], Item] = lambda item: item,
    ) -> None:
        """`size_of` tells the octets of a message as it will travel, `carried` makes of an item
        what will: octets are base64 in XML, and it is that which is measured and cut."""
        self.size_of = size_of
        self._carried = carried
        self._waiting: deque[Drafts] = deque()
        self._rest: Results | None = None
        """What has not been sent yet of the large object that is on its way."""
        self.limit: int | None = None
        """MaxMsgSize of the other side; None: it named none."""

    @property
    def waiting(self) -> int:
        """Drafts that were not sent."""
        return len(self._waiting)

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._rest is not None

    def add(self, drafts: Iterable[Drafts]) -> None:
        self._waiting.extend(drafts)

    def clear(self) -> None:
        self._waiting.clear()
        self._rest = None

    def drop_object(self) -> None:
        """The other side will not have the rest of the large object that is on its way."""
        self._rest = None

    def pack(self, header: Header, first: list[Draft], *, final: bool) -> Message:
        """The next message: `first`, then as much of what waits as fits. It says Final if `final`
        and nothing waits any more. Raises NoRoom where `first` leaves no room for anything that
        waits: another message like it would have no more."""
        commands: list[Command] = [_numbered(draft, at) for at, draft in enumerate(first, 1)]
        waiting = self._waiting
        if self._rest is None:
            behind = enumerate(_each(waiting), len(commands) + 1)
            whole = Message(header, (*commands, *(_numbered(one, at) for at, one in behind)), final)
            if self.limit is None or self.size_of(whole) <= self.limit:
                waiting.clear()
                return whole
        self._fill(header, commands)
        return Message(header, tuple(commands), final and not self)

    def _fill(self, header: Header, commands: list[Command]) -> None:
        assert self.limit is not None  # without one everything fits, and no object is cut
        waiting = self._waiting
        empty = self.size_of(Message(header, (), True))
        room = self.limit - self.size_of(Message(header, tuple(commands), True))
        alone = len(commands)
        if room < 0:
            raise NoRoom(f"{self.limit} octets are too few for a header and its Status")

        def cost(drafts: Drafts) -> int:
            numbered = tuple(_numbered(one, LONGEST_NUMBER) for one in _each((drafts,)))
            return self.size_of(Message(header, numbered, True)) - empty

        while self._rest is not None or waiting:
            draft = self._rest or waiting[0]
            size = cost(draft)
            if size <= room:
                if self._rest is None:
                    waiting.popleft()
                self._rest = None
                for one in _each((draft,)):
                    commands.append(_numbered(one, len(commands) + 1))
                room -= size
                continue
            if isinstance(draft, Results | Replace) and len(draft.items) > 1:
                waiting.popleft()
                waiting.extendleft(replace(draft, items=(one,)) for one in reversed(draft.items))
                continue
            if len(commands) > alone:
                return  # the next message has more room
            if isinstance(draft, Results) and self._chunk(draft, commands, room, cost):
                return
            raise NoRoom(f"{self.limit} octets are too few for a {_name(draft)}")

    def _chunk(
        self, draft: Results, commands: list[Command], room: int, cost: Callable[[Draft], int]
    ) -> bool:
        """Send the next chunk of the only item of `draft` and keep the rest; False: it cannot be
        cut, or not so small."""
        item = draft.items[0] if self._rest is not None else self._carried(draft.items[0])
        data = item.data
        if not isinstance(data, str | bytes):
            return False
        meta = item.meta or Meta()
        if self._rest is None:
            meta = replace(meta, size=item_length(item))

        def chunk(head: str | bytes) -> Results:
            return replace(draft, items=(replace(item, meta=meta, data=head, more_data=True),))

        frame = cost(chunk(data[:0]))
        length = min(room - frame, item_length(item) - 1)
        head, rest = _cut(data, max(0, length))
        while head and (size := cost(chunk(head))) > room:
            # Some characters are more than their octets in XML, and all of them have a frame.
            length = min(length - 1, length * (room - frame) // (size - frame))
            head, rest = _cut(data, max(0, length))
        if not head:
            return False
        if self._rest is None:
            self._waiting.popleft()
        after = replace(item, meta=replace(meta, size=None), data=rest)
        self._rest = replace(draft, items=(after,))
        commands.append(_numbered(chunk(head), len(commands) + 1))
        return True


@dataclass(frozen=True, slots=True)
class Room:
    """What the other side takes in one message that begins with `first`."""

    outbox: Outbox
    header: Header
    first: tuple[Draft, ...]

    def takes(self, drafts: Iterable[Draft]) -> bool:
        """Whether these fit, all of them."""
        limit = self.outbox.limit
        if limit is None:
            return True
        commands = tuple(_numbered(one, LONGEST_NUMBER) for one in (*self.first, *drafts))
        return self.outbox.size_of(Message(self.header, commands, True)) <= limit

    def takes_results(self, item: Item) -> bool:
        """Whether the Results of one item can be sent, whole or in chunks that are worth it."""
        limit = self.outbox.limit
        if limit is None:
            return True
        if not isinstance(item.data, MgmtTree):
            if limit >= AMPLE:
                return True
            if item_length(item) > SMALLEST_CHUNK:
                meta = replace(item.meta or Meta(), size=LONGEST_NUMBER)
                item = replace(item, meta=meta, data="x" * SMALLEST_CHUNK, more_data=True)
        return self.takes([Results("", LONGEST_NUMBER, str(LONGEST_NUMBER), (item,))])


def _each(drafts: Iterable[Drafts]) -> Iterator[Draft]:
    for draft in drafts:
        if isinstance(draft, Together):
            yield from draft.statuses
        else:
            yield draft


def _name(draft: Drafts) -> str:
    return "Status" if isinstance(draft, Together) else draft.name


def _numbered(draft: Draft, number: int) -> Draft:
    return replace(draft, cmd_id=str(number))


def _cut(data: str | bytes, length: int) -> tuple[str | bytes, str | bytes]:
    """The first `length` octets, at a character's end, and the rest."""
    if isinstance(data, bytes) or data.isascii():
        return data[:length], data[length:]
    head = data.encode()[:length].decode(errors="ignore")
    return head, data[len(head) :]


def item_length(item: Item) -> int:
    """Octets of an item's data as carried; 0 for a serialised tree, which is never cut."""
    data = item.data
    if isinstance(data, str):
        return len(data.encode())
    return len(data) if isinstance(data, bytes) else 0
