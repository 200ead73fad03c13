"""What the formats share: does a value fit its resource type, and does a path lie under the base.

A type of None (a resource that our model does not know) lets every well-formed value through, so
that a server can still read a vendor's own objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.model import ResourceType
from protocols.lwm2m.paths import MAX_DEPTH, Path, PathError, format_path, is_under, parse_path
from protocols.lwm2m.records import ObjectLink, Record, Value

__all__ = [
    "TypeOf",
    "fit",
    "link_value",
    "natural_type",
    "resource_path",
    "single",
]

TypeOf: TypeAlias = Callable[[Path], ResourceType | None]

# Appendix C of the core specification: integers and times have up to 64 bits.
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1
_UNSIGNED_MAX = (1 << 64) - 1


def natural_type(value: Value) -> ResourceType:
    """The type that a Python value has by itself, for resources outside the model."""
    if isinstance(value, bool):
        return ResourceType.BOOLEAN
    if isinstance(value, int):
        return ResourceType.UNSIGNED if value > _INT_MAX else ResourceType.INTEGER
    if isinstance(value, float):
        return ResourceType.FLOAT
    if isinstance(value, str):
        return ResourceType.STRING
    return ResourceType.OPAQUE if isinstance(value, bytes) else ResourceType.OBJLNK


def fit(value: object, kind: ResourceType | None, path: Path) -> Value:
    """`value` as a value of type `kind`, or a CodecError that names the path.

    A whole float is an integer (JSON and CBOR writers do not always tell them apart) and an
    integer is a float. Not-a-number and infinity are no measurement in any format.
    """
    if not isinstance(value, int | float | str | bytes | ObjectLink):
        raise CodecError(f"{format_path(path)}: {type(value).__name__} is no LwM2M value")
    if isinstance(value, float) and not math.isfinite(value):
        raise CodecError(f"{format_path(path)}: {value} is not a finite number")
    if isinstance(value, str) and not _is_text(value):
        raise CodecError(f"{format_path(path)}: half of a surrogate pair is no text")
    if kind is None:
        kind = natural_type(value)
    fitted = _fit(value, kind)
    if fitted is None:
        shown = repr(value)
        raise CodecError(f"{format_path(path)}: {shown[:64]} does not fit type {kind.value}")
    return fitted


def _is_text(value: str) -> bool:
    """JSON can write code points ("\\ud800") that no UTF-8 payload could carry on."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fit(value: Value, kind: ResourceType) -> Value | None:
    match kind:
        case ResourceType.STRING | ResourceType.CORELNK:
            return value if isinstance(value, str) else None
        case ResourceType.OPAQUE:
            return value if isinstance(value, bytes) else None
        case ResourceType.BOOLEAN:
            return value if isinstance(value, bool) else None
        case ResourceType.OBJLNK:
            return value if isinstance(value, ObjectLink) else None
        case ResourceType.NONE:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind is ResourceType.FLOAT:
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    if kind is ResourceType.UNSIGNED:
        return value if 0 <= value <= _UNSIGNED_MAX else None
    return value if _INT_MIN <= value <= _INT_MAX else None


def resource_path(name: str, base: Path) -> Path:
    """The text of a record's name as the path of a value under `base`."""
    try:
        path = parse_path(name)
    except PathError as error:
        raise CodecError(str(error)) from None
    if not 3 <= len(path) <= MAX_DEPTH:
        raise CodecError(f"{name} names no resource, so it cannot have a value")
    if not is_under(path, base):
        raise CodecError(f"{name} is outside of {format_path(base)}, where the request went")
    return path


def link_value(text: object, path: Path) -> ObjectLink:
    if not isinstance(text, str):
        raise CodecError(f"{format_path(path)}: an object link is a text, not {text!r:.64}")
    try:
        return ObjectLink.parse(text)
    except ValueError as error:
        raise CodecError(f"{format_path(path)}: {error}") from None


def single(base: Path, records: Sequence[Record], format_name: str) -> Record:
    """The one record that a format for single values can carry (core 7.4.1 to 7.4.3)."""
    if len(records) != 1 or records[0].path != base:
        raise CodecError(
            f"{format_path(base)}: {format_name} carries the value of one resource or resource"
            f" instance, not {len(records)} records"
        )
    return records[0]
