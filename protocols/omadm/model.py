"""A SyncML 1.2 message as OMA-DM uses it; the same whether it travels as XML or as WBXML.

Names follow the SyncML Representation Protocol: a message is a header and commands, a command has
items. What only data synchronisation uses (Anchor, Mem, Filter, SourceParent ...) is not kept.
Values are as carried: `Item.data` of Format b64 is the base64 text, because a large object may be
cut anywhere in it; :meth:`Item.octets` gives what it means. Contents and credentials stay out of
every ``repr``: they may hold secrets, and whole packages.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import ClassVar

from protocols.omadm.errors import SyncmlError

__all__ = [
    "COMMAND_NAMES",
    "Add",
    "Alert",
    "Atomic",
    "Chal",
    "Command",
    "Copy",
    "Cred",
    "Delete",
    "Exec",
    "Get",
    "Header",
    "Item",
    "ItemCommand",
    "Message",
    "Meta",
    "MgmtTree",
    "Node",
    "Replace",
    "Results",
    "Sequence",
    "Status",
    "Unsupported",
]


@dataclass(frozen=True, slots=True)
class Meta:
    """Meta-information (``syncml:metinf``) of an item, a command or a challenge."""

    format: str | None = None
    """chr, int, bool, bin, b64, node, null, xml, date, time or float; None means chr."""
    type: str | None = None
    """Media type; of a generic alert, what happened."""
    mark: str | None = None
    """Of a generic alert: fatal, critical, minor, warning, informational ..."""
    size: int | None = None
    """Octets of a large object as carried; in its first chunk only."""
    next_nonce: str | None = field(default=None, repr=False)
    """Base64, as carried."""
    max_msg_size: int | None = None
    """Octets."""
    max_obj_size: int | None = None
    """Octets."""
    version: str | None = None
    emi: tuple[str, ...] = ()
    """Experimental meta-information."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a tree and description serialisation (TNDS), with what is below it."""

    name: str
    path: str | None = None
    """Where it hangs; None below a node that says so."""
    format: str | None = None
    """As :attr:`Meta.format`; None where the serialisation leaves properties out."""
    type: str | None = None
    """Media type of a leaf (Type/MIME)."""
    ddf_name: str | None = None
    """Identity of the management object that begins at an interior node (Type/DDFName)."""
    value: str | bytes | None = field(default=None, repr=False)
    acl: str | None = None
    title: str | None = None
    tstamp: str | None = None
    size: int | None = None
    ver_no: int | None = None
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class MgmtTree:
    """A serialised tree (OMA-TS-DM_TNDS): what ``?list=TNDS`` answers and a bootstrap brings."""

    nodes: tuple[Node, ...]
    ver_dtd: str = "1.2"
    man: str | None = None
    mod: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """What a command is about."""

    target: str | None = None
    """Target/LocURI: a node's URI, in what the server sends."""
    source: str | None = None
    """Source/LocURI: a node's URI, in what the device sends."""
    target_name: str | None = None
    source_name: str | None = None
    meta: Meta | None = None
    data: str | bytes | MgmtTree | None = field(default=None, repr=False)
    """None: no Data element; "": an empty one. Bytes travel as OPAQUE in WBXML and as base64 in
    XML; an OPAQUE is read as text unless its Format is bin or it is no UTF-8."""
    more_data: bool = False
    """A chunk of a large object, and not its last."""

    def octets(self, format: str | None = None) -> bytes:
        """What the data means, base64 undone; `format` is the command's, where the item has none.

        Not for a chunk, nor for a serialised tree. Raises SyncmlError for base64 that is none.
        """
        data = self.data
        if data is None:
            return b""
        if isinstance(data, bytes):
            return data
        if isinstance(data, MgmtTree):
            raise TypeError("a serialised tree has no octets of its own")
        if self.meta is not None and self.meta.format is not None:
            format = self.meta.format
        if format != "b64":
            return data.encode()
        try:
            # Blanks and line ends inside are legal (RFC 2045 section 6.8).
            return binascii.a2b_base64("".join(data.split()), strict_mode=True)
        except ValueError:
            where = self.target or self.source or "an item"
            raise SyncmlError(f"{where[:100]}: Format is b64 and Data is no base64") from None


