"""`?prop=`: which property may be read and written, by whom, and what a rename is."""

from __future__ import annotations

import pytest

from protocols.omadm.model import Meta
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Hooks, Tree
from protocols.omadm.tree_nodes import SharedTree, TreeFeatures
from tests.protocols.omadm.device_parts import (
    FULL,
    OTHER,
    SERVER,
    SHARED,
    small_shared,
    small_tree,
)
from tests.protocols.omadm.musts import musts


def read(tree: Tree, uri: str) -> object:
    try:
        (item,) = tree.get(uri)
    except TreeError as error:
        return int(error.status)
    assert item.meta is None, "a property has no Meta"
    assert item.source == uri
    return item.data


def write(tree: Tree, uri: str, value: str | bytes | None) -> int:
    before = tree.root
    try:
        return tree.replace(uri, value)
    except TreeError as error:
        assert tree.root is before
        return error.status


@musts("DM-118", "DM-119", "DM-122")
@pytest.mark.parametrize(
    ("uri", "answer"),
    [
        ("./Fixed/Name?prop=ACL", ""),  # inherited
        (".?prop=ACL", FULL),
        ("./Fixed/Name?prop=Format", "chr"),
        ("./Fixed?prop=Format", "node"),
        ("./Fixed/Name?prop=Name", "Name"),
        (".?prop=Name", "."),
        ("./Fixed/Name?prop=Type", "text/plain"),
        ("./Fixed?prop=Type", ""),
        ("./Fixed/Secret?prop=Format", "chr"),  # AccessType is about the value
        ("./Fixed/Name?prop=Size", "1"),
        ("./Fixed?prop=Size", 406),  # MUST NOT for interior nodes
        ("./Fixed/Name?prop=Title", ""),
        ("./Fixed/Name?prop=TStamp", 406),
        ("./Fixed/Name?prop=VerNo", 406),
        ("./Fixed/Name?prop=Colour", 406),
        ("./Fixed/Name?prop=acl", 406),
        ("./None?prop=ACL", 404),
    ],
)
def test_get(uri: str, answer: object) -> None:
    assert read(small_tree(), uri) == answer


@musts("DM-099", "DM-118", "DM-119")
@pytest.mark.parametrize(
    ("uri", "value", "status"),
    [
        ("./Box?prop=ACL", "Get=*", 200),
        ("./Box?prop=ACL", "", 200),
        ("./Box?prop=ACL", "Get", 400),
        ("./Box?prop=ACL", b"Get=*", 415),
        ("./Fixed/Name?prop=Format", "int", 405),
        ("./Fixed/Name?prop=Type", "x", 405),
        ("./Fixed/Name?prop=Size", "9", 405),
        ("./Fixed/Name?prop=Title", "A name", 200),
        ("./Fixed/Name?prop=Title", "x" * 65, 413),
        ("./Fixed/Name?prop=TStamp", "20010711T163817Z", 406),
        ("./Fixed/Name?prop=VerNo", "1", 406),
        ("./None?prop=Title", "x", 404),
    ],
)
def test_replace(uri: str, value: str | bytes, status: int) -> None:
    tree = small_tree()
    assert write(tree, uri, value) == status
    if status == 200:
        assert read(tree, uri) == value


@musts("DM-119")
def test_a_client_that_keeps_the_mandatory_ones_only() -> None:
    shared = SharedTree(SHARED.root, features=TreeFeatures(properties=frozenset()))
    tree = Tree(shared, server_id=SERVER)
    for name, status in (("Size", 406), ("Title", 406)):
        assert read(tree, f"./Fixed/Name?prop={name}") == status
    assert write(tree, "./Fixed/Name?prop=Title", "x") == 406


def test_the_size_of_a_computed_value_and_of_octets() -> None:
    tree = small_tree(hooks=Hooks(computed={"./Fixed/Name": lambda: "größer"}))
    assert read(tree, "./Fixed/Name?prop=Size") == "8"
    tree.replace("./Box/note", b"\x00\x01", Meta(format="bin"))
    assert read(tree, "./Box/note?prop=Size") == "2"


# --- ACL


@musts("DM-124")
@pytest.mark.parametrize(
    ("parent", "node", "uri", "status"),
    [
        # An interior node: Replace on itself or on its parent.
        ("Get=*", f"Replace={SERVER}", "./Box/one?prop=ACL", 200),
        (f"Replace={SERVER}", "Get=*", "./Box/one?prop=ACL", 200),
        (f"Replace={OTHER}", "Get=*", "./Box/one?prop=ACL", 425),
        (f"Get={SERVER}", "", "./Box/one?prop=ACL", 425),
        # A leaf: Replace on its parent only.
        ("Get=*", f"Replace={SERVER}", "./Box/note?prop=ACL", 425),
        (f"Replace={SERVER}", "Get=*", "./Box/note?prop=ACL", 200),
    ],
)
def test_who_may_change_an_acl(parent: str, node: str, uri: str, status: int) -> None:
    tree = small_tree(server=None)
    tree.replace(uri, node)
    tree.replace("./Box?prop=ACL", parent)
    tree.server_id = SERVER
    assert write(tree, uri, f"Get={SERVER}") == status


