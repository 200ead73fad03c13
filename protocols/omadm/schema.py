"""What may stand inside what in a SyncML message: the tables that both decoders walk.

A :class:`Structure` is an element whose children fill the places of a list; when it ends, its
`build` makes the model's object of them. The order of children does not matter (servers in the
field do not keep the DTD's), their number does: what the DTD has once is refused a second time.
Elements that SyncML has and OMA-DM does not use are skipped, what stands in the wrong place or is
unknown is refused. Deviations that are read all the same are named where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from protocols.omadm.errors import SyncmlError
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Chal,
    Copy,
    Cred,
    Delete,
    Exec,
    Get,
    Header,
    Item,
    Message,
    Meta,
    MgmtTree,
    Node,
    Replace,
    Results,
    Sequence,
    Status,
    Unsupported,
)
from protocols.omadm.wbxml_tables import CONTENT, PAGES

__all__ = [
    "CHOICE",
    "DATA",
    "DOCUMENT",
    "FLAG",
    "GROUP",
    "INT",
    "MANY",
    "ONE",
    "RAW",
    "SKIP",
    "TEXT",
    "TEXTS",
    "TREE_DOCUMENT",
    "Field",
    "Structure",
    "number",
]

# What a child is. The order matters to the decoders: up to TEXTS it is text alone, from GROUP
# on it has children of its own.
TEXT: Final = 0
"""Text; blanks around it do not count."""
INT: Final = 1
RAW: Final = 2
"""Text to the letter."""
TEXTS: Final = 3
"""As TEXT, any number of times."""
DATA: Final = 4
"""Text to the letter, octets, or one serialised tree."""
FLAG: Final = 5
"""It stands there or it does not. Some write it with content flag and nothing inside."""
CHOICE: Final = 6
"""The name of the one empty element inside."""
SKIP: Final = 7
GROUP: Final = 8
"""Its children belong to what is around it."""
ONE: Final = 9
MANY: Final = 10

Field: TypeAlias = "tuple[int, int, Structure | None, str]"
"""Kind, place in the list, what is inside it, name. A plain tuple: the decoders unpack one for
every element, which takes four times as long for a subclass."""


class Structure:
    """An element with children; `page` is the WBXML code page of these."""

    __slots__ = ("build", "fields", "name", "others", "page", "template", "tokens")

    def __init__(
        self,
        name: str,
        slots: int = 0,
        build: Callable[[list[Any]], Any] = lambda values: values,
        *,
        page: int = 0,
        others: Field | None = None,
    ) -> None:
        self.name = name
        self.page = page
        self.template: list[Any] = [None] * slots
        self.build = build
        self.others = others
        """For children that `fields` does not name; None refuses them."""
        self.fields: dict[str, Field] = {}
        self.tokens: dict[int, Field] = {}
        """By page << 8 | octet; of the octets with content flag."""

    def define(self, *fields: Field) -> Structure:
        codes = PAGES[self.page]
        for field in fields:
            name = field[3]
            self.fields[name] = field
            self.tokens[self.page << 8 | CONTENT | codes[name]] = field
        return self


def _text(name: str, slot: int) -> Field:
    return (TEXT, slot, None, name)


def _int(name: str, slot: int) -> Field:
    return (INT, slot, None, name)


def _raw(name: str, slot: int) -> Field:
    return (RAW, slot, None, name)


def _texts(name: str, slot: int) -> Field:
    return (TEXTS, slot, None, name)


def _flag(name: str, slot: int) -> Field:
    return (FLAG, slot, None, name)


def _group(name: str, structure: Structure) -> Field:
    return (GROUP, 0, structure, name)


def _skip(names: str) -> list[Field]:
    return [(SKIP, 0, None, name) for name in names.split()]


_SKIPPED = (SKIP, 0, None, "")


def number(text: str, name: str) -> int:
    # Ten digits are more than any number in SyncML has; int() takes blanks, signs and more.
    digits = text.strip(" \t\r\n")
    if not digits.isdigit() or not digits.isascii() or len(digits) > 10:
        raise SyncmlError(f"{name}: {text[:20]!r} is no number")
    return int(digits)


def _need(values: list[Any], where: str, **slots: int) -> None:
    for name, slot in slots.items():
        if values[slot] is None:
            raise SyncmlError(f"{where} without {name}")


# --- Meta ------------------------------------------------------------------------------------


_LONGEST_SHARED: Final = 100
"""Characters of a format or type that is kept: media types and alert types are shorter, and what
a peer sends shall not stay in memory for its size."""
_NOTHING_ELSE: Final = [None] * 7


@lru_cache(maxsize=256)
def _shared_meta(format: str | None, type: str | None) -> Meta:
    """One object for the few that nearly all items have; a message has many of them, and to build
    one takes longer than all else about an item."""
    return Meta(format, type)


def _build_meta(values: list[Any]) -> Meta:
    if values[2:] == _NOTHING_ELSE:
        format, type = values[0], values[1]
        if len(format or "") <= _LONGEST_SHARED and len(type or "") <= _LONGEST_SHARED:
            return _shared_meta(format, type)
    emi = values[8]
    values[8] = () if emi is None else tuple(emi)
    return Meta(*values)


_META = Structure("Meta", 9, _build_meta, page=1)
_META.define(
    _text("Format", 0),
    _text("Type", 1),
    _text("Mark", 2),
    _int("Size", 3),
    _text("NextNonce", 4),
    _int("MaxMsgSize", 5),
    _int("MaxObjSize", 6),
    _text("Version", 7),
    (TEXTS, 8, None, "EMI"),
    _group("MetInf", _META),  # optional, and usually left out
    *_skip("Anchor FieldLevel Mem"),
)


def _meta(slot: int) -> Field:
    return (ONE, slot, _META, "Meta")


# --- TNDS ------------------------------------------------------------------------------------


def _build_node(values: list[Any]) -> Node:
    _need(values, "Node", NodeName=0)
    children = values[11]
    values[11] = () if children is None else tuple(children)
    if children is not None and values[5] is not None:
        # TNDS section 9.2.3.1.5: a node with a value ends the recursion.
        raise SyncmlError(f"node {values[0][:60]!r} has both Value and Node")
    values[5] = _carried(values[5], values[2])
    return Node(*values)


def _build_tree(values: list[Any]) -> MgmtTree:
    _need(values, "MgmtTree", Node=0)
    nodes, ver_dtd, man, mod = values
    return MgmtTree(tuple(nodes), ver_dtd or "1.2", man, mod)


_NODE = Structure("Node", 12, _build_node, page=2)
_NODE.define(
    _text("NodeName", 0),
    _text("Path", 1),
    _group(
        "RTProperties",
        Structure("RTProperties", page=2).define(
            (CHOICE, 2, None, "Format"),
            _group("Type", Structure("Type", page=2).define(_text("MIME", 3), _text("DDFName", 4))),
            _text("ACL", 6),
            _raw("Title", 7),
            _text("TStamp", 8),
            _int("Size", 9),
            _int("VerNo", 10),
            *_skip("Name"),
        ),
    ),
    (DATA, 5, None, "Value"),
    (MANY, 11, _NODE, "Node"),
    *_skip("DFProperties"),
)
_TREE = Structure("MgmtTree", 4, _build_tree, page=2).define(
    (MANY, 0, _NODE, "Node"), _text("VerDTD", 1), _raw("Man", 2), _raw("Mod", 3)
)
_TREE_FIELD = (ONE, 0, _TREE, "MgmtTree")


# --- Items, credentials, challenges ----------------------------------------------------------


def _carried(data: Any, format: str | None) -> Any:
    """OPAQUE is how WBXML carries octets, and how some writers put text."""
    if isinstance(data, bytes) and format != "bin":
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    return data


def _build_item(values: list[Any]) -> Item:
    data = values[5]
    if type(data) is bytes:
        meta = values[4]
        values[5] = _carried(data, None if meta is None else meta.format)
    if (values[2] is not None and values[0] is None) or (
        values[3] is not None and values[1] is None
    ):
        raise SyncmlError("Item has a LocName without LocURI")
    if values[6] is None:
        values[6] = False
    return Item(*values)


def _build_cred(values: list[Any]) -> Cred:
    _need(values, "Cred", Data=1)
    meta, data = values
    return Cred((meta and meta.type) or "", meta and meta.format, data)


def _build_chal(values: list[Any]) -> Chal:
    _need(values, "Chal", Meta=0)
    meta = values[0]
    return Chal(meta.type or "", meta.format, meta.next_nonce)


def _location(name: str, uri: int, loc_name: int) -> Field:
    inside = Structure(name).define(
        _text("LocURI", uri), _raw("LocName", loc_name), *_skip("Filter")
    )
    return _group(name, inside)


_DATA_STRUCTURE = Structure("Data", 1, lambda values: values[0], page=2).define(_TREE_FIELD)
_ITEM = Structure("Item", 7, _build_item).define(
    _location("Target", 0, 2),
    _location("Source", 1, 3),
    _meta(4),
    (DATA, 5, _DATA_STRUCTURE, "Data"),
    _flag("MoreData", 6),
    *_skip("SourceParent TargetParent"),
)
_CRED = Structure("Cred", 2, _build_cred).define(_meta(0), _text("Data", 1))
_CHAL = Structure("Chal", 1, _build_chal).define(_meta(0))


# --- Commands --------------------------------------------------------------------------------


def _items(slot: int) -> Field:
    return (MANY, slot, _ITEM, "Item")


def _item_command(kind: Callable[..., Any], name: str, *more: Field) -> Structure:
    def build(values: list[Any]) -> Any:
        cmd_id, items, meta, correlator, no_resp = values
        if cmd_id is None:
            raise SyncmlError(f"{name} without CmdID")
        return kind(
            cmd_id, () if items is None else tuple(items), meta, correlator, no_resp is not None
        )

    return Structure(name, 5, build).define(
        _text("CmdID", 0),
        _items(1),
        _meta(2),
        _raw("Correlator", 3),
        _flag("NoResp", 4),
        # Credentials of a command MUST NOT be sent (section 4.1.1.6), so nobody looks at them.
        *_skip("Cred Lang"),
        *more,
    )


def _build_alert(values: list[Any]) -> Alert:
    _need(values, "Alert", CmdID=0, Data=1)
    cmd_id, code, items, correlator, no_resp = values
    return Alert(
        cmd_id, code, () if items is None else tuple(items), correlator, no_resp is not None
    )


def _build_results(values: list[Any]) -> Results:
    _need(values, "Results", CmdID=0, CmdRef=2)
    cmd_id, msg_ref, cmd_ref, items, meta, target_refs, source_refs = values
    return Results(
        cmd_id,
        # RepPro: Results without MsgRef are about the first message.
        1 if msg_ref is None else msg_ref,
        cmd_ref,
        tuple(items or ()),
        meta,
        tuple(target_refs or ()),
        tuple(source_refs or ()),
    )


def _build_status(values: list[Any]) -> Status:
    cmd_id, msg_ref, cmd_ref, cmd, code, target_refs, source_refs, cred, chal, items = values
    if cmd_id is None or msg_ref is None or cmd_ref is None or cmd is None or code is None:
        _need(values, "Status", CmdID=0, MsgRef=1, CmdRef=2, Cmd=3, Data=4)
    return Status(
        cmd_id,
        msg_ref,
        cmd_ref,
        cmd,
        code,
        () if target_refs is None else tuple(target_refs),
        () if source_refs is None else tuple(source_refs),
        cred,
        chal,
        () if items is None else tuple(items),
    )


def _nested(kind: Callable[..., Any], name: str) -> Structure:
    def build(values: list[Any]) -> Any:
        _need(values, name, CmdID=0)
        cmd_id, commands, meta, no_resp = values
        return kind(cmd_id, tuple(commands or ()), meta, no_resp is not None)

    return Structure(name, 4, build)


def _unsupported(name: str) -> Structure:
    def build(values: list[Any]) -> Unsupported:
        _need(values, name, CmdID=0)
        return Unsupported(values[0], name, values[1] is not None)

    structure = Structure(name, 2, build, others=_SKIPPED)
    return structure.define(_text("CmdID", 0), _flag("NoResp", 1))


_ALERT = Structure("Alert", 5, _build_alert).define(
    _text("CmdID", 0),
    _int("Data", 1),
    _items(2),
    _raw("Correlator", 3),
    _flag("NoResp", 4),
    *_skip("Cred"),
)
_RESULTS = Structure("Results", 7, _build_results).define(
    _text("CmdID", 0),
    _int("MsgRef", 1),
    _text("CmdRef", 2),
    _items(3),
    _meta(4),
    _texts("TargetRef", 5),
    _texts("SourceRef", 6),
)
_STATUS = Structure("Status", 10, _build_status).define(
    _text("CmdID", 0),
    _int("MsgRef", 1),
    _text("CmdRef", 2),
    _text("Cmd", 3),
    _int("Data", 4),
    _texts("TargetRef", 5),
    _texts("SourceRef", 6),
    (ONE, 7, _CRED, "Cred"),
    (ONE, 8, _CHAL, "Chal"),
    _items(9),
)
_ATOMIC = _nested(Atomic, "Atomic")
_SEQUENCE = _nested(Sequence, "Sequence")

_BY_SERVER = (
    _item_command(Get, "Get"),
    _item_command(Add, "Add"),
    _item_command(Replace, "Replace"),
    _item_command(Delete, "Delete", *_skip("Archive SftDel")),
    _item_command(Copy, "Copy"),
    _item_command(Exec, "Exec"),
    _ALERT,
    _ATOMIC,
    _SEQUENCE,
    *(_unsupported(name) for name in ("Put", "Search", "Map", "Sync", "Move")),
)


def _commands(slot: int, structures: tuple[Structure, ...]) -> list[Field]:
    return [(MANY, slot, structure, structure.name) for structure in structures]


for _structure in (_ATOMIC, _SEQUENCE):
    _structure.define(_text("CmdID", 0), *_commands(1, _BY_SERVER), _meta(2), _flag("NoResp", 3))


# --- The message -----------------------------------------------------------------------------


def _build_header(values: list[Any]) -> Header:
    _need(
        values,
        "SyncHdr",
        SessionID=0,
        MsgID=1,
        Target=2,
        Source=3,
        VerDTD=4,
        VerProto=5,
    )
    values[9] = values[9] is not None
    return Header(*values)


def _build_body(values: list[Any]) -> tuple[tuple[Any, ...], bool]:
    commands, final = values
    return () if commands is None else tuple(commands), final is not None


def _build_message(values: list[Any]) -> Message:
    _need(values, "SyncML", SyncHdr=0, SyncBody=1)
    header, (commands, final) = values
    return Message(header, commands, final)


def _first(values: list[Any]) -> Any:
    return values[0]


_HEADER_META = Structure("Meta", page=1, others=_SKIPPED)
_HEADER_META.define(_int("MaxMsgSize", 11), _int("MaxObjSize", 12), _group("MetInf", _HEADER_META))
_HEADER = Structure("SyncHdr", 13, _build_header).define(
    _text("SessionID", 0),
    _int("MsgID", 1),
    _location("Target", 2, 7),
    _location("Source", 3, 6),
    _text("VerDTD", 4),
    _text("VerProto", 5),
    _text("RespURI", 8),
    _flag("NoResp", 9),
    (ONE, 10, _CRED, "Cred"),
    _group("Meta", _HEADER_META),
)
_BODY = Structure("SyncBody", 2, _build_body).define(
    *_commands(0, (*_BY_SERVER, _RESULTS, _STATUS)), _flag("Final", 1)
)
_MESSAGE = Structure("SyncML", 2, _build_message).define(
    (ONE, 0, _HEADER, "SyncHdr"), (ONE, 1, _BODY, "SyncBody")
)

DOCUMENT: Final = Structure("a document", 1, _first).define((ONE, 0, _MESSAGE, "SyncML"))
"""Around the root of a message."""
TREE_DOCUMENT: Final = Structure("a document", 1, _first, page=2).define(_TREE_FIELD)
"""Around the root of a serialised tree that stands alone."""
