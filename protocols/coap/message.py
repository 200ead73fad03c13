"""The message codec of RFC 7252 section 3: bytes in, (type, message id, message) out, and back.

The request layer handles :class:`Message`, which has neither type nor id: those belong to the
message layer of UDP, and TCP (RFC 8323) has neither.
"""

from __future__ import annotations

from protocols.coap.errors import CoapFormatError
from protocols.coap.numbers import Code, code_text
from protocols.coap.options import NO_OPTIONS, Options, parse

__all__ = ["Message", "decode_datagram", "encode_datagram", "response"]


class Message:
    """A request or response: ``code``, ``token`` (0 to 8 bytes), ``options``, ``payload``."""

    __slots__ = ("code", "options", "payload", "token")

    def __init__(
        self, code: int, token: bytes = b"", options: Options = NO_OPTIONS, payload: bytes = b""
    ) -> None:
        self.code = code
        self.token = token
        self.options = options
        self.payload = payload

    @property
    def is_request(self) -> bool:
        return 0 < self.code < 32

    def __repr__(self) -> str:
        text = f"<{code_text(self.code)} {self.token.hex() or '-'}"
        if self.options.path:
            text += f" /{'/'.join(self.options.path)}"
        if self.payload:
            text += f" {len(self.payload)} bytes"
        return text + ">"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self.code, self.token, self.options.pairs, self.payload) == (
            other.code,
            other.token,
            other.options.pairs,
            other.payload,
        )

    __hash__ = None  # type: ignore[assignment]


def response(code: int, options: Options = NO_OPTIONS, payload: bytes = b"") -> Message:
    """A response; the request layer adds the token."""
    return Message(code, b"", options, payload)


def decode_datagram(data: bytes) -> tuple[int, int, Message]:
    """(type, message id, message) of one datagram. Raises :class:`CoapFormatError`."""
    length = len(data)
    if length < 4:
        raise CoapFormatError(f"{length} bytes are no CoAP message")
    first = data[0]
    if first >> 6 != 1:
        raise CoapFormatError(f"CoAP version {first >> 6}, only 1 is known")
    start = 4 + (first & 15)
    if start > 12:
        raise CoapFormatError(f"token length {first & 15} is reserved")
    if start > length:
        raise CoapFormatError("the token is cut short")
    code = data[1]
    mid = data[2] << 8 | data[3]
    if code == Code.EMPTY:
        # Section 4.1: an Empty message has nothing after the message id.
        if length != 4:
            raise CoapFormatError("an Empty message with a token, options or payload")
        return (first >> 4) & 3, mid, Message(0)
    options, payload = parse(data, start)
    return (first >> 4) & 3, mid, Message(code, data[4:start], options, data[payload:])


def encode_datagram(mtype: int, mid: int, message: Message) -> bytes:
    """The datagram for ``message`` (section 3)."""
    token = message.token
    head = bytes((0x40 | mtype << 4 | len(token), message.code, mid >> 8, mid & 0xFF))
    payload = message.payload
    if payload:
        return b"%b%b%b\xff%b" % (head, token, message.options.raw, payload)
    return head + token + message.options.raw
