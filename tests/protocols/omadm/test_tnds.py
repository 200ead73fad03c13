"""Serialised trees, however an item carries them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.omadm import tnds, wbxml, xml
from protocols.omadm.encoding import Encoding
from protocols.omadm.errors import SyncmlError, SyncmlMisuse
from protocols.omadm.model import Item, Meta, MgmtTree, Node
from tests.protocols.omadm.messages import TREE

MAIL = """
<MgmtTree xmlns='syncml:dmddf1.2'>
  <VerDTD>1.2</VerDTD>
  <Node>
    <NodeName>E-Mail</NodeName>
    <RTProperties>
      <Format><node/></Format>
      <Type><DDFName>com.example.dm/1.0/EMail</DDFName></Type>
    </RTProperties>
    <Node>
      <NodeName>POPServer</NodeName>
      <Path>./OperatorX</Path>
      <RTProperties>
        <ACL>Get=*</ACL><Format> <chr/> </Format><Name>POPServer</Name><Size>15</Size>
        <Title> Mail </Title><TStamp>20010711T163817Z</TStamp>
        <Type ><MIME>text/plain</MIME></Type><VerNo>3</VerNo>
      </RTProperties >
      <Value >mail.example.com</Value>
    </Node>
  </Node>
</MgmtTree>
"""
MAIL_TREE = MgmtTree(
    (
        Node(
            "E-Mail",
            format="node",
            ddf_name="com.example.dm/1.0/EMail",
            children=(
                Node(
                    "POPServer",
                    "./OperatorX",
                    "chr",
                    "text/plain",
                    value="mail.example.com",
                    acl="Get=*",
                    title=" Mail ",
                    tstamp="20010711T163817Z",
                    size=15,
                    ver_no=3,
                ),
            ),
        ),
    )
)


def text(nodes: str) -> str:
    return f"<MgmtTree xmlns='syncml:dmddf1.2'><VerDTD>1.2</VerDTD>{nodes}</MgmtTree>"


def test_a_document() -> None:
    assert xml.decode_tree(MAIL.encode()) == MAIL_TREE
    assert xml.decode_tree(tnds.text_of(MAIL_TREE).encode()) == MAIL_TREE
    assert wbxml.decode_tree(wbxml.encode_tree(MAIL_TREE)) == MAIL_TREE


@pytest.mark.parametrize(
    "item",
    [
        Item(data=MAIL_TREE),
        Item(meta=Meta("xml", "application/vnd.syncml.dmtnds+xml"), data=MAIL),
        Item(meta=Meta("xml", "Application/VND.syncml.dmtnds+xml; charset=utf-8"), data=MAIL),
        Item(
            meta=Meta("bin", "application/vnd.syncml.dmtnds+wbxml"),
            data=tnds.octets_of(MAIL_TREE),
        ),
        Item(
            meta=Meta("bin", "application/vnd.syncml.dmtnds+xml"),
            data=xml.encode_tree(MAIL_TREE),
        ),
    ],
)
def test_the_tree_of_an_item(item: Item) -> None:
    assert tnds.is_tree(item)
    assert tnds.tree_of(item) == MAIL_TREE


def test_base64_and_the_command_s_meta() -> None:
    meta = Meta("b64", "application/vnd.syncml.dmtnds+wbxml")
    item = Item(data="AqQBagAAAmA=")
    assert tnds.is_tree(item, meta)
    with pytest.raises(SyncmlError, match="too early"):
        tnds.tree_of(item, meta)


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (Item(data=MAIL), "data without a type"),
        (Item(meta=Meta(type="text/plain"), data=MAIL), "'text/plain' is no serialised tree"),
        (Item(meta=Meta(type="application/vnd.syncml.dmtnds+xml")), "no XML"),
        (Item(meta=Meta(type="application/vnd.syncml.dmtnds+xml"), data=MAIL[:-20]), "no XML"),
        (Item(meta=Meta(type="application/vnd.syncml.dmtnds+wbxml"), data=MAIL), "WBXML: charset"),
    ],
)
def test_items_that_bring_none(item: Item, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        tnds.tree_of(item)


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ("", "MgmtTree without Node"),
        ("<Node/>", "Node without NodeName"),
        ("<Node><NodeName>a</NodeName><NodeName>b</NodeName></Node>", "NodeName twice"),
        (
            "<Node><NodeName>a</NodeName><Value>1</Value><Node><NodeName>b</NodeName></Node></Node>",
            "both Value and Node",
        ),
        (
            "<Node><NodeName>a</NodeName><RTProperties><Format/></RTProperties></Node>",
            "Format names nothing",
        ),
        ("<Node><NodeName>a</NodeName><Data>1</Data></Node>", "Data has no place in Node"),
        ("<SyncML/>", "SyncML has no place in MgmtTree"),
    ],
)
def test_documents_that_are_refused(nodes: str, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        xml.decode_tree(text(nodes).encode())


def test_the_header_of_a_document() -> None:
    """The public identifier has no number: it is the first string of the table."""
    name = b"-//OMA//DTD-DM-DDF 1.2//EN\0"
    start = bytes.fromhex("02 00 00 6a 1b") + name + bytes.fromhex("0002 60 77 03")
    assert wbxml.encode_tree(MAIL_TREE).startswith(start)
    twice = MgmtTree((Node("abc"), Node("abc")))
    with_table = wbxml.encode_tree(twice, string_table=True)
    assert with_table[4:].startswith(bytes((len(name) + 4,)) + name + b"abc\0\0\2")
    assert wbxml.decode_tree(with_table) == twice


def test_a_message_is_no_tree() -> None:
    with pytest.raises(SyncmlError, match="SyncML has no place in a document"):
        xml.decode_tree(b"<SyncML/>")
    with pytest.raises(SyncmlError, match="SyncML has no place in a document"):
        wbxml.decode_tree(bytes.fromhex("02a4016a00 6d 01"))


def test_a_description_is_read_for_its_nodes() -> None:
    """A DDF document has the same elements and describes what it does not carry."""
    found = xml.decode_tree(
        text(
            "<Node><NodeName>a</NodeName><DFProperties><AccessType/></DFProperties></Node>"
        ).encode()
    )
    assert found.nodes == (Node("a"),)


def test_format_as_text() -> None:
    found = xml.decode_tree(
        text(
            "<Node><NodeName>a</NodeName><RTProperties><Format>int</Format></RTProperties></Node>"
        ).encode()
    )
    assert found.nodes == (Node("a", format="int"),)


def test_every_format() -> None:
    formats = ["b64", "bool", "chr", "int", "node", "null", "xml", "date", "time", "float"]
    tree = MgmtTree(tuple(Node(name, format=name) for name in formats))
    assert wbxml.decode_tree(wbxml.encode_tree(tree)) == tree
    assert xml.decode_tree(xml.encode_tree(tree)) == tree


def test_what_cannot_be_written() -> None:
    leaf = Node("b", value="1")
    for encode in (xml.encode_tree, wbxml.encode_tree):
        with pytest.raises(SyncmlMisuse, match="both a value and children"):
            encode(MgmtTree((Node("a", value="1", children=(leaf,)),)))
        with pytest.raises(SyncmlMisuse, match="'odd' is no format"):
            encode(MgmtTree((replace(leaf, format="odd"),)))


@pytest.mark.parametrize("encoding", list(Encoding))
def test_the_meta_of_an_answer(encoding: Encoding) -> None:
    meta = tnds.item_meta(encoding)
    assert meta.format == "xml"
    assert tnds.TYPES[str(meta.type)] is encoding


def test_octets_of_a_tree() -> None:
    """Binary values are OPAQUE in WBXML and base64 in XML."""
    (account,) = TREE.nodes
    nonce = account.children[1]
    assert wbxml.decode_tree(wbxml.encode_tree(TREE)) == TREE
    (found,) = xml.decode_tree(xml.encode_tree(TREE)).nodes
    assert found.children[1] == replace(nonce, format="b64", value="AMMoAQ==")
