"""What a server may do to a tree, and what the description lets stand where.

Nothing here changes a tree: what is made is handed back, as nodes or as the root of another tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from protocols.omadm.acl import Acl, AclError
from protocols.omadm.formats import leaf_node
from protocols.omadm.model import Meta, MgmtTree
from protocols.omadm.properties import MAX_TITLE
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.subtrees import flatten, is_interior
from protocols.omadm.tree_nodes import (
    ANY_NAME,
    INTERIOR,
    Access,
    Place,
    Schema,
    SharedTree,
    TreeNode,
    pristine,
    resolve,
)
from protocols.omadm.tree_uri import Path, check_path

__all__ = ["Rules"]

INBOX: Path = ("Inbox",)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one server, or for the device itself."""

    shared: SharedTree
    server_id: str | None
    """None: the device, which AccessTypes and ACLs do not bind."""

    # --- rights

    def check_access(self, access: Access, schema: Schema) -> None:
        if self.server_id is not None and not schema.access & access:
            name = (access.name or "").capitalize()
            raise TreeError(StatusCode.NOT_ALLOWED, f"{name}: not in the node's AccessType")

    def check_acl(self, command: str, place: Place) -> None:
        if not place.allows(command, self.server_id):
            raise TreeError(StatusCode.PERMISSION_DENIED, command)

    def check_replace(self, place: Place) -> None:
        if self.server_id is not None and not place.path:
            raise TreeError(StatusCode.NOT_ALLOWED, "the root")
        self.check_access(Access.REPLACE, place.node.schema)
        self.check_acl("Replace", place)

    def check_copied(self, place: Place) -> None:
        """A copy must not show what a Get would not, nor in the middle of a sub-tree."""
        if place.node.format != "null":  # has nothing to show
            self.check_access(Access.GET, place.node.schema)
        self.check_acl("Get", place)
        for name in place.node.children:
            below = place.below(name)
            assert below is not None
            self.check_copied(below)

    def readable(self, place: Place) -> bool:
        return place.allows("Get", self.server_id)

    # --- places

    def free_place(self, root: TreeNode, path: Path) -> tuple[Place, Schema]:
        """The parent of a node that may be made at `path`, and what it would have to be."""
        if not path:
            raise TreeError(StatusCode.ALREADY_EXISTS, "the root")
        parent = resolve(root, path[:-1])
        schema = parent.node.schema.child(path[-1])
        if schema is None or path[-1] == ANY_NAME:
            raise TreeError(StatusCode.NOT_ALLOWED, "the description has no such node there")
        self.check_access(Access.ADD, schema)
        self.check_acl("Add", parent)
        if path[-1] in parent.node.children:
            raise TreeError(StatusCode.ALREADY_EXISTS, "a node of that name")
        return parent, schema

    def new_interior(self, parent: Place, schema: Schema) -> TreeNode:
        """Section 7.7.1.3: a server that may Add but not Replace at the parent gets the rights to
        go on with what it made. What it inherits stays beside them, or it could not even Get."""
        acl = ""
        if not parent.allows("Replace", self.server_id):
            assert self.server_id is not None
            acl = str(parent.acl.granting(self.server_id, "Add", "Delete", "Replace"))
        return dataclasses.replace(pristine(schema), acl=acl) if acl else pristine(schema)

    def copied(
        self, place: Place, schema: Schema, value: Callable[[Place], str | bytes]
    ) -> TreeNode:
        """The nodes at `place` under another description; ACLs stay behind, as for what is added
        (what the standard says of them is unknown to us)."""
        node = place.node
        if node.is_interior != schema.is_interior:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
        if not node.is_interior:
            meta = Meta(format=node.format, type=node.type or None)
            copied = leaf_node(schema, value(place), meta)
            return dataclasses.replace(copied, title=node.title)
        children: dict[str, TreeNode] = {}
        for name in node.children:
            below, description = place.below(name), schema.child(name)
            if below is None or description is None:
                raise TreeError(StatusCode.NOT_ALLOWED, "the description has no such node there")
            children[name] = self.copied(below, description, value)
        return TreeNode(
            schema, INTERIOR, schema.type, title=node.title, children=MappingProxyType(children)
        )

    # --- sub-trees

    def with_sub_tree(self, root: TreeNode, path: Path, tree: MgmtTree) -> TreeNode:
        """Another root with a serialised sub-tree below `path`; where that does not exist yet, it
        is the sub-tree's own root. Raises TreeError."""
        if path[:1] == INBOX:
            return self._with_objects(root, tree)
        if path and path[-1] not in resolve(root, path[:-1]).node.children:
            if len(tree.nodes) != 1:
                raise TreeError(StatusCode.NOT_FOUND, "the target of several nodes")
            return self._with_nodes(root, path[:-1], _named(tree, path[-1]))
        return self._with_nodes(root, path, tree)

    def with_other_sub_tree(self, place: Place, tree: MgmtTree) -> TreeNode:
        """Another root with a serialised sub-tree in place of a node and all that was below it; the
        node's ACL and title stay where the sub-tree has none. Raises TreeError."""
        before = place.node
        if not before.is_interior or len(tree.nodes) != 1 or not place.path:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "a sub-tree for what is none")
        if before.schema.permanent:
            raise TreeError(StatusCode.NOT_ALLOWED, "a permanent node")
        parent, name = place.parent, place.path[-1]
        root = self._with_nodes(parent.put_child(name, None), parent.path, _named(tree, name))
        made = resolve(root, place.path)
        given = tree.nodes[0]
        acl = made.node.acl if given.acl else before.acl
        title = made.node.title if given.title else before.title
        return made.put(dataclasses.replace(made.node, acl=acl, title=title))

    def _with_objects(self, root: TreeNode, tree: MgmtTree) -> TreeNode:
        """What is put into the inbox: each object goes where the persona keeps its kind, under a
        name that is free; which one is the device's to decide."""
        place = resolve(root, INBOX)
        self.check_access(Access.ADD, place.node.schema)
        self.check_acl("Add", place)
        for node in tree.nodes:
            base = self.shared.inbox.get(node.ddf_name or "")
            if base is None:
                raise TreeError(StatusCode.NOT_SUPPORTED, "an object of unknown kind")
            taken = resolve(root, base).node.children
            wanted = node.name or "1"
            names = (wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3)))
            name = next(one for one in names if one not in taken)
            one = dataclasses.replace(tree, nodes=(node,))
            root = self._with_nodes(root, base, _named(one, name))
        return root

    def _with_nodes(self, root: TreeNode, base: Path, tree: MgmtTree) -> TreeNode:
        acls: list[tuple[Path, str]] = []
        for path, node in flatten(tree, base, self.shared.limits):
            check_path(path, self.shared.limits)
            if is_interior(node) and _is_interior(root, path):
                continue  # it only leads to what hangs below a node that is there
            parent, schema = self.free_place(root, path)
            if is_interior(node) != schema.is_interior:
                raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
            if schema.is_interior:
                made = self.new_interior(parent, schema)
            else:
                made = leaf_node(schema, node.value, Meta(format=node.format, type=node.type))
            if node.title:
                made = dataclasses.replace(made, title=node.title[:MAX_TITLE])
            if node.acl:
                acls.append((path, node.acl))
            root = parent.put_child(path[-1], made)
        # An ACL may keep out even the server that brings it: only when all is there it counts.
        for path, text in acls:
            place = resolve(root, path)
            try:
                acl = str(Acl.parse(text))
            except AclError as error:
                raise TreeError(StatusCode.BAD_REQUEST, str(error)) from None
            root = place.put(dataclasses.replace(place.node, acl=acl))
        return root


def _named(tree: MgmtTree, name: str) -> MgmtTree:
    """A serialisation of one node under another name, wherever it was said to hang."""
    node = dataclasses.replace(tree.nodes[0], name=name, path=None)
    return dataclasses.replace(tree, nodes=(node,))


def _is_interior(root: TreeNode, path: Path) -> bool:
    try:
        return resolve(root, path).node.is_interior
    except TreeError:
        return False
