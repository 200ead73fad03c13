"""The management tree of a device, as its servers see and change it.

Theory of operation
===================

A `Tree` is made for a session and dropped with it: an idle device keeps nothing of it but the
record of its changes in `nvm` (tree_store.py). Nodes are immutable (tree_nodes.py), so a command
makes a new root, and a command that fails leaves the old one.

Each command is judged in this order, and the first that fails is the answer:

==============================  ======  =====================================================
the URI keeps the limits        414     DevDetail/URI
what it names exists            404     for Add and Copy: the parent does
the query is one for it         405/6   405: wrong command for a property; 406: unknown, unsupported
anybody may do that to it       405     AccessType of its description, permanent nodes
this server may do that to it   425     the ACL, inherited from the nearest ancestor with one
the place is free               418     Add, Copy, rename
the value fits                  415/3   Format, Type; size of the description
the device can keep it          420     tree_store.STORED_LIMIT
==============================  ======  =====================================================

The device itself works on its tree with a `server_id` of None: no ACL and no AccessType stop it,
but the description still says what may stand where.

Some leaves are more than a stored value, by URI (a segment of the URI may be "*"): `computed` ones
are asked for at each Get, where no server can write or none has; a `sink` takes what is written to
it (a package) and nothing is stored; an `executor` is what Exec starts.
"""

from __future__ import annotations

import dataclasses
from types import TracebackType

from agent.errors import LocalMisuse
from agent.nvm import Nvm
from protocols.omadm.encoding import Encoding
from protocols.omadm.errors import SyncmlError
from protocols.omadm.formats import leaf_node
from protocols.omadm.model import Item, Meta, MgmtTree
from protocols.omadm.properties import get_property, replace_property, without_server
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tnds import is_tree, tree_of
from protocols.omadm.tree_hooks import NO_HOOKS, Execution, Executor, Hooks, Sink
from protocols.omadm.tree_list import list_items, meta_of
from protocols.omadm.tree_nodes import (
    DMACC_TYPE,
    INTERIOR,
    OWN,
    Access,
    Place,
    Schema,
    SharedTree,
    TreeNode,
    resolve,
)
from protocols.omadm.tree_rules import Rules
from protocols.omadm.tree_store import TreeStore
from protocols.omadm.tree_uri import Path, TreeUri, format_path, parse_uri

__all__ = [
    "Execution",
    "Executor",
    "Hooks",
    "Sink",
    "StatusCode",
    "Transaction",
    "Tree",
    "TreeError",
]


