"""The part of libconfig's language that sw-descriptions are written in.

Settings (`name = value;` or `name : value;`), groups in braces, lists in parentheses, arrays in
brackets, strings (adjacent ones join), integers, floats, booleans, comments of three kinds.
SWUpdate forbids `@include`, and it is no token here. (The grammar is in libconfig's manual,
chapter "Configuration Files".)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from firmware_images.errors import PackageRefused, Reason

__all__ = ["Group", "Value", "dump", "parse"]

Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | dict[str, Value]"
Group: TypeAlias = "dict[str, Value]"

DEPTH_LIMIT = 16
"""Nested groups and lists; a description with board, set and mode has six."""

_TOKEN = re.compile(
    r"""
      (?P<space>   [ \t\r\n\f]+ | \#[^\n]* | //[^\n]* | /\*(?s:.*?)\*/ )
    | (?P<string>  "(?:[^"\\]|\\(?s:.))*" )
    | (?P<float>   [-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)? | [-+]?\d+[eE][-+]?\d+ )
    | (?P<hex>     0[xX][0-9A-Fa-f]+L{0,2} )
    | (?P<integer> [-+]?\d+L{0,2} )
    | (?P<name>    [A-Za-z*][-A-Za-z0-9_*]* )
    | (?P<mark>    [{}()\[\]=:;,] )
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "a": "\a", "b": "\b", "v": "\v"}
_BOOLEANS = {"true": True, "false": False}
_INTEGER_DIGITS = 20
"""As many as 64 bits need."""


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


def parse(text: str) -> Group:
    """The settings of a whole file. Raises `PackageRefused` naming the line."""
    return _Parser(text).whole()


class _Parser:
    __slots__ = ("_at", "_text", "_tokens")

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._at = 0

    def whole(self) -> Group:
        return self._settings("end", 0)

    def _scan(self) -> Iterator[_Token]:
        offset = 0
        while offset < len(self._text):
            found = _TOKEN.match(self._text, offset)
            if found is None:
                raise self._wrong(offset, f"{self._text[offset]!r} is not expected")
            kind = found.lastgroup or ""
            if kind != "space":
                yield _Token(found[0] if kind == "mark" else kind, found[0], offset)
            offset = found.end()
        yield _Token("end", "the end", offset)

    def _settings(self, closing: str, depth: int) -> Group:
        group: Group = {}
        while (token := self._next()).kind != closing:
            if token.kind != "name":
                raise self._wrong(token.offset, f"{token.text!r} where a name belongs")
            if token.text in group:
                raise self._wrong(token.offset, f"{token.text!r} is set twice")
            if self._next().kind not in ("=", ":"):
                raise self._wrong(token.offset, f"{token.text!r} has no value")
            group[token.text] = self._value(depth)
            if self._peek().kind in (";", ","):
                self._next()
        return group

    def _value(self, depth: int) -> Value:
        if depth == DEPTH_LIMIT:
            raise self._wrong(self._peek().offset, f"nested deeper than {DEPTH_LIMIT}")
        token = self._next()
        match token.kind:
            case "{":
                return self._settings("}", depth + 1)
            case "(":
                return self._items(")", depth + 1)
            case "[":
                return self._items("]", depth + 1)
            case "string":
                parts = [_unescape(token.text)]
                while self._peek().kind == "string":
                    parts.append(_unescape(self._next().text))
                return "".join(parts)
            case "float":
                return float(token.text)
            case "integer" | "hex":
                digits = token.text.rstrip("L")
                if len(digits) <= _INTEGER_DIGITS:
                    return int(digits, 16 if token.kind == "hex" else 10)
            case "name" if token.text.lower() in _BOOLEANS:
                return _BOOLEANS[token.text.lower()]
        raise self._wrong(token.offset, f"{token.text[:40]!r} where a value belongs")

    def _items(self, closing: str, depth: int) -> tuple[Value, ...]:
        items: list[Value] = []
        while self._peek().kind != closing:
            items.append(self._value(depth))
            if self._peek().kind == ",":
                self._next()
            elif self._peek().kind != closing:
                token = self._peek()
                raise self._wrong(token.offset, f"{token.text[:40]!r} where {closing!r} belongs")
        self._next()
        return tuple(items)

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        # The end is met again and again by whoever still wants something.
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _wrong(self, offset: int, what: str) -> PackageRefused:
        line = self._text.count("\n", 0, offset) + 1
        return PackageRefused(Reason.BAD_STRUCTURE, f"sw-description, line {line}: {what}")


def _unescape(quoted: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return _ESCAPES.get(found[2], found[2])

    return _ESCAPE.sub(replaced, quoted[1:-1])


def dump(group: Mapping[str, Value], indent: int = 0) -> str:
    """Settings as text, one below the other, in the order given."""
    return "".join(_dump_setting(name, value, indent) for name, value in group.items())


def _dump_setting(name: str, value: Value, indent: int) -> str:
    pad = "    " * indent
    if isinstance(value, dict):
        return f"{pad}{name} =\n{pad}{{\n{dump(value, indent + 1)}{pad}}};\n"
    if isinstance(value, tuple):
        groups = [dump(item, indent + 2) for item in value if isinstance(item, dict)]
        if groups:
            inner = f"{pad}    }},\n{pad}    {{\n".join(groups)
            return f"{pad}{name}: (\n{pad}    {{\n{inner}{pad}    }}\n{pad});\n"
        return f"{pad}{name}: [ {', '.join(_scalar(item) for item in value)} ];\n"
    return f"{pad}{name} = {_scalar(value)};\n"


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        return _quote(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quote(text: str) -> str:
    """A string as libconfig, SWUpdate and the Python libraries all read it back."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for letter in "nrtf":
        escaped = escaped.replace(_ESCAPES[letter], f"\\{letter}")
    return f'"{escaped}"'
