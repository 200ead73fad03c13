"""XML -> model -> WBXML -> model -> XML, and every shorter way."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given

from protocols.omadm import wbxml, xml
from protocols.omadm.model import Item, Message, Meta, Node, Replace
from tests.protocols.omadm.messages import (
    PACKAGE_1,
    TREE,
    around,
    binary_items,
    command_of,
    messages,
    messages_of_any_text,
    read,
    trees,
    unhurried,
)
from tests.protocols.omadm.musts import musts


@unhurried
@given(messages)
def test_any_message_in_both(message: Message) -> None:
    text = xml.encode(message)
    assert xml.decode(text) == message
    assert wbxml.decode(wbxml.encode(message)) == message
    assert wbxml.decode(wbxml.encode(message, string_table=True)) == message
    assert xml.encode(wbxml.decode(wbxml.encode(xml.decode(text)))) == text


def test_the_vector_in_both() -> None:
    text = xml.encode(PACKAGE_1)
    assert xml.decode(read("pkg1.xml")) == PACKAGE_1
    assert wbxml.encode(wbxml.decode(wbxml.encode(PACKAGE_1))) == wbxml.encode(PACKAGE_1)
    assert xml.encode(wbxml.decode(wbxml.encode(xml.decode(text)))) == text


@unhurried
@given(messages_of_any_text)
def test_any_text_in_wbxml(message: Message) -> None:
    assert wbxml.decode(wbxml.encode(message)) == message
    assert wbxml.decode(wbxml.encode(message, string_table=True)) == message


@musts("DM-127")
@unhurried
@given(binary_items())
def test_octets_are_opaque_in_wbxml_and_base64_in_xml(item: Item) -> None:
    message = around(Replace("1", (item,)))
    assert wbxml.decode(wbxml.encode(message)) == message
    (found,) = command_of(xml.decode(xml.encode(message))).items
    assert item.data is not None
    assert found.data == base64.b64encode(item.data).decode()
    assert found.meta == replace(item.meta, format="b64")
    if not item.more_data:
        assert found.octets() == item.data


@unhurried
@given(trees)
def test_any_tree_in_both(tree: object) -> None:
    assert xml.decode_tree(xml.encode_tree(tree)) == tree
    assert wbxml.decode_tree(wbxml.encode_tree(tree)) == tree
    assert wbxml.decode_tree(wbxml.encode_tree(tree, string_table=True)) == tree


def test_a_tree_in_an_item() -> None:
    message = around(Replace("1", (Item(target="./Inbox", meta=Meta("xml"), data=TREE),)))
    assert wbxml.decode(wbxml.encode(message)) == message
    # XML has no octets: a binary node arrives as base64, which is what its format then says.
    (item,) = command_of(xml.decode(xml.encode(message))).items
    (account,) = item.data.nodes
    assert account.children[1] == Node("Nonce", format="b64", value="AMMoAQ==", size=4, ver_no=7)
    (whole,) = TREE.nodes
    children = (whole.children[0], account.children[1], *whole.children[2:])
    assert account == replace(whole, children=children)


def test_what_xml_has_no_character_for_goes_as_octets() -> None:
    message = around(Replace("1", (Item(target="./x", meta=Meta("chr"), data="a\x01b"),)))
    (item,) = command_of(xml.decode(xml.encode(message))).items
    assert (item.meta, item.octets()) == (Meta("b64"), b"a\x01b")


def test_octets_under_the_command_s_format() -> None:
    message = around(
        Replace("1", (Item(target="./x", data="text"),), meta=Meta("bin", "app/x")),
    )
    (item,) = command_of(xml.decode(xml.encode(message))).items
    assert (item.meta, item.octets()) == (Meta("b64"), b"text")
    (item,) = command_of(wbxml.decode(wbxml.encode(message))).items
    assert item.octets("bin") == b"text"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 70000])
def test_octets_of_any_length(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    item = Item(target="./x", meta=Meta("bin"), data=data[:size])
    message = around(Replace("1", (item,)))
    assert wbxml.decode(wbxml.encode(message)) == message
