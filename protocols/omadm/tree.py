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
from collections.abc import Callable
from types import MappingProxyType, TracebackType

from agent.errors import LocalMisuse
from agent.nvm import Nvm
from protocols.omadm.acl import Acl, AclError
from protocols.omadm.encoding import Encoding
from protocols.omadm.errors import SyncmlError
from protocols.omadm.formats import leaf_node
from protocols.omadm.model import Item, Meta, MgmtTree
from protocols.omadm.properties import MAX_TITLE, get_property, replace_property, without_server
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.subtrees import flatten, is_interior
from protocols.omadm.tnds import is_tree, tree_of
from protocols.omadm.tree_hooks import NO_HOOKS, Execution, Executor, Hooks, Sink
from protocols.omadm.tree_list import list_items, meta_of
from protocols.omadm.tree_nodes import (
    ANY_NAME,
    DMACC_TYPE,
    INTERIOR,
    OWN,
    Access,
    Place,
    Schema,
    SharedTree,
    TreeNode,
    pristine,
    resolve,
)
from protocols.omadm.tree_store import TreeStore
from protocols.omadm.tree_uri import Path, TreeUri, check_path, format_path, parse_uri

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

INBOX: Path = ("Inbox",)


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

    def names(self, uri: str) -> tuple[str, ...]:
        """The children of a node. Raises TreeError(404)."""
        return tuple(resolve(self._root, self._parse(uri).path).node.children)

    # --- commands

    def get(self, uri: str) -> tuple[Item, ...]:
        """The items of the Results: one, or the nodes of a `?list=`. Raises TreeError."""
        what = self._parse(uri)
        place = resolve(self._root, what.path)
        if what.prop is not None:
            self._check_acl("Get", place)
            size_of = "" if place.node.is_interior else self._value(place)
            data = get_property(place, what.prop, self.shared, size_of)
            return (Item(source=uri, data=data),)
        self._check_access(Access.GET, place.node.schema)
        self._check_acl("Get", place)
        if what.list is not None:
            return list_items(
                place,
                what.list,
                self.shared.features,
                self._encoding.tree_type,
                self._readable,
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
            return self._add_all(path, data)
        place, schema = self._free_place(path)
        format = schema.formats[0] if meta is None else meta.format or schema.formats[0]
        if (format == INTERIOR) != schema.is_interior:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
        if schema.is_interior:
            if data:
                raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "an interior node with a value")
            self._adopt(place.put_child(path[-1], self._new_interior(place, schema)))
            return StatusCode.OK
        node = leaf_node(schema, data, meta)
        sink = self._hooks.find(self._hooks.on_replace, path)
        if sink is None:
            self._adopt(place.put_child(path[-1], node))
            return StatusCode.OK
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
            self._adopt(root)
            return StatusCode.OK
        self._check_replace(place)
        data = _as_tree(data, meta)
        if isinstance(data, MgmtTree):
            return self._replace_all(place, data)
        if place.node.is_interior:
            raise TreeError(StatusCode.NOT_ALLOWED, "a value for an interior node")
        node = leaf_node(place.node.schema, data, meta, place.node)
        sink = self._hooks.find(self._hooks.on_replace, place.path)
        if sink is not None:
            return self._pour(sink, place.path, node.value)
        self._adopt(place.put(node))
        return StatusCode.OK

    def delete(self, uri: str) -> StatusCode:
        """A node and all that is below it, protected or not. Raises TreeError."""
        place = resolve(self._root, self._plain(uri))
        schema = place.node.schema
        parent = place.parent
        if schema.permanent:
            raise TreeError(StatusCode.NOT_ALLOWED, "a permanent node")
        self._check_access(Access.DELETE, schema)
        self._check_acl("Delete", place)
        root = parent.put_child(place.path[-1], None)
        if schema.type == DMACC_TYPE and schema.is_interior:
            server = place.node.children.get("ServerID")
            if server is not None and isinstance(server.value, str) and server.value:
                root = without_server(root, server.value, self.shared.root)
        self._adopt(root)
        return StatusCode.OK

    def copy(self, source: str, target: str) -> StatusCode:
        """Source and target as the URIs of nodes; nothing may be at the target. Raises
        TreeError."""
        if not self.shared.features.copy:
            raise TreeError(StatusCode.NOT_IMPLEMENTED, "Copy")
        path = self._plain(target)
        place = resolve(self._root, self._plain(source))
        self._check_access(Access.COPY, place.node.schema)
        self._check_copied(place)
        parent, schema = self._free_place(path)
        node = self._copied(place, schema)
        if node.is_interior:
            node = dataclasses.replace(node, acl=self._new_interior(parent, schema).acl)
        self._adopt(parent.put_child(path[-1], node))
        return StatusCode.OK

    def execute(
        self, uri: str, data: str | bytes | None = None, correlator: str | None = None
    ) -> StatusCode:
        """Raises TreeError."""
        if self._transaction is not None:
            # Only SyncBody and Sequence may hold an Exec: what it starts cannot be taken back.
            raise TreeError(StatusCode.COMMAND_FAILED, "Exec inside Atomic")
        place = resolve(self._root, self._plain(uri))
        self._check_access(Access.EXEC, place.node.schema)
        self._check_acl("Exec", place)
        executor = self._hooks.find(self._hooks.on_execute, place.path)
        if executor is None:
            raise TreeError(StatusCode.NOT_SUPPORTED, "nothing to execute there")
        return executor(Execution(format_path(place.path), data, correlator, self.server_id))

    def check_write(self, uri: str, *, add: bool) -> tuple[Schema, Sink | None]:
        """What a large object to `uri` would meet: raises what `add` or `replace` would for the
        URI, its rights and its place, before the value is there."""
        path = self._plain(uri)
        if add:
            schema = self._free_place(path)[1]
        else:
            place = resolve(self._root, path)
            self._check_replace(place)
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

    # --- internals: rights

    def _check_access(self, access: Access, schema: Schema) -> None:
        if self.server_id is not None and not schema.access & access:
            name = (access.name or "").capitalize()
            raise TreeError(StatusCode.NOT_ALLOWED, f"{name}: not in the node's AccessType")

    def _check_acl(self, command: str, place: Place) -> None:
        if not place.allows(command, self.server_id):
            raise TreeError(StatusCode.PERMISSION_DENIED, command)

    def _check_replace(self, place: Place) -> None:
        if self.server_id is not None and not place.path:
            raise TreeError(StatusCode.NOT_ALLOWED, "the root")
        self._check_access(Access.REPLACE, place.node.schema)
        self._check_acl("Replace", place)

    def _check_copied(self, place: Place) -> None:
        """A copy must not show what a Get would not, nor in the middle of a sub-tree."""
        self._check_access(Access.GET, place.node.schema)
        self._check_acl("Get", place)
        for name in place.node.children:
            below = place.below(name)
            assert below is not None
            self._check_copied(below)

    def _readable(self, place: Place) -> bool:
        return place.allows("Get", self.server_id)

    # --- internals: places

    def _parse(self, uri: str) -> TreeUri:
        return parse_uri(uri, self.shared.limits)

    def _plain(self, uri: str) -> Path:
        """The path of a URI that has to name a node and no property of it."""
        what = self._parse(uri)
        if what.prop is not None or what.list is not None:
            resolve(self._root, what.path)
            raise TreeError(StatusCode.NOT_ALLOWED, "no such command on a property")
        return what.path

    def _free_place(self, path: Path) -> tuple[Place, Schema]:
        """The parent of a node that may be made at `path`, and what it would have to be."""
        if not path:
            raise TreeError(StatusCode.ALREADY_EXISTS, "the root")
        parent = resolve(self._root, path[:-1])
        schema = parent.node.schema.child(path[-1])
        if schema is None or path[-1] == ANY_NAME:
            raise TreeError(StatusCode.NOT_ALLOWED, "the description has no such node there")
        self._check_access(Access.ADD, schema)
        self._check_acl("Add", parent)
        if path[-1] in parent.node.children:
            raise TreeError(StatusCode.ALREADY_EXISTS, "a node of that name")
        return parent, schema

    def _new_interior(self, parent: Place, schema: Schema) -> TreeNode:
        """Section 7.7.1.3: a server that may Add but not Replace at the parent gets the rights to
        go on with what it made. What it inherits stays beside them, or it could not even Get."""
        acl = ""
        if not parent.allows("Replace", self.server_id):
            assert self.server_id is not None
            acl = str(parent.acl.granting(self.server_id, "Add", "Delete", "Replace"))
        return dataclasses.replace(pristine(schema), acl=acl) if acl else pristine(schema)

    def _copied(self, place: Place, schema: Schema) -> TreeNode:
        """The nodes at `place` under another description; ACLs stay behind, as for what is added
        (what the standard says of them is unknown to us)."""
        node = place.node
        if node.is_interior != schema.is_interior:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
        if not node.is_interior:
            meta = Meta(format=node.format, type=node.type or None)
            copied = leaf_node(schema, self._value(place), meta)
            return dataclasses.replace(copied, title=node.title)
        children: dict[str, TreeNode] = {}
        for name in node.children:
            below, description = place.below(name), schema.child(name)
            if below is None or description is None:
                raise TreeError(StatusCode.NOT_ALLOWED, "the description has no such node there")
            children[name] = self._copied(below, description)
        return TreeNode(
            schema, INTERIOR, schema.type, title=node.title, children=MappingProxyType(children)
        )

    # --- internals: values

    def _value(self, place: Place) -> str | bytes:
        value = place.node.value
        if value == OWN or not place.node.schema.access & Access.REPLACE:
            computed = self._hooks.find(self._hooks.computed, place.path)
            if computed is not None:
                return computed()
        return "" if value == OWN else value

    def _listed_value(self, place: Place) -> str | bytes | None:
        """What a list shows of a leaf: nothing where the description has no Get."""
        if self.server_id is not None and not place.node.schema.access & Access.GET:
            return None
        return self._value(place)

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

    # --- internals: sub-trees

    def _add_all(self, path: Path, tree: MgmtTree) -> StatusCode:
        """The target is where the sub-tree hangs; where it does not exist yet, it is the
        sub-tree's own root."""
        if path[:1] == INBOX:
            return self._add_to_inbox(tree)
        base = path
        if path and path[-1] not in resolve(self._root, path[:-1]).node.children:
            if len(tree.nodes) != 1:
                raise TreeError(StatusCode.NOT_FOUND, "the target of several nodes")
            base = path[:-1]
            tree = dataclasses.replace(
                tree, nodes=(dataclasses.replace(tree.nodes[0], name=path[-1], path=None),)
            )
        self._all_or_nothing(lambda: self._put_nodes(tree, base))
        return StatusCode.OK

    def _add_to_inbox(self, tree: MgmtTree) -> StatusCode:
        """Each object goes where the persona keeps its kind, under a name that is free: which one
        is the device's to decide."""
        place = resolve(self._root, INBOX)
        self._check_access(Access.ADD, place.node.schema)
        self._check_acl("Add", place)

        def put() -> None:
            for node in tree.nodes:
                base = self.shared.inbox.get(node.ddf_name or "")
                if base is None:
                    raise TreeError(StatusCode.NOT_SUPPORTED, "an object of unknown kind")
                taken = resolve(self._root, base).node.children
                wanted = node.name or "1"
                names = (wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3)))
                name = next(one for one in names if one not in taken)
                one = dataclasses.replace(node, name=name, path=None)
                self._put_nodes(dataclasses.replace(tree, nodes=(one,)), base)

        self._all_or_nothing(put)
        return StatusCode.OK

    def _replace_all(self, place: Place, tree: MgmtTree) -> StatusCode:
        """The sub-tree comes in place of the node and all that was below it."""
        if not place.node.is_interior or len(tree.nodes) != 1 or not place.path:
            raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "a sub-tree for what is none")
        if place.node.schema.permanent:
            raise TreeError(StatusCode.NOT_ALLOWED, "a permanent node")
        node = dataclasses.replace(tree.nodes[0], name=place.path[-1], path=None)
        tree = dataclasses.replace(tree, nodes=(node,))
        acl, title = place.node.acl, place.node.title

        def swap() -> None:
            self._root = place.parent.put_child(place.path[-1], None)
            self._put_nodes(tree, place.path[:-1])
            made = resolve(self._root, place.path)
            self._root = made.put(
                dataclasses.replace(made.node, acl=node.acl or acl, title=node.title or title)
            )

        self._all_or_nothing(swap)
        return StatusCode.OK

    def _put_nodes(self, tree: MgmtTree, base: Path) -> None:
        acls: list[tuple[Path, str]] = []
        for path, node in flatten(tree, base, self.shared.limits):
            check_path(path, self.shared.limits)
            if is_interior(node) and self._continues(path):
                continue
            parent, schema = self._free_place(path)
            if is_interior(node) != schema.is_interior:
                raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
            if schema.is_interior:
                made = self._new_interior(parent, schema)
            else:
                meta = Meta(format=node.format, type=node.type)
                made = leaf_node(schema, node.value, meta)
            if node.title:
                made = dataclasses.replace(made, title=node.title[:MAX_TITLE])
            if node.acl:
                acls.append((path, node.acl))
            self._root = parent.put_child(path[-1], made)
        # An ACL may keep out even the server that brings it: only when all is there it counts.
        for path, text in acls:
            place = resolve(self._root, path)
            try:
                acl = str(Acl.parse(text))
            except AclError as error:
                raise TreeError(StatusCode.BAD_REQUEST, str(error)) from None
            self._root = place.put(dataclasses.replace(place.node, acl=acl))

    def _continues(self, path: Path) -> bool:
        """Whether an interior node of a serialisation only leads to what hangs below one that is
        there."""
        try:
            return resolve(self._root, path).node.is_interior
        except TreeError:
            return False

    def _all_or_nothing(self, change: Callable[[], None]) -> None:
        before = self._root
        try:
            change()
            self._adopt(self._root)
        except TreeError:
            self._root = before
            raise

    # --- internals: keeping it

    def _adopt(self, root: TreeNode) -> None:
        """The only way to another tree: it is stored, or will be by the end of the Atomic."""
        data = self._store.check(self.shared.root, root)
        if self._transaction is None:
            self._store.save(data)
        self._root = root

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
