"""The tree against a naive model: a dict of paths, which knows every rule in its simplest form.

Whatever a server does in whatever order, both give the same statuses and hold the same nodes; an
Atomic that is rolled back equals one that never ran; and a reboot changes nothing.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from agent.nvm import Nvm
from protocols.omadm.model import Meta
from protocols.omadm.status import TreeError
from protocols.omadm.tree import Transaction, Tree
from tests.protocols.omadm.device_parts import OTHER, SERVER, SHARED, make_nvm

# Of the tree in device_parts: what may be done to a path whoever asks. Box/<x>, Box/<x>/<y>,
# Box/note and Fixed/Gone may everything; the others as written.
_ACCESS = {
    "": "Get",
    "Fixed": "Get",
    "Fixed/Name": "Get",
    "Fixed/Lang": "Get Replace",
    "Fixed/Secret": "Replace Copy",
    "Fixed/Gone": "Add Copy Delete Get Replace",
    "Fixed/Kept": "Get Replace",
    "Box": "Add Copy Delete Get Replace",
    "Run": "Exec",
    "Package": "Get Replace",
}
_PERMANENT = {"", "Fixed", "Fixed/Name", "Fixed/Lang", "Fixed/Secret", "Box", "Run", "Package"}
_INTERIOR = {"", "Fixed", "Box"}

NAMES = ["one", "two", "note", "a"]
PATHS = [
    *_ACCESS,
    *(f"Box/{name}" for name in NAMES),
    *(f"Box/{name}/{leaf}" for name in ("one", "two") for leaf in ("a", "b")),
    "Fixed/New",
    "New",
]
ACLS = [
    "",
    "Get=*",
    "Add=*&Get=*",
    f"Get={SERVER}&Replace={OTHER}",
    "Add=*&Delete=*&Get=*&Replace=*",
]

paths = st.sampled_from(PATHS)
servers = st.sampled_from([SERVER, OTHER])


def kind(path: str) -> str | None:
    """node, leaf, or None where the description has nothing."""
    if path in _ACCESS:
        return "node" if path in _INTERIOR else "leaf"
    head, _, name = path.rpartition("/")
    if head == "Box":
        return "leaf" if name == "note" else "node"
    if head.startswith("Box/") and head != "Box/note":
        return "leaf"
    return None


class Model:
    """Paths to [value, acl]; an interior node's value is None."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Any]] = {path: [None, ""] for path in _INTERIOR}
        for path, value in (
            ("Fixed/Name", "n"),
            ("Fixed/Lang", "en"),
            ("Fixed/Secret", "hidden"),
            ("Fixed/Gone", "g"),
            ("Fixed/Kept", "k"),
            ("Box/one/a", "1"),
            ("Box/one/b", "2"),
            ("Box/note", "first"),
            ("Run", ""),
            ("Package", b""),
        ):
            self.nodes[path] = [value, ""]
        self.nodes["Box/one"] = [None, ""]
        self.nodes[""][1] = SHARED.root.acl

    def copy(self) -> Model:
        other = Model.__new__(Model)
        other.nodes = {path: list(node) for path, node in self.nodes.items()}
        return other

    def acl(self, path: str) -> str:
        while True:
            acl = self.nodes[path][1]
            if acl or not path:
                return str(acl)
            path = path.rpartition("/")[0]

    def allows(self, command: str, path: str, server: str) -> bool:
        for entry in self.acl(path).split("&"):
            name, _, who = entry.partition("=")
            if name == command:
                return who == "*" or server in who.split("+")
        return False

    def access(self, path: str) -> str:
        return _ACCESS.get(path, "Add Copy Delete Get Replace Exec")

    def get(self, path: str, server: str) -> int:
        if path not in self.nodes:
            return 404
        if "Get" not in self.access(path):
            return 405
        return 200 if self.allows("Get", path, server) else 425

    def add(self, path: str, server: str, value: str | None) -> int:
        parent, _, name = path.rpartition("/")
        if path == "":
            return 418
        if parent not in self.nodes:
            return 404
        if kind(parent) == "leaf" or kind(path) is None:
            return 405
        if "Add" not in self.access(path):
            return 405
        if not self.allows("Add", parent, server):
            return 425
        if path in self.nodes:
            return 418
        if (value is None) != (kind(path) == "node"):
            return 415
        acl = ""
        if value is None and not self.allows("Replace", parent, server):
            rights = dict(entry.split("=") for entry in self.acl(parent).split("&"))
            for command in ("Add", "Delete", "Replace"):
                held = set(rights.get(command, "").split("+")) - {""}
                rights[command] = "*" if "*" in held else "+".join(sorted(held | {server}))
            acl = "&".join(f"{command}={rights[command]}" for command in sorted(rights))
        self.nodes[path] = [value, acl]
        return 200

    def replace(self, path: str, server: str, value: str) -> int:
        if path not in self.nodes:
            return 404
        if path == "" or "Replace" not in self.access(path):
            return 405
        if not self.allows("Replace", path, server):
            return 425
        if kind(path) == "node":
            return 405
        self.nodes[path][0] = value.encode() if path == "Package" else value
        return 200

    def set_acl(self, path: str, server: str, acl: str) -> int:
        if path not in self.nodes:
            return 404
        parent = path.rpartition("/")[0]
        allowed = kind(path) == "node" and self.allows("Replace", path, server)
        if not allowed and not (path and self.allows("Replace", parent, server)):
            return 425
        if path == "" and "Add=*" not in acl:
            return 405
        self.nodes[path][1] = acl
        return 200

    def delete(self, path: str, server: str) -> int:
        if path not in self.nodes:
            return 404
        if path in _PERMANENT or "Delete" not in self.access(path):
            return 405
        if not self.allows("Delete", path, server):
            return 425
        for one in self.below(path):
            del self.nodes[one]
        return 200

    def rename(self, path: str, server: str, name: str) -> int:
        if path not in self.nodes:
            return 404
        if not self.allows("Replace", path, server):
            return 425
        if path in _PERMANENT:
            return 405
        parent, _, old = path.rpartition("/")
        target = f"{parent}/{name}"
        if self.place(path) != self.place(target):
            return 405
        if name == old:
            return 200
        if target in self.nodes:
            return 418
        for one in self.below(path):
            self.nodes[target + one[len(path) :]] = self.nodes.pop(one)
        return 200

    def place(self, path: str) -> str:
        """The description of a path: its own, or that of any name."""
        head, _, name = path.rpartition("/")
        if head == "Box":
            return "Box/note" if name == "note" else "Box/*"
        return f"{head}/*" if head.startswith("Box/") else path

    def copy_node(self, source: str, target: str, server: str) -> int:
        if source not in self.nodes:
            return 404
        if "Copy" not in self.access(source):
            return 405
        for one in self.below(source):
            if (status := self.get(one, server)) != 200:
                return status
        value = self.nodes[source][0]
        trial = self.copy()
        if target in self.nodes and kind(source) == kind(target) == "leaf":
            status = trial.replace(target, server, value)
            if status == 200 and target == "Package":
                return 403  # octets, and no other leaf has any
            self.nodes = trial.nodes
            return status
        status = trial.add(target, server, value)
        if status != 200:
            return status
        for one in sorted(self.below(source))[1:]:
            below = target + one[len(source) :]
            if kind(below) is None:
                return 405
            if (kind(below) == "node") != (self.nodes[one][0] is None):
                return 415
            trial.nodes[below] = [self.nodes[one][0], ""]
        self.nodes = trial.nodes
        return 200

    def below(self, path: str) -> list[str]:
        return [one for one in self.nodes if one == path or one.startswith(f"{path}/")]


class TreeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.nvm = make_nvm()
        self.tree = Tree(SHARED, self.nvm, server_id=SERVER)
        self.model = Model()
        self.kept: Model | None = None
        self.transaction: Transaction | None = None

    @initialize(
        server=servers,
        acls=st.dictionaries(
            st.sampled_from(["Fixed/Gone", "Box", "Box/one", "Box/one/a", "Box/note"]),
            st.sampled_from(ACLS),
            max_size=3,
        ),
    )
    def begin(self, server: str, acls: dict[str, str]) -> None:
        self.tree.server_id = None
        for path, acl in acls.items():
            self.tree.replace(f"./{path}?prop=ACL", acl)
            self.model.nodes[path][1] = acl
        self.tree.server_id = server

    def agree(self, call: Any, expected: int) -> None:
        try:
            status = int(call())
        except TreeError as error:
            status = int(error.status)
        assert status == expected

    @property
    def server(self) -> str:
        assert self.tree.server_id is not None
        return self.tree.server_id

    @rule(server=servers)
    def another_server(self, server: str) -> None:
        self.tree.server_id = server

    @rule(path=paths)
    def get(self, path: str) -> None:
        uri = f"./{path}" if path else "."

        def call() -> int:
            (item,) = self.tree.get(uri)
            value = self.model.nodes[path][0]
            if value is None:
                below = {one for one in self.model.nodes if one and one.rpartition("/")[0] == path}
                names = str(item.data).split("/") if item.data else []
                assert sorted(names) == sorted(one.rpartition("/")[2] for one in below)
            else:
                assert item.data == value
            return 200

        self.agree(call, self.model.get(path, self.server))

    @rule(path=paths, value=st.sampled_from([None, "x", "y"]))
    def add(self, path: str, value: str | None) -> None:
        uri = f"./{path}" if path else "."
        meta = Meta(format="node") if value is None else Meta(format="chr")
        expected = self.model.add(path, self.server, value)
        self.agree(lambda: self.tree.add(uri, value, meta), expected)

    @rule(path=paths, value=st.sampled_from(["x", "z"]))
    def replace(self, path: str, value: str) -> None:
        uri = f"./{path}" if path else "."
        meta = Meta(format="bin") if path == "Package" else Meta(format="chr")
        expected = self.model.replace(path, self.server, value)
        self.agree(lambda: self.tree.replace(uri, value, meta), expected)

    @rule(path=paths, acl=st.sampled_from(ACLS))
    def set_acl(self, path: str, acl: str) -> None:
        uri = f"./{path}?prop=ACL" if path else ".?prop=ACL"
        expected = self.model.set_acl(path, self.server, acl)
        self.agree(lambda: self.tree.replace(uri, acl), expected)

    @rule(path=paths)
    def delete(self, path: str) -> None:
        uri = f"./{path}" if path else "."
        expected = self.model.delete(path, self.server)
        self.agree(lambda: self.tree.delete(uri), expected)

    @rule(path=paths.filter(bool), name=st.sampled_from(NAMES))
    def rename(self, path: str, name: str) -> None:
        expected = self.model.rename(path, self.server, name)
        self.agree(lambda: self.tree.replace(f"./{path}?prop=Name", name), expected)

    @rule(source=paths.filter(bool), to=paths.filter(bool))
    def copy(self, source: str, to: str) -> None:
        expected = self.model.copy_node(source, to, self.server)
        self.agree(lambda: self.tree.copy(f"./{source}", f"./{to}"), expected)

    @precondition(lambda self: self.transaction is None)
    @rule()
    def begin_atomic(self) -> None:
        self.kept = self.model.copy()
        self.transaction = self.tree.transaction()

    @precondition(lambda self: self.transaction is not None)
    @rule(keep=st.booleans())
    def end_atomic(self, keep: bool) -> None:
        assert self.transaction is not None
        assert self.kept is not None
        if keep:
            self.transaction.commit()
        else:
            assert self.transaction.roll_back() == frozenset()
            self.model = self.kept
        self.transaction = self.kept = None

    @rule()
    def reboot(self) -> None:
        """Also in the middle of an Atomic: nothing of it is there then."""
        if self.transaction is not None:
            assert self.kept is not None
            self.model = self.kept
            self.transaction = self.kept = None
        self.tree = Tree(SHARED, Nvm(self.nvm._flash), server_id=self.server)

    @invariant()
    def same_nodes(self) -> None:
        found: dict[str, tuple[Any, str]] = {}
        todo = [("", self.tree.root)]
        while todo:
            path, node = todo.pop()
            found[path] = (None if node.is_interior else node.value, node.acl)
            todo += [(f"{path}/{name}".lstrip("/"), one) for name, one in node.children.items()]
        assert found == {path: tuple(node) for path, node in self.model.nodes.items()}


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