def test_a_replaced_acl_is_the_whole_one() -> None:
    tree = small_tree()
    assert write(tree, "./Box?prop=ACL", f"Get={SERVER}") == 200
    assert read(tree, "./Box?prop=ACL") == f"Get={SERVER}"
    assert write(tree, "./Box/note", "x") == 425
    assert write(tree, "./Box?prop=ACL", "") == 200, "the root's rights reach the parent"
    assert write(tree, "./Box/note", "x") == 200


@musts("DM-123")
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("", 405),  # the root MUST have one
        ("Get=*", 405),  # Add of the root should stay everybody's
        (f"Add={SERVER}&Get=*&Replace=*", 405),
        ("Add=*&Get=*&Replace=*", 200),
        (f"Add=*&Replace={SERVER}", 200),
    ],
)
def test_the_acl_of_the_root(value: str, status: int) -> None:
    tree = small_tree()
    assert write(tree, ".?prop=ACL", value) == status
    assert read(tree, ".?prop=ACL") == (value if "Get" in value and status == 200 else
                                        425 if status == 200 else FULL)  # fmt: skip


@musts("DM-123")
def test_the_root_without_an_acl_gets_the_default() -> None:
    assert SharedTree(small_shared(acl="").root).root.acl == "Add=*&Get=*"


@musts("DM-122")
def test_the_example_of_the_standard() -> None:
    """Section 7.7.1.6, with its statements about NodeA and NodeB."""
    tree = small_tree(server=None)
    for uri, acl in (
        (".", "Add=*&Get=*&Replace=srvR"),
        ("./Fixed", "Get=*&Replace=srvC"),
        ("./Fixed/Lang", "Get=*"),
        ("./Box", "Replace=srvA&Get=*"),
    ):
        tree.replace(f"{uri}?prop=ACL", acl)
    tree.server_id = "anybody"
    assert tree.get("./Fixed/Lang")[0].data == "en"
    assert read(tree, "./Fixed/Lang?prop=ACL") == "Get=*"
    assert read(tree, "./Box/note?prop=ACL") == ""
    for server in ("anybody", "srvA", "srvC", "srvR"):
        tree.server_id = server
        assert write(tree, "./Fixed/Lang", "x") == 425
    tree.server_id = "srvC"
    assert write(tree, "./Fixed/Lang?prop=ACL", "Get=*&Replace=srvC") == 200
    tree.server_id = "srvA"
    assert write(tree, "./Box/note", "x") == 200


# --- Name


@musts("DM-099", "DM-118")
@pytest.mark.parametrize(
    ("uri", "name", "status"),
    [
        ("./Box/one", "two", 200),
        ("./Box/one", "one", 200),
        ("./Box/one/a", "c", 200),
        ("./Box/one/a", "b", 418),
        ("./Box/note", "other", 405),  # the description has it under that name only
        ("./Box/one", "note", 405),
        ("./Fixed/Name", "x", 405),  # permanent
        (".", "x", 405),
        ("./Box/one", "", 404),
        ("./Box/one", "..", 404),
        ("./Box/one", "a/b", 400),
        ("./Box/one", "a?b", 400),
        ("./Box/one", "x" * 33, 414),
    ],
)
def test_rename(uri: str, name: str, status: int) -> None:
    tree = small_tree()
    below = tree.get(uri)[0].data
    assert write(tree, f"{uri}?prop=Name", name) == status
    if status == 200:
        renamed = uri.rpartition("/")[0] + "/" + name
        assert tree.get(renamed)[0].data == below
        assert tree.exists(uri) is (renamed == uri)


def test_a_rename_takes_all_that_is_below_along() -> None:
    tree = small_tree()
    tree.replace("./Box/one?prop=ACL", "Get=*&Replace=*")
    tree.replace("./Box/one?prop=Name", "two")
    assert tree.get("./Box/two/b")[0].data == "2"
    assert read(tree, "./Box/two?prop=ACL") == "Get=*&Replace=*"
    assert tree.get("./Box")[0].data in ("two/note", "note/two")


def test_status_of_what_is_wrong_names_no_value() -> None:
    with pytest.raises(TreeError) as caught:
        small_tree().replace("./Box?prop=ACL", "Secret=hunter2")
    assert caught.value.status is StatusCode.BAD_REQUEST
    assert "hunter2" not in str(caught.value)
