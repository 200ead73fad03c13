"""application/cbor (content format 60): one value as one CBOR item; and our strict CBOR reader.

cbor2 is generous by default: it ignores trailing bytes, keeps the last of two equal keys and turns
tags into dates, regular expressions, big numbers and shared references. A payload from the network
gets none of that: every tag with a built-in meaning is refused, apart from the two of a date
(RFC 8949 section 3.4.1 and 3.4.2), which are checked here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime

import cbor2

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import TypeOf, fit, link_value, natural_type, single
from protocols.lwm2m.model import ResourceType
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import ObjectLink, Record

__all__ = ["decode", "encode", "load"]

# A SenML pack is an array of maps of scalars: two levels, and one to be wrong in.
_MAX_DEPTH = 3
_DATE_TEXT, _DATE_EPOCH = 0, 1
# The tags to which cbor2 gives a meaning of its own, found by trying all below 70,000.
_REFUSED_TAGS = (
    *(2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100),
    *(256, 258, 260, 261, 1004, 43000, 55799),
)


def _refuse_tag(value: object, immutable: bool) -> object:
    raise ValueError("this tag has no place in an LwM2M value")


def _text_date(value: object, immutable: bool) -> object:
    return cbor2.CBORTag(_DATE_TEXT, value)


def _epoch_date(value: object, immutable: bool) -> object:
    return cbor2.CBORTag(_DATE_EPOCH, value)


_SEMANTIC_DECODERS = {
    **dict.fromkeys(_REFUSED_TAGS, _refuse_tag),
    _DATE_TEXT: _text_date,
    _DATE_EPOCH: _epoch_date,
}


def load(payload: bytes, what: str) -> object:
    """The one CBOR item that `payload` is, or a CodecError that begins with `what`."""
    stream = io.BytesIO(payload)
    try:
        item: object = cbor2.CBORDecoder(
            stream,
            max_depth=_MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_SEMANTIC_DECODERS,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise CodecError(f"{what}: not CBOR: {error}") from None
    if stream.tell() != len(payload):
        raise CodecError(f"{what}: {len(payload) - stream.tell()} bytes follow the CBOR item")
    return item


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    record = single(base, records, "CBOR")
    kind = type_of(base) or natural_type(record.value)
    value = fit(record.value, kind, base)
    if isinstance(value, ObjectLink):
        return cbor2.dumps(str(value))
    if kind is ResourceType.TIME:
        return cbor2.dumps(cbor2.CBORTag(_DATE_EPOCH, value))
    return cbor2.dumps(value)


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    if len(base) < 3:
        raise CodecError(f"{format_path(base)}: CBOR carries the value of one resource only")
    kind = type_of(base)
    item = load(payload, format_path(base))
    if isinstance(item, cbor2.CBORTag):
        item = _date(item, base)
        if kind not in (None, ResourceType.TIME):
            raise CodecError(f"{format_path(base)}: a date does not fit its type")
    if kind is ResourceType.OBJLNK:
        item = link_value(item, base)
    return [Record(base, fit(item, kind, base))]


def _date(tag: cbor2.CBORTag, path: Path) -> int:
    """Seconds since 1970; LwM2M times have no fraction, so one in the payload is cut off."""
    if tag.tag == _DATE_EPOCH and isinstance(tag.value, int | float):
        try:
            return int(tag.value)
        except (OverflowError, ValueError):
            pass
    elif tag.tag == _DATE_TEXT and isinstance(tag.value, str):
        try:
            moment = datetime.fromisoformat(tag.value)
            if moment.tzinfo is not None:
                return int(moment.astimezone(UTC).timestamp())
        except (ValueError, OverflowError):
            pass
    raise CodecError(f"{format_path(path)}: {tag!r:.64} is no date")
