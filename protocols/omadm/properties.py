"""Properties of nodes, `?prop=`: OMA-TS-DM_TND 1.2.1, section 7.

===========  =============  ========  ====================================================
property     commands       device    here
===========  =============  ========  ====================================================
ACL          Get, Replace   must      empty where inherited
Format       Get            must
Name         Get, Replace   must      Replace renames; never a permanent node
Type         Get            must
Size         Get            may       leaves only
Title        Get, Replace   may
TStamp       Get            may       not kept: 406
VerNo        Get            may       not kept: 406
===========  =============  ========  ====================================================

No property is created: Add, Delete, Copy and Exec on one are 405.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from protocols.omadm.acl import Acl, AclError
from protocols.omadm.formats import value_size
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_nodes import ANY_NAME, Place, SharedTree, TreeNode
from protocols.omadm.tree_uri import check_path

__all__ = ["get_property", "replace_property", "without_server"]

MANDATORY = frozenset({"ACL", "Format", "Name", "Type"})
REPLACEABLE = frozenset({"ACL", "Name", "Title"})

MAX_TITLE = 64
"""Octets of a title."""


def get_property(place: Place, name: str, shared: SharedTree, value: str | bytes) -> str:
    """`value` is the node's, for its size. Raises TreeError."""
    _check_supported(name, shared)
    node = place.node
    if name == "Size":
        if node.is_interior:
            raise TreeError(StatusCode.NOT_SUPPORTED, "an interior node has no Size")
        return str(value_size(value))
    return {
        "ACL": node.acl,
        "Format": node.format,
        "Name": place.path[-1] if place.path else ".",
        "Type": node.type,
        "Title": node.title,
    }[name]


def replace_property(
    place: Place, name: str, value: str, shared: SharedTree, server_id: str | None
) -> TreeNode:
    """The root of the changed tree. Raises TreeError."""
    _check_supported(name, shared)
    if name not in REPLACEABLE:
        raise TreeError(StatusCode.NOT_ALLOWED, f"{name} is read only")
    if name == "ACL":
        return _replace_acl(place, value, server_id)
    if not place.allows("Replace", server_id):
        raise TreeError(StatusCode.PERMISSION_DENIED, "Replace")
    if name == "Name":
        return _rename(place, value, shared)
    if value_size(value) > MAX_TITLE:
        raise TreeError(StatusCode.TOO_LARGE, f"a Title of {value_size(value)} octets")
    return place.put(replace(place.node, title=value))


def without_server(root: TreeNode, server_id: str, factory: TreeNode) -> TreeNode:
    """The same nodes with every mention of a server that the device forgets taken out of their
    ACLs (section 7.7.1.4). A right of the root that would be nobody's becomes what the factory
    gave it."""
    return _without(root, server_id, Acl.parse(factory.acl))


def _without(node: TreeNode, server_id: str, fallback: Acl | None = None) -> TreeNode:
    changed = {
        name: cleared
        for name, child in node.children.items()
        if (cleared := _without(child, server_id)) is not child
    }
    acl = node.acl
    if server_id in acl:
        acl = str(Acl.parse(acl).without(server_id, fallback))
    if not changed and acl == node.acl:
        return node
    return replace(node, acl=acl, children=MappingProxyType({**node.children, **changed}))


def _check_supported(name: str, shared: SharedTree) -> None:
    if name not in MANDATORY and name not in shared.features.properties:
        raise TreeError(StatusCode.NOT_SUPPORTED, f"property {name:.20}")


def _replace_acl(place: Place, value: str, server_id: str | None) -> TreeNode:
    """Section 7.7.1.3: Replace on the parent gives the right to change an ACL; on an interior node
    Replace on the node itself does so too."""
    node = place.node
    allowed = node.is_interior and place.allows("Replace", server_id)
    if not allowed and place.path:
        allowed = place.parent.allows("Replace", server_id)
    if not allowed:
        raise TreeError(StatusCode.PERMISSION_DENIED, "Replace of the ACL")
    try:
        acl = Acl.parse(value)
    except AclError as error:
        # No status is written down for it; 400 is "malformed syntax" of any command.
        raise TreeError(StatusCode.BAD_REQUEST, str(error)) from None
    if not place.path and not acl.allows("Add", ANY_NAME):
        # The root always has an ACL, and Add in it should stay everybody's (section 7.7.1.2).
        raise TreeError(StatusCode.NOT_ALLOWED, "the root's ACL without Add=*")
    return place.put(replace(node, acl=str(acl)))


def _rename(place: Place, name: str, shared: SharedTree) -> TreeNode:
    parent = place.parent
    node = place.node
    if node.schema.permanent:
        raise TreeError(StatusCode.NOT_ALLOWED, "the Name of a permanent node")
    if "/" in name or "?" in name:
        raise TreeError(StatusCode.BAD_REQUEST, "a Name with a slash or question mark")
    check_path((*parent.path, name), shared.limits)
    if parent.node.schema.child(name) is not node.schema:
        raise TreeError(StatusCode.NOT_ALLOWED, "the description has no such node there")
    if name == place.path[-1]:
        return place.put(node)
    if name in parent.node.children:
        raise TreeError(StatusCode.ALREADY_EXISTS, "a node of that Name")
    return parent.put_child(name, node, was=place.path[-1])
