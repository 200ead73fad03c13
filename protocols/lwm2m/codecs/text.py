"""text/plain (content format 0): one value, written as LwM2M 1.1 core appendix C says."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import TypeOf, fit, link_value, single
from protocols.lwm2m.model import ResourceType
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import Record, Value

__all__ = ["decode", "encode", "encode_value"]

# int() and float() also take blanks, underscores and other scripts' digits: the grammar is ASCII.
# 20 digits hold every 64-bit number, and bound the work on a hostile text.
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_FLOAT = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{0,400})?([eE][+-]?[0-9]{1,4})?\Z")


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    # Every Read of /5/0/3 passes here: nothing but the value decides the text.
    if len(records) == 1 and records[0].path == base:
        return encode_value(records[0].value)
    return encode_value(single(base, records, "text").value)


def encode_value(value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, bytes):
        return base64.b64encode(value)
    return str(value).encode()


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    if len(base) < 3:
        raise CodecError(f"{format_path(base)}: text carries the value of one resource only")
    kind = type_of(base)
    try:
        text = str(payload, "utf-8")
    except UnicodeDecodeError:
        raise CodecError(f"{format_path(base)}: the text is not UTF-8") from None
    value: object
    match kind:
        case None | ResourceType.STRING | ResourceType.CORELNK:
            value = text
        case ResourceType.INTEGER | ResourceType.UNSIGNED | ResourceType.TIME:
            value = int(text) if _INTEGER.match(text) else text
        case ResourceType.FLOAT:
            value = float(text) if _FLOAT.match(text) else text
        case ResourceType.BOOLEAN:
            value = {"0": False, "1": True}.get(text, text)
        case ResourceType.OPAQUE:
            value = _base64(text, base)
        case ResourceType.OBJLNK:
            value = link_value(text, base)
        case ResourceType.NONE:
            value = text
    return [Record(base, fit(value, kind, base))]


def _base64(text: str, path: Path) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CodecError(f"{format_path(path)}: the text is not base64") from None
