"""application/link-format (content format 40): RFC 6690, for Register and Discover payloads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from protocols.lwm2m.codecs.errors import CodecError

__all__ = ["Link", "decode", "encode"]

# RFC 6690 section 2: parmname and ptoken, as far as attributes in use need them.
_NAME = re.compile(r"[A-Za-z0-9!#$&+\-.^_`|~]+\*?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'()*+\-./:<=>?@\[\]^_`{|}~]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TARGET = re.compile(r"<([^<>]*)>")
_SPACE = re.compile(r"[ \t\r\n]*")
# Numbers and versions stand bare, as the examples of the LwM2M specifications write them.
_BARE = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Link:
    target: str
    attributes: tuple[tuple[str, str | None], ...] = ()
    """In order; None is an attribute that stands without a value."""

    def get(self, name: str) -> str | None:
        """The first value of that name, without quotes."""
        return next((value for key, value in self.attributes if key == name), None)

    def __str__(self) -> str:
        return f"<{self.target}>" + "".join(
            f";{name}" if value is None else f";{name}={_written(value)}"
            for name, value in self.attributes
        )


def _written(value: str) -> str:
    if _BARE.match(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def encode(links: Iterable[Link]) -> bytes:
    return ",".join(map(str, links)).encode()


def decode(payload: bytes) -> list[Link]:
    try:
        text = str(payload, "utf-8")
    except UnicodeDecodeError:
        raise CodecError("the link format is not UTF-8") from None
    links: list[Link] = []
    position = _skip(text, 0)
    if position == len(text):
        return links
    while True:
        target = _TARGET.match(text, position)
        if target is None:
            raise _expected("<target>", text, position)
        position, attributes = _attributes(text, _skip(text, target.end()))
        links.append(Link(target[1], tuple(attributes)))
        if position == len(text):
            return links
        if text[position] != ",":
            raise _expected("',' or ';'", text, position)
        position = _skip(text, position + 1)


def _attributes(text: str, position: int) -> tuple[int, list[tuple[str, str | None]]]:
    attributes: list[tuple[str, str | None]] = []
    while position < len(text) and text[position] == ";":
        name = _NAME.match(text, _skip(text, position + 1))
        if name is None:
            raise _expected("an attribute name", text, position + 1)
        position = _skip(text, name.end())
        value: str | None = None
        if position < len(text) and text[position] == "=":
            position = _skip(text, position + 1)
            if quoted := _QUOTED.match(text, position):
                value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
                position = _skip(text, quoted.end())
            elif token := _TOKEN.match(text, position):
                value = token[0]
                position = _skip(text, token.end())
            else:
                raise _expected("an attribute value", text, position)
        attributes.append((name[0], value))
    return position, attributes


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _expected(what: str, text: str, position: int) -> CodecError:
    found = text[position : position + 16]
    return CodecError(f"link format: {what} expected at {position}, found {found!r}")
