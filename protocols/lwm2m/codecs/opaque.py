"""application/octet-stream (content format 42): the bytes of one opaque resource."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import TypeOf, fit, single
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import Record

__all__ = ["decode", "encode"]


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    value = single(base, records, "octet-stream").value
    if not isinstance(value, bytes):
        raise CodecError(f"{format_path(base)}: octet-stream carries bytes, not {value!r:.64}")
    return value


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    if len(base) < 3:
        raise CodecError(f"{format_path(base)}: octet-stream carries one resource only")
    return [Record(base, fit(bytes(payload), type_of(base), base))]
