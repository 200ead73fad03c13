"""Commands of the server as SyncML, and how much room they take."""

from __future__ import annotations

from protocols.omadm.model import Add, Alert, Command, Exec, Get, Item, Meta, Replace, Status
from tools.backend.faces.omadm_work import Request

FRAME = 512
"""Octets of a command without its texts, or half of a header: more than XML takes for either."""

LONGEST = 6
"""Octets of a character at most: UTF-8 has 4, an entity of XML 6."""


def length_of(command: Command) -> int:
    """Characters in a command that are not ours."""
    if isinstance(command, Status):
        return len(command.cmd_ref) + len(command.cmd)
    if isinstance(command, Get | Add | Replace | Exec | Alert):
        texts = (text for item in command.items for text in (item.target, item.source, item.data))
        found = sum(len(text) for text in texts if isinstance(text, str))
        return found + len(command.correlator or "")
    return 0


def command_of(request: Request, number: str) -> Command:
    """A request as a command, but for large objects."""
    if request.kind == "Get":
        return Get(number, (Item(target=request.uri),))
    if request.kind == "Exec":
        return Exec(number, (Item(target=request.uri),), correlator=request.correlator or None)
    if request.interior:
        return Add(number, (Item(target=request.uri, meta=Meta(format="node")),))
    meta = Meta(format="chr", type="text/plain")
    kind = Add if request.kind == "Add" else Replace
    return kind(number, (Item(target=request.uri, meta=meta, data=request.text),))
