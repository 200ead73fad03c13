"""Content formats of LwM2M 1.1: values under a path to bytes and back.

Each format is one module with ``encode(base, records, type_of)`` and ``decode(base, payload,
type_of)``; `base` is the path of the request and decides what the outermost level of the payload
is. Link format carries no values, so it stands apart in `link`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.lwm2m.codecs import (
    cbor,
    json_old,
    opaque,
    senml_cbor,
    senml_json,
    text,
    tlv,
)
from protocols.lwm2m.codecs.errors import CodecError, UnsupportedFormat
from protocols.lwm2m.codecs.values import TypeOf
from protocols.lwm2m.paths import Path
from protocols.lwm2m.records import Record

__all__ = [
    "CBOR",
    "JSON_OLD",
    "LINK",
    "MULTI_VALUE",
    "NAMES",
    "OPAQUE",
    "SENML_CBOR",
    "SENML_JSON",
    "SUPPORTED",
    "TEXT",
    "TLV",
    "CodecError",
    "TypeOf",
    "UnsupportedFormat",
    "decode",
    "encode",
]

# Numbers of the IANA registry "CoAP Content-Formats".
TEXT = 0
LINK = 40
OPAQUE = 42
CBOR = 60
SENML_JSON = 110
SENML_CBOR = 112
TLV = 11542
JSON_OLD = 11543

NAMES = {
    TEXT: "text",
    LINK: "link",
    OPAQUE: "opaque",
    CBOR: "cbor",
    SENML_JSON: "senml-json",
    SENML_CBOR: "senml-cbor",
    TLV: "tlv",
    JSON_OLD: "json",
}

_Encode = Callable[[Path, Sequence[Record], TypeOf], bytes]
_Decode = Callable[[Path, bytes, TypeOf], list[Record]]

_ENCODERS: dict[int, _Encode] = {
    TEXT: text.encode,
    OPAQUE: opaque.encode,
    CBOR: cbor.encode,
    SENML_JSON: senml_json.encode,
    SENML_CBOR: senml_cbor.encode,
    TLV: tlv.encode,
    JSON_OLD: json_old.encode,
}
_DECODERS: dict[int, _Decode] = {
    TEXT: text.decode,
    OPAQUE: opaque.decode,
    CBOR: cbor.decode,
    SENML_JSON: senml_json.decode,
    SENML_CBOR: senml_cbor.decode,
    TLV: tlv.decode,
    JSON_OLD: json_old.decode,
}

SUPPORTED = tuple(_ENCODERS)
# The formats that can carry an object, an instance or a multiple resource.
MULTI_VALUE = (SENML_JSON, SENML_CBOR, TLV, JSON_OLD)


def encode(content_format: int, base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    """The records under `base` in that format; UnsupportedFormat or CodecError otherwise."""
    encoder = _ENCODERS.get(content_format)
    if encoder is None:
        raise UnsupportedFormat(f"content format {content_format} cannot carry resource values")
    return encoder(base, records, type_of)


def decode(content_format: int, base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    """What a payload says about `base`: checked against the types, all under `base`."""
    decoder = _DECODERS.get(content_format)
    if decoder is None:
        raise UnsupportedFormat(f"content format {content_format} cannot carry resource values")
    return decoder(base, payload, type_of)
