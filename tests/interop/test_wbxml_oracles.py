"""Our WBXML against two others who read it: libwbxml, and tshark's dissector.

What is compared is what a document says, not its octets. libwbxml is given nothing that it is known
to get wrong (0.11.8): blanks at the ends of text, which it drops, and in a string table so counts
wrongly; carriage returns, which it does not escape; several strings in one Data, which it nests;
code page 2 within a message, for which it knows the octets of a document of its own instead.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from lxml import etree

from protocols.omadm import tnds, wbxml, xml
from protocols.omadm.model import Exec, Item, Message, Meta, MgmtTree, Replace
from tests.protocols.omadm.messages import (
    PACKAGE_1,
    TREE,
    WBXML_VECTORS,
    around,
    command_of,
    messages_of_text,
    read,
    trees,
)
from tools.bench.libwbxml import LibWbxml
from tools.bench.wbxml import messages as session_messages

LIBRARY = LibWbxml()
EXAMPLES = 300
PATIENCE = 60.0

Infoset = tuple[str, str, tuple["Infoset", ...]]


def infoset(document: bytes) -> Infoset:
    """Names with namespaces, text and children."""

    def of(element: etree._Element) -> Infoset:
        return element.tag, element.text or "", tuple(of(inside) for inside in element)

    return of(etree.fromstring(document))


def known_to_be_wrong(document: bytes) -> bool:
    return b"&#13;" in document or re.search(rb">\s|\s</", document) is not None


# --- libwbxml --------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES, deadline=None)
@given(messages_of_text.filter(lambda message: not known_to_be_wrong(xml.encode(message))))
def test_libwbxml_and_any_message(message: Message) -> None:
    document = xml.encode(message)
    for string_table in (False, True):
        ours = wbxml.encode(message, string_table=string_table)
        assert infoset(LIBRARY.to_xml(ours)) == infoset(document)
        theirs = LIBRARY.to_wbxml(document, string_table=string_table)
        assert wbxml.decode(theirs) == message


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("name", list(session_messages()))
def test_libwbxml_and_the_messages_of_sessions(name: str, version: int) -> None:
    message = session_messages()[name]
    found = LIBRARY.to_xml(wbxml.encode(message, version=version))
    assert infoset(found) == infoset(xml.encode(message))
    assert xml.decode(found) == message


@pytest.mark.parametrize("name", WBXML_VECTORS[:2])
def test_libwbxml_and_the_vectors(name: str) -> None:
    assert xml.decode(LIBRARY.to_xml(read(name))) == wbxml.decode(read(name)) == PACKAGE_1


def test_the_vectors_are_libwbxml_s() -> None:
    """But for the version octet, which its library writes as 1.3."""
    document = read("pkg1.xml")
    assert LIBRARY.to_wbxml(document)[1:] == read("pkg1-nostrtbl.wbxml")[1:]
    assert LIBRARY.to_wbxml(document, string_table=True)[1:] == read("pkg1.wbxml")[1:]


def test_wbxml_1_0_has_no_charset() -> None:
    plain = read("pkg1-nostrtbl.wbxml")
    old = b"\0" + plain[1:3] + plain[4:]
    assert xml.decode(LIBRARY.to_xml(old)) == wbxml.decode(old) == PACKAGE_1


@settings(max_examples=EXAMPLES, deadline=None)
@given(trees.filter(lambda tree: not known_to_be_wrong(xml.encode_tree(tree))))
def test_libwbxml_and_any_tree(tree: MgmtTree) -> None:
    document = xml.encode_tree(tree)
    assert infoset(LIBRARY.to_xml(wbxml.encode_tree(tree))) == infoset(document)
    assert wbxml.decode_tree(LIBRARY.to_wbxml(document)) == tree


def test_a_tree_as_libwbxml_carries_it() -> None:
    """As octets that are a document, whose Format and Type speak of XML all the same."""
    (whole,) = TREE.nodes
    tree = MgmtTree(whole.children[:1])
    meta = Meta("xml", "application/vnd.syncml.dmtnds+wbxml")
    document = xml.encode(around(Replace("1", (Item(target="./Inbox", meta=meta, data=tree),))))
    (item,) = command_of(wbxml.decode(LIBRARY.to_wbxml(document))).items
    assert tnds.tree_of(item) == tree
    octets = Item(target="./Inbox", meta=meta, data=tnds.octets_of(tree))
    found = LIBRARY.to_xml(wbxml.encode(around(Replace("1", (octets,)))))
    (item,) = command_of(xml.decode(found)).items
    assert item.data == tree


# --- tshark ----------------------------------------------------------------------------------

_ROW = re.compile(r"^ +\d+ \| Tag +\| T +(\d) +\| .{31} \| +(.*)$", re.MULTILINE)
"""Level, state, code page, the token, and what it says as XML."""


def dissect(document: bytes, folder: Path) -> list[str]:
    """Tags and strings, as tshark prints them for the body of a request."""
    request = (
        b"POST /dm HTTP/1.1\r\nHost: dm.example\r\n"
        b"Content-Type: application/vnd.syncml.dm+wbxml\r\n"
        b"Content-Length: %d\r\n\r\n" % len(document)
    ) + document
    lines = (
        f"{start:06x} {request[start : start + 16].hex(' ')}\n"
        for start in range(0, len(request), 16)
    )
    dump, capture = folder / "request.txt", folder / "request.pcap"
    dump.write_text("".join(lines))
    # A user's own settings may name columns, protocols and ports otherwise.
    environment = os.environ | {"LC_ALL": "C.UTF-8", "HOME": str(folder)}
    for command in (
        ["text2pcap", "-q", "-T", "40000,80", dump, capture],
        ["tshark", "-r", capture, "-V", "-O", "wbxml"],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env=environment
        )
        assert done.returncode == 0, done.stderr
    return [text for _, text in _ROW.findall(done.stdout)]


def spelled(document: bytes) -> list[str]:
    """The same of XML."""

    def of(element: etree._Element) -> list[str]:
        name = etree.QName(element).localname
        if not len(element) and not element.text:
            return [f"<{name} />"]
        text = [f"'{element.text}'"] if element.text else []
        inside = [row for child in element for row in of(child)]
        return [f"<{name}>", *text, *inside, f"</{name}>"]

    return of(etree.fromstring(document))


@pytest.mark.parametrize("string_table", [False, True])
@pytest.mark.parametrize("message", [PACKAGE_1, *session_messages().values()])
def test_tshark_reads_what_we_write(message: Message, string_table: bool, tmp_path: Path) -> None:
    found = dissect(wbxml.encode(message, string_table=string_table), tmp_path)
    assert found == spelled(xml.encode(message))


def test_tshark_reads_our_octets(tmp_path: Path) -> None:
    item = Item(target="./FwUpdate/Pkg", meta=Meta("bin"), data=bytes(range(256)), more_data=True)
    found = dissect(wbxml.encode(around(Replace("1", (item,)), Exec("2"))), tmp_path)
    start = found.index("<Data>")
    assert found[start : start + 4] == [
        "<Data>",
        "(256 bytes of opaque data)",
        "</Data>",
        "<MoreData />",
    ]
    assert found[-1] == "</SyncML>"
