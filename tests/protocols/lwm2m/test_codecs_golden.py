"""Payloads that others wrote down: the specification's, and what servers are seen to send."""

from __future__ import annotations

import json

import cbor2
import pytest

from protocols.lwm2m import codecs
from protocols.lwm2m.codecs import CodecError, link, tlv
from protocols.lwm2m.codecs.link import Link
from protocols.lwm2m.model import type_of
from protocols.lwm2m.paths import Path
from protocols.lwm2m.records import NO_LINK, ObjectLink, Record, Value
from tests.protocols.lwm2m.example_client import (
    ACCESS_CONTROL,
    ACCESS_CONTROL_TLV,
    DEVICE,
    DEVICE_JSON_OLD,
    DEVICE_SENML_CBOR,
    DEVICE_SENML_JSON,
    DEVICE_TLV,
    LINKS,
    LINKS_TLV,
    example_type,
)

PRINTED = [
    pytest.param(codecs.TLV, (3, 0), DEVICE, DEVICE_TLV, id="tlv-device"),
    pytest.param(codecs.TLV, (3,), DEVICE, b"\x08\x00\x79" + DEVICE_TLV, id="tlv-object"),
    pytest.param(codecs.TLV, (2,), ACCESS_CONTROL, ACCESS_CONTROL_TLV, id="tlv-instances"),
    pytest.param(codecs.TLV, (65, 0), LINKS, LINKS_TLV, id="tlv-links"),
    pytest.param(codecs.SENML_JSON, (3, 0), DEVICE, DEVICE_SENML_JSON, id="senml-json"),
    pytest.param(codecs.SENML_CBOR, (3, 0), DEVICE, DEVICE_SENML_CBOR, id="senml-cbor"),
    pytest.param(codecs.JSON_OLD, (3, 0), DEVICE, DEVICE_JSON_OLD, id="json-old"),
    pytest.param(
        codecs.SENML_JSON,
        (3, 0, 0),
        DEVICE[:1],
        b'[{"bn":"/3/0/0","vs":"Open Mobile Alliance"}]',
        id="senml-json-resource",
    ),
    pytest.param(codecs.TEXT, (3, 0, 0), DEVICE[:1], b"Open Mobile Alliance", id="text"),
]


@pytest.mark.parametrize(("content_format", "base", "records", "payload"), PRINTED)
def test_printed_payloads_are_written_and_read_to_the_byte(
    content_format: int, base: Path, records: list[Record], payload: bytes
) -> None:
    assert codecs.encode(content_format, base, records, example_type) == payload
    assert codecs.decode(content_format, base, payload, example_type) == records


HISTORY = [
    Record((72, 1, 2), 22.4, 25462629.0),
    Record((72, 1, 2), 22.9, 25462604.0),
    Record((72, 1, 2), 24.1, 25462584.0),
]


def test_base_time_is_added_to_each_time() -> None:
    payload = (
        b'[{"bn":"/72/","bt":25462634,"n":"1/2","v":22.4,"t":-5},'
        b'{"n":"1/2","v":22.9,"t":-30},{"n":"1/2","v":24.1,"t":-50}]'
    )
    assert codecs.decode(codecs.SENML_JSON, (72,), payload, example_type) == HISTORY
    old = (
        b'{"e":[{"n":"1/2","v":22.4,"t":-5},{"n":"1/2","v":22.9,"t":-30},'
        b'{"n":"1/2","v":24.1,"t":-50}],"bn":"/72/","bt":25462634}'
    )
    assert codecs.decode(codecs.JSON_OLD, (72,), old, example_type) == HISTORY
    binary = cbor2.dumps(
        [
            {-2: "/72/", -3: 25462634, 0: "1/2", 2: 22.4, 6: -5},
            {0: "1/2", 2: 22.9, 6: -30},
            {0: "1/2", 2: 24.1, 6: -50},
        ]
    )
    assert codecs.decode(codecs.SENML_CBOR, (72,), binary, example_type) == HISTORY