class Tree:
    """The tree of one device during one session."""

    __slots__ = (
        "_encoding",
        "_hooks",
        "_root",
        "_store",
        "_transaction",
        "server_id",
        "shared",
    )

    def __init__(
        self,
        shared: SharedTree,
        nvm: Nvm | None = None,
        *,
        server_id: str | None = None,
        hooks: Hooks = NO_HOOKS,
        encoding: Encoding = Encoding.XML,
    ) -> None:
        """`server_id`: the server that was authenticated; None is the device itself. `encoding`
        is the session's: the media type of a serialised tree tells it."""
        self.shared = shared
        self.server_id = server_id
        self._encoding = encoding
        self._hooks = hooks
        self._store = TreeStore(nvm)
        self._root = self._store.load(shared.root)
        self._transaction: Transaction | None = None

    def __repr__(self) -> str:
        return f"<Tree for {self.server_id!r}>"

    # --- for the device itself

    @property
    def root(self) -> TreeNode:
        return self._root

    def exists(self, uri: str) -> bool:
        try:
            resolve(self._root, self._parse(uri).path)
        except TreeError:
            return False
        return True

    def value(self, uri: str) -> str | bytes:
        """What stands in a leaf, whoever may Get it. Raises TreeError(404)."""
        return self._value(resolve(self._root, self._parse(uri).path))

    def values(self, uri: str) -> dict[str, str | bytes]:
        """What stands in the leaves directly below a node, by name; nothing where it is not."""
        try:
            place = resolve(self._root, self._parse(uri).path)
        except TreeError:
            return {}
        return {
            name: self._held(node, (*place.path, name))
            for name, node in place.node.children.items()
            if not node.is_interior
        }

    def names(self, uri: str) -> tuple[str, ...]:
        """The children of a node. Raises TreeError(404)."""
        return tuple(resolve(self._root, self._parse(uri).path).node.children)

    # --- commands

    def get(self, uri: str) -> tuple[Item, ...]:
        """The items of the Results: one, or the nodes of a `?list=`. Raises TreeError."""
        what = self._parse(uri)
        place = resolve(self._root, what.path)
        if what.prop is not None:
            self._rules.check_acl("Get", place)
            size_of = "" if place.node.is_interior else self._value(place)
            data = get_property(place, what.prop, self.shared, size_of)
            return (Item(source=uri, data=data),)
        self._rules.check_access(Access.GET, place.node.schema)
        self._rules.check_acl("Get", place)
        if what.list is not None:
            return list_items(
                place,
                what.list,
                self.shared.features,
                self._encoding.tree_type,
                self._rules.readable,
                self._listed_value,
            )
        node = place.node
        held = "/".join(node.children) if node.is_interior else self._value(place)
        return (Item(source=uri, meta=meta_of(place), data=held),)

    def add(
        self, uri: str, data: str | bytes | MgmtTree | None = None, meta: Meta | None = None
    ) -> StatusCode:
        """Make a node, or with a serialised sub-tree as `data` all of its nodes. Raises
        TreeError."""
        path = self._plain(uri)
        data = _as_tree(data, meta)
        if isinstance(data, MgmtTree):
            return self._adopt(self._rules.with_sub_tree(self._root, path, data))
        place, schema = self._rules.free_place(self._root, path)
        format = schema.formats[0] if meta is None else meta.format or schema.formats[0]
        if (format == INTERIOR) != schema.is_interior:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
        if schema.is_interior:
            if data:
                raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "an interior node with a value")
            return self._adopt(place.put_child(path[-1], self._rules.new_interior(place, schema)))
        node = leaf_node(schema, data, meta)
        sink = self._hooks.find(self._hooks.on_replace, path)
        if sink is None:
            return self._adopt(place.put_child(path[-1], node))
        empty = dataclasses.replace(node, value=b"" if node.format == "bin" else "")
        root = place.put_child(path[-1], empty)
        status = self._pour(sink, path, node.value)
        self._adopt(root)
        return status

    def replace(
        self, uri: str, data: str | bytes | MgmtTree | None = None, meta: Meta | None = None
    ) -> StatusCode:
        """Give a node that exists another value, or one of its properties. Raises TreeError."""
        what = self._parse(uri)
        place = resolve(self._root, what.path)
        if what.list is not None:
            raise TreeError(StatusCode.NOT_ALLOWED, "Replace of a list")
        if what.prop is not None:
            if data is not None and not isinstance(data, str):
                raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "a property that is no text")
            root = replace_property(place, what.prop, data or "", self.shared, self.server_id)
            return self._adopt(root)
        self._rules.check_replace(place)
        data = _as_tree(data, meta)
        if isinstance(data, MgmtTree):
            return self._adopt(self._rules.with_other_sub_tree(place, data))
        if place.node.is_interior:
            raise TreeError(StatusCode.NOT_ALLOWED, "a value for an interior node")
        return self._put(place, leaf_node(place.node.schema, data, meta, place.node))

    def delete(self, uri: str) -> StatusCode:
        """A node and all that is below it, protected or not. Raises TreeError."""
        place = resolve(self._root, self._plain(uri))
        schema = place.node.schema
        parent = place.parent
        if schema.permanent:
            raise TreeError(StatusCode.NOT_ALLOWED, "a permanent node")
        self._rules.check_access(Access.DELETE, schema)
        self._rules.check_acl("Delete", place)
        root = parent.put_child(place.path[-1], None)
        if schema.type == DMACC_TYPE and schema.is_interior:
            server = place.node.children.get("ServerID")
            if server is not None and isinstance(server.value, str) and server.value:
                root = without_server(root, server.value, self.shared.root)
        return self._adopt(root)

    def copy(self, source: str, target: str) -> StatusCode:
        """Source and target as the URIs of nodes. A leaf at the target takes the value of a leaf
        (RepPro, Copy); where nothing is, all that is below the source is made [ours]. Raises
        TreeError."""
        if not self.shared.features.copy:
            raise TreeError(StatusCode.NOT_IMPLEMENTED, "Copy")
        path = self._plain(target)
        place = resolve(self._root, self._plain(source))
        self._rules.check_access(Access.COPY, place.node.schema)
        self._rules.check_copied(place)
        there = self._there(path)
        if there is not None and not (there.node.is_interior or place.node.is_interior):
            return self._overwrite(place, there)
        parent, schema = self._rules.free_place(self._root, path)
        node = self._rules.copied(place, schema, self._value)
        if node.is_interior:
            node = dataclasses.replace(node, acl=self._rules.new_interior(parent, schema).acl)
        return self._adopt(parent.put_child(path[-1], node))

    def _there(self, path: Path) -> Place | None:
        """What is at `path`, if anything is."""
        try:
            return resolve(self._root, path)
        except TreeError:
            return None

    def _overwrite(self, source: Place, target: Place) -> StatusCode:
        """Give a leaf the value of another one."""
        self._rules.check_replace(target)
        meta = Meta(format=source.node.format, type=source.node.type or None)
        try:
            node = leaf_node(target.node.schema, self._value(source), meta, target.node)
        except TreeError as error:
            # "For reasons other than access control rights" (RepPro, Copy).
            raise TreeError(StatusCode.FORBIDDEN, error.reason) from None
        return self._put(target, node)

    def execute(
        self, uri: str, data: str | bytes | None = None, correlator: str | None = None
    ) -> StatusCode:
        """Raises TreeError."""
        if self._transaction is not None:
            # Only SyncBody and Sequence may hold an Exec: what it starts cannot be taken back.
            raise TreeError(StatusCode.COMMAND_FAILED, "Exec inside Atomic")
        place = resolve(self._root, self._plain(uri))
        self._rules.check_access(Access.EXEC, place.node.schema)
        self._rules.check_acl("Exec", place)
        executor = self._hooks.find(self._hooks.on_execute, place.path)
        if executor is None:
            raise TreeError(StatusCode.NOT_SUPPORTED, "nothing to execute there")
        return executor(Execution(format_path(place.path), data, correlator, self.server_id))

    def check_write(self, uri: str, *, add: bool) -> tuple[Schema, Sink | None]:
        """What a large object to `uri` would meet: raises what `add` or `replace` would for the
        URI, its rights and its place, before the value is there."""
        path = self._plain(uri)
        if add:
            schema = self._rules.free_place(self._root, path)[1]
        else:
            place = resolve(self._root, path)
            self._rules.check_replace(place)
            schema = place.node.schema
        if schema.is_interior:
            raise TreeError(StatusCode.NOT_ALLOWED, "a value for an interior node")
        return schema, self._hooks.find(self._hooks.on_replace, path)

    def transaction(self) -> Transaction:
        """All that follows until its `commit`, or nothing of it."""
        if self._transaction is not None:
            raise LocalMisuse("a transaction inside a transaction")
        self._transaction = Transaction(self)
        return self._transaction

    # --- internals

    @property
    def _rules(self) -> Rules:
        return Rules(self.shared, self.server_id)

    def _parse(self, uri: str) -> TreeUri:
        return parse_uri(uri, self.shared.limits)

    def _plain(self, uri: str) -> Path:
        """The path of a URI that has to name a node and no property of it."""
        what = self._parse(uri)
        if what.prop is not None or what.list is not None:
            resolve(self._root, what.path)
            raise TreeError(StatusCode.NOT_ALLOWED, "no such command on a property")
        return what.path

    def _value(self, place: Place) -> str | bytes:
        return self._held(place.node, place.path)

    def _held(self, node: TreeNode, path: Path) -> str | bytes:
        value = node.value
        if value == OWN or not node.schema.access & Access.REPLACE:
            computed = self._hooks.find(self._hooks.computed, path)
            if computed is not None:
                return computed()
        return "" if value == OWN else value

    def _listed_value(self, place: Place) -> str | bytes | None:
        """What a list shows of a leaf: nothing where the description has no Get."""
        if self.server_id is not None and not place.node.schema.access & Access.GET:
            return None
        return self._value(place)

    def _put(self, place: Place, node: TreeNode) -> StatusCode:
        """Give a leaf that exists what `node` has."""
        sink = self._hooks.find(self._hooks.on_replace, place.path)
        if sink is not None:
            return self._pour(sink, place.path, node.value)
        return self._adopt(place.put(node))

    def _pour(self, sink: Sink, path: Path, value: str | bytes) -> StatusCode:
        octets = value if isinstance(value, bytes) else value.encode()
        uri = format_path(path)
        sink.begin(uri, len(octets))
        if octets:
            sink.data(octets)
        status = sink.end()
        if self._transaction is not None:
            self._transaction.poured(uri, sink)
        return status

    def _adopt(self, root: TreeNode) -> StatusCode:
        """The only way to another tree: it is stored, or will be by the end of the Atomic."""
        data = self._store.check(self.shared.root, root)
        if self._transaction is None:
            self._store.save(data)
        self._root = root
        return StatusCode.OK

    def _finish(self, root: TreeNode, *, save: bool) -> None:
        """The end of a transaction."""
        if save:
            self._store.save(self._store.check(self.shared.root, root))
        self._root = root
        self._transaction = None


