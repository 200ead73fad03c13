"""Commands on the tree: what each one answers to what, as a table, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from protocols.omadm.model import Meta
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Execution, Hooks, Tree
from protocols.omadm.tree_nodes import Given, SharedTree, TreeFeatures, instantiate
from protocols.omadm.tree_store import STORED_LIMIT
from tests.protocols.omadm.device_parts import (
    OTHER,
    SERVER,
    SHARED,
    SMALL,
    make_nvm,
    small_shared,
    small_tree,
)
from tests.protocols.omadm.musts import musts

NODE = Meta(format="node")
LONG = "x" * 33
READ_ONLY = small_shared(acl="Get=*")
NO_GET = small_shared(acl="Add=*")


def status_of(call: Callable[[], StatusCode]) -> int:
    try:
        return call()
    except TreeError as error:
        return error.status


@musts("DM-101")
@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (".", 200),
        ("./Fixed", 200),
        ("Fixed/Name", 200),
        ("./Box/one/a", 200),
        ("./Fixed/Secret", 405),  # AccessType has no Get
        ("./Run", 405),
        ("./Nothing", 404),
        ("./Fixed/Name/below", 404),
        ("./fixed", 404),  # names are compared with their case
        ("./Box/one/", 404),
        ("./a/b/c/d/e", 414),
        (f"./{LONG}", 414),
        ("./Box?x=y", 406),
    ],
)
def test_get(uri: str, status: int) -> None:
    def call() -> StatusCode:
        assert small_tree().get(uri)
        return StatusCode.OK

    assert status_of(call) == status


@musts("DM-102")
def test_get_of_an_interior_node_lists_its_children() -> None:
    (item,) = small_tree().get("./Box")
    assert (item.source, item.data) == ("./Box", "one/note")
    assert item.meta is not None
    assert item.meta.format == "node"
    tree = small_tree()
    tree.add("./Box/empty", meta=NODE)
    assert tree.get("./Box/empty")[0].data == "", "an empty list, not none"


def test_get_of_a_leaf_tells_format_and_type() -> None:
    (item,) = small_tree().get("Fixed/Name")
    assert (item.source, item.data) == ("Fixed/Name", "n")
    assert item.meta == Meta(format="chr", type="text/plain")


@musts("DM-097", "DM-128")
@pytest.mark.parametrize(
    ("uri", "data", "meta", "status"),
    [
        ("./Box/one/c", "3", None, 200),
        ("./Box/one/c", "3", Meta(format="chr"), 200),
        ("./Box/one/c", "3", Meta(format="int"), 200),
        ("./Box/one/c", None, Meta(format="null"), 200),
        ("./Box/one/c", "TRUE", Meta(format="bool"), 200),
        ("./Box/one/c", "-1.5e3", Meta(format="float"), 200),
        ("./Box/one/c", "AAEC", Meta(format="b64"), 200),
        ("./Box/one/c", b"\x00\xff", Meta(format="bin"), 200),
        ("./Box/two", None, NODE, 200),
        ("./Box/two", None, None, 200),  # the description says that it is a node
        ("./Box/two", "", NODE, 200),
        ("Box/two", None, NODE, 200),
        (".", None, NODE, 418),
        ("./Box", None, NODE, 418),
        ("./Box/one", None, NODE, 418),
        ("./Box/one/a", "9", None, 418),
        ("./Box/none/a", "9", None, 404),
        ("./None/a", "9", None, 404),
        ("./Box/one/a/b", "9", None, 405),  # below a leaf
        ("./New", "9", None, 405),  # the description has none there
        ("./Fixed/New", "9", None, 405),
        ("./Fixed/Kept", "9", None, 405),  # nobody may Add it
        ("./Box/*", None, NODE, 405),
        ("./Box/one/c?prop=Name", "d", None, 404),
        ("./Box/one/a?prop=Title", "d", None, 405),
        ("./Box?list=Struct", None, None, 405),
        ("./Box/one/c", None, NODE, 415),
        ("./Box/two", "3", Meta(format="chr"), 415),
        ("./Box/two", "3", NODE, 415),
        ("./Box/one/c", "x", Meta(format="xml"), 415),
        ("./Box/one/c", "x", Meta(format="int"), 415),
        ("./Box/one/c", "", Meta(format="int"), 415),
        ("./Box/one/c", "maybe", Meta(format="bool"), 415),
        ("./Box/one/c", "x", Meta(format="null"), 415),
        ("./Box/one/c", "%%", Meta(format="b64"), 415),
        ("./Box/one/c", b"\xff", Meta(format="chr"), 415),
        ("./Box/one/c", "x" * 64, None, 200),
        ("./Box/one/c", "x" * 65, None, 413),
        ("./Box/one/c", "ä" * 33, None, 413),
        ("./Box/one/c/d/e", "x", None, 414),
        (f"./Box/one/{LONG}", "x", None, 414),
        ("./Box/one/", "x", None, 404),
    ],
)
def test_add(uri: str, data: str | bytes | None, meta: Meta | None, status: int) -> None:
    tree = small_tree()
    before = tree.root
    assert status_of(lambda: tree.add(uri, data, meta)) == status
    assert (tree.root is before) == (status != 200)
    if status == 200 and data is not None and "one" in uri:
        (item,) = tree.get(uri)
        expected = b"\x00\x01\x02" if data == "AAEC" else data
        assert item.data == expected


@musts("DM-098", "DM-128")
@pytest.mark.parametrize(
    ("uri", "data", "meta", "status"),
    [
        ("./Fixed/Lang", "de", None, 200),
        ("./Fixed/Secret", "new", None, 200),
        ("./Box/one/a", "9", None, 200),
        ("./Box/one/a", b"\x01", Meta(format="bin"), 200),
        ("./Box/one/a", "x", Meta(type="application/x"), 200),
        ("./Fixed/Name", "x", None, 405),  # AccessType has no Replace
        ("./Fixed", None, NODE, 405),
        ("./Box/one", "x", None, 405),  # an interior node has no value
        ("./Box/one", None, NODE, 405),
        (".", None, NODE, 405),
        ("./Box/one/c", "x", None, 404),  # MUST NOT create
        ("./Fixed/Lang", "x", Meta(type="application/x"), 415),
        ("./Fixed/Lang", "x", Meta(format="int"), 415),
        ("./Fixed/Lang", "x" * 1025, None, 413),
        ("./Box?list=Struct", "x", None, 405),
        ("./a/b/c/d/e", "x", None, 414),
    ],
)
def test_replace(uri: str, data: str | bytes | None, meta: Meta | None, status: int) -> None:
    tree = small_tree()
    before = tree.root
    assert status_of(lambda: tree.replace(uri, data, meta)) == status
    assert (tree.root is before) == (status != 200)
    if status == 200:
        assert tree.value(uri) == data


@musts("DM-103", "DM-119")
@pytest.mark.parametrize(
    ("uri", "status", "there"),
    [
        ("./Box/one", 200, False),
        ("./Box/one/a", 200, False),
        ("./Fixed/Gone", 200, False),
        ("./Fixed/Kept", 405, True),  # AccessType has no Delete
        ("./Fixed/Name", 405, True),
        ("./Box", 405, True),  # permanent
        (".", 405, True),
        ("./None", 404, False),
        ("./Box/one?prop=Title", 405, True),
        ("./Box/none?prop=Title", 404, False),
        ("./a/b/c/d/e", 414, False),
    ],
)
def test_delete(uri: str, status: int, there: bool) -> None:
    tree = small_tree()
    assert status_of(lambda: tree.delete(uri)) == status
    assert tree.exists(uri) is there


@musts("DM-104")
def test_a_protected_child_dies_with_its_parent() -> None:
    tree = small_tree()
    tree.replace("./Box/one/a?prop=ACL", "Get=*")
    assert status_of(lambda: tree.delete("./Box/one/a")) == 425
    assert tree.delete("./Box/one") == 200
    assert not tree.exists("./Box/one/a")


@musts("DM-105")
@pytest.mark.parametrize(
    ("source", "target", "status"),
    [
        ("./Box/one", "./Box/two", 200),
        ("./Box/one/a", "./Box/one/c", 200),
        ("./Fixed/Gone", "./Box/one/c", 200),
        ("./Fixed/Name", "./Box/one/c", 405),  # AccessType has no Copy
        ("./Fixed/Secret", "./Box/one/c", 405),  # what cannot be read cannot be copied
        ("./Box/none", "./Box/two", 404),
        ("./Box/one", "./None/two", 404),
        ("./Box/one", "./Box/one", 418),
        ("./Box/one/a", "./Box/one/b", 200),  # a leaf takes the value
        ("./Box/one/a", "./Fixed/Lang", 200),
        ("./Box/one/a", "./Fixed/Name", 405),  # AccessType has no Replace
        ("./Box/one/a", "./Package", 403),  # its Format is another
        ("./Box/one/a", "./Box/one", 418),
        ("./Box/one", "./Box/one/a", 418),
        ("./Box/one", "./Fixed/two", 405),
        ("./Box/one", "./Box/one/c", 415),  # an interior node where a leaf must be
        ("./Box/one/a", "./Box/two", 415),
        ("./Box/one?prop=Title", "./Box/two", 405),
        ("./Box/one", "./Box/two?prop=Title", 405),
        ("./a/b/c/d/e", "./Box/two", 414),
        ("./Box/one", "./a/b/c/d/e", 414),
    ],
)
def test_copy(source: str, target: str, status: int) -> None:
    tree = small_tree()
    before = tree.root
    if "two?" in target:
        tree.add("./Box/two", meta=NODE)
        before = tree.root
    assert status_of(lambda: tree.copy(source, target)) == status
    assert (tree.root is before) == (status != 200)
    if status == 200:
        assert tree.get(target)[0].data == tree.get(source)[0].data


@musts("DM-105")
def test_a_copy_is_of_all_that_is_below_and_keeps_no_acl() -> None:
    tree = small_tree()
    tree.replace("./Box/one?prop=ACL", f"Get={SERVER}&Replace={SERVER}")
    tree.replace("./Box/one/a?prop=ACL", "Get=*")
    tree.copy("./Box/one", "./Box/two")
    assert tree.get("./Box/two/a?prop=ACL")[0].data == ""
    assert tree.get("./Box/two/b")[0].data == "2"
    assert tree.get("./Box/two?prop=ACL")[0].data == ""
    tree.replace("./Box/two/b", "9")
    assert tree.get("./Box/one/b")[0].data == "2"


def test_a_copy_shows_nothing_that_a_get_would_not() -> None:
    tree = small_tree(server=None)
    tree.replace("./Box/one/a?prop=ACL", f"Get={OTHER}")
    tree.server_id = SERVER
    assert status_of(lambda: tree.copy("./Box/one", "./Box/two")) == 425


def test_a_client_without_copy() -> None:
    shared = SharedTree(SHARED.root, features=TreeFeatures(copy=False))
    tree = Tree(shared, server_id=SERVER)
    assert status_of(lambda: tree.copy("./Box/one", "./Box/two")) == 501


@musts("DM-126")
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (lambda tree: tree.add("./Box/two", None, NODE), 425),
        (lambda tree: tree.add("./Box/one/c", "x"), 425),
        (lambda tree: tree.replace("./Fixed/Lang", "x"), 425),
        (lambda tree: tree.replace("./Box/one?prop=Title", "x"), 425),
        (lambda tree: tree.replace("./Box/one?prop=Name", "x"), 425),
        (lambda tree: tree.replace("./Box/one?prop=ACL", "Get=*"), 425),
        (lambda tree: tree.delete("./Box/one"), 425),
        (lambda tree: tree.copy("./Box/one", "./Box/two"), 425),
        (lambda tree: tree.execute("./Run"), 425),
        # What nobody may do is 405, whoever asks, and what is not there 404.
        (lambda tree: tree.replace("./Fixed/Name", "x"), 405),
        (lambda tree: tree.delete("./Fixed/Kept"), 405),
        (lambda tree: tree.replace("./None", "x"), 404),
        (lambda tree: tree.execute("./Fixed"), 405),
    ],
)
def test_without_the_right(command: Callable[[Tree], StatusCode], status: int) -> None:
    tree = Tree(READ_ONLY, server_id=SERVER)
    assert status_of(lambda: command(tree)) == status
    assert tree.root is READ_ONLY.root


@musts("DM-101", "DM-126")
def test_get_without_the_right() -> None:
    tree = Tree(NO_GET, server_id=SERVER)
    for uri in (".", "./Fixed", "./Fixed/Name", "./Fixed/Name?prop=Format", ".?list=Struct"):
        with pytest.raises(TreeError) as caught:
            tree.get(uri)
        assert caught.value.status == 425


# --- who may do what


@musts("DM-122")
def test_a_right_is_of_the_nearest_acl_and_never_joined() -> None:
    root = instantiate(
        SMALL,
        Given(
            {"Box": Given({"one": {"a": "1"}, "note": "x"}, acl=f"Add=*&Get={OTHER}")},
            acl="Add=*&Get=*",
        ),
    )
    tree = Tree(SharedTree(root), server_id=SERVER)
    assert tree.get(".")[0].data == "Box"
    for uri in ("./Box", "./Box/note", "./Box/one/a"):
        with pytest.raises(TreeError) as caught:
            tree.get(uri)
        assert caught.value.status == 425
    tree.server_id = OTHER
    assert tree.get("./Box/one/a")[0].data == "1"
    assert status_of(lambda: tree.replace("./Box/note", "y")) == 425


@musts("DM-125")
def test_the_creator_of_a_node_gets_the_rights_to_go_on() -> None:
    """Section 7.7.1.3: where it may Add and not Replace at the parent. What everybody had stays."""
    tree = Tree(small_shared(acl="Add=*&Get=*"), server_id=SERVER)
    assert tree.add("./Box/mine", None, NODE) == 200
    acl = tree.get("./Box/mine?prop=ACL")[0].data
    assert acl == f"Add=*&Delete={SERVER}&Get=*&Replace={SERVER}"
    assert tree.add("./Box/mine/a", "1") == 200
    assert tree.replace("./Box/mine/a", "2") == 200
    tree.server_id = OTHER
    assert tree.get("./Box/mine/a")[0].data == "2"
    assert status_of(lambda: tree.replace("./Box/mine/a", "3")) == 425
    assert status_of(lambda: tree.delete("./Box/mine")) == 425
    tree.server_id = SERVER
    assert tree.delete("./Box/mine") == 200


@musts("DM-125")
def test_a_new_node_inherits_where_its_creator_may_replace() -> None:
    tree = small_tree()
    tree.add("./Box/mine", None, NODE)
    assert tree.get("./Box/mine?prop=ACL")[0].data == ""


def test_the_device_itself_is_stopped_by_no_acl_but_by_the_description() -> None:
    tree = Tree(NO_GET)
    assert tree.get("./Fixed/Secret")[0].data == "hidden"
    assert tree.replace("./Fixed/Name", "x") == 200
    assert tree.delete("./Fixed/Kept") == 200
    assert tree.add("./Fixed/Kept", "back") == 200
    assert status_of(lambda: tree.add("./Fixed/Other", "x")) == 405
    assert status_of(lambda: tree.delete("./Box")) == 405, "permanent for everybody"


# --- Exec


@musts("DM-106")
def test_exec() -> None:
    seen: list[Execution] = []

    def run(execution: Execution) -> StatusCode:
        seen.append(execution)
        return StatusCode.ACCEPTED

    tree = small_tree(hooks=Hooks(on_execute={"./Run": run}))
    assert tree.execute("Run", "now", "c-1") == 202
    assert seen == [Execution("./Run", "now", "c-1", SERVER)]
    assert status_of(lambda: tree.execute("./Box/one")) == 406, "nothing stands behind it"
    assert status_of(lambda: tree.execute("./Fixed")) == 405
    assert status_of(lambda: tree.execute("./None")) == 404
    assert status_of(lambda: tree.execute("./Run?prop=Name")) == 405


@musts("DM-106")
def test_an_executor_says_why_not() -> None:
    def refuse(execution: Execution) -> StatusCode:
        raise TreeError(StatusCode.NOT_ALLOWED, "busy")

    tree = small_tree(hooks=Hooks(on_execute={"./Box/*": refuse}))
    assert status_of(lambda: tree.execute("./Box/one")) == 405


# --- computed values


def test_computed_values_are_asked_for_each_time() -> None:
    values = iter(["10", "30"])
    tree = small_tree(hooks=Hooks(computed={"./Fixed/Name": lambda: next(values)}))
    assert tree.get("./Fixed/Name")[0].data == "10"
    assert tree.get(".?list=StructData")[2].data == "30"


def test_a_server_overrides_what_a_device_would_say() -> None:
    tree = small_tree(hooks=Hooks(computed={"./Fixed/Lang": lambda: "computed"}))
    assert tree.get("./Fixed/Lang")[0].data == "en", "the persona's, as it may be replaced"
    tree.replace("./Fixed/Lang", "fr")
    assert tree.get("./Fixed/Lang")[0].data == "fr"


# --- what fits


@musts("DM-097")
def test_a_full_device_answers_420_and_keeps_what_it_had() -> None:
    tree = small_tree(nvm=make_nvm())
    added = 0
    status = 200
    while status == 200:
        name = f"./Box/{added:02}"
        status = status_of(partial(tree.add, name, None, NODE))
        if status == 200:
            status = status_of(partial(tree.add, f"{name}/v", "x" * 64))
        added += status == 200
    assert status == 420
    assert 64 * added < STORED_LIMIT < 90 * (added + 1)
    assert tree.get("./Box/00/v")[0].data == "x" * 64
    assert tree.delete("./Box/00") == 200
    assert tree.add("./Box/new", None, NODE) == 200


def test_a_storage_that_others_have_filled_is_full_too() -> None:
    nvm = make_nvm()
    nvm.set("engine", "e", b"x" * 3900)
    tree = small_tree(nvm=nvm)
    before = tree.root
    assert status_of(lambda: tree.replace("./Box/note", "y" * 64)) == 200
    assert status_of(lambda: tree.add("./Box/one/c", "z" * 64)) == 420
    assert tree.root is not before
    assert status_of(lambda: tree.add("./Box/one/c", "z" * 64)) == 420
    assert tree.get("./Box/note")[0].data == "y" * 64
    assert small_tree(nvm=nvm).get("./Box/note")[0].data == "y" * 64
