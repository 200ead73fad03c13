"""Connectionless WSP push, the carrier of package 0 and of bootstrap messages.

WAP-230-WSP, sections 8.2.4.1 and 8.4. Sent as one datagram to port 2948::

    transaction id | 06 | length of headers (uintvar) | Content-Type | headers ... | body

A value begins with an octet that says what it is: 0 to 30 a length, 31 a uintvar length, 32 to 127
a text up to its NUL, from 128 on a number of 7 bits. Only what OMA-DM needs is read; headers that
are not known are stepped over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["DM_APPLICATION", "MAX_PUSH", "PORT", "Push", "WspError", "decode", "encode"]

PORT = 2948
"""wap-push, connectionless."""

DM_APPLICATION = "x-wap-application:syncml.dm"

MAX_PUSH = 8192
"""Octets of a datagram we read: a bootstrap message with room."""

_PUSH = 0x06
_APPLICATION_ID = 0x2F
_MEDIA = {
    0x42: "application/vnd.syncml.dm+wbxml",
    0x43: "application/vnd.syncml.dm+xml",
    0x44: "application/vnd.syncml.notification",
    0x36: "application/vnd.wap.connectivity-wbxml",
}
_MEDIA_CODES = {name: code for code, name in _MEDIA.items()}
_APPLICATIONS = {0x07: DM_APPLICATION}
_APPLICATION_CODES = {name: code for code, name in _APPLICATIONS.items()}

# WSP's parameters of a Content-Type. The numbers of SEC are those of client provisioning
# (OMA-WAP-ProvBoot), whose names are NETWPIN, USERPIN and USERNETWPIN; that the DM profile takes
# the same numbers for its own names is [unverified].
_SEC, _MAC = 0x11, 0x12
_PARAMETERS = {_SEC: "SEC", _MAC: "MAC"}
_PARAMETER_CODES = {name: code for code, name in _PARAMETERS.items()}
_SECURITY = {0: "NETWORKID", 1: "USERPIN", 2: "USERPIN_NETWORKID"}
_SECURITY_CODES = {name: code for code, name in _SECURITY.items()}

_SHIFT = 0x7F
_LAST_LENGTH = 30
_LENGTH_QUOTE = 31
_FIRST_TEXT = 32
_NUMBER = 0x80


class WspError(ValueError):
    """No push that we can read; the text says why."""


@dataclass(frozen=True, slots=True)
class Push:
    """One push PDU."""

    content_type: str
    body: bytes = field(repr=False)
    application: str | None = None
    """X-WAP-Application-ID; a number that we do not know is written in decimal."""
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Of the Content-Type, names in upper case."""
    transaction_id: int = 0


def encode(push: Push) -> bytes:
    """Raises ValueError for a push that cannot be written."""
    headers = _encode_content_type(push)
    if push.application is not None:
        code = _APPLICATION_CODES.get(push.application)
        headers += bytes([_APPLICATION_ID | _NUMBER])
        headers += _encode_text(push.application) if code is None else bytes([code | _NUMBER])
    start = bytes([push.transaction_id & 0xFF, _PUSH]) + _encode_uintvar(len(headers))
    return start + headers + push.body


def decode(data: bytes) -> Push:
    """Raises WspError."""
    if len(data) > MAX_PUSH:
        raise WspError(f"{len(data)} octets")
    if len(data) < 4:
        raise WspError(f"only {len(data)} octets")
    if data[1] != _PUSH:
        raise WspError(f"PDU type {data[1]} is no push")
    length, position = _uintvar(data, 2)
    end = position + length
    if length == 0 or end > len(data):
        raise WspError(f"{length} octets of headers announced")
    headers = _Reader(data[:end], position)
    content_type, parameters = _content_type(headers)
    application = None
    page = 1
    while headers.more:
        first = headers.octet()
        if first == _SHIFT:
            page = headers.octet()
        elif first < _FIRST_TEXT:
            page = first  # the short form of a shift to another code page
        elif first < _NUMBER:
            headers.back()
            name = headers.text()
            value = headers.text()
            if name.lower() == "x-wap-application-id":
                application = value
        elif page == 1 and first & 0x7F == _APPLICATION_ID:
            number = headers.value()
            application = (
                number if isinstance(number, str) else _APPLICATIONS.get(number, str(number))
            )
        else:
            headers.value()
    return Push(content_type, data[end:], application, parameters, data[0])


