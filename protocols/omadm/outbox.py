"""What a side has to say: commands in order, packed into messages that the other side can take.

Commands wait as drafts, without a CmdID: it is given when a message is packed, from 1. A message
holds as many as fit the other side's MaxMsgSize. Results that fit no message go in several (one per
item), and an item that fits none travels as a large object: chunks with MoreData, Size with the
first of them, nothing beside them in their messages but the Status of the header.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from protocols.omadm.model import (
    Alert,
    Command,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
)

__all__ = ["Draft", "Outbox", "item_length"]

Draft = Status | Results | Alert | Replace

SLACK = 48
"""Octets kept free: the number of a CmdID, MoreData, and what a code page switch adds."""
SMALLEST_CHUNK = 64
"""Octets of a large object for which a message is worth being used."""


class Outbox:
    """The drafts of one session."""

    __slots__ = ("_carried", "_rest", "_size_of", "_waiting", "limit")

    def __init__(
        self,
        size_of: Callable[[Message], int],
        carried: Callable[[Item], Item] = lambda item: item,
    ) -> None:
        """`size_of` tells the octets of a message as it will travel, `carried` makes of an item
        what will: octets are base64 in XML, and it is that which is measured and cut."""
        self._size_of = size_of
        self._carried = carried
        self._waiting: deque[Draft] = deque()
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

    def add(self, drafts: Iterable[Draft]) -> None:
        self._waiting.extend(drafts)

    def clear(self) -> None:
        self._waiting.clear()
        self._rest = None

    def drop_object(self) -> None:
        """The other side will not have the rest of the large object that is on its way."""
        self._rest = None

    def pack(self, header: Header, first: list[Draft], *, final: bool) -> Message:
        """The next message: `first`, then as much of what waits as fits. It says Final if `final`
        and nothing waits any more."""
        commands: list[Command] = [_numbered(draft, at) for at, draft in enumerate(first, 1)]
        waiting = self._waiting
        if self._rest is None:
            behind = enumerate(waiting, len(commands) + 1)
            whole = Message(header, (*commands, *(_numbered(one, at) for at, one in behind)), final)
            if self.limit is None or self._size_of(whole) <= self.limit:
                waiting.clear()
                return whole
        self._fill(header, commands)
        return Message(header, tuple(commands), final and not self)

    def _fill(self, header: Header, commands: list[Command]) -> None:
        assert self.limit is not None  # without one everything fits, and no object is cut
        waiting = self._waiting
        empty = self._size_of(Message(header, (), True))
        room = self.limit - self._size_of(Message(header, tuple(commands), True)) - SLACK
        alone = len(commands)

        def cost(draft: Draft) -> int:
            return self._size_of(Message(header, (_numbered(draft, 9999),), True)) - empty

        while self._rest is not None or waiting:
            draft = self._rest or waiting[0]
            size = cost(draft)
            if size <= room:
                if self._rest is None:
                    waiting.popleft()
                self._rest = None
                commands.append(_numbered(draft, len(commands) + 1))
                room -= size
                continue
            if isinstance(draft, Results) and len(draft.items) > 1:
                waiting.popleft()
                waiting.extendleft(replace(draft, items=(one,)) for one in reversed(draft.items))
                continue
            if len(commands) > alone:
                return  # the next message has more room
            if isinstance(draft, Results) and self._chunk(draft, commands, room, cost):
                return
            # What can be neither cut nor held goes as it is: the other side refuses it with 413.
            if self._rest is None:
                waiting.popleft()
            self._rest = None
            commands.append(_numbered(draft, alone + 1))
            return

    def _chunk(
        self, draft: Results, commands: list[Command], room: int, cost: Callable[[Draft], int]
    ) -> bool:
        """Send the next chunk of the only item of `draft` and keep the rest; False: it cannot be
        cut."""
        item = draft.items[0] if self._rest is not None else self._carried(draft.items[0])
        data = item.data
        if not isinstance(data, str | bytes):
            return False
        meta = item.meta or Meta()
        if self._rest is None:
            meta = replace(meta, size=item_length(item))
        frame = replace(draft, items=(replace(item, meta=meta, data=None, more_data=True),))
        head, rest = _cut(data, max(room - cost(frame), SMALLEST_CHUNK))
        if not rest:
            return False
        if self._rest is None:
            self._waiting.popleft()
        after = replace(item, meta=replace(meta, size=None), data=rest)
        self._rest = replace(draft, items=(after,))
        chunk = replace(item, meta=meta, data=head, more_data=True)
        commands.append(_numbered(replace(draft, items=(chunk,)), len(commands) + 1))
        return True


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
