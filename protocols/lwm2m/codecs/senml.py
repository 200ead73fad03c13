"""What SenML JSON and SenML CBOR share (RFC 8428 sections 4 and 5, LwM2M 1.1 core section 7.4.4).

A pack is a list of records with base fields that hold from the record they stand in onwards: the
base name goes before each name, the base time and the base value are added to each time and value.
The two wire formats differ only in how labels and bytes are written, so they hand over records
whose labels are the JSON ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import (
    TypeOf,
    fit,
    link_value,
    natural_type,
    resource_path,
)
from protocols.lwm2m.paths import Path, format_path, is_under
from protocols.lwm2m.records import ObjectLink, Record, Value

__all__ = ["Fields", "add", "build", "number", "resolve", "seconds"]

Fields = dict[str, object]

# RFC 8428 section 4.4: a pack of a later version has a meaning that this reader does not know.
_VERSION = 10
_VALUE_FIELDS = ("v", "vs", "vb", "vd", "vlo")


def number(value: object, label: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CodecError(f"{label!r} is a number, not {value!r:.64}")
    if isinstance(value, float) and not math.isfinite(value):
        raise CodecError(f"{label!r} is not a finite number")
    return value


def add(left: int | float, right: int | float, label: str) -> int | float:
    """A sum whose terms are finite, but which need not be so itself."""
    try:
        return number(left + right, label)
    except OverflowError:
        raise CodecError(f"{label!r} is out of range") from None


def _text(value: object, label: str) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{label!r} is a text, not {value!r:.64}")
    return value


def resolve(
    pack: object,
    base: Path,
    type_of: TypeOf,
    read_bytes: Callable[[object, Path], bytes],
) -> list[Record]:
    """The records of a pack with all base fields worked in; each must lie under `base`."""
    if not isinstance(pack, Sequence) or isinstance(pack, str | bytes):
        raise CodecError("a SenML pack is an array of records")
    records: list[Record] = []
    seen: set[tuple[Path, float | None]] = set()
    base_name = ""
    base_time: int | float | None = None
    base_value: int | float = 0
    for fields in pack:
        if not isinstance(fields, Mapping):
            raise CodecError(f"a SenML record is a map, not {fields!r:.64}")
        _check_labels(fields)
        if "bn" in fields:
            base_name = _text(fields["bn"], "bn")
        if "bt" in fields:
            base_time = number(fields["bt"], "bt")
        if "bv" in fields:
            base_value = number(fields["bv"], "bv")
        name = base_name + _text(fields.get("n", ""), "n")
        path = resource_path(name, base)
        time = base_time
        if "t" in fields:
            time = add(base_time or 0, number(fields["t"], "t"), "t")
        present = [label for label in _VALUE_FIELDS if label in fields]
        if len(present) != 1:
            raise CodecError(f"{name} has {len(present)} values, not one")
        value = _value(present[0], fields[present[0]], base_value, path, read_bytes)
        record = Record(path, fit(value, type_of(path), path), seconds(time))
        if (path, record.time) in seen:
            raise CodecError(f"{name} appears twice at the same time")
        seen.add((path, record.time))
        records.append(record)
    return records


def _check_labels(fields: Mapping[object, object]) -> None:
    for label, value in fields.items():
        if label == "bver":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _VERSION:
                raise CodecError(f"SenML version {value!r:.64} is not one up to {_VERSION}")
        # RFC 8428 section 4.4: a label that ends so must be understood, others may be skipped.
        elif isinstance(label, str) and label.endswith("_"):
            raise CodecError(f"SenML label {label[:64]!r} must be understood, and is not")


def seconds(time: int | float | None) -> float | None:
    if time is None:
        return None
    try:
        return float(time)
    except OverflowError:
        raise CodecError("'t' is out of range") from None


def _value(
    label: str,
    raw: object,
    base_value: int | float,
    path: Path,
    read_bytes: Callable[[object, Path], bytes],
) -> Value:
    if label == "v":
        return add(base_value, number(raw, "v"), "v")
    if label == "vs":
        return _text(raw, "vs")
    if label == "vb":
        if not isinstance(raw, bool):
            raise CodecError(f"'vb' is a boolean, not {raw!r:.64}")
        return raw
    if label == "vd":
        return read_bytes(raw, path)
    return link_value(raw, path)


def build(base: Path, records: Sequence[Record], type_of: TypeOf) -> list[Fields]:
    """The records as a pack: the base name once, each name relative to it.

    Bytes stay bytes under ``vd``; how they are written is the wire format's business.
    """
    pack: list[Fields] = []
    # "/3/0/" before "0", but "/3/0/0" alone when the request itself named the resource.
    prefix = format_path(base) if base == () else format_path(base) + "/"
    for record in records:
        path = record.path
        if len(path) not in (3, 4) or not is_under(path, base):
            raise CodecError(f"{format_path(path)} is no resource under {format_path(base)}")
        fields: Fields = {}
        if path == base:
            fields["bn"] = format_path(base)
        else:
            if not pack:
                fields["bn"] = prefix
            fields["n"] = format_path(path)[len(prefix) :]
        if record.time is not None:
            fields["t"] = record.time
        value = fit(record.value, type_of(path) or natural_type(record.value), path)
        if isinstance(value, bool):
            fields["vb"] = value
        elif isinstance(value, int | float):
            fields["v"] = value
        elif isinstance(value, str):
            fields["vs"] = value
        elif isinstance(value, ObjectLink):
            fields["vlo"] = str(value)
        else:
            fields["vd"] = value
        pack.append(fields)
    return pack
