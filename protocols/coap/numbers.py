"""Registered numbers: message types, codes, options, content formats (RFC 7252 section 12)."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Code", "ContentFormat", "OptionNumber", "Type", "code_text"]


class Type(IntEnum):
    """RFC 7252 section 3: the T field."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


def _code(klass: int, detail: int) -> int:
    return klass << 5 | detail


class Code(IntEnum):
    """RFC 7252 section 12.1, RFC 7959 (2.31, 4.08), RFC 8132 (FETCH, PATCH, iPATCH, 4.09, 4.22)."""

    EMPTY = 0
    GET = 1
    POST = 2
    PUT = 3
    DELETE = 4
    FETCH = 5
    PATCH = 6
    IPATCH = 7
    CREATED = _code(2, 1)
    DELETED = _code(2, 2)
    VALID = _code(2, 3)
    CHANGED = _code(2, 4)
    CONTENT = _code(2, 5)
    CONTINUE = _code(2, 31)
    BAD_REQUEST = _code(4, 0)
    UNAUTHORIZED = _code(4, 1)
    BAD_OPTION = _code(4, 2)
    FORBIDDEN = _code(4, 3)
    NOT_FOUND = _code(4, 4)
    METHOD_NOT_ALLOWED = _code(4, 5)
    NOT_ACCEPTABLE = _code(4, 6)
    REQUEST_ENTITY_INCOMPLETE = _code(4, 8)
    CONFLICT = _code(4, 9)
    PRECONDITION_FAILED = _code(4, 12)
    REQUEST_ENTITY_TOO_LARGE = _code(4, 13)
    UNSUPPORTED_CONTENT_FORMAT = _code(4, 15)
    INTERNAL_SERVER_ERROR = _code(5, 0)
    NOT_IMPLEMENTED = _code(5, 1)
    BAD_GATEWAY = _code(5, 2)
    SERVICE_UNAVAILABLE = _code(5, 3)
    GATEWAY_TIMEOUT = _code(5, 4)
    PROXYING_NOT_SUPPORTED = _code(5, 5)


_NAMES = {int(code): code.name.replace("_", " ").title() for code in Code}


def code_text(code: int) -> str:
    """``4.04 Not Found``, ``GET``; an unregistered code only by its number."""
    if 0 < code < 32:
        return _NAMES[code].upper() if code in _NAMES else f"0.{code:02d}"
    number = f"{code >> 5}.{code & 31:02d}"
    return f"{number} {_NAMES[code]}" if code in _NAMES else number


class OptionNumber(IntEnum):
    """RFC 7252 section 12.2, RFC 7641, RFC 7959. Odd numbers are critical (section 5.4.6)."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    LOCATION_PATH = 8
    OSCORE = 9
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    LOCATION_QUERY = 20
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    NO_RESPONSE = 258


class ContentFormat(IntEnum):
    """RFC 7252 section 12.3 and the formats that LwM2M registered."""

    TEXT = 0
    LINK = 40
    XML = 41
    OCTET_STREAM = 42
    JSON = 50
    CBOR = 60
    SENML_JSON = 110
    SENML_CBOR = 112
    LWM2M_TLV = 11542
    LWM2M_JSON = 11543
