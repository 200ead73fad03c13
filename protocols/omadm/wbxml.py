"""SyncML as WBXML 1.x (``application/vnd.syncml.dm+wbxml``)."""

from __future__ import annotations

import re
from collections import Counter

from protocols.omadm.errors import CodecLimits, SyncmlMisuse
from protocols.omadm.model import Message, MgmtTree
from protocols.omadm.schema import DOCUMENT, TREE_DOCUMENT
from protocols.omadm.wbxml_reader import read
from protocols.omadm.wbxml_tables import (
    CONTENT,
    DEFAULT_PUBLIC_ID,
    END,
    OPAQUE,
    PAGES,
    STR_I,
    STR_T,
    SWITCH_PAGE,
    TREE_PUBLIC_NAME,
    UTF_8,
)
from protocols.omadm.writer import DDF, Alphabet, Writer

__all__ = ["decode", "decode_tree", "encode", "encode_tree"]

_LIMITS = CodecLimits()
_VERSIONS = (1, 2, 3)
"""WBXML 1.1 to 1.3: what may be written; the low nibble of the version octet."""


def decode(data: bytes, limits: CodecLimits = _LIMITS) -> Message:
    """Raises SyncmlError for what is no WBXML 1.x, no SyncML, or past a limit."""
    message: Message = read(data, DOCUMENT, limits)
    return message


def decode_tree(data: bytes, limits: CodecLimits = _LIMITS) -> MgmtTree:
    """A serialised tree that is a document of its own (``application/vnd.syncml.dmtnds+wbxml``).

    Raises SyncmlError.
    """
    tree: MgmtTree = read(data, TREE_DOCUMENT, limits)
    return tree


def encode(message: Message, *, string_table: bool = False, version: int = 2) -> bytes:
    """`version` is the minor one: 1.1 to 1.3 may be written. With a string table, what occurs more
    than once stands there and is referred to. Raises SyncmlMisuse for text with NUL in it."""
    return _document(_WRITER.message(message), _PUBLIC_ID, b"", string_table, version)


def encode_tree(tree: MgmtTree, *, string_table: bool = False, version: int = 2) -> bytes:
    """The opposite of :func:`decode_tree`, with the header that libwbxml gives such a document:
    its public identifier stands in the string table. Raises SyncmlMisuse as :func:`encode` does.
    """
    body = _SWITCH[DDF] + _WRITER.tree(tree)
    return _document(body, bytes(2), TREE_PUBLIC_NAME.encode() + b"\0", string_table, version)


# --- tokens as text --------------------------------------------------------------------------
#
# Every octet that the writer needs is ASCII, but those of OPAQUE and STR_T. So a document is put
# together as text and encoded at once, which is many times faster than by octets; octets past
# ASCII are carried through it as lone surrogates (PEP 383), which no text that is let in can hold.


def _octets(data: bytes) -> str:
    return data.decode("ascii", "surrogateescape")


def _uintvar(value: int) -> bytes:
    octets = bytes((value & 0x7F,))
    while value := value >> 7:
        octets = bytes((value & 0x7F | 0x80,)) + octets
    return octets


_SWITCH = tuple(f"{SWITCH_PAGE:c}{page:c}" for page in range(len(PAGES)))
_OPAQUE, _STR_T = _octets(bytes((OPAQUE,))), _octets(bytes((STR_T,)))


def _tag(page: int, name: str, flag: int = 0) -> str:
    return chr(PAGES[page][name] | flag)


class _Tokens(Alphabet):
    def begin(self, page: int, name: str, inside: int) -> str:
        return _tag(page, name, CONTENT) + (_SWITCH[inside] if inside != page else "")

    def end(self, page: int, name: str, inside: int) -> str:
        # Behind the END, where libwbxml and Horde switch back too.
        return chr(END) + (_SWITCH[page] if inside != page else "")

    def empty(self, page: int, name: str) -> str:
        return _tag(page, name)

    def leaf(self, page: int, name: str) -> str:
        return f"{_tag(page, name, CONTENT)}{STR_I:c}%s\0{END:c}"

    def text(self, text: str) -> str:
        # What is wrong is told, the text is not: it may be a password.
        if "\0" in text:
            raise SyncmlMisuse("a string of WBXML cannot hold NUL")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise SyncmlMisuse(f"U+{ord(text[error.start]):04X} is no character") from None
        return text

    def data(
        self, data: str | bytes, format: str | None, page: int, name: str
    ) -> tuple[str, str | None]:
        if isinstance(data, str):
            if not data:
                return _tag(page, name), format
            if "\0" not in data:
                return f"{_tag(page, name, CONTENT)}{STR_I:c}{self.text(data)}\0{END:c}", format
            data = data.encode()
        elif format in (None, "b64"):
            format = "bin"
        opaque = _OPAQUE + _octets(_uintvar(len(data)) + data)
        return f"{_tag(page, name, CONTENT)}{opaque}{END:c}", format


_WRITER = Writer(_Tokens())


_PUBLIC_ID = _uintvar(DEFAULT_PUBLIC_ID)


def _document(body: str, public_id: bytes, table: bytes, string_table: bool, version: int) -> bytes:
    """`table` is what the public identifier needs of the string table."""
    if version not in _VERSIONS:
        raise SyncmlMisuse(f"WBXML 1.{version}: 1.1, 1.2 and 1.3 may be written")
    if string_table:
        body, table = _with_table(body, table)
    header = bytes((version,)) + public_id + _uintvar(UTF_8)
    return header + _uintvar(len(table)) + table + body.encode("utf-8", "surrogateescape")


# --- string table ----------------------------------------------------------------------------

# In what :class:`_Tokens` writes, the first 03 or C3 is a token, and the search goes on behind
# what it brings, so the next one is too.
_NEXT_STRING = re.compile(f"{STR_I:c}([^\0]*)\0|{_OPAQUE}")
_SHORTEST = 3
"""A reference takes two octets or more, a string of two as many."""


def _strings(body: str) -> list[tuple[int, int, str]]:
    """Where a string begins and ends, and what it is."""
    found = []
    position = 0
    while match := _NEXT_STRING.search(body, position):
        position = match.end()
        if match[1] is not None:
            found.append((match.start(), position, match[1]))
            continue
        length = 0
        while True:
            octet = body[position].encode("ascii", "surrogateescape")[0]
            position += 1
            length = length << 7 | octet & 0x7F
            if octet < 0x80:
                break
        position += length
    return found


def _with_table(body: str, table: bytes) -> tuple[str, bytes]:
    strings = _strings(body)
    counts = Counter(text for _, _, text in strings)
    references: dict[str, str] = {}
    for text, count in counts.items():
        if count > 1 and len(text) >= _SHORTEST:
            references[text] = _STR_T + _octets(_uintvar(len(table)))
            table += text.encode() + b"\0"
    parts: list[str] = []
    position = 0
    for start, end, text in strings:
        if text in references:
            parts += body[position:start], references[text]
            position = end
    return "".join((*parts, body[position:])), table
