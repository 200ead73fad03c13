"""What a device keeps of its tree: over reboots, no more than it changed, and whatever it reads."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.nvm import Nvm
from protocols.omadm.model import Meta
from protocols.omadm.standard_objects import DeviceValues, shared_tree
from protocols.omadm.tree import Tree
from protocols.omadm.tree_nodes import TreeNode
from protocols.omadm.tree_store import NAMESPACE, apply_changes, encode_changes
from tests.protocols.omadm.device_parts import (
    PERSONA,
    SERVER,
    SHARED,
    make_nvm,
    small_tree,
)

NODE = Meta(format="node")


def same(one: TreeNode, other: TreeNode) -> bool:
    """Whether two trees say the same; identity does not count."""
    return (
        one.schema is other.schema
        and (one.format, one.type, one.value, one.acl, one.title)
        == (other.format, other.type, other.value, other.acl, other.title)
        and one.children.keys() == other.children.keys()
        and all(same(child, other.children[name]) for name, child in one.children.items())
    )


def test_what_a_server_wrote_is_there_after_a_reboot() -> None:
    nvm = make_nvm()
    tree = small_tree(nvm=nvm)
    tree.replace("./Fixed/Lang", "de")
    tree.replace("./Fixed/Lang?prop=Title", "Sprache")
    tree.replace("./Box?prop=ACL", f"Get=*&Add=*&Replace={SERVER}&Delete=*")
    tree.add("./Box/two", None, NODE)
    tree.add("./Box/two/x", b"\x00", Meta(format="bin"))
    tree.replace("./Box/one/a", "5", Meta(format="int", type="text/x"))
    tree.delete("./Box/one/b")
    tree.delete("./Fixed/Gone")
    tree.replace("./Box/one?prop=Name", "renamed")
    nvm.mount()
    again = small_tree(nvm=Nvm(nvm._flash))
    assert same(again.root, tree.root)
    assert again.get("./Box/renamed/a")[0].meta == Meta(format="int", type="text/x")
    assert not again.exists("./Fixed/Gone")


def test_a_device_that_changed_nothing_stores_nothing_and_shares_every_node() -> None:
    nvm = make_nvm()
    assert small_tree(nvm=nvm).root is SHARED.root
    assert nvm._flash.operations == 0
    tree = small_tree(nvm=nvm)
    tree.replace("./Fixed/Lang", "de")
    assert tree.root.children["Box"] is SHARED.root.children["Box"]
    tree.replace("./Fixed/Lang", "en")
    assert encode_changes(SHARED.root, tree.root) == b"", "back to what it was"
    assert Nvm(nvm._flash).get(NAMESPACE, "tree") is None


@pytest.mark.parametrize(
    ("writes", "octets"),
    [
        ({"./FUMO/Download/PkgURL": "https://files.example/firmware/1.bin"}, 90),
        (
            {
                "./FUMO/PkgName": "modem",
                "./FUMO/PkgVersion": "1.2.3",
                "./FUMO/DownloadAndUpdate/PkgURL": "https://files.example/firmware/2.bin",
            },
            130,
        ),
    ],
)
def test_a_campaign_costs_a_device_little(writes: dict[str, str], octets: int) -> None:
    tree = Tree(PERSONA, make_nvm(), server_id=SERVER)
    for uri, value in writes.items():
        tree.replace(uri, value)
    assert len(encode_changes(PERSONA.root, tree.root)) < octets


def test_what_comes_with_a_new_node_is_not_stored() -> None:
    tree = Tree(PERSONA, server_id=SERVER)
    tree.add("./SCOMO/Download/a", None, NODE)
    record = encode_changes(PERSONA.root, tree.root)
    assert b"Operations" not in record
    again = apply_changes(PERSONA.root, record)
    assert same(again, tree.root)
    assert list(again.children["SCOMO"].children["Download"].children["a"].children) == [
        "Status",
        "Operations",
    ]


def test_a_persona_that_lost_a_node_reads_the_rest() -> None:
    tree = Tree(PERSONA, server_id=SERVER)
    tree.add("./SCOMO/Download/a", None, NODE)
    tree.server_id = None
    tree.replace("./DevInfo/Lang", "de")
    other = shared_tree(DeviceValues("fotilla", "virtual"), scomo=False)
    root = apply_changes(other.root, encode_changes(PERSONA.root, tree.root))
    assert root.children["DevInfo"].children["Lang"].value == "de"
    assert "SCOMO" not in root.children


def test_a_record_that_cannot_be_read_is_the_factorys_tree() -> None:
    nvm = make_nvm()
    for record in (b"", b"\xff", b"\x01", cbor2.dumps([1]), cbor2.dumps({5: 3})):
        nvm.set(NAMESPACE, "tree", record)
        assert small_tree(nvm=nvm).root is SHARED.root


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda data: b"\xa1" + data)))
def test_any_octets_are_changes_or_refused(data: bytes) -> None:
    try:
        root = apply_changes(SHARED.root, data)
    except ValueError as error:
        assert str(error).startswith("not a tree's changes")
    else:
        assert isinstance(root, TreeNode)


_junk = st.recursive(
    st.one_of(st.none(), st.integers(-3, 9), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.integers(-1, 8), st.sampled_from(["Box", "Fixed", "note", "x"])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@given(_junk)
def test_any_cbor_is_changes_or_refused(junk: object) -> None:
    data = cbor2.dumps(junk)
    try:
        root = apply_changes(SHARED.root, data)
    except ValueError:
        return
    assert isinstance(encode_changes(SHARED.root, root), bytes)
