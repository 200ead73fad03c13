"""Nodes of a management tree and the descriptions they follow.

Both are immutable. A device's tree is a root that shares every node it did not change with the
tree of its persona: a change makes new nodes from the root down to it, so that undoing it is
keeping the old root, and telling what a device changed is a walk that stops where the nodes are the
same object.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from protocols.omadm.acl import DEFAULT_ROOT_ACL, Acl
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_uri import ROOT, Path, UriLimits

__all__ = [
    "ANY_NAME",
    "DMACC_TYPE",
    "OWN",
    "Access",
    "Given",
    "INTERIOR",
    "Place",
    "Schema",
    "SharedTree",
    "TreeFeatures",
    "TreeNode",
    "Values",
    "instantiate",
    "interior",
    "leaf",
    "pristine",
    "resolve",
]

ANY_NAME = "*"
"""Key of the children that a server or the device names: `<x>` in the descriptions."""

INTERIOR = "node"

OWN = "\ufffe"
"""Value of a leaf that each device has its own of: its identity, its secrets, its versions. A
noncharacter, which no XML can carry."""

DMACC_TYPE = "urn:oma:mo:oma-dm-dmacc:1.0"
"""Of the node of a DM account: deleting one makes the device forget a server."""

_NO_SCHEMAS: Mapping[str, Schema] = MappingProxyType({})
_NO_NODES: Mapping[str, TreeNode] = MappingProxyType({})


class Access(enum.IntFlag):
    """AccessType of the description: what anybody at all may do; the ACL says who."""

    ADD = 1
    COPY = 2
    DELETE = 4
    EXEC = 8
    GET = 16
    REPLACE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """The description (DDF) of a node: OMA-TS-DM_TND 1.2.1, section 9."""

    formats: tuple[str, ...]
    """Those that the node may take, the usual one first; ("node",) is an interior node."""
    access: Access
    type: str = ""
    """Media type of a leaf; of an interior node the URN of the object that begins there."""
    permanent: bool = False
    """Neither deleted nor renamed: part of the device."""
    max_size: int = 1024
    """Octets of a value."""
    children: Mapping[str, Schema] = field(default_factory=lambda: _NO_SCHEMAS)
    """By name; ANY_NAME for those that are named at run time."""
    default: str = ""
    """Of a leaf that comes with its parent."""

    @property
    def is_interior(self) -> bool:
        return self.formats == (INTERIOR,)

    def child(self, name: str) -> Schema | None:
        return self.children.get(name) or self.children.get(ANY_NAME)


def leaf(
    format: str | tuple[str, ...],
    access: Access,
    *,
    type: str = "text/plain",
    permanent: bool = False,
    max_size: int = 1024,
    default: str = "",
) -> Schema:
    formats = (format,) if isinstance(format, str) else format
    return Schema(formats, access, type, permanent, max_size, default=default)


def interior(
    access: Access,
    children: Mapping[str, Schema],
    *,
    type: str = "",
    permanent: bool = False,
) -> Schema:
    return Schema((INTERIOR,), access, type, permanent, 0, MappingProxyType(dict(children)))


@dataclass(frozen=True, slots=True, eq=False)
class TreeNode:
    """One node as it is."""

    schema: Schema
    format: str
    type: str = ""
    value: str | bytes = field(default="", repr=False)
    """Bytes exactly where the format is bin."""
    acl: str = ""
    """Empty: inherited."""
    title: str = ""
    children: Mapping[str, TreeNode] = field(default_factory=lambda: _NO_NODES, repr=False)

    @property
    def is_interior(self) -> bool:
        return self.format == INTERIOR


@functools.cache
def pristine(schema: Schema) -> TreeNode:
    """What is there when a node was just made. The children that nobody may Add come with it:
    the device makes them, since no server can."""
    children = {
        name: pristine(child)
        for name, child in schema.children.items()
        if name != ANY_NAME and not child.access & Access.ADD
    }
    format = schema.formats[0]
    value = b"" if format == "bin" else schema.default
    return TreeNode(schema, format, schema.type, value, children=MappingProxyType(children))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands: all nodes from the root down to it."""

    path: Path
    chain: tuple[TreeNode, ...]

    @property
    def node(self) -> TreeNode:
        return self.chain[-1]

    @property
    def parent(self) -> Place:
        """Raises TreeError(405) for the root: nothing may be done to it that needs a parent."""
        if not self.path:
            raise TreeError(StatusCode.NOT_ALLOWED, "the root")
        return Place(self.path[:-1], self.chain[:-1])

    @property
    def acl(self) -> Acl:
        """That of the node or of the nearest ancestor that has one."""
        return next((Acl.parse(node.acl) for node in reversed(self.chain) if node.acl), Acl())

    def allows(self, command: str, server_id: str | None) -> bool:
        """Whether the server may; None is the device itself, which may everything."""
        return server_id is None or self.acl.allows(command, server_id)

    def below(self, name: str) -> Place | None:
        child = self.node.children.get(name)
        return None if child is None else Place((*self.path, name), (*self.chain, child))

    def put(self, node: TreeNode) -> TreeNode:
        """The root of a tree with `node` at this place."""
        for name, parent in zip(reversed(self.path), reversed(self.chain[:-1]), strict=True):
            children = {**parent.children, name: node}
            node = replace(parent, children=MappingProxyType(children))
        return node

    def put_child(self, name: str, child: TreeNode | None, *, was: str | None = None) -> TreeNode:
        """The root of a tree with `child` below this place; None takes it away. `was` is the name
        that it had until now."""
        children = {key: value for key, value in self.node.children.items() if key != was}
        if child is None:
            children.pop(name, None)
        else:
            children[name] = child
        return self.put(replace(self.node, children=MappingProxyType(children)))


