"""What a device changed in its tree, as one record of its non-volatile storage.

One record, because writing it is atomic: after a power cut the tree is the one before a command (or
before a whole Atomic) or the one after it, and never anything between. It holds the difference to
the persona's tree only, in CBOR::

    change of a node   {VALUE: ..., ACL: ..., CHANGED: {name: change}, OWN: {name: node},
                        GONE: [name ...]}, absent where nothing changed
    node               {FORMAT: ..., TYPE: ..., VALUE: ..., ACL: ..., OWN: {name: node}}
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import cbor2

from agent.nvm import Nvm, NvmFull
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_nodes import Schema, TreeNode

__all__ = ["NAMESPACE", "STORED_LIMIT", "TreeStore", "apply_changes", "encode_changes"]

NAMESPACE = "omadm"
_NAME = "tree"

STORED_LIMIT = 1536
"""Octets of changes that a device keeps: with nonces, the update engine and the FUMO record it
must fit one sector of 4 KiB, and an idle device pays for it in memory."""

_FORMAT, _TYPE, _VALUE, _ACL, _TITLE, _CHANGED, _OWN, _GONE = range(8)

_PROPERTIES = ((_FORMAT, "format"), (_TYPE, "type"), (_VALUE, "value"), (_ACL, "acl"),
               (_TITLE, "title"))  # fmt: skip


def encode_changes(shared: TreeNode, root: TreeNode) -> bytes:
    """The difference of `root` to the persona's tree; empty where there is none."""
    change = _change(shared, root)
    return cbor2.dumps(change) if change else b""


def apply_changes(shared: TreeNode, data: bytes) -> TreeNode:
    """The tree that `encode_changes` told the difference of. Names that the persona's description
    no longer has are left out. Raises ValueError for what is no record of ours."""
    try:
        change = cbor2.loads(data)
        return _changed(shared, change)
    except (cbor2.CBORDecodeError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"not a tree's changes: {type(error).__name__}") from None


class TreeStore:
    """The changes of one device in its `nvm`."""

    __slots__ = ("_nvm",)

    def __init__(self, nvm: Nvm | None) -> None:
        """Without `nvm` nothing outlives the tree: for a server's copy, and for tests."""
        self._nvm = nvm

    def load(self, shared: TreeNode) -> TreeNode:
        data = None if self._nvm is None else self._nvm.get(NAMESPACE, _NAME)
        if data is None:
            return shared
        try:
            return apply_changes(shared, data)
        except ValueError:
            # Written by another version of this program: a device that cannot read its own
            # settings starts from those of its factory.
            return shared

    def check(self, shared: TreeNode, root: TreeNode) -> bytes:
        """The record of `root`; raises TreeError(420) if a device would not keep that much."""
        data = encode_changes(shared, root)
        if len(data) > STORED_LIMIT:
            raise TreeError(StatusCode.DEVICE_FULL, f"{len(data)} octets of changes to the tree")
        return data

    def save(self, data: bytes) -> None:
        """Raises TreeError(420); a power cut inside leaves the old record."""
        if self._nvm is None:
            return
        try:
            if data:
                self._nvm.set(NAMESPACE, _NAME, data)
            else:
                self._nvm.delete(NAMESPACE, _NAME)
        except NvmFull:
            raise TreeError(StatusCode.DEVICE_FULL, "the storage is full") from None


def _change(shared: TreeNode, node: TreeNode) -> dict[int, Any]:
    change: dict[int, Any] = {}
    if node is shared:
        return change
    for key, name in _PROPERTIES:
        value = getattr(node, name)
        if value != getattr(shared, name):
            change[key] = value
    changed: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, child in node.children.items():
        before = shared.children.get(name)
        if before is None:
            own[name] = _whole(child)
        elif difference := _change(before, child):
            changed[name] = difference
    gone = [name for name in shared.children if name not in node.children]
    parts = {_CHANGED: changed, _OWN: own, _GONE: gone}
    return change | {key: part for key, part in parts.items() if part}


def _whole(node: TreeNode) -> dict[int, Any]:
    """A node that the persona has not. What its description says anyway is left out."""
    whole: dict[int, Any] = {}
    if node.format != node.schema.formats[0]:
        whole[_FORMAT] = node.format
    if node.type != node.schema.type:
        whole[_TYPE] = node.type
    given = {_VALUE: node.value, _ACL: node.acl, _TITLE: node.title}
    whole |= {key: value for key, value in given.items() if value}
    if node.children:
        whole[_OWN] = {name: _whole(child) for name, child in node.children.items()}
    return whole


def _changed(shared: TreeNode, change: Mapping[int, Any]) -> TreeNode:
    children = dict(shared.children)
    for name in change.get(_GONE, ()):
        children.pop(name, None)
    for name, difference in change.get(_CHANGED, {}).items():
        if name in children:
            children[name] = _changed(children[name], difference)
    for name, whole in change.get(_OWN, {}).items():
        schema = shared.schema.child(name)
        if schema is not None:
            children[name] = _owned(schema, whole)
    return TreeNode(
        shared.schema,
        change.get(_FORMAT, shared.format),
        change.get(_TYPE, shared.type),
        change.get(_VALUE, shared.value),
        change.get(_ACL, shared.acl),
        change.get(_TITLE, shared.title),
        MappingProxyType(children),
    )


def _owned(schema: Schema, whole: Mapping[int, Any]) -> TreeNode:
    format = whole.get(_FORMAT, schema.formats[0])
    children = {
        name: _owned(below, part)
        for name, part in whole.get(_OWN, {}).items()
        if (below := schema.child(name)) is not None
    }
    return TreeNode(
        schema,
        format,
        whole.get(_TYPE, schema.type),
        whole.get(_VALUE, b"" if format == "bin" else ""),
        whole.get(_ACL, ""),
        whole.get(_TITLE, ""),
        MappingProxyType(children),
    )
