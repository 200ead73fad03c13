"""The messages of one session as they travel, and what fits into one.

A message is never larger than the MaxMsgSize of its receiver (SyncML Representation Protocol). What
must be in every message, its header and the Status of the header, may be larger than that already:
then :class:`NoRoom` is raised, and what is left is a refusal without anything optional in it
(:func:`refusal`), if not even that fits no message at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from protocols.omadm.encoding import Encoding, size_of
from protocols.omadm.model import Command, Cred, Header, Message, Status
from tools.backend.faces.omadm_commands import FRAME, LONGEST, length_of

MAX_MESSAGE = 64 << 10
"""Octets of a message that we take, and the most that we send; servers in the field announce 5 to
64 KiB."""

MAX_OBJECT = 1 << 20
"""Octets of a large object that we take: a whole serialised tree fits."""

DEFAULT_ROOM = 16 << 10
"""Octets that we send to a device that names no MaxMsgSize; ours, the protocol has no default."""


class NoRoom(Exception):
    """The device takes no message that says anything."""


@dataclass(slots=True)
class Envelope:
    """Makes and measures the messages of one session."""

    session_id: str
    device: str
    server: str
    user: str
    """Source/LocName: whom the server authenticates as."""
    encoding: Encoding
    """Of the first message, and so of every answer: a large object is cut in one of them."""
    room: int = DEFAULT_ROOM
    """MaxMsgSize of the device."""
    sent: int = 0
    """MsgID of our last message."""
    cred: Cred | None = field(default=None, repr=False)

    def message(self, commands: Sequence[Command], *, final: bool) -> Message:
        first = self.sent == 1
        header = Header(
            session_id=self.session_id,
            msg_id=self.sent,
            target=self.device,
            source=self.server,
            source_name=self.user,
            cred=self.cred,
            max_msg_size=MAX_MESSAGE if first else None,
            max_obj_size=MAX_OBJECT if first else None,
        )
        return Message(header, tuple(commands), final)

    def size(self, commands: Sequence[Command]) -> int:
        """Octets of a message with these; with Final, which may still come to it."""
        return size_of(self.message(commands, final=True), self.encoding)

    def fits(self, commands: Sequence[Command]) -> bool:
        """Whether a message with these is one that the device takes. To measure it is to encode
        it, so what is small by far is not measured."""
        own = len(self.session_id) + len(self.user) + len(self.cred.data if self.cred else "")
        texts = own + 2 * (len(self.device) + len(self.server)) + sum(map(length_of, commands))
        bound = FRAME * (len(commands) + 2) + LONGEST * texts
        return bound <= self.room or self.size(commands) <= self.room

    def fitting(self, commands: Sequence[Command]) -> int:
        """How many of these fit, from the first on; each is measured once."""
        if self.fits(commands):
            return len(commands)
        empty = size = self.size(())
        for count, command in enumerate(commands):
            size += self.size((command,)) - empty
            if size > self.room:
                return count
        return len(commands)


def refusal(first: Header, sent: int, code: int, encoding: Encoding) -> Message | None:
    """The smallest message that says `code` to the message with the header `first`: no
    credentials, no names, no references. None: the device does not even take that."""
    header = Header(first.session_id, sent, first.source, first.target)
    message = Message(header, (Status("1", first.msg_id, "0", "SyncHdr", int(code)),), True)
    return message if size_of(message, encoding) <= room_of(first) else None


def room_of(header: Header) -> int:
    """The most octets that we send to whom this header is of."""
    if header.max_msg_size is None:
        return DEFAULT_ROOM
    return min(header.max_msg_size, MAX_MESSAGE)


def numbered(commands: Sequence[Command]) -> list[Command]:
    """With the CmdIDs that they have in a message."""
    return [replace(one, cmd_id=str(number)) for number, one in enumerate(commands, 1)]
