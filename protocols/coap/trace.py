"""One CoAP message as one line, for people who debug a server by hand.

    > 127.0.0.1:5683 CON 4711 [a1b2c3d4] POST /rd?ep=meter-4&lt=300 Content-Format: link-format,
      19 bytes "</1/0>,</3/0>,</5/0>"

A pure function: it shows whatever it is given and raises for nothing, because what it is given may
come from a peer that answers nonsense.
"""

from __future__ import annotations

from agent.runtime.network import Address
from protocols.coap.message import Message
from protocols.coap.numbers import Code, ContentFormat, OptionNumber, Type, code_text
from protocols.coap.options import Block, decode_uint

__all__ = ["describe"]

MAX_TEXT = 64  # characters of a payload shown; a line should fit a wide terminal

_TYPES = {int(kind): kind.name for kind in Type}
_FORMATS = {
    ContentFormat.TEXT: "text",
    ContentFormat.LINK: "link-format",
    ContentFormat.XML: "xml",
    ContentFormat.OCTET_STREAM: "opaque",
    ContentFormat.JSON: "json",
    ContentFormat.CBOR: "cbor",
    ContentFormat.SENML_JSON: "senml+json",
    ContentFormat.SENML_CBOR: "senml+cbor",
    ContentFormat.LWM2M_TLV: "lwm2m+tlv",
    ContentFormat.LWM2M_JSON: "lwm2m+json",
}
_NAMES: dict[int, str] = {
    int(number): "-".join(part.capitalize() for part in number.name.split("_"))
    for number in OptionNumber
}
_NAMES[OptionNumber.ETAG] = "ETag"
_NUMBERS = frozenset(
    {
        OptionNumber.OBSERVE,
        OptionNumber.URI_PORT,
        OptionNumber.MAX_AGE,
        OptionNumber.SIZE1,
        OptionNumber.SIZE2,
        OptionNumber.NO_RESPONSE,
    }
)
_TEXTS = frozenset({OptionNumber.URI_HOST, OptionNumber.PROXY_URI, OptionNumber.PROXY_SCHEME})
# Shown as part of the resource's name, not one by one.
_JOINED = {
    OptionNumber.URI_PATH: "/",
    OptionNumber.URI_QUERY: "?",
    OptionNumber.LOCATION_PATH: "/",
    OptionNumber.LOCATION_QUERY: "?",
}


def describe(direction: str, address: Address, mtype: int, mid: int, message: Message) -> str:
    """The line for one message; ``direction`` is ``>`` for ours and ``<`` for the peer's."""
    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    parts = [direction, where, _TYPES.get(mtype, str(mtype)), str(mid)]
    if message.token:
        parts.append(f"[{message.token.hex()}]")
    parts.append("empty" if message.code == Code.EMPTY else code_text(message.code))
    pairs = message.options.pairs
    target = _joined(pairs, OptionNumber.URI_PATH, OptionNumber.URI_QUERY)
    if target or message.is_request:
        parts.append(target or "/")
    location = _joined(pairs, OptionNumber.LOCATION_PATH, OptionNumber.LOCATION_QUERY)
    shown = [_option(number, value) for number, value in pairs if number not in _JOINED]
    if location:
        shown.insert(0, f"Location: {location}")
    if message.payload:
        shown.append(_payload(message))
    line = " ".join(parts)
    return f"{line} {', '.join(shown)}" if shown else line


def _joined(pairs: tuple[tuple[int, bytes], ...], path: int, query: int) -> str:
    segments = [_printable(value) for number, value in pairs if number == path]
    arguments = [_printable(value) for number, value in pairs if number == query]
    text = "/" + "/".join(segments) if segments else ""
    return f"{text}?{'&'.join(arguments)}" if arguments else text


def _option(number: int, value: bytes) -> str:
    name = _NAMES.get(number)
    if name is None:
        kind = "critical" if number & 1 else "elective"
        return f"option {number} ({kind}): {_hex(value)}"
    if number in (OptionNumber.CONTENT_FORMAT, OptionNumber.ACCEPT) and len(value) <= 2:
        code = decode_uint(value)
        return f"{name}: {_FORMATS[ContentFormat(code)] if code in _FORMATS else code}"
    if number in (OptionNumber.BLOCK1, OptionNumber.BLOCK2) and len(value) <= 3:
        bits = decode_uint(value)
        block = Block(bits >> 4, bool(bits & 8), bits & 7)
        size = "reserved size" if block.szx == 7 else str(block.size)
        return f"{name}: {block.number}/{'more' if block.more else 'last'}/{size}"
    if number in _NUMBERS and len(value) <= 4:
        return f"{name}: {decode_uint(value)}"
    if number in _TEXTS:
        return f"{name}: {_printable(value)}"
    return f"{name}: {_hex(value)}"


def _hex(value: bytes) -> str:
    shown = value[:16].hex() or "empty"
    return f"{shown}... ({len(value)} bytes)" if len(value) > 16 else shown


def _printable(value: bytes) -> str:
    """Text from outside, with whatever could move a terminal's cursor escaped."""
    text = value.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _payload(message: Message) -> str:
    payload = message.payload
    count = f"{len(payload)} bytes"
    head = payload[: 4 * MAX_TEXT]
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(payload) <= len(head) or error.start < len(head) - 3:
            return count
        text = head[: error.start].decode()
    if not all(c.isprintable() for c in text):
        return count
    if len(text) > MAX_TEXT or len(payload) > len(head):
        return f'{count} "{text[:MAX_TEXT]}..."'
    return f'{count} "{text}"'