def test_base_fields_change_along_a_pack() -> None:
    payload = json.dumps(
        [
            {"bn": "/1/0/", "bv": 50, "n": "1", "v": 10, "bver": 10, "u": "s"},
            {"n": "2", "v": 1, "ext": "skipped"},
            {"bn": "/3/0/", "bv": 0, "n": "9", "v": 7.0},
            {"bn": "", "n": "/3/0/14", "vs": "+01:00"},
        ]
    ).encode()
    assert codecs.decode(codecs.SENML_JSON, (), payload, type_of) == [
        Record((1, 0, 1), 60),
        Record((1, 0, 2), 51),
        Record((3, 0, 9), 7),
        Record((3, 0, 14), "+01:00"),
    ]


SINGLE: list[tuple[int, Path, Value, bytes]] = [
    (codecs.TEXT, (5, 0, 3), 1, b"1"),
    (codecs.TEXT, (4, 0, 2), -92, b"-92"),
    (codecs.TEXT, (1, 0, 6), True, b"1"),
    (codecs.TEXT, (5, 0, 0), b"\0\xff", b"AP8="),
    (codecs.TEXT, (1, 0, 10), ObjectLink(11, 0), b"11:0"),
    (codecs.TEXT, (3, 0, 13), 1367491215, b"1367491215"),
    (codecs.TEXT, (5, 0, 1), "", b""),
    (codecs.OPAQUE, (5, 0, 0), b"\0", b"\0"),
    (codecs.CBOR, (5, 0, 3), 2, b"\x02"),
    (codecs.CBOR, (5, 0, 1), "coap://h/i", b"\x6acoap://h/i"),
    (codecs.CBOR, (5, 0, 0), b"\1\2", b"\x42\1\2"),
    (codecs.CBOR, (1, 0, 6), False, b"\xf4"),
    (codecs.CBOR, (1, 0, 10), ObjectLink(11, 0), b"\x6411:0"),
    (codecs.CBOR, (3, 0, 13), 1367491215, b"\xc1\x1a\x51\x82\x42\x8f"),
    (codecs.TLV, (5, 0, 3), 1, b"\xc1\x03\x01"),
    (codecs.TLV, (5, 0, 0), b"\0", b"\xc1\x00\x00"),
    (codecs.TLV, (5, 0, 1), "", b"\xc0\x01"),
    (codecs.TLV, (1, 0, 10), NO_LINK, b"\xc4\x0a\xff\xff\xff\xff"),
    (codecs.TLV, (4, 0, 2), -128, b"\xc1\x02\x80"),
    (codecs.TLV, (4, 0, 2), -129, b"\xc2\x02\xff\x7f"),
    (codecs.TLV, (4, 0, 8), 128, b"\xc2\x08\x00\x80"),
    (codecs.TLV, (0, 0, 13), 128, b"\xc1\x0d\x80"),
    (codecs.TLV, (72, 0, 2), 22.5, b"\xc4\x02\x41\xb4\x00\x00"),
    (codecs.TLV, (72, 0, 2), 0.1, b"\xc8\x02\x08\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
    (codecs.TLV, (3, 0, 7, 1), 5000, b"\x42\x01\x13\x88"),
    (codecs.SENML_JSON, (5, 0, 0), b"\xfb\xff", b'[{"bn":"/5/0/0","vd":"-_8"}]'),
    (codecs.SENML_JSON, (1, 0, 6), True, b'[{"bn":"/1/0/6","vb":true}]'),
    (codecs.SENML_JSON, (1, 0, 10), ObjectLink(66, 0), b'[{"bn":"/1/0/10","vlo":"66:0"}]'),
    (codecs.SENML_CBOR, (5, 0, 0), b"\xfb", b"\x81\xa2\x21\x66/5/0/0\x08\x41\xfb"),
    (codecs.SENML_CBOR, (1, 0, 6), True, b"\x81\xa2\x21\x66/1/0/6\x04\xf5"),
    (codecs.SENML_CBOR, (1, 0, 10), NO_LINK, b"\x81\xa2\x21\x67/1/0/10\x63vlo\x6b65535:65535"),
    (codecs.JSON_OLD, (5, 0, 0), b"\xfb\xff", b'{"bn":"/5/0/0","e":[{"sv":"+/8="}]}'),
    (codecs.JSON_OLD, (1, 0, 10), ObjectLink(66, 0), b'{"bn":"/1/0/10","e":[{"ov":"66:0"}]}'),
]


@pytest.mark.parametrize(("content_format", "path", "value", "payload"), SINGLE)
def test_single_values(content_format: int, path: Path, value: Value, payload: bytes) -> None:
    records = [Record(path, value)]
    assert codecs.encode(content_format, path, records, example_type) == payload
    assert codecs.decode(content_format, path, payload, example_type) == records


READ_ONLY: list[tuple[int, Path, bytes, list[Record]]] = [
    # The optional entry of the instance that the request already names.
    (codecs.TLV, (3, 0), b"\x08\x00\x79" + DEVICE_TLV, DEVICE),
    # One resource instance inside its multiple resource.
    (codecs.TLV, (3, 0, 7, 1), b"\x84\x07\x42\x01\x13\x88", [Record((3, 0, 7, 1), 5000)]),
    (codecs.TLV, (3, 0, 7), b"\x84\x07\x42\x01\x13\x88", [Record((3, 0, 7, 1), 5000)]),
    # Wider than needed: 16 bits of id, 24 bits of length, 8 bytes of integer.
    (codecs.TLV, (5, 0, 3), b"\xf8\x00\x03\x00\x00\x08" + bytes(7) + b"\x02",
     [Record((5, 0, 3), 2)]),
    # A payload without base name is about the path of the request.
    (codecs.JSON_OLD, (3, 0), b'{"e":[{"n":"9","v":38},{"n":"14","sv":"Z"}]}',
     [Record((3, 0, 9), 38), Record((3, 0, 14), "Z")]),
    (codecs.JSON_OLD, (3, 0, 9), b'{"e":[{"v":38.0}]}', [Record((3, 0, 9), 38)]),
    (codecs.SENML_JSON, (3, 0, 9), b'[{"n":"/3/0/9","v":3.8e1}]', [Record((3, 0, 9), 38)]),
    (codecs.SENML_JSON, (5, 0, 0), b'[{"n":"/5/0/0","vd":"-_8="}]',
     [Record((5, 0, 0), b"\xfb\xff")]),
    # Times in plain CBOR numbers and as texts.
    (codecs.CBOR, (3, 0, 13), b"\x1a\x51\x82\x42\x8f", [Record((3, 0, 13), 1367491215)]),
    (codecs.CBOR, (3, 0, 13), b"\xc0\x742013-05-02T10:40:15Z", [Record((3, 0, 13), 1367491215)]),
    (codecs.CBOR, (5, 0, 3), b"\x18\x02", [Record((5, 0, 3), 2)]),
    # Resources that we know nothing of.
    (codecs.TLV, (19, 0), b"\xc2\x00hi", [Record((19, 0, 0), b"hi")]),
    (codecs.TEXT, (19, 0, 1), b"hi", [Record((19, 0, 1), "hi")]),
    (codecs.CBOR, (19, 0, 1), b"\xf5", [Record((19, 0, 1), True)]),
]  # fmt: skip


@pytest.mark.parametrize(("content_format", "base", "payload", "records"), READ_ONLY)
def test_what_others_may_write(
    content_format: int, base: Path, payload: bytes, records: list[Record]
) -> None:
    assert codecs.decode(content_format, base, payload, type_of) == records


REFUSED: list[tuple[str, int, Path, bytes]] = [
    ("ends inside", codecs.TLV, (5, 0), b"\xc8"),
    ("claims 3 bytes, 2 are left", codecs.TLV, (5, 0), b"\xc3\x01ab"),
    ("appears twice", codecs.TLV, (5, 0), b"\xc1\x03\x01\xc1\x03\x01"),
    ("has no place", codecs.TLV, (5,), b"\xc1\x03\x01"),
    ("has no place", codecs.TLV, (5, 0), b"\x41\x00\x01"),
    ("has no place", codecs.TLV, (3, 0), b"\x83\x07\xc1\x00\x01"),
    ("another object instance", codecs.TLV, (5, 0), b"\x03\x01\xc1\x03\x01"),
    ("outside of /5/0/3", codecs.TLV, (5, 0, 3), b"\xc1\x05\x01"),
    ("1, 2, 4 or 8", codecs.TLV, (5, 0, 3), b"\xc3\x03\0\0\1"),
    ("no boolean", codecs.TLV, (1, 0, 6), b"\xc1\x06\x02"),
    ("needs a path", codecs.TLV, (), b""),
    ("not UTF-8", codecs.TEXT, (5, 0, 1), b"\xff"),
    ("does not fit type time", codecs.TEXT, (3, 0, 13), b"x"),
    ("does not fit type integer", codecs.TEXT, (1, 0, 1), b" 60"),
    ("does not fit type integer", codecs.TEXT, (1, 0, 1), b"9" * 20),
    ("does not fit type boolean", codecs.TEXT, (1, 0, 6), b"true"),
    ("not base64", codecs.TEXT, (5, 0, 0), b"not base64!"),
    ("no object link", codecs.TEXT, (1, 0, 10), b"66"),
    ("one resource only", codecs.TEXT, (5, 0), b"1"),
    ("one resource only", codecs.OPAQUE, (5, 0), b"1"),
    ("does not fit type integer", codecs.OPAQUE, (5, 0, 3), b"1"),
    ("bytes follow", codecs.CBOR, (5, 0, 3), b"\x01\x02"),
    ("not CBOR", codecs.CBOR, (5, 0, 3), b""),
    ("indefinite", codecs.CBOR, (5, 0, 1), b"\x7f\x61a\xff"),
    ("not CBOR", codecs.CBOR, (5, 0, 3), b"\xc2\x41\x01"),
    ("not CBOR", codecs.CBOR, (5, 0, 1), b"\xd8\x23\x61a"),
    ("a date does not fit", codecs.CBOR, (5, 0, 3), b"\xc1\x01"),
    ("no LwM2M value", codecs.CBOR, (19, 0, 3), b"\xf6"),
    ("does not fit type string", codecs.CBOR, (5, 0, 1), b"\x01"),
    ("not JSON", codecs.SENML_JSON, (5, 0), b"{"),
    ("an array", codecs.SENML_JSON, (5, 0), b"{}"),
    ("nested too deeply", codecs.SENML_JSON, (5, 0), b"[" * 100_000),
    ("appears twice in one map", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/1","n":"/5/0/1"}]'),
    ("NaN is not", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/3","v":NaN}]'),
    ("finite", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/3","v":1e999}]'),
    ("not JSON", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/3","v":' + b"9" * 5000 + b"}]"),
    ("0 values", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/3"}]'),
    ("2 values", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/3","v":1,"vs":"1"}]'),
    ("outside of /5/0", codecs.SENML_JSON, (5, 0), b'[{"n":"/3/0/14","vs":"Z"}]'),
    ("names no resource", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0","v":1}]'),
    ("must be understood", codecs.SENML_JSON, (5, 0), b'[{"n":"/5/0/3","v":1,"x_":1}]'),
    ("version", codecs.SENML_JSON, (5, 0), b'[{"bver":11,"n":"/5/0/3","v":1}]'),
    ("twice at the same time", codecs.SENML_JSON, (5, 0), b'[{"bn":"/5/0/3","v":1},{"v":2}]'),
    ("not an id", codecs.SENML_JSON, (5, 0), b'[{"bn":"/5/0","n":"03","v":1}]'),
    ("as -2", codecs.SENML_CBOR, (5, 0), cbor2.dumps([{"bn": "/5/0/3", 2: 1}])),
    ("Duplicate", codecs.SENML_CBOR, (5, 0), b"\x81\xa2\x02\x01\x02\x01"),
    ("depth", codecs.SENML_CBOR, (5, 0), b"\x81" * 500),
    ("surrogate", codecs.SENML_JSON, (3, 0), b'[{"n":"/3/0/14","vs":"\\ud800"}]'),
    ("65535: no id", codecs.TLV, (5, 0), b"\xe0\xff\xff"),
    ("array 'e'", codecs.JSON_OLD, (5, 0), b'{"bn":"/5/0/"}'),
    ("cannot carry", 40, (5, 0), b""),
]


@pytest.mark.parametrize(("reason", "content_format", "base", "payload"), REFUSED)
def test_what_is_refused_and_why(
    reason: str, content_format: int, base: Path, payload: bytes
) -> None:
    with pytest.raises(CodecError, match=reason):
        codecs.decode(content_format, base, payload, type_of)


def test_a_package_in_tlv_can_be_streamed_past_its_header() -> None:
    image = bytes(70_000)
    payload = codecs.encode(codecs.TLV, (5, 0, 0), [Record((5, 0, 0), image)], type_of)
    header = tlv.read_header(payload[:1024])
    assert header == tlv.Header(tlv.RESOURCE, 0, 70_000, 5)
    assert payload[header.size :] == image
    assert tlv.read_header(payload[:4]) is None


def test_a_create_may_name_its_instance() -> None:
    assert tlv.names_instances(ACCESS_CONTROL_TLV)
    assert not tlv.names_instances(DEVICE_TLV)
    assert not tlv.names_instances(b"")


def test_a_package_beyond_the_length_field_is_our_own_error() -> None:
    with pytest.raises(CodecError, match="16777216 bytes"):
        codecs.encode(codecs.TLV, (5, 0, 0), [Record((5, 0, 0), bytes(1 << 24))], type_of)


def test_links_of_a_register() -> None:
    payload = b'</>;rt="oma.lwm2m";ct="60 110 112 11542 11543",</1/0>,</3>;ver=1.1,</3/0>'
    links = [
        Link("/", (("rt", "oma.lwm2m"), ("ct", "60 110 112 11542 11543"))),
        Link("/1/0"),
        Link("/3", (("ver", "1.1"),)),
        Link("/3/0"),
    ]
    assert link.decode(payload) == links
    assert link.encode(links) == payload
    assert links[2].get("ver") == "1.1" and links[3].get("ver") is None


def test_links_of_other_writers() -> None:
    assert link.decode(b' </3> ; ver="1.2" ;hb , </a>;x="q\\"\\\\, ;" ') == [
        Link("/3", (("ver", "1.2"), ("hb", None))),
        Link("/a", (("x", 'q"\\, ;'),)),
    ]
    assert link.decode(b"") == []


@pytest.mark.parametrize("payload", [b"</3>,", b"/3", b"</3>;", b"</3>;a=", b"</3></4>", b"\xff"])
def test_broken_links_are_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        link.decode(payload)


UNWRITABLE: list[tuple[str, int, Path, list[Record]]] = [
    ("does not fit type integer", codecs.TLV, (5, 0), [Record((5, 0, 3), "1")]),
    ("does not fit type integer", codecs.CBOR, (5, 0, 3), [Record((5, 0, 3), 1 << 63)]),
    ("not a finite number", codecs.SENML_JSON, (72, 0), [Record((72, 0, 2), float("nan"))]),
    ("no resource under /5/0", codecs.TLV, (5, 0), [Record((3, 0, 3), "1")]),
    ("no resource under /5/0", codecs.SENML_CBOR, (5, 0), [Record((5, 0), 1)]),
    ("one resource or resource instance", codecs.TEXT, (5, 0), [Record((5, 0, 3), 1)]),
    ("carries bytes", codecs.OPAQUE, (5, 0, 3), [Record((5, 0, 3), 1)]),
    ("appears twice", codecs.TLV, (5, 0), [Record((5, 0, 3), 1), Record((5, 0, 3), 2)]),
    ("appears twice", codecs.TLV, (3, 0), [Record((3, 0, 7), 1), Record((3, 0, 7, 0), 2)]),
    ("no record", codecs.TLV, (3, 0, 7, 1), []),
    ("cannot carry", codecs.LINK, (3, 0), []),
]


@pytest.mark.parametrize(("reason", "content_format", "base", "records"), UNWRITABLE)
def test_what_cannot_be_written(
    reason: str, content_format: int, base: Path, records: list[Record]
) -> None:
    with pytest.raises(CodecError, match=reason):
        codecs.encode(content_format, base, records, example_type)
