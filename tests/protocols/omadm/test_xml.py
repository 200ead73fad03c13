"""SyncML in XML: what servers in the field send, and what must not be read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm import xml
from protocols.omadm.errors import CodecLimits, SyncmlError, SyncmlMisuse
from protocols.omadm.model import (
    Alert,
    Chal,
    Delete,
    Get,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
    Unsupported,
)
from tests.protocols.omadm.messages import (
    PACKAGE_1,
    TREE,
    around,
    command_of,
    messages,
    read,
    unhurried,
)
from tests.protocols.omadm.musts import musts

SYNC_HDR = (
    "<SyncHdr><VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>1</SessionID>"
    "<MsgID>1</MsgID><Target><LocURI>a</LocURI></Target><Source><LocURI>b</LocURI></Source>"
    "</SyncHdr>"
)


def document(commands: str, prolog: str = "", namespace: str = "SYNCML:SYNCML1.2") -> bytes:
    return (
        f'{prolog}<SyncML xmlns="{namespace}">{SYNC_HDR}<SyncBody>{commands}</SyncBody></SyncML>'
    ).encode()


def only(commands: str) -> object:
    return command_of(xml.decode(document(commands)))


def item(content: str) -> Item:
    (found,) = only(f"<Replace><CmdID>1</CmdID><Item>{content}</Item></Replace>").items
    return found


# --- what is read ----------------------------------------------------------------------------


def test_the_vector() -> None:
    assert xml.decode(read("pkg1.xml")) == PACKAGE_1


@musts("DM-138")
def test_what_we_write() -> None:
    """The vector but for its document type, which nobody needs."""
    head, _, body = read("pkg1.xml").decode().partition("<SyncML ")
    assert xml.encode(PACKAGE_1).decode() == head.splitlines()[0] + "<SyncML " + body.rstrip()


@pytest.mark.parametrize(
    "prolog",
    [
        "",
        "\ufeff",
        "\n  ",
        '<?xml version="1.0"?>',
        "<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n",
        '<?xml version="1.0" encoding="US-ASCII"?>',
        "<!DOCTYPE SyncML>",
        '<!-- <!DOCTYPE a [ ]> --><?pi <a> ?><!DOCTYPE SyncML SYSTEM "file:///etc/passwd"><!-- -->',
        "<!DOCTYPE SyncML PUBLIC '-//SYNCML//DTD SyncML 1.2//EN'\n 'http://dm.example/x.dtd' >",
    ],
)
def test_prologs_that_are_read(prolog: str) -> None:
    assert xml.decode(document("<Final/>", prolog)).final


@musts("DM-138")
@pytest.mark.parametrize(
    "namespace",
    ["SYNCML:SYNCML1.2", "syncml:syncml1.2", "SyncML:SyncML1.1", "SYNCML:SYNCML1.0"],
)
def test_namespaces_are_case_blind(namespace: str) -> None:
    found = xml.decode(
        document(
            "<Replace><CmdID>1</CmdID><Meta>"
            "<Format xmlns='SynCML:MetInf'>chr</Format><Type>text/plain</Type>"
            "</Meta></Replace><Final/>",
            namespace=namespace,
        )
    )
    assert command_of(found) == Replace("1", meta=Meta("chr", "text/plain"))


def test_no_namespace_and_prefixes() -> None:
    plain = document("<Final/>").replace(b' xmlns="SYNCML:SYNCML1.2"', b"")
    assert xml.decode(plain).final
    prefixed = plain.decode().replace("</", "<-").replace("<", "<s:").replace("<s:-", "</s:")
    prefixed = prefixed.replace("<s:SyncML>", '<s:SyncML xmlns:s="SYNCML:SYNCML1.2">')
    assert xml.decode(prefixed.encode()).final


def test_metinf_may_be_around_the_children_of_meta() -> None:
    found = item("<Meta><MetInf xmlns='syncml:metinf'><Format>bin</Format></MetInf></Meta>")
    assert found == Item(meta=Meta("bin"))


def test_blanks_count_in_data_alone() -> None:
    found = item(
        "\n <Target>\n <LocURI>\n ./x </LocURI>\t</Target>\n"
        "<Meta><Format xmlns='syncml:metinf'>\n chr\n</Format></Meta>\n"
        "<Data> two\n lines </Data>\n<MoreData> </MoreData>"
    )
    assert found == Item(target="./x", meta=Meta("chr"), data=" two\n lines ", more_data=True)


def test_space_attribute_changes_nothing() -> None:
    assert item("<Data xml:space='preserve'> a </Data>").data == " a "
    assert item("<Data xml:space='default'> a </Data>").data == " a "


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("<Data/>", ""),
        ("<Data></Data>", ""),
        ("<Data><![CDATA[<a>&amp;</a>]]></Data>", "<a>&amp;</a>"),
        ("<Data>a<!-- b -->c<?pi?>d<![CDATA[e]]></Data>", "acde"),
        ("<Data>&lt;&gt;&amp;&quot;&apos;&#246;&#xf6;&#13;</Data>", "<>&\"'öö\r"),
        ("<Data>one\r\ntwo</Data>", "one\ntwo"),
        ("", None),
    ],
)
def test_data(data: str, value: str | None) -> None:
    assert item(data).data == value


def test_markup_in_data_is_text() -> None:
    """Some do not escape what has Format xml."""
    found = item('<Data>a <ResultCode xmlns="">1200</ResultCode><b xmlns=""/> c</Data>')
    assert found.data == 'a <ResultCode xmlns="">1200</ResultCode><b xmlns=""/> c'


def test_a_tree_in_data() -> None:
    markup = xml.encode_tree(TREE).decode().partition("?>")[2]
    assert item(f"<Data>\n {markup} </Data>").data == xml.decode_tree(markup.encode())
    assert isinstance(item(f"<Data><![CDATA[{markup}]]></Data>").data, str)


def test_the_order_of_children_is_free() -> None:
    """As the examples of the specification have it."""
    found = only(
        "<Status><MsgRef>1</MsgRef><CmdRef>0</CmdRef><CmdID>7</CmdID><Cmd>SyncHdr</Cmd>"
        "<TargetRef>http://dm.example/</TargetRef><SourceRef>IMEI:1</SourceRef>"
        "<Chal><Meta><Type xmlns='syncml:metinf'>syncml:auth-md5</Type>"
        "<Format xmlns='syncml:metinf'>b64</Format>"
        "<NextNonce xmlns='syncml:metinf'>ZG9iZWhhdmUNCg==</NextNonce></Meta></Chal>"
        "<Data>401</Data></Status>"
    )
    assert found == Status(
        "7",
        1,
        "0",
        "SyncHdr",
        401,
        ("http://dm.example/",),
        ("IMEI:1",),
        chal=Chal("syncml:auth-md5", "b64", "ZG9iZWhhdmUNCg=="),
    )


def test_results_without_a_message_are_about_the_first() -> None:
    found = only("<Results><CmdID>1</CmdID><CmdRef>4</CmdRef><Item/></Results>")
    assert found == Results("1", 1, "4", (Item(),))


@musts("DM-082")
def test_what_dm_does_not_use_is_skipped() -> None:
    found = only(
        "<Delete><CmdID>1</CmdID><Archive/><SftDel/><Cred><Data>x</Data></Cred>"
        "<Item><Target><LocURI>./x</LocURI><Filter><Field/></Filter></Target>"
        "<SourceParent><LocURI>y</LocURI></SourceParent></Item></Delete>"
    )
    assert found == Delete("1", (Item(target="./x"),))
    assert only("<Put><CmdID>1</CmdID><Item><What/></Item></Put>") == Unsupported("1", "Put")


def test_what_is_somebody_s_own_is_skipped() -> None:
    found = only("<Alert><CmdID>1</CmdID><v:x xmlns:v='urn:v'><y/></v:x><Data>1201</Data></Alert>")
    assert found == Alert("1", 1201)


# --- what is refused -------------------------------------------------------------------------

BOMB = (
    "<!DOCTYPE SyncML ["
    + '<!ENTITY a0 "lol">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + "]>"
)


@pytest.mark.parametrize(
    "prolog",
    [
        BOMB,
        '<!DOCTYPE SyncML [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE SyncML SYSTEM "a.dtd" [<!ENTITY % x SYSTEM "http://127.0.0.1/">%x;]>',
        '<!DOCTYPE SyncML PUBLIC "a" "b" []>',
        "<!-- --><!DOCTYPE SyncML [ ]>",
        '<?xml version="1.0"?>\n<?pi?><!DOCTYPE SyncML[]>',
    ],
)
def test_declarations_are_refused(prolog: str) -> None:
    for data in ("&a9;", "&x;", ""):
        with pytest.raises(SyncmlError, match="declarations of its own"):
            xml.decode(document(f"<Alert><CmdID>{data}</CmdID></Alert>", prolog))


def test_a_bomb_costs_nothing() -> None:
    data = document("<Alert><CmdID>&a9;</CmdID></Alert>", BOMB)
    tracemalloc.start()
    try:
        with pytest.raises(SyncmlError):
            xml.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "where",
    [
        "<Final/>&x;",
        "<Alert><CmdID>&x;</CmdID></Alert>",
        "<Replace><CmdID>1</CmdID><Item><Data>a&x;b</Data></Item></Replace>",
        "<Replace><CmdID>1</CmdID><Item><Data><y>&x;</y></Data></Item></Replace>",
        "<Final>&x;</Final>",
    ],
)
def test_entities_are_refused(where: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.dtd"
    secret.write_text('<!ENTITY x "secret">')
    for prolog in ("", f'<!DOCTYPE SyncML SYSTEM "{secret.as_uri()}">'):
        with pytest.raises(SyncmlError, match="entity|Entity"):
            xml.decode(document(where, prolog))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no XML"),
        (b"no", "no XML"),
        (b"<SyncML", "no XML"),
        (b"\x02\xa4\x01j\x00", "no XML"),
        (document("<Final/>").decode().encode("utf-16"), "no XML in UTF-8"),
        (document("<Final/>", '<?xml version="1.0" encoding="ISO-8859-1"?>'), "ISO-8859-1, not"),
        (document("<Final/>", '<?xml version="1.0" encoding="utf-16"?>'), "utf-16, not UTF-8"),
        (document("<Alert><CmdID>ö</CmdID></Alert>").replace(b"\xc3", b""), "no XML"),
        (document("<Final/>") + b"<a/>", "no XML"),
        (document("<Final/>") + b"\0", "no XML"),
        (document("<Final>\0</Final>"), "no XML"),
        (b"<html/>", "html has no place in a document"),
        (b"<SyncML xmlns='urn:other'/>", "SyncML of urn:other is not SyncML"),
        (b"<SyncML/>", "SyncML without SyncHdr"),
        (b"<SyncML><SyncHdr/></SyncML>", "SyncHdr without SessionID"),
        (document("<Final/>").replace(b"<SyncBody><Final/></SyncBody>", b""), "without SyncBody"),
    ],
)
def test_documents_that_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        xml.decode(data)


@pytest.mark.parametrize(
    "name", ["VerDTD", "VerProto", "SessionID", "MsgID", "Target", "Source", "LocURI"]
)
def test_headers_that_lack_something(name: str) -> None:
    start = SYNC_HDR.index(f"<{name}>")
    end = SYNC_HDR.index(f"</{name}>") + len(f"</{name}>")
    less = document("").decode().replace(SYNC_HDR, SYNC_HDR[:start] + SYNC_HDR[end:])
    missing = "Target" if name == "LocURI" else name
    with pytest.raises(SyncmlError, match=f"SyncHdr without {missing}"):
        xml.decode(less.encode())


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        ("<Alert><CmdID>1</CmdID></Alert>", "Alert without Data"),
        ("<Alert><CmdID>1</CmdID><CmdID>1</CmdID></Alert>", "Alert has CmdID twice"),
        ("<Final/><Final/>", "SyncBody has Final twice"),
        ("<Final>no</Final>", "Final holds text"),
        ("<Final><Get/></Final>", "Final holds an element"),
        ("<Item/>", "Item has no place in SyncBody"),
        ("<Foo/>", "Foo has no place in SyncBody"),
        ("<Alert>1201</Alert>", "Alert holds text"),
        ("<Alert><CmdID>1</CmdID>1201</Alert>", "Alert holds text"),
        ("<Alert><CmdID><b>1</b></CmdID></Alert>", "CmdID holds an element"),
        ("<Alert><CmdID>1</CmdID><Data>x</Data></Alert>", "Data: 'x' is no number"),
        ("<Alert><CmdID>1</CmdID><Data>1_0</Data></Alert>", "is no number"),
        ("<Alert><CmdID>1</CmdID><Data>²</Data></Alert>", "is no number"),
        (f"<Alert><CmdID>1</CmdID><Data>{'9' * 5000}</Data></Alert>", "is no number"),
        ("<Atomic><CmdID>1</CmdID><Results/></Atomic>", "Results has no place in Atomic"),
        ("<Exec><CmdID>1</CmdID><Item><Meta><Foo/></Meta></Item></Exec>", "Foo has no place"),
        ("<Status><CmdID>1</CmdID><Chal/></Status>", "Chal without Meta"),
        ("<Status><CmdID>1</CmdID><Cred/></Status>", "Cred without Data"),
    ],
)
def test_commands_that_are_refused(commands: str, complaint: str) -> None:
    with pytest.raises(SyncmlError, match=complaint):
        xml.decode(document(commands))


def test_every_truncation_is_refused() -> None:
    whole = read("pkg1.xml").rstrip()
    for length in range(len(whole)):
        with pytest.raises(SyncmlError):
            xml.decode(whole[:length])


def test_size() -> None:
    data = read("pkg1.xml")
    assert xml.decode(data, CodecLimits(size=len(data))) == PACKAGE_1
    with pytest.raises(SyncmlError, match=f"XML of {len(data)} octets"):
        xml.decode(data, CodecLimits(size=len(data) - 1))


def test_depth() -> None:
    for depth, complaint in ((60, "more than 40 deep"), (400, "no XML"), (40_000, "no XML")):
        with pytest.raises(SyncmlError, match=complaint):
            xml.decode(document("<Sequence>" * depth + "</Sequence>" * depth))


def test_count() -> None:
    with pytest.raises(SyncmlError, match="more than 4096 commands, items and nodes"):
        xml.decode(document("<Get><CmdID>1</CmdID></Get>" * 5000))
    with pytest.raises(SyncmlError, match="more than 4096 commands, items and nodes"):
        xml.decode(document("<Get><CmdID>1</CmdID>" + "<Item/>" * 5000 + "</Get>"))


@pytest.mark.parametrize(
    "start",
    [
        b"<?xml " + b"a" * 500_000,
        b"<!--" * 200_000,
        b"<?" * 400_000,
        b"<!DOCTYPE" + b" " * 900_000,
        b"<!DOCTYPE " + b"a" * 500_000 + b" " * 400_000,
        b"<!DOCTYPE a PUBLIC " + b'"" ' * 300_000,
        b" " * 900_000 + b"x",
    ],
)
def test_long_prologs_end_soon(start: bytes) -> None:
    """A search that went back and forth in these would take hours."""
    with pytest.raises(SyncmlError):
        xml.decode(start)


@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    with pytest.raises(SyncmlError):
        xml.decode(octets)


@unhurried
@given(st.data(), messages)
def test_any_damage(data: st.DataObject, message: Message) -> None:
    octets = bytearray(xml.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = xml.decode(bytes(octets))
    except SyncmlError:
        return
    assert isinstance(found, Message)


# --- what cannot be written ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a\0b", "\x1f", "\udc80", "\ufffe"])
def test_text_that_xml_cannot_carry(text: str) -> None:
    with pytest.raises(SyncmlMisuse, match="^Get '1': XML cannot hold U"):
        xml.encode(around(Get("1", (Item(target=text),))))
