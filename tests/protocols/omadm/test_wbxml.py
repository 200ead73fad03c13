"""WBXML, octet by octet, and what is no WBXML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm import wbxml
from protocols.omadm.errors import CodecLimits, SyncmlError, SyncmlMisuse
from protocols.omadm.model import (
    Alert,
    Atomic,
    Delete,
    Get,
    Item,
    Message,
    Meta,
    Replace,
    Sequence,
    Status,
    Unsupported,
)
from tests.protocols.omadm.messages import (
    PACKAGE_1,
    TREE,
    WBXML_VECTORS,
    around,
    command_of,
    messages,
    read,
    unhurried,
)
from tests.protocols.omadm.musts import musts

HEADER = bytes.fromhex("02a4016a00")
SYNC_HDR = bytes.fromhex(
    "6c 7103312e320001 7203444d2f312e320001 65033100 01 5b033100 01"
    "6e57036100 0101 6757036200 0101 01"
)
EMPTY = bytes.fromhex("6d") + SYNC_HDR + bytes.fromhex("6b 12 01 01")
"""SyncML of a header and Final."""


def body(commands: str) -> bytes:
    return HEADER + b"\x6d" + SYNC_HDR + b"\x6b" + bytes.fromhex(commands) + b"\x01\x01"


def only(commands: str) -> object:
    return command_of(wbxml.decode(body(commands)))


def item(data: str) -> Item:
    """The item of a Replace whose Data is these octets, its tag and END included."""
    (found,) = only("604b033100 01 54" + data + "01 01").items
    return found


# --- the vectors -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pkg1.wbxml", "pkg1-nostrtbl.wbxml"])
def test_what_libwbxml_wrote(name: str) -> None:
    assert wbxml.decode(read(name)) == PACKAGE_1


@musts("DM-135", "DM-136")
def test_what_horde_wrote() -> None:
    """Literal public id, one Data in four strings, Final with content flag; its encoder loses the
    blanks around an entity, which is in the octets and no matter of ours."""
    found = wbxml.decode(read("pkg1-horde.wbxml"))
    *others, names = found.commands
    assert found.final
    assert (found.header, tuple(others)) == (PACKAGE_1.header, PACKAGE_1.commands[:-1])
    assert names.items[1] == Item(source="./DevInfo/Man", data="Acme&Söhne")


def test_what_we_write() -> None:
    """libwbxml's plain form, but for two liberties: Data as STR_I, as libdmclient has it, where
    libwbxml uses OPAQUE; and page 0 again right behind Meta, where it waits for the next tag."""
    theirs = read("pkg1-nostrtbl.wbxml")
    theirs = theirs.replace(bytes.fromhex("01 01 01 0000 6b"), bytes.fromhex("01 01 0000 01 6b"))
    for text in (b"IMEI:493005100592800", "Acme & Söhne".encode()):
        opaque = b"\x4f\xc3" + bytes((len(text),)) + text + b"\x01"
        assert opaque in theirs
        theirs = theirs.replace(opaque, b"\x4f\x03" + text + b"\0\x01")
    assert wbxml.encode(PACKAGE_1) == theirs


def test_what_occurs_twice_stands_in_the_string_table() -> None:
    written = wbxml.encode(PACKAGE_1, string_table=True)
    assert written[:5] == bytes.fromhex("02a4016a15")
    assert written[5 : 5 + 0x15] == b"IMEI:493005100592800\0"
    assert bytes.fromhex("57830001") in written
    assert len(written) < len(wbxml.encode(PACKAGE_1))
    assert wbxml.decode(written) == PACKAGE_1


@musts("DM-134")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_version_octets(version: int) -> None:
    written = wbxml.encode(PACKAGE_1, version=version)
    assert written[0] == version
    assert wbxml.decode(written) == PACKAGE_1


# --- headers ---------------------------------------------------------------------------------


@musts("DM-134", "DM-135")
@pytest.mark.parametrize(
    "header",
    [
        "01a4016a00",
        "03a4016a00",
        "0fa4016a00",  # any 1.x
        "02a4010300",  # US-ASCII
        "029f516a00",  # SyncML 1.0
        "029f536a00",  # SyncML 1.1
        "00a40100",  # WBXML 1.0 has no charset
        "00a4016a00",  # and some say it all the same
        "02 a4 01 6a 02 6100",
        "02 00 00 6a 1e" + b"-//SYNCML//DTD SyncML 1.2//EN\0".hex(),
        "02 00 00 6a 1d" + b"-//SYNCML//DTD SyncML 1.1//EN".hex(),
        "02 00 02 6a 1f" + b"a\0-//syncml//dtd syncml 1.0//en".hex(),
        "02 80a401 6a 8000",  # leading zeros of a multi-byte integer
    ],
)
def test_headers_that_are_read(header: str) -> None:
    assert wbxml.decode(bytes.fromhex(header) + EMPTY).final


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("12a4016a00", "no WBXML 1.x"),
        ("02a4010400", "charset 4"),
        ("02a4010000", "charset 0"),
        ("02a401876800", "charset 1000"),
        ("02056a00", "public id 0x0005"),
        ("02016a00", "public id 0x0001"),
        ("0200006a04" + b"WML\0".hex(), "public id 'WML'"),
        ("0200006a00", "string 0 of a string table of 0"),
        ("0200056a0461626300", "string 5 of a string table of 4"),
        ("02a4016a8f7f", "string table claims"),
        ("02a4016affffffff7f", "more than 32 bits"),
        ("02a4016a808080808000", "more than 32 bits"),
        ("02ffffffffffff", "more than 32 bits"),
        ("0200006a02ff00", "no UTF-8"),
    ],
)
def test_headers_that_are_refused(header: str, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        wbxml.decode(bytes.fromhex(header) + EMPTY)


# --- text ------------------------------------------------------------------------------------


@musts("DM-136")
@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("4f 03 6100 01", "a"),
        ("4f 03 00 01", ""),
        ("4f 01", ""),
        ("0f", ""),
        ("4f 03 6100 03 00 03 6200 01", "ab"),
        ("4f 03 c300 03 b600 01", "ö"),  # a character across two strings
        ("4f c3 02 6162 01", "ab"),
        ("4f c3 8002 6162 01", "ab"),
        ("4f 03 6100 c3 01 62 01", "ab"),
        ("4f 02 26 01", "&"),
        ("4f 03 6100 02 81f40c 03 6200 01", "a\u7a0cb"),
        ("4f 03 2061 0a00 01", " a\n"),  # Data is kept to the letter
        ("4f c3 02 c328 01", b"\xc3\x28"),  # octets, whatever the Format
        ("4f 03 61c300 01 34", b"a\xc3"),  # a chunk that ends inside a character
        ("4f 03 6100 03 c300 01 34", b"a\xc3"),
        ("5a 0001 47 03 62696e00 01 0000 01 4f c3 02 6162 01", b"ab"),
        ("4f c3 02 6162 01 5a 0001 47 03 62696e00 01 0000 01", b"ab"),
        ("5a 0001 47 03 63687200 01 0000 01 4f c3 02 6162 01", "ab"),
        ("5a 0001 47 03 62696e00 01 0000 01 4f 03 6100 01", "a"),
    ],
)
def test_data(data: str, value: str | bytes) -> None:
    assert item(data).data == value


def test_strings_from_the_table() -> None:
    table = b"ab\0cd\0efg"
    header = HEADER[:4] + bytes((len(table),)) + table
    commands = "604b033100 01 54 6e 57 8300 01 01 4f 8301 8303 8306 01 01 01"
    (found,) = command_of(
        wbxml.decode(header + b"\x6d" + SYNC_HDR + b"\x6b" + bytes.fromhex(commands) + b"\1\1")
    ).items
    assert found == Item(target="ab", data="bcdefg")


def test_blanks_around_words_do_not_count() -> None:
    assert only("46 4b 03 20310a00 01 4f 03 0a3132303120 00 01 01") == Alert("1", 1201)


def test_blanks_between_elements_do_not_count() -> None:
    found = only("46 03 0a2000 4b 033100 01 c3 01 0a 02 20 4f 033132303100 01 01")
    assert found == Alert("1", 1201)


@musts("DM-136")
def test_empty_elements_may_have_content() -> None:
    found = wbxml.decode(HEADER + b"\x6d" + SYNC_HDR + bytes.fromhex("6b 52 01 01 01"))
    assert found.final
    assert item("74 01").more_data
    assert item("74 03 2000 01").more_data
    assert item("34").more_data


@musts("DM-137")
def test_a_page_stays_until_it_is_switched() -> None:
    """Pages are of the stream and not of elements: 1 may stay past Meta, and switch again."""
    late = item("5a 0001 47 03 63687200 01 01 0000 4f 03 6100 01")
    assert late == Item(meta=Meta("chr"), data="a")
    twice = item("5a 0000 0001 0001 47 03 63687200 01 0000 0001 53 03 7400 01 0000 01")
    assert twice == Item(meta=Meta("chr", "t"))


def test_literal_tags() -> None:
    """A name from the string table in place of a code."""
    table = b"Target\0Final\0Nobody"
    start = HEADER[:4] + bytes((len(table),)) + table + b"\x6d" + SYNC_HDR + b"\x6b"
    whole = bytes.fromhex("604b033100 01 54 44 00 57 036100 01 01 01 01 04 07 01 01")
    found = wbxml.decode(start + whole)
    assert (found.final, command_of(found).items) == (True, (Item(target="a"),))
    with pytest.raises(SyncmlError, match="Nobody has no place in SyncBody"):
        wbxml.decode(start + bytes.fromhex("04 0d 01 01"))


@musts("DM-137")
def test_a_tree_in_page_2() -> None:
    found = item(
        "4f 0002 60 77 03 312e3200 01 64 66 03 6100 01 6f 5c 0b 01 01 76 03 6200 01 01 01 0000 01"
    )
    assert found.data.nodes[0].name == "a"
    assert (found.data.nodes[0].format, found.data.nodes[0].value) == ("chr", "b")
    written = wbxml.encode(around(Replace("1", (Item(target="./Inbox", data=TREE),))))
    assert bytes.fromhex("4f 0002 60") in written


# --- structure -------------------------------------------------------------------------------


def test_nested_commands() -> None:
    message = around(
        Sequence(
            "1",
            (
                Atomic("2", (Delete("3", (Item(target="./a"),)),), no_resp=True),
                Get("4", (Item(target="./b"),)),
            ),
            meta=Meta("chr"),
        )
    )
    assert wbxml.decode(wbxml.encode(message)) == message


def test_the_order_of_children_is_free() -> None:
    found = only("69 4a 03 47657400 01 4f 0332303000 01 4c 033200 01 5c 033100 01 4b 033700 01 01")
    assert found == Status("7", 1, "2", "Get", 200)


@musts("DM-082")
def test_what_dm_does_not_use_is_skipped() -> None:
    """Data synchronisation's own, and credentials of a command."""
    delete = "50 07 26 4b033100 01 4e 5a 0001 47 036100 01 01 0000 4f 036200 01 01 54 01 01"
    assert only(delete) == Delete("1", (Item(),))
    assert item("5a 0001 45 4f 033100 01 01 4d 49 033100 01 01 0000 01") == Item(meta=Meta())


