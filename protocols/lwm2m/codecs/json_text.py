"""A JSON reader for payloads from the network: the standard library's, without its generosity."""

from __future__ import annotations

import base64
import binascii
import json

from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.paths import Path, format_path

__all__ = ["dump", "load", "read_base64"]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a label appears twice in one map")
    return fields


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")


def load(payload: bytes, what: str) -> object:
    try:
        item: object = json.loads(
            str(payload, "utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        raise CodecError(f"{what}: the JSON text is not UTF-8") from None
    except RecursionError:
        raise CodecError(f"{what}: the JSON text is nested too deeply") from None
    except ValueError as error:
        # Also what int() says to a number of thousands of digits.
        raise CodecError(f"{what}: not JSON: {error}") from None
    return item


def dump(item: object) -> bytes:
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_base64(raw: object, path: Path, altchars: bytes | None) -> bytes:
    """Base64 with or without its padding; `altchars` is ``-_`` in SenML, None in the old JSON."""
    if not isinstance(raw, str):
        raise CodecError(f"{format_path(path)}: opaque data is a base64 text, not {raw!r:.64}")
    bare = raw.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars, validate=True)
    except (binascii.Error, ValueError):
        raise CodecError(f"{format_path(path)}: the text is not base64") from None