def resolve(root: TreeNode, path: Path) -> Place:
    """Raises TreeError(404)."""
    chain = [root]
    for name in path:
        child = chain[-1].children.get(name)
        if child is None:
            raise TreeError(StatusCode.NOT_FOUND, f"no node {name!r:.40}")
        chain.append(child)
    return Place(path, tuple(chain))


@dataclass(frozen=True, slots=True)
class Given:
    """A value in the data of a persona that has an ACL or a title of its own."""

    value: Values
    acl: str = ""
    title: str = ""


Values: TypeAlias = "str | bytes | Mapping[str, Values] | Given"
"""What `instantiate` fills a description with: a leaf's value, or children by name."""


def instantiate(schema: Schema, values: Values, *, where: Path = ROOT) -> TreeNode:
    """The nodes that `values` names. Raises ValueError for one that the description has not."""
    if isinstance(values, Given):
        Acl.parse(values.acl)
        node = instantiate(schema, values.value, where=where)
        return replace(node, acl=values.acl, title=values.title)
    name = "./" + "/".join(where)
    if isinstance(values, Mapping) != schema.is_interior:
        raise ValueError(f"{name}: a value where the description has an interior node or reverse")
    format = schema.formats[0]
    if not isinstance(values, Mapping):
        if isinstance(values, bytes) != (format == "bin"):
            raise ValueError(f"{name}: only a value of format bin is octets")
        return TreeNode(schema, format, schema.type, values)
    children: dict[str, TreeNode] = {}
    for child, value in values.items():
        description = schema.child(child)
        if description is None or child == ANY_NAME:
            raise ValueError(f"{name}: the description has no {child}")
        children[child] = instantiate(description, value, where=(*where, child))
    return TreeNode(schema, format, schema.type, children=MappingProxyType(children))


@dataclass(frozen=True, slots=True)
class TreeFeatures:
    """What is optional in the standard and left out by real clients."""

    copy: bool = True
    """False: Copy is answered 501, as by Intel's libdmclient."""
    lists: frozenset[str] = frozenset({"Struct", "StructData", "TNDS"})
    """Of `?list=`; others are answered 406."""
    properties: frozenset[str] = frozenset({"Size", "Title"})
    """Optional ones; others are answered 406."""


class SharedTree:
    """The tree of a persona: one for all of its devices."""

    __slots__ = ("features", "inbox", "limits", "root")

    def __init__(
        self,
        root: TreeNode,
        *,
        limits: UriLimits | None = None,
        features: TreeFeatures | None = None,
        inbox: Mapping[str, Path] | None = None,
    ) -> None:
        """The root gets the default ACL where it has none, as the root must have one. `inbox`:
        where objects go that are put into ./Inbox, by the URN of the object."""
        if not root.acl:
            root = replace(root, acl=DEFAULT_ROOT_ACL)
        self.root = root
        self.limits = limits or UriLimits()
        self.features = features or TreeFeatures()
        self.inbox = MappingProxyType(dict(inbox or {}))
