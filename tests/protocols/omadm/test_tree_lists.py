"""A part of the tree in one answer (`?list=`), and sub-trees put in as one value (TNDS)."""

from __future__ import annotations

import pytest

from protocols.omadm import wbxml, xml
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import Item, Meta, MgmtTree, Node
from protocols.omadm.status import TreeError
from protocols.omadm.subtrees import MAX_DEPTH, flatten
from protocols.omadm.tree import Hooks, Tree
from protocols.omadm.tree_nodes import DMACC_TYPE, SharedTree, TreeFeatures
from protocols.omadm.tree_uri import UriLimits
from tests.protocols.omadm.device_parts import (
    OTHER,
    PERSONA,
    SERVER,
    SHARED,
    make_nvm,
    small_tree,
)
from tests.protocols.omadm.musts import musts

TREE_XML = Meta(format="xml", type="application/vnd.syncml.dmtnds+xml")
TREE_WBXML = Meta(format="bin", type="application/vnd.syncml.dmtnds+wbxml")


def rows(items: tuple[Item, ...]) -> list[tuple[str | None, str | None, object]]:
    return [(item.source, item.meta and item.meta.format, item.data) for item in items]


def failed(tree: Tree, uri: str, data: object, *, replace: bool = False) -> int:
    """The status of an Add (or Replace) that must leave the tree as it was."""
    before = tree.root
    assert isinstance(data, MgmtTree | str)
    with pytest.raises(TreeError) as caught:
        (tree.replace if replace else tree.add)(uri, data, TREE_XML)
    assert tree.root is before
    return caught.value.status


# --- out of the tree


@musts("DM-120")
def test_struct_is_every_node_and_no_data() -> None:
    assert rows(small_tree().get("./Box?list=Struct")) == [
        ("./Box", "node", None),
        ("./Box/one", "node", None),
        ("./Box/one/a", "chr", None),
        ("./Box/one/b", "chr", None),
        ("./Box/note", "chr", None),
    ]


@musts("DM-120")
def test_struct_data_has_the_leaves() -> None:
    tree = small_tree(hooks=Hooks(computed={"./Fixed/Name": lambda: "computed"}))
    assert rows(tree.get("Fixed?list=StructData")) == [
        ("./Fixed", "node", None),
        ("./Fixed/Name", "chr", "computed"),
        ("./Fixed/Lang", "chr", "en"),
        ("./Fixed/Secret", "chr", None),  # AccessType has no Get
        ("./Fixed/Gone", "chr", "g"),
        ("./Fixed/Kept", "chr", "k"),
    ]
    assert rows(tree.get("./Box/note?list=StructData")) == [("./Box/note", "chr", "first")]


def test_what_may_not_be_read_is_left_out() -> None:
    tree = small_tree(server=None)
    tree.replace("./Box/one?prop=ACL", f"Get={OTHER}")
    tree.server_id = SERVER
    sources = [source for source, _, _ in rows(tree.get("./Box?list=Struct"))]
    assert sources == ["./Box", "./Box/note"]
    (item,) = tree.get("./Box?list=TNDS")
    assert isinstance(item.data, MgmtTree)
    assert [node.name for node in item.data.nodes[0].children] == ["note"]
    with pytest.raises(TreeError) as caught:
        tree.get("./Box/one?list=Struct")
    assert caught.value.status == 425


@musts("DM-120")
def test_tnds_is_one_value() -> None:
    (item,) = small_tree().get("./Box/one?list=TNDS")
    assert (item.source, item.meta) == ("./Box/one", TREE_XML)
    assert item.data == MgmtTree(
        (
            Node(
                "one",
                path="./Box",
                format="node",
                children=(
                    Node("a", format="chr", value="1"),
                    Node("b", format="chr", value="2"),
                ),
            ),
        )
    )
    (item,) = small_tree().get(".?list=TNDS")
    assert isinstance(item.data, MgmtTree)
    assert (item.data.nodes[0].name, item.data.nodes[0].path) == (".", None)


def test_tnds_says_how_the_session_is_written() -> None:
    tree = Tree(SHARED, server_id=SERVER, encoding=Encoding.WBXML)
    (item,) = tree.get("./Box?list=TNDS")
    assert item.meta is not None
    assert item.meta.type == "application/vnd.syncml.dmtnds+wbxml"


@musts("DM-120")
@pytest.mark.parametrize(
    ("attribute", "leaf"),
    [
        ("TNDS", Node("Lang", path="./Fixed", format="chr", type="text/plain", value="en")),
        ("TNDS-Value", Node("Lang", path="./Fixed", format="chr", type="text/plain")),
        ("TNDS-Value-Type", Node("Lang", path="./Fixed", format="chr")),
        (
            "TNDS+ACL+Title+Size",
            Node(
                "Lang",
                path="./Fixed",
                format="chr",
                type="text/plain",
                value="en",
                acl="Get=*",
                title="Language",
                size=2,
            ),
        ),
        ("TNDS+ACL-Format-Type-Value", Node("Lang", path="./Fixed", acl="Get=*")),
        # What the device does not keep is not there.
        ("TNDS+TStamp+VerNo-Type", Node("Lang", path="./Fixed", format="chr", value="en")),
    ],
)
def test_properties_of_tnds(attribute: str, leaf: Node) -> None:
    tree = small_tree()
    tree.replace("./Fixed/Lang?prop=Title", "Language")
    tree.replace("./Fixed/Lang?prop=ACL", "Get=*")
    (item,) = tree.get(f"./Fixed/Lang?list={attribute}")
    assert item.data == MgmtTree((leaf,))