@dataclass(frozen=True, slots=True)
class Cred:
    """Credentials of the sender."""

    type: str
    """syncml:auth-basic, syncml:auth-md5 ..."""
    format: str | None
    data: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chal:
    """A challenge: which credentials are wanted."""

    type: str
    format: str | None = "b64"
    next_nonce: str | None = field(default=None, repr=False)
    """Base64, as carried."""


@dataclass(frozen=True, slots=True)
class ItemCommand:
    """What Get, Add, Replace, Delete, Copy and Exec have in common."""

    name: ClassVar[str] = ""

    cmd_id: str
    items: tuple[Item, ...] = ()
    meta: Meta | None = None
    """For the items that have none of their own."""
    correlator: str | None = None
    """Of Exec: comes back in the generic alert that reports its end."""
    no_resp: bool = False
    """The sender wants no Status."""


@dataclass(frozen=True, slots=True)
class Get(ItemCommand):
    name: ClassVar[str] = "Get"


@dataclass(frozen=True, slots=True)
class Add(ItemCommand):
    name: ClassVar[str] = "Add"


@dataclass(frozen=True, slots=True)
class Replace(ItemCommand):
    name: ClassVar[str] = "Replace"


@dataclass(frozen=True, slots=True)
class Delete(ItemCommand):
    name: ClassVar[str] = "Delete"


@dataclass(frozen=True, slots=True)
class Copy(ItemCommand):
    name: ClassVar[str] = "Copy"


@dataclass(frozen=True, slots=True)
class Exec(ItemCommand):
    name: ClassVar[str] = "Exec"


@dataclass(frozen=True, slots=True)
class Alert:
    name: ClassVar[str] = "Alert"

    cmd_id: str
    code: int
    items: tuple[Item, ...] = ()
    correlator: str | None = None
    no_resp: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """The answer to a Get."""

    name: ClassVar[str] = "Results"

    cmd_id: str
    msg_ref: int
    cmd_ref: str
    items: tuple[Item, ...]
    meta: Meta | None = None
    target_refs: tuple[str, ...] = ()
    source_refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """What became of a command, or of the header: then cmd_ref is "0" and cmd "SyncHdr"."""

    name: ClassVar[str] = "Status"

    cmd_id: str
    msg_ref: int
    cmd_ref: str
    cmd: str
    code: int
    target_refs: tuple[str, ...] = ()
    source_refs: tuple[str, ...] = ()
    cred: Cred | None = None
    chal: Chal | None = None
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A command of SyncML that OMA-DM does not use (Put, Search, Map, Sync, Move), contents
    left out: it wants a Status all the same."""

    cmd_id: str
    name: str
    no_resp: bool = False


@dataclass(frozen=True, slots=True)
class Atomic:
    """All of them or none."""

    name: ClassVar[str] = "Atomic"

    cmd_id: str
    commands: tuple[Command, ...]
    meta: Meta | None = None
    no_resp: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other, in this order."""

    name: ClassVar[str] = "Sequence"

    cmd_id: str
    commands: tuple[Command, ...]
    meta: Meta | None = None
    no_resp: bool = False


Command = (
    Get
    | Add
    | Replace
    | Delete
    | Copy
    | Exec
    | Alert
    | Results
    | Status
    | Atomic
    | Sequence
    | Unsupported
)

COMMAND_NAMES = frozenset(
    kind.name
    for kind in (Get, Add, Replace, Delete, Copy, Exec, Alert, Results, Status, Atomic, Sequence)
)
"""What OMA-DM uses."""


@dataclass(frozen=True, slots=True)
class Header:
    """SyncHdr."""

    session_id: str
    msg_id: int
    target: str
    """Target/LocURI: the server's URI or the device's id (``IMEI:...``)."""
    source: str
    ver_dtd: str = "1.2"
    ver_proto: str = "DM/1.2"
    source_name: str | None = None
    """Of a device that authenticates by md5: its user name."""
    target_name: str | None = None
    resp_uri: str | None = None
    """Where the next messages of the session go."""
    no_resp: bool = False
    cred: Cred | None = None
    max_msg_size: int | None = None
    """Octets that the sender takes in one message."""
    max_obj_size: int | None = None
    """Octets that the sender takes in one large object."""


@dataclass(frozen=True, slots=True)
class Message:
    header: Header
    commands: tuple[Command, ...] = ()
    final: bool = False
    """The last message of its package."""
