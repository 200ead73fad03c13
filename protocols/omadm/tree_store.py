"""What a device changed in its tree, as one record of its non-volatile storage.

One record, because writing it is atomic: after a power cut the tree is the one before a command (or
before a whole Atomic) or the one after it, and never anything between. It holds the difference to
the persona's tree only, in CBOR::

    {VALUE: ..., ACL: ..., CHANGED: {name: change}, ADDED: {name: change}, GONE: [name ...]}

with nothing where nothing changed. A node that was added is told as the difference to one that was
just made after its description.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import cbor2

from agent.nvm import Nvm, NvmFull
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_nodes import TreeNode, pristine

__all__ = ["NAMESPACE", "STORED_LIMIT", "TreeStore", "apply_changes", "encode_changes"]

NAMESPACE = "omadm"
_NAME = "tree"

STORED_LIMIT = 1536
"""Octets of changes that a device keeps: with nonces, the update engine and the FUMO record it
must fit one sector of 4 KiB, and an idle device pays for it in memory."""

_FORMAT, _TYPE, _VALUE, _ACL, _TITLE, _CHANGED, _ADDED, _GONE = range(8)

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
    added: dict[str, Any] = {}
    for name, child in node.children.items():
        before = shared.children.get(name)
        if before is None:
            added[name] = _change(pristine(child.schema), child)
        elif difference := _change(before, child):
            changed[name] = difference
    gone = [name for name in shared.children if name not in node.children]
    parts = {_CHANGED: changed, _ADDED: added, _GONE: gone}
    return change | {key: part for key, part in parts.items() if part}


def _changed(shared: TreeNode, change: Mapping[int, Any]) -> TreeNode:
    children = dict(shared.children)
    for name in change.get(_GONE, ()):
        children.pop(name, None)
    for name, difference in change.get(_CHANGED, {}).items():
        if name in children:
            children[name] = _changed(children[name], difference)
    for name, whole in change.get(_ADDED, {}).items():
        schema = shared.schema.child(name)
        if schema is not None:
            children[name] = _changed(pristine(schema), whole)
    node = TreeNode(
        shared.schema,
        change.get(_FORMAT, shared.format),
        change.get(_TYPE, shared.type),
        change.get(_VALUE, shared.value),
        change.get(_ACL, shared.acl),
        change.get(_TITLE, shared.title),
        MappingProxyType(children),
    )
    texts = (node.format, node.type, node.acl, node.title)
    if not all(isinstance(text, str) for text in texts) or not isinstance(node.value, str | bytes):
        raise TypeError("a property that is no text")
    return node