@musts("DM-120")
@pytest.mark.parametrize(
    "attribute",
    ["Everything", "struct", "Struct+ACL", "TNDS+Colour", "TNDS+", "TNDS ACL", "TNDS++ACL"],
)
def test_lists_that_are_none(attribute: str) -> None:
    with pytest.raises(TreeError) as caught:
        small_tree().get(f"./Box?list={attribute}")
    assert caught.value.status == 406


@musts("DM-120")
@pytest.mark.parametrize("attribute", ["Struct", "StructData", "TNDS"])
def test_a_client_without_lists(attribute: str) -> None:
    shared = SharedTree(SHARED.root, features=TreeFeatures(lists=frozenset()))
    with pytest.raises(TreeError) as caught:
        Tree(shared, server_id=SERVER).get(f"./Box?list={attribute}")
    assert caught.value.status == 406


# --- into the tree


def sub_tree(name: str = "two", path: str | None = None) -> MgmtTree:
    return MgmtTree(
        (
            Node(
                name,
                path=path,
                format="node",
                acl="Get=*&Delete=*",
                title="Second",
                children=(
                    Node("x", format="chr", value="1"),
                    Node("y", format="bin", value=b"\x00"),
                ),
            ),
        )
    )


@pytest.mark.parametrize(
    ("uri", "tree"),
    [
        ("./Box", sub_tree()),  # the target is there: the nodes hang below it
        ("./Box/two", sub_tree()),  # it is not: it is the sub-tree's root
        ("./Box/two", sub_tree("other name")),
        ("./Box", sub_tree(path="./Box")),  # a full URI that says the same
    ],
)
def test_a_sub_tree_is_added_whole(uri: str, tree: MgmtTree) -> None:
    device = small_tree(nvm=make_nvm())
    assert device.add(uri, tree, TREE_XML) == 200
    assert device.get("./Box/two")[0].data == "x/y"
    assert device.get("./Box/two/y")[0].data == b"\x00"
    assert device.get("./Box/two?prop=ACL")[0].data == "Delete=*&Get=*"
    assert device.get("./Box/two?prop=Title")[0].data == "Second"


@pytest.mark.parametrize(
    ("data", "meta"),
    [
        (xml.encode_tree(sub_tree()).decode(), TREE_XML),
        (xml.encode_tree(sub_tree()), TREE_XML),
        (wbxml.encode_tree(sub_tree()), TREE_WBXML),
    ],
)
def test_a_sub_tree_that_came_as_a_document(data: str | bytes, meta: Meta) -> None:
    device = small_tree()
    assert device.add("./Box", data, meta) == 200
    assert device.get("./Box/two/x")[0].data == "1"


def test_a_hierarchy_that_continues_elsewhere() -> None:
    """A node without value or children leads to one with a Path (section 6.2.3.1.5)."""
    tree = MgmtTree(
        (
            Node("two", format="node"),
            Node("a", path="./Box/two", format="chr", value="1"),
            Node("b", path="two", format="chr", value="2"),
        )
    )
    device = small_tree()
    assert device.add("./Box", tree) == 200
    assert device.get("./Box/two/a")[0].data == "1"
    assert device.get("./Box/two/b")[0].data == "2"


@pytest.mark.parametrize(
    ("uri", "tree", "status"),
    [
        ("./Box/one/a", sub_tree(), 405),  # below a leaf
        ("./None/two", sub_tree(), 404),
        ("./Fixed", sub_tree(), 405),
        ("./Box/one", sub_tree("c"), 415),  # an interior node where a leaf must be
        ("./Box", sub_tree("note"), 418),
        ("./Box/x", MgmtTree((Node("a"), Node("b"))), 404),
        ("./Box", MgmtTree((Node("two", format="node", acl="Get"),)), 400),
        ("./Box", MgmtTree((Node("a" * 33, format="node"),)), 414),
        ("./Box", MgmtTree((Node("a/b", format="node"),)), 400),
        ("./Box", MgmtTree((Node("", format="node"),)), 404),
        ("./Box", MgmtTree((Node("two", path="./Box?prop=ACL", format="node"),)), 400),
        ("./Box", MgmtTree((Node("a?prop=ACL", format="node"),)), 400),
        # The last of it is wrong: nothing of it stays.
        (
            "./Box",
            MgmtTree(
                (
                    Node(
                        "two",
                        format="node",
                        children=(Node("a", value="1"), Node("b", format="int", value="x")),
                    ),
                )
            ),
            415,
        ),
        ("./Box", MgmtTree((Node("one", format="node", children=(Node("a", value="9"),)),)), 418),
        ("./Box", "no tree", 415),
        ("./Box", "<MgmtTree><x/></MgmtTree>", 415),
    ],
)
def test_all_of_a_sub_tree_or_nothing(uri: str, tree: MgmtTree | str, status: int) -> None:
    assert failed(small_tree(), uri, tree) == status


