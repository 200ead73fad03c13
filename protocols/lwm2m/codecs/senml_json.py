"""application/senml+json (content format 110): RFC 8428 section 5."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from protocols.lwm2m.codecs import json_text, senml
from protocols.lwm2m.codecs.values import TypeOf
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import Record

__all__ = ["decode", "encode"]


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    pack = senml.build(base, records, type_of)
    for fields in pack:
        data = fields.get("vd")
        if isinstance(data, bytes):
            # Section 4.3: base64 with the URL safe alphabet and the padding left out.
            fields["vd"] = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return json_text.dump(pack)


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    pack = json_text.load(payload, format_path(base))
    return senml.resolve(pack, base, type_of, _read_bytes)


def _read_bytes(raw: object, path: Path) -> bytes:
    return json_text.read_base64(raw, path, b"-_")
