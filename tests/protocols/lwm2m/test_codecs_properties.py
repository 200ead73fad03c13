"""Round trips of whatever the types allow, and any bytes at every decoder."""

from __future__ import annotations

import json
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.lwm2m import codecs
from protocols.lwm2m.codecs import CodecError, link
from protocols.lwm2m.codecs.link import Link
from protocols.lwm2m.model import ResourceType, type_of
from protocols.lwm2m.paths import Path, PathError, format_path, parse_path
from protocols.lwm2m.records import ObjectLink, Record, Value

IDS = st.integers(0, 65534)
VALUES: dict[ResourceType, st.SearchStrategy[Value]] = {
    ResourceType.STRING: st.text(max_size=300),
    ResourceType.INTEGER: st.integers(-(1 << 63), (1 << 63) - 1),
    ResourceType.UNSIGNED: st.integers(0, (1 << 64) - 1),
    ResourceType.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    ResourceType.BOOLEAN: st.booleans(),
    ResourceType.OPAQUE: st.binary(max_size=300),
    ResourceType.TIME: st.integers(-(1 << 40), 1 << 40),
    ResourceType.OBJLNK: st.builds(ObjectLink, st.integers(0, 65535), st.integers(0, 65535)),
    ResourceType.CORELNK: st.text(max_size=20),
}


def resource_type(path: Path) -> ResourceType:
    """A made-up model in which the resource id decides the type."""
    kinds = list(VALUES)
    return kinds[path[2] % len(kinds)]


@st.composite
def instances(draw: st.DrawFn) -> tuple[Path, list[Record]]:
    """Resources, single and multiple, of one or more instances of an object."""
    base: Path = (draw(IDS),)
    records: list[Record] = []
    for instance in draw(st.lists(IDS, unique=True, min_size=1, max_size=3)):
        for resource in draw(st.lists(IDS, unique=True, min_size=1, max_size=4)):
            path = (*base, instance, resource)
            value = VALUES[resource_type(path)]
            if draw(st.booleans()):
                records.append(Record(path, draw(value)))
            else:
                numbers = draw(st.lists(IDS, unique=True, min_size=1, max_size=3))
                records += [Record((*path, number), draw(value)) for number in numbers]
    return base, records


@pytest.mark.parametrize("content_format", codecs.MULTI_VALUE)
@given(case=instances())
def test_objects_come_back(content_format: int, case: tuple[Path, list[Record]]) -> None:
    base, records = case
    payload = codecs.encode(content_format, base, records, resource_type)
    assert codecs.decode(content_format, base, payload, resource_type) == records
    # The same at each level below: one instance, one resource, one resource instance.
    for depth in (2, 3, 4):
        narrow = records[0].path[:depth]
        part = [record for record in records if record.path[:depth] == narrow]
        payload = codecs.encode(content_format, narrow, part, resource_type)
        assert codecs.decode(content_format, narrow, payload, resource_type) == part


@pytest.mark.parametrize("content_format", [codecs.TEXT, codecs.CBOR])
@given(path=st.tuples(IDS, IDS, IDS), data=st.data())
def test_single_values_come_back(content_format: int, path: Path, data: st.DataObject) -> None:
    records = [Record(path, data.draw(VALUES[resource_type(path)]))]
    payload = codecs.encode(content_format, path, records, resource_type)
    assert codecs.decode(content_format, path, payload, resource_type) == records


@given(st.binary(max_size=300))
def test_opaque_comes_back(value: bytes) -> None:
    records = [Record((5, 0, 0), value)]
    payload = codecs.encode(codecs.OPAQUE, (5, 0, 0), records, type_of)
    assert codecs.decode(codecs.OPAQUE, (5, 0, 0), payload, type_of) == records