def _deep(levels: int) -> MgmtTree:
    node = Node("n", format="node")
    for _ in range(levels):
        node = Node("n", format="node", children=(node,))
    return MgmtTree((node,))


def test_the_depth_of_a_sub_tree_is_bounded() -> None:
    limits = UriLimits(0, 0, 0)
    assert len(list(flatten(_deep(MAX_DEPTH - 1), (), limits))) == MAX_DEPTH
    with pytest.raises(TreeError) as caught:
        list(flatten(_deep(MAX_DEPTH), (), limits))
    assert caught.value.status == 414


def test_a_sub_tree_needs_the_rights_of_each_of_its_nodes() -> None:
    device = small_tree(server=None)
    device.replace("./Box/one?prop=ACL", "Get=*")
    device.server_id = SERVER
    tree = MgmtTree((Node("one", format="node", children=(Node("c", value="9"),)),))
    assert failed(device, "./Box", tree) == 425


def test_replace_puts_one_sub_tree_in_place_of_another() -> None:
    device = small_tree(nvm=make_nvm())
    assert device.replace("./Box/one", sub_tree("one"), TREE_XML) == 200
    assert device.get("./Box/one")[0].data == "x/y"
    assert failed(small_tree(), "./Box/note", sub_tree(), replace=True) == 415
    assert failed(small_tree(), "./Box", sub_tree(), replace=True) == 405, "permanent"
    wrong = MgmtTree((Node("one", format="node", children=(Node("c", format="xml", value="x"),)),))
    assert failed(small_tree(), "./Box/one", wrong, replace=True) == 415


def test_a_replaced_sub_tree_keeps_the_acl_that_it_does_not_bring() -> None:
    device = small_tree()
    device.replace("./Box/one?prop=ACL", "Get=*&Replace=*&Add=*")
    device.replace("./Box/one?prop=Title", "First")
    tree = MgmtTree((Node("any name", format="node", children=(Node("x", value="1"),)),))
    assert device.replace("./Box/one", tree) == 200
    assert device.get("./Box/one?prop=ACL")[0].data == "Add=*&Get=*&Replace=*"
    assert device.get("./Box/one?prop=Title")[0].data == "First"
    assert device.get("./Box/one")[0].data == "x"
    device.replace("./Box/one", sub_tree("one"))
    assert device.get("./Box/one?prop=ACL")[0].data == "Delete=*&Get=*"


def test_a_tree_read_and_put_back_is_the_same() -> None:
    device = small_tree()
    (item,) = device.get("./Box/one?list=TNDS+ACL+Title")
    assert isinstance(item.data, MgmtTree)
    device.delete("./Box/one")
    device.add("./Box", item.data, item.meta)
    assert device.get("./Box/one?list=TNDS+ACL+Title")[0].data == item.data


# --- the inbox


def account(name: str, server: str = "new.example") -> Node:
    return Node(
        name,
        format="node",
        ddf_name=DMACC_TYPE,
        children=(
            Node("AppID", format="chr", value="w7"),
            Node("ServerID", format="chr", value=server),
        ),
    )


@musts("DM-132")
def test_the_inbox_takes_objects_and_puts_them_where_they_belong() -> None:
    device = Tree(PERSONA, make_nvm(), server_id=SERVER)
    assert device.add("./Inbox", MgmtTree((account("new"),)), TREE_XML) == 200
    assert device.get("./DMAcc/new/ServerID")[0].data == "new.example"
    assert device.names("./Inbox") == ()
    # The name is taken: the device finds another.
    assert device.add("./Inbox/any", MgmtTree((account("new"), account("main"))), TREE_XML) == 200
    assert device.names("./DMAcc") == ("main", "new", "new-2", "main-2")


@musts("DM-132")
@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda tree: tree.get("./Inbox"), 405),
        (lambda tree: tree.get("./Inbox?list=Struct"), 405),
        (lambda tree: tree.add("./Inbox/x", "text"), 405),
        (lambda tree: tree.delete("./Inbox"), 405),
        (lambda tree: tree.replace("./Inbox", "x"), 405),
        (lambda tree: tree.add("./Inbox", MgmtTree((Node("x", ddf_name="urn:other"),))), 406),
        (lambda tree: tree.add("./Inbox", MgmtTree((Node("x"),))), 406),
    ],
)
def test_nobody_looks_into_the_inbox(call: object, status: int) -> None:
    assert callable(call)
    with pytest.raises(TreeError) as caught:
        call(Tree(PERSONA, server_id=SERVER))
    assert caught.value.status == status
