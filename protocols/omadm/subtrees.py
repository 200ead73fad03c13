"""Sub-trees of a device as one value, out of the tree and into it (OMA-TS-DM_TNDS 1.2).

How such a value is written in a message is another matter: see `tnds`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from protocols.omadm.model import MgmtTree, Node
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_nodes import INTERIOR, Place
from protocols.omadm.tree_uri import Path, UriLimits, format_path, parse_uri

__all__ = ["PROPERTIES", "flatten", "is_interior", "serialise"]

PROPERTIES = frozenset({"ACL", "Format", "Name", "Size", "Title", "TStamp", "Type", "VerNo",
                        "Value"})  # fmt: skip
"""What a list can be told to hold or not."""

MAX_DEPTH = 32
"""Nodes inside each other; the decoders of messages bound it too."""


def serialise(
    place: Place,
    wanted: frozenset[str],
    readable: Callable[[Place], bool],
    value: Callable[[Place], str | bytes | None],
) -> MgmtTree:
    """The sub-tree at `place` with the properties in `wanted`; nodes that are not `readable` are
    left out with all that is below them. `value` is None for one that cannot be read."""
    node = _serialise(place, wanted, readable, value)
    parent = format_path(place.path[:-1]) if place.path else None
    return MgmtTree((_with_path(node, parent),))


def _with_path(node: Node, path: str | None) -> Node:
    return Node(
        node.name,
        path,
        node.format,
        node.type,
        node.ddf_name,
        node.value,
        node.acl,
        node.title,
        None,
        node.size,
        None,
        node.children,
    )


def _serialise(
    place: Place,
    wanted: frozenset[str],
    readable: Callable[[Place], bool],
    value: Callable[[Place], str | bytes | None],
) -> Node:
    node = place.node
    held = None if node.is_interior else value(place)
    children = (below for name in node.children if (below := place.below(name)) is not None)
    is_typed = "Type" in wanted and bool(node.type)
    size = None
    if "Size" in wanted and held is not None:
        size = len(held) if isinstance(held, bytes) else len(held.encode())
    return Node(
        place.path[-1] if place.path else ".",
        format=node.format if "Format" in wanted else None,
        type=node.type if is_typed and not node.is_interior else None,
        ddf_name=node.type if is_typed and node.is_interior else None,
        value=held if "Value" in wanted else None,
        acl=node.acl or None if "ACL" in wanted else None,
        title=node.title or None if "Title" in wanted else None,
        size=size,
        children=tuple(
            _serialise(below, wanted, readable, value) for below in children if readable(below)
        ),
    )


def flatten(tree: MgmtTree, base: Path, limits: UriLimits) -> Iterator[tuple[Path, Node]]:
    """Every node with its path, parents first; nodes without a Path hang below `base` or below
    the node around them. Raises TreeError for a Path that leaves `base`."""
    for node in tree.nodes:
        yield from _flatten(node, base, base, limits, MAX_DEPTH)


def _flatten(
    node: Node, above: Path, base: Path, limits: UriLimits, depth: int
) -> Iterator[tuple[Path, Node]]:
    if depth == 0:
        raise TreeError(StatusCode.URI_TOO_LONG, f"more than {MAX_DEPTH} nodes inside each other")
    if node.path is not None:
        given = parse_uri(node.path or ".", limits)
        if given.prop or given.list:
            raise TreeError(StatusCode.BAD_REQUEST, "a Path with a query")
        # The insertion point is a full URI (section 6.2.3.1.5); what some servers write is
        # relative to the target of the command.
        above = given.path if given.path[: len(base)] == base else (*base, *given.path)
    if "/" in node.name or "?" in node.name:
        raise TreeError(StatusCode.BAD_REQUEST, "a NodeName with a slash or question mark")
    path = (*above, node.name)
    yield path, node
    for child in node.children:
        yield from _flatten(child, path, base, limits, depth - 1)


def is_interior(node: Node) -> bool:
    """Whether a serialised node is an interior one: its Format says so, or what it holds does."""
    if node.format is not None:
        return node.format == INTERIOR
    return bool(node.children) or node.ddf_name is not None or node.value is None
