from __future__ import annotations

import pytest

from protocols.omadm.errors import SyncmlError
from protocols.omadm.model import Chal, Cred, Item, Meta, Node
from tests.protocols.omadm.messages import TREE

SECRET = "c2VjcmV0"


@pytest.mark.parametrize(
    ("item", "octets"),
    [
        (Item(), b""),
        (Item(data=""), b""),
        (Item(data="Söhne"), "Söhne".encode()),
        (Item(data=b"\x00\xff", meta=Meta(format="bin")), b"\x00\xff"),
        (Item(data="AP8=", meta=Meta(format="b64")), b"\x00\xff"),
        (Item(data=" AP\r\n8= ", meta=Meta(format="b64")), b"\x00\xff"),
        (Item(data="AP8=", meta=Meta(format="chr")), b"AP8="),
    ],
)
def test_octets_are_what_the_data_means(item: Item, octets: bytes) -> None:
    assert item.octets() == octets


def test_the_format_of_the_command_counts_where_the_item_has_none() -> None:
    assert Item(data="AP8=").octets("b64") == b"\x00\xff"
    assert Item(data="AP8=", meta=Meta(type="text/plain")).octets("b64") == b"\x00\xff"
    assert Item(data="AP8=", meta=Meta(format="chr")).octets("b64") == b"AP8="


@pytest.mark.parametrize("data", ["AP8", "AP8=x", "A", "ö"])
def test_base64_that_is_none_names_its_node(data: str) -> None:
    with pytest.raises(SyncmlError, match="./Vendor/Key: Format is b64"):
        Item(target="./Vendor/Key", data=data, meta=Meta(format="b64")).octets()


def test_a_serialised_tree_has_no_octets() -> None:
    with pytest.raises(TypeError):
        Item(data=TREE).octets()


@pytest.mark.parametrize(
    "holder",
    [
        Cred("syncml:auth-basic", "b64", SECRET),
        Chal("syncml:auth-md5", "b64", SECRET),
        Meta(next_nonce=SECRET),
        Item(target="./DMAcc/x/AppAuth/1/AAuthSecret", data=SECRET),
        Node("AAuthSecret", value=SECRET),
    ],
)
def test_no_repr_shows_what_may_be_secret(holder: object) -> None:
    assert SECRET not in repr(holder)