@musts("DM-019")
@pytest.mark.parametrize(
    ("token", "name"),
    [("5f", "Put"), ("63", "Search"), ("58", "Map"), ("6a", "Sync"), ("7b", "Move")],
)
def test_commands_that_dm_does_not_know(token: str, name: str) -> None:
    assert only(f"{token} 4b033100 01 54 6e 57 036100 01 01 01 01") == Unsupported("1", name)
    assert only(f"{token} 4b033100 01 1d 01") == Unsupported("1", name, no_resp=True)


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        ("46 4b 033100 01 01", "Alert without Data"),
        ("46 4f 033100 01 01", "Alert without CmdID"),
        ("60 01", "Replace without CmdID"),
        ("69 4b 033100 01 01", "Status without MsgRef"),
        ("62 4b 033100 01 01", "Results without CmdRef"),
        ("48 01", "Atomic without CmdID"),
        ("5f 01", "Put without CmdID"),
        ("46 4b 033100 01 4b 033100 01", "Alert has CmdID twice"),
        ("60 4b033100 01 54 6e57036100 01 57036100 01 01 01 01", "Target has LocURI twice"),
        ("60 4b033100 01 54 6e57036100 01 01 6e57036100 01 01 01 01", "Target has LocURI twice"),
        ("60 4b033100 01 54 6e56036100 01 01 01 01", "LocName without LocURI"),
        ("60 4b033100 01 5a 01 5a 01 01", "Replace has Meta twice"),
        ("60 4b033100 01 54 74 01 34 01 01", "Item has MoreData twice"),
        ("54 01", "Item has no place in SyncBody"),
        ("60 60 01 01", "Replace has no place in Replace"),
        ("48 4b 033100 01 69 01 01", "Status has no place in Atomic"),
        ("46 47 01 01", "Archive has no place in Alert"),
        ("46 70 01 01", "0x30 of page 0 has no place in Alert"),
        ("46 0001 4b 033100 01 01 01", "Mark has no place in Alert"),
        ("46 0003 4b 01 01", "code page 3"),
        ("46 4b 0003 01 01", "code page 3"),
        ("46 03 6100 01", "Alert holds text"),
        ("46 4b 54 01 01 01", "CmdID holds an element"),
        ("60 4b033100 01 54 4f 036100 0002 60 01 01 01 01", "text beside one"),
        ("46 4b033100 01 4f 036f00 01 01", "Data: 'o' is no number"),
        ("46 4b033100 01 4f 032d3100 01 01", "Data: '-1' is no number"),
        ("46 4b033100 01 4f 03d9a100 01 01", "is no number"),
        ("46 4b033100 01 4f 03" + "31" * 11 + "00 01 01", "is no number"),
        ("46 4b033100 01 4f 01 01", "Data: '' is no number"),
        ("74 01", "MoreData has no place"),
        ("52 036100 01", "Final is not empty"),
        ("52 54 01 01", "Final is not empty"),
        ("46 43 01", "PI, which SyncML does not use"),
        ("46 40 6100 01", "EXT_I_0, which SyncML does not use"),
        ("46 84 00 01", "LITERAL_A"),
        ("46 c4 00 01", "LITERAL_AC"),
        ("46 cb 01 01", "tag 0xcb has attributes"),
        ("46 4b 8300 01 01", "string 0 of a string table of 0"),
        ("46 4b c3 7f 01 01", "too early"),
        ("46 4b c3 8100 01 01", "OPAQUE claims 128"),
        ("46 4b c3 ffffffff7f 01", "more than 32 bits"),
        ("46 4b 02 83b000 01 01", "entity 0xd800 is no character"),
        ("46 4b 02 c48000 01 01", "entity 0x110000 is no character"),
        ("46 4b 03 ff00 01 01", "no UTF-8"),
        ("46 4b c3 01 ff 01 01", "no UTF-8"),
        ("46 4b 03 31", "too early"),
        ("01 01 01 01", "behind the end"),
    ],
)
def test_commands_that_are_refused(commands: str, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        wbxml.decode(body(commands))


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "too early"),
        ("01", "END before any element"),
        ("6b 01", "SyncBody has no place in a document"),
        ("2d", "SyncML without SyncHdr"),
        ("6d 01", "SyncML without SyncHdr"),
        ("6d 6b 01 01", "SyncML without SyncHdr"),
        ("6d 6c 01 01", "SyncHdr without SessionID"),
        ("03 6100 6d 01", "a document holds text"),
    ],
)
def test_documents_that_are_refused(document: str, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        wbxml.decode(HEADER + bytes.fromhex(document))


def test_a_message_without_a_body_is_none() -> None:
    with pytest.raises(SyncmlError, match="SyncML without SyncBody"):
        wbxml.decode(HEADER + b"\x6d" + SYNC_HDR + b"\x01")


def test_octets_behind_the_end() -> None:
    with pytest.raises(SyncmlError, match="1 octets behind the end"):
        wbxml.decode(HEADER + EMPTY + b"\0")


# --- bounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WBXML_VECTORS)
def test_every_truncation_is_refused(name: str) -> None:
    whole = read(name)
    for length in range(len(whole)):
        with pytest.raises(SyncmlError):
            wbxml.decode(whole[:length])


def test_size() -> None:
    message = wbxml.encode(PACKAGE_1)
    assert wbxml.decode(message, CodecLimits(size=len(message))) == PACKAGE_1
    with pytest.raises(SyncmlError, match=f"of {len(message)} octets; {len(message) - 1} are"):
        wbxml.decode(message, CodecLimits(size=len(message) - 1))


def test_depth() -> None:
    start = HEADER + b"\x6d" + SYNC_HDR + b"\x6b"
    with pytest.raises(SyncmlError, match="more than 40 deep"):
        wbxml.decode(start + b"\x64" * 100_000)
    with pytest.raises(SyncmlError, match="too deep"):
        wbxml.decode(start + b"\x5f" + b"\x47" * 100_000)


def test_a_deep_tree_is_read_and_a_deeper_one_refused() -> None:
    def tree(depth: int) -> bytes:
        node = bytes.fromhex("64 66 036100 01")
        return HEADER + bytes.fromhex("0002 60") + node * depth + b"\1" * (depth + 1)

    assert wbxml.decode_tree(tree(30)).nodes[0].name == "a"
    with pytest.raises(SyncmlError, match="more than 40 deep"):
        wbxml.decode_tree(tree(60))


@pytest.mark.parametrize(
    "many",
    [
        b"\x53\x4b\x03\x31\x00\x01\x01" * 5000,  # Gets
        b"\x60\x4b\x03\x31\x00\x01" + b"\x14" * 5000,  # Items of one command
        b"\x69" + b"\x2f" * 5000,  # TargetRefs of one Status
    ],
)
def test_count(many: bytes) -> None:
    with pytest.raises(SyncmlError, match="more than 4096 commands, items and nodes"):
        wbxml.decode(HEADER + b"\x6d" + SYNC_HDR + b"\x6b" + many)


def test_counts_are_of_the_whole_message() -> None:
    get = b"\x53\x4b\x03\x31\x00\x01" + b"\x14" * 9 + b"\x01"
    data = HEADER + b"\x6d" + SYNC_HDR + b"\x6b" + get * 3 + b"\x01\x01"
    assert len(wbxml.decode(data, CodecLimits(items=30)).commands) == 3
    with pytest.raises(SyncmlError, match="more than 29"):
        wbxml.decode(data, CodecLimits(items=29))


def test_the_string_table_cannot_blow_up() -> None:
    table = b"x" * 500_000
    header = HEADER[:4] + b"\x9e\xc2\x20" + table
    data = header + b"\x6d" + SYNC_HDR + b"\x6b" + b"\x60\x4b\x03\x31\x00\x01\x54\x4f"
    with pytest.raises(SyncmlError, match="adds up to too much"):
        wbxml.decode(data + b"\x83\x00" * 200_000)


@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    for data in (octets, HEADER + octets, HEADER + b"\x6d" + SYNC_HDR + b"\x6b" + octets):
        with pytest.raises(SyncmlError):
            wbxml.decode(data)
            raise SyncmlError("it was one")


@unhurried
@given(st.data(), messages)
def test_any_damage(data: st.DataObject, message: Message) -> None:
    octets = bytearray(wbxml.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = wbxml.decode(bytes(octets))
    except SyncmlError:
        return
    assert isinstance(found, Message)


# --- what cannot be written ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"), [("a\0b", "cannot hold NUL"), ("a\udc80", r"U\+DC80 is no character")]
)
def test_text_that_wbxml_cannot_carry(text: str, complaint: str) -> None:
    """The command is named; the text may be a secret, and is not."""
    with pytest.raises(SyncmlMisuse, match=f"^Get '7': .*{complaint}$"):
        wbxml.encode(around(Get("7", (Item(target=text),))))


def test_data_with_nul_is_opaque() -> None:
    message = around(Replace("1", (Item(target="./x", data="a\0b"),)))
    assert bytes.fromhex("4f c3 03 610062 01") in wbxml.encode(message)
    assert wbxml.decode(wbxml.encode(message)) == message


@musts("DM-134")
@pytest.mark.parametrize("version", [0, 4, -1])
def test_versions_that_are_not_written(version: int) -> None:
    with pytest.raises(SyncmlMisuse, match=r"1\.1, 1\.2 and 1\.3"):
        wbxml.encode(PACKAGE_1, version=version)


def test_a_name_without_uri_cannot_be_written() -> None:
    with pytest.raises(SyncmlMisuse, match="LocName"):
        wbxml.encode(around(Get("1", (Item(target_name="x"),))))
