"""application/senml+cbor (content format 112): RFC 8428 section 6, integers for labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cbor2

from protocols.lwm2m.codecs import cbor, senml
from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import TypeOf
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import Record

__all__ = ["decode", "encode"]

# RFC 8428 table 4. The object link of LwM2M has no number: it is the text "vlo" here too.
_LABELS = {
    "bver": -1,
    "bn": -2,
    "bt": -3,
    "bu": -4,
    "bv": -5,
    "bs": -6,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}
_NAMES = {label: name for name, label in _LABELS.items()}


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    pack = senml.build(base, records, type_of)
    return cbor2.dumps([{_LABELS.get(k, k): v for k, v in fields.items()} for fields in pack])


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    pack = cbor.load(payload, format_path(base))
    if not isinstance(pack, Sequence) or isinstance(pack, str | bytes):
        raise CodecError("a SenML pack is an array of records")
    return senml.resolve([_named(fields) for fields in pack], base, type_of, _read_bytes)


def _named(fields: object) -> object:
    if not isinstance(fields, Mapping):
        return fields
    named: senml.Fields = {}
    for label, value in fields.items():
        if isinstance(label, str):
            # A text label with a number of its own would be a second way to write the same field.
            if label in _LABELS:
                raise CodecError(f"SenML CBOR writes {label!r} as {_LABELS[label]}")
            named[label] = value
        elif isinstance(label, int) and not isinstance(label, bool):
            # An unknown number is an extension that may be skipped.
            if label in _NAMES:
                named[_NAMES[label]] = value
        else:
            raise CodecError(f"a SenML label is a number or a text, not {label!r:.64}")
    return named


def _read_bytes(raw: object, path: Path) -> bytes:
    if not isinstance(raw, bytes):
        raise CodecError(f"{format_path(path)}: opaque data is a byte string, not {raw!r:.64}")
    return raw