def _as_tree(
    data: str | bytes | MgmtTree | None, meta: Meta | None
) -> str | bytes | MgmtTree | None:
    """A serialised tree that came as text or octets, read; other data as it is."""
    item = Item(data=data, meta=meta)
    if data is None or isinstance(data, MgmtTree) or not is_tree(item):
        return data
    try:
        return tree_of(item)
    except SyncmlError as error:
        raise TreeError(StatusCode.UNSUPPORTED_FORMAT, str(error)) from None


class Transaction:
    """What an Atomic does to the tree. A power cut before `commit` returns leaves all as it was,
    or, inside it, as it will be: the changes are one record.

    Left without `commit` it is rolled back, unless the power went: then the device is off, and
    nothing of it may be touched."""

    __slots__ = ("_before", "_open", "_poured", "_tree")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._before = tree.root
        self._open = True
        self._poured: list[tuple[str, Sink]] = []

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open and (error is None or isinstance(error, Exception)):
            self.roll_back()

    def poured(self, uri: str, sink: Sink) -> None:
        """Note what went into a sink: it has to be taken back there."""
        self._poured.append((uri, sink))

    def commit(self) -> None:
        """Keep the changes. Raises TreeError(420), and is still to be rolled back then."""
        self._tree._finish(self._tree.root, save=True)
        self._open = False

    def roll_back(self) -> frozenset[str]:
        """Take everything back; gives the URIs for which that failed: they are answered 516, all
        others 216."""
        if not self._open:
            return frozenset()
        self._open = False
        self._tree._finish(self._before, save=False)
        return frozenset(uri for uri, sink in reversed(self._poured) if not sink.undo())
