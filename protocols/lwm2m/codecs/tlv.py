"""application/vnd.oma.lwm2m+tlv (content format 11542), LwM2M 1.1 core section 7.4.3.

An entry is a type byte, an id of 8 or 16 bits, a length of 3, 8, 16 or 24 bits, and a value. The
two top bits of the type byte say what the entry is, and so how entries nest::

    0x00 object instance   holds 0xC0 and 0x80 entries
    0x80 multiple resource holds 0x40 entries
    0x40 resource instance holds a value
    0xC0 resource          holds a value

What stands at the outermost level follows from the path of the request: instances under an object,
resources under an instance, one resource under a resource. Where the instance is named by the
request its own entry is optional, so both shapes are read there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import TypeOf, fit, link_value, natural_type
from protocols.lwm2m.model import ResourceType
from protocols.lwm2m.paths import MAX_ID, Path, format_path, is_under
from protocols.lwm2m.records import ObjectLink, Record, Value

__all__ = [
    "INSTANCE",
    "MULTIPLE",
    "RESOURCE",
    "RESOURCE_INSTANCE",
    "Header",
    "decode",
    "encode",
    "names_instances",
    "read_header",
]

INSTANCE = 0x00
RESOURCE_INSTANCE = 0x40
MULTIPLE = 0x80
RESOURCE = 0xC0
_NAMES = {
    INSTANCE: "object instance",
    RESOURCE_INSTANCE: "resource instance",
    MULTIPLE: "multiple resource",
    RESOURCE: "resource",
}

_WIDE_ID = 0x20
# The length field has at most 24 bits.
_MAX_LENGTH = (1 << 24) - 1
_INTEGER_SIZES = (1, 2, 4, 8)


class Header(NamedTuple):
    kind: int
    id: int
    length: int
    """Of the value."""
    size: int
    """Of the header itself: the value starts that far behind the type byte."""


def read_header(data: bytes, offset: int = 0) -> Header | None:
    """The entry that begins at `offset`; None when the bytes end inside its header.

    For a package that arrives in blocks: the header of the first block tells what follows.
    """
    if offset >= len(data):
        return None
    first = data[offset]
    id_end = offset + (3 if first & _WIDE_ID else 2)
    length_size = first >> 3 & 3
    end = id_end + length_size
    if end > len(data):
        return None
    ident = int.from_bytes(data[offset + 1 : id_end], "big")
    length = int.from_bytes(data[id_end:end], "big") if length_size else first & 7
    return Header(first & 0xC0, ident, length, end - offset)


def names_instances(payload: bytes) -> bool:
    """Whether the payload of a Create says the id of the instance, or leaves it to the client."""
    return bool(payload) and payload[0] & 0xC0 == INSTANCE


# --- reading ---------------------------------------------------------------------------------


def _entries(data: bytes, where: Path) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(data):
        header = read_header(data, offset)
        if header is None:
            raise CodecError(f"{format_path(where)}: TLV ends inside an entry's header")
        if header.id > MAX_ID:
            raise CodecError(f"{format_path(where)}: TLV {_NAMES[header.kind]} {header.id}: no id")
        start = offset + header.size
        offset = start + header.length
        if offset > len(data):
            raise CodecError(
                f"{format_path(where)}: TLV {_NAMES[header.kind]} {header.id} claims"
                f" {header.length} bytes, {len(data) - start} are left"
            )
        yield header.kind, header.id, data[start:offset]


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    if not base:
        raise CodecError("TLV cannot say which object it is about, so it needs a path")
    records: list[Record] = []
    payload = bytes(payload)
    if len(base) == 1:
        for kind, ident, value in _entries(payload, base):
            if kind != INSTANCE:
                raise _misplaced(kind, ident, base)
            _instance((*base, ident), value, type_of, records)
    elif len(base) == 4:
        _resource_instance(base, payload, type_of, records)
    else:
        _instance(base[:2], _unwrapped(base, payload), type_of, records)
    seen: set[Path] = set()
    for record in records:
        if not is_under(record.path, base):
            raise CodecError(f"{format_path(record.path)} is outside of {format_path(base)}")
        if record.path in seen:
            raise CodecError(f"{format_path(record.path)} appears twice")
        seen.add(record.path)
    return records


def _unwrapped(base: Path, payload: bytes) -> bytes:
    """The resources inside the optional entry of the instance that the request named."""
    if not names_instances(payload):
        return payload
    entries = list(_entries(payload, base))
    if len(entries) != 1 or entries[0][:2] != (INSTANCE, base[1]):
        raise CodecError(f"{format_path(base)}: TLV is about another object instance")
    return entries[0][2]


def _instance(path: Path, data: bytes, type_of: TypeOf, out: list[Record]) -> None:
    for kind, ident, value in _entries(data, path):
        resource = (*path, ident)
        if kind == RESOURCE:
            out.append(Record(resource, _read(value, resource, type_of)))
        elif kind == MULTIPLE:
            _multiple(resource, value, type_of, out)
        else:
            raise _misplaced(kind, ident, path)


def _multiple(path: Path, data: bytes, type_of: TypeOf, out: list[Record]) -> None:
    for kind, ident, value in _entries(data, path):
        if kind != RESOURCE_INSTANCE:
            raise _misplaced(kind, ident, path)
        instance = (*path, ident)
        out.append(Record(instance, _read(value, instance, type_of)))


def _resource_instance(base: Path, data: bytes, type_of: TypeOf, out: list[Record]) -> None:
    """One resource instance, bare or inside the multiple resource that it belongs to."""
    entries = list(_entries(data, base))
    if len(entries) == 1 and entries[0][:2] == (MULTIPLE, base[2]):
        _multiple(base[:3], entries[0][2], type_of, out)
    else:
        _multiple(base[:3], data, type_of, out)


def _misplaced(kind: int, ident: int, where: Path) -> CodecError:
    return CodecError(f"{format_path(where)}: TLV {_NAMES[kind]} {ident} has no place there")


def _read(data: bytes, path: Path, type_of: TypeOf) -> Value:
    kind = type_of(path)
    value: object
    match kind:
        case None | ResourceType.OPAQUE | ResourceType.NONE:
            value = data
        case ResourceType.STRING | ResourceType.CORELNK:
            try:
                value = data.decode()
            except UnicodeDecodeError:
                raise CodecError(f"{format_path(path)}: the string is not UTF-8") from None
        case ResourceType.INTEGER | ResourceType.TIME | ResourceType.UNSIGNED:
            if len(data) not in _INTEGER_SIZES:
                raise _bad_size(path, data, "an integer has 1, 2, 4 or 8")
            value = int.from_bytes(data, "big", signed=kind is not ResourceType.UNSIGNED)
        case ResourceType.FLOAT:
            if len(data) not in (4, 8):
                raise _bad_size(path, data, "a float has 4 or 8")
            (value,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
        case ResourceType.BOOLEAN:
            if data not in (b"\0", b"\1"):
                raise CodecError(f"{format_path(path)}: {data[:8].hex()} is no boolean")
            value = data == b"\1"
        case ResourceType.OBJLNK:
            if len(data) != 4:
                raise _bad_size(path, data, "an object link has 4")
            value = link_value("{}:{}".format(*struct.unpack(">HH", data)), path)
    return fit(value, kind, path)


def _bad_size(path: Path, data: bytes, rule: str) -> CodecError:
    return CodecError(f"{format_path(path)}: {len(data)} bytes, but {rule}")


# --- writing ---------------------------------------------------------------------------------


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    if not base:
        raise CodecError("TLV cannot say which object it is about, so it needs a path")
    instances: dict[int, dict[int, bytes | dict[int, bytes]]] = {}
    for record in records:
        path = record.path
        if len(path) not in (3, 4) or not is_under(path, base):
            raise CodecError(f"{format_path(path)} is no resource under {format_path(base)}")
        resources = instances.setdefault(path[1], {})
        data = _write(record.value, path, type_of)
        if len(path) == 3:
            if path[2] in resources:
                raise CodecError(f"{format_path(path)} appears twice")
            resources[path[2]] = data
            continue
        group = resources.setdefault(path[2], {})
        if isinstance(group, bytes) or path[3] in group:
            raise CodecError(f"{format_path(path)} appears twice")
        group[path[3]] = data
    if len(base) == 1:
        return b"".join(
            _entry(INSTANCE, ident, _resources(resources)) for ident, resources in instances.items()
        )
    resources = instances.get(base[1], {})
    if len(base) == 4:
        group = resources.get(base[2], {})
        if isinstance(group, bytes) or base[3] not in group:
            raise CodecError(f"{format_path(base)}: no record for this resource instance")
        return _entry(RESOURCE_INSTANCE, base[3], group[base[3]])
    return _resources(resources)


def _resources(resources: dict[int, bytes | dict[int, bytes]]) -> bytes:
    return b"".join(
        _entry(RESOURCE, ident, value)
        if isinstance(value, bytes)
        else _entry(
            MULTIPLE,
            ident,
            b"".join(_entry(RESOURCE_INSTANCE, number, data) for number, data in value.items()),
        )
        for ident, value in resources.items()
    )


def _entry(kind: int, ident: int, value: bytes) -> bytes:
    length = len(value)
    if length > _MAX_LENGTH:
        raise CodecError(f"{length} bytes do not fit a TLV entry, which ends at {_MAX_LENGTH}")
    if ident > 0xFF:
        kind |= _WIDE_ID
        head = ident.to_bytes(2, "big")
    else:
        head = ident.to_bytes(1, "big")
    if length < 8:
        return bytes((kind | length,)) + head + value
    size = 1 if length <= 0xFF else 2 if length <= 0xFFFF else 3
    return bytes((kind | size << 3,)) + head + length.to_bytes(size, "big") + value


def _write(raw: Value, path: Path, type_of: TypeOf) -> bytes:
    kind = type_of(path) or natural_type(raw)
    value = fit(raw, kind, path)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    if isinstance(value, ObjectLink):
        return struct.pack(">HH", value.object_id, value.instance_id)
    if isinstance(value, float):
        return _float(value)
    # The shortest of the sizes that a reader must take (appendix C).
    signed = kind is not ResourceType.UNSIGNED
    bits = (value if value >= 0 else ~value).bit_length() + signed
    size = next(size for size in _INTEGER_SIZES if size * 8 >= bits)
    return value.to_bytes(size, "big", signed=signed)


def _float(value: float) -> bytes:
    """Four bytes where they lose nothing, else eight."""
    try:
        short = struct.pack(">f", value)
    except OverflowError:
        return struct.pack(">d", value)
    return short if struct.unpack(">f", short)[0] == value else struct.pack(">d", value)