BASES = st.sampled_from(
    [(), (3,), (3, 0), (3, 0, 9), (3, 0, 7), (3, 0, 7, 1), (3, 0, 13), (5, 0), (5, 0, 0)]
    + [(1, 0, number) for number in (6, 10, 11)]
    + [(19, 0), (72, 0, 1)]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON_LABELS = st.sampled_from(
    ["bn", "bt", "bv", "bver", "n", "t", "v", "vs", "vb", "vd", "vlo", "sv", "ov", "e", "x_"]
)
NAMES = st.sampled_from(["/3/0/", "/3/0/9", "/3/0/7/1", "9", "/5/0/0", "66:0", ""])
RECORD_LIKE = st.dictionaries(JSON_LABELS, SCALARS | NAMES, max_size=5)
JSON_LIKE = st.recursive(
    SCALARS | NAMES, lambda inner: st.lists(inner, max_size=3) | RECORD_LIKE, max_leaves=6
)
DOCUMENTS = (
    st.lists(RECORD_LIKE, max_size=4)
    | st.fixed_dictionaries({"e": st.lists(RECORD_LIKE, max_size=3)}, optional={"bn": NAMES})
    | JSON_LIKE
)
CBOR_LIKE = st.lists(
    st.dictionaries(
        st.integers(-8, 9) | JSON_LABELS, SCALARS | NAMES | st.binary(max_size=8), max_size=5
    ),
    max_size=4,
)


def decode_or_refuse(content_format: int, base: Path, payload: bytes) -> None:
    try:
        records = codecs.decode(content_format, base, payload, type_of)
    except CodecError:
        return
    for record in records:
        assert record.path[: len(base)] == base and len(record.path) in (3, 4)
        assert isinstance(record.value, int | float | str | bytes | ObjectLink)


@pytest.mark.parametrize("content_format", codecs.SUPPORTED)
@given(base=BASES, payload=st.binary(max_size=64))
def test_any_bytes_decode_or_are_refused(content_format: int, base: Path, payload: bytes) -> None:
    decode_or_refuse(content_format, base, payload)


@pytest.mark.parametrize("content_format", [codecs.SENML_JSON, codecs.JSON_OLD])
@given(base=BASES, document=DOCUMENTS)
def test_any_json_decodes_or_is_refused(content_format: int, base: Path, document: object) -> None:
    decode_or_refuse(content_format, base, json.dumps(document).encode())


@given(base=BASES, document=CBOR_LIKE)
def test_any_senml_cbor_decodes_or_is_refused(base: Path, document: object) -> None:
    decode_or_refuse(codecs.SENML_CBOR, base, cbor2.dumps(document))


@given(base=BASES, document=SCALARS | st.binary(max_size=9) | st.datetimes(), tag=IDS)
def test_any_cbor_item_decodes_or_is_refused(base: Path, document: object, tag: int) -> None:
    decode_or_refuse(codecs.CBOR, base, cbor2.dumps(cbor2.CBORTag(tag, 1)))
    with suppress(cbor2.CBOREncodeError):
        decode_or_refuse(codecs.CBOR, base, cbor2.dumps(document))


@given(st.binary(max_size=64) | st.text('<>/;,="\\ 0a', max_size=24).map(str.encode))
def test_any_bytes_are_links_or_refused(payload: bytes) -> None:
    with suppress(CodecError):
        assert link.decode(link.encode(link.decode(payload))) == link.decode(payload)


ATTRIBUTES = st.tuples(st.sampled_from(["rt", "ver", "ct", "hb"]), st.none() | st.text(max_size=9))


@given(
    st.lists(
        st.builds(
            Link, st.sampled_from(["/", "/3/0", ""]), st.lists(ATTRIBUTES, max_size=3).map(tuple)
        ),
        max_size=4,
    )
)
def test_links_come_back(links: list[Link]) -> None:
    assert link.decode(link.encode(links)) == links


@given(st.lists(IDS, max_size=4).map(tuple))
def test_paths_come_back(path: Path) -> None:
    assert parse_path(format_path(path)) == path


@given(st.text(max_size=20) | st.text("/0123456789", max_size=12))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    with suppress(PathError):
        assert format_path(parse_path(text)) == text


@pytest.mark.parametrize("text", ["", "5/0", "/5/", "//", "/05", "/65535", "/1/2/3/4/5", "/-1"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(PathError):
        parse_path(text)
