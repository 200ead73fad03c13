"""A part of the tree in one answer, `?list=`: OMA-TS-DM_TND 1.2.1, section 8.

`Struct` is one item a node with Meta and no data; `StructData` adds the values of leaves; `TNDS` is
one item with the serialised sub-tree, `TNDS+ACL` with so much more and `TNDS-Value` with so much
less. What the server may not Get is left out, and what is below it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from protocols.omadm import subtrees
from protocols.omadm.model import Item, Meta
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_nodes import Place, TreeFeatures
from protocols.omadm.tree_uri import format_path

__all__ = ["list_items", "meta_of"]

MAX_NODES = 2048
"""Nodes in one answer; a whole tree of a phone has some hundred."""

# Without more said a serialisation holds what every decoder understands: Format, Type and Value
# (OMA-TS-DM_TNDS 1.2, section 6.2.1); Name is always there. That the bare TNDS means these, and
# that "+" and "-" are relative to them, is [unverified].
_USUAL = frozenset({"Name", "Format", "Type", "Value"})

_CHANGES = re.compile(r"([+-])([A-Za-z]+)")


def meta_of(place: Place) -> Meta:
    node = place.node
    return Meta(format=node.format, type=node.type or None)


def list_items(
    place: Place,
    attribute: str,
    features: TreeFeatures,
    tree_type: str,
    readable: Callable[[Place], bool],
    value: Callable[[Place], str | bytes | None],
) -> tuple[Item, ...]:
    """What `?list=attribute` of a node answers; `tree_type` is the media type of a serialised
    tree. Raises TreeError(406)."""
    name = re.split("[+-]", attribute, maxsplit=1)[0]
    if name not in features.lists:
        raise TreeError(StatusCode.NOT_SUPPORTED, f"list of {name:.20}")
    uri = format_path(place.path)
    if name == "TNDS":
        tree = subtrees.serialise(place, _wanted(attribute[len(name) :]), readable, value)
        meta = Meta(format="xml", type=tree_type)
        return (Item(source=uri, meta=meta, data=tree),)
    if name != attribute:
        raise TreeError(StatusCode.NOT_SUPPORTED, "properties in a list that is no TNDS")
    items: list[Item] = []
    for below in _walk(place, readable):
        held = None
        if name == "StructData" and not below.node.is_interior:
            held = value(below)
        items.append(Item(source=format_path(below.path), meta=meta_of(below), data=held))
        if len(items) > MAX_NODES:
            raise TreeError(StatusCode.TOO_LARGE, f"a list of more than {MAX_NODES} nodes")
    return tuple(items)


def _walk(place: Place, readable: Callable[[Place], bool]) -> Iterator[Place]:
    """The node and what is below it, parents first."""
    yield place
    for name in place.node.children:
        below = place.below(name)
        if below is not None and readable(below):
            yield from _walk(below, readable)


def _wanted(changes: str) -> frozenset[str]:
    wanted = set(_USUAL)
    position = 0
    while position < len(changes):
        match = _CHANGES.match(changes, position)
        if match is None or match[2] not in subtrees.PROPERTIES:
            raise TreeError(StatusCode.NOT_SUPPORTED, "a list of unknown properties")
        if match[1] == "+":
            wanted.add(match[2])
        else:
            wanted.discard(match[2])
        position = match.end()
    return frozenset(wanted)