def _content_type(headers: _Reader) -> tuple[str, Mapping[str, str]]:
    first = headers.octet()
    headers.back()
    if first >= _FIRST_TEXT:  # the constrained form: no parameters
        return _media(headers.value()), MappingProxyType({})
    inside = headers.part()
    media = _media(inside.value())
    parameters: dict[str, str] = {}
    while inside.more:
        name = inside.value()
        value = inside.value()
        if isinstance(name, int):
            code, name = name, _PARAMETERS.get(name, f"0x{name:02X}")
            if code == _SEC and isinstance(value, int):
                value = _SECURITY.get(value, str(value))
        parameters[name.upper()] = str(value)
    return media, MappingProxyType(parameters)


def _media(value: str | int) -> str:
    return _MEDIA.get(value, f"0x{value:02X}") if isinstance(value, int) else value.lower()


def _encode_content_type(push: Push) -> bytes:
    code = _MEDIA_CODES.get(push.content_type)
    media = _encode_text(push.content_type) if code is None else bytes([code | _NUMBER])
    if not push.parameters:
        return media
    for name, value in push.parameters.items():
        known = _PARAMETER_CODES.get(name)
        media += _encode_text(name) if known is None else bytes([known | _NUMBER])
        number = _SECURITY_CODES.get(value) if known == _SEC else None
        media += _encode_text(value) if number is None else bytes([number | _NUMBER])
    length = len(media)
    if length <= _LAST_LENGTH:
        return bytes([length]) + media
    return bytes([_LENGTH_QUOTE]) + _encode_uintvar(length) + media


def _encode_text(text: str) -> bytes:
    octets = text.encode()
    if not octets or 0 in octets or octets[0] < _FIRST_TEXT or octets[0] == _SHIFT:
        raise ValueError("a text that WSP cannot carry")
    quote = b"\x7f" if octets[0] >= _NUMBER else b""
    return quote + octets + b"\0"


def _encode_uintvar(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(value & 0x7F | 0x80)
    return bytes(reversed(octets))


def _uintvar(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for _ in range(5):  # 32 bits at most (WAP-230-WSP section 8.1.2)
        if position >= len(data):
            raise WspError("the end inside a length")
        octet = data[position]
        position += 1
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, position
    raise WspError("a length of more than five octets")


class _Reader:
    """Takes values off the headers."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position

    @property
    def more(self) -> bool:
        return self._position < len(self._data)

    def octet(self) -> int:
        if not self.more:
            raise WspError("the end inside a header")
        octet = self._data[self._position]
        self._position += 1
        return octet

    def back(self) -> None:
        self._position -= 1

    def text(self) -> str:
        end = self._data.find(b"\0", self._position)
        if end < 0:
            raise WspError("a text without its NUL")
        octets = self._data[self._position : end]
        self._position = end + 1
        # A quote stands before a text whose first octet would else be a number.
        octets = octets.removeprefix(b"\x7f").removeprefix(b'"')
        try:
            return octets.decode()
        except UnicodeDecodeError:
            raise WspError("a text that is no UTF-8") from None

    def part(self) -> _Reader:
        """What follows a length."""
        length = self.octet()
        if length == _LENGTH_QUOTE:
            length, self._position = _uintvar(self._data, self._position)
        elif length > _LAST_LENGTH:
            raise WspError("no length where one must be")
        start, end = self._position, self._position + length
        if end > len(self._data):
            raise WspError("a length past the headers")
        self._position = end
        return _Reader(self._data[start:end])

    def value(self) -> str | int:
        """A number, short or long, or a text."""
        first = self.octet()
        if first >= _NUMBER:
            return first & 0x7F
        self.back()
        if first >= _FIRST_TEXT:
            return self.text()
        return int.from_bytes(self.part()._data, "big")
