"""WBXML 1.x, decoded straight into the model by the tables of :mod:`protocols.omadm.schema`.

One loop holds everything that a plain message needs; what is rare (strings from the table, several
strings in a row, entities, literal tags) is done by functions beside it.
"""

from __future__ import annotations

from typing import Any

from protocols.omadm.errors import CodecLimits, SyncmlError
from protocols.omadm.schema import (
    DATA,
    FLAG,
    GROUP,
    INT,
    MANY,
    SKIP,
    TEXT,
    TEXTS,
    Field,
    Structure,
    number,
)
from protocols.omadm.wbxml_tables import (
    ASCII,
    ATTRIBUTES,
    CONTENT,
    END,
    ENTITY,
    GLOBAL_NAMES,
    LITERAL,
    LITERAL_C,
    OPAQUE,
    PAGES,
    PUBLIC_IDS,
    PUBLIC_NAMES,
    STR_I,
    STR_T,
    SWITCH_PAGE,
    UTF_8,
)

__all__ = ["read"]

_BLANKS = " \t\r\n"
_ROOT = bytes((PAGES[0]["SyncML"] | CONTENT,))
_NAMES = tuple({code: name for name, code in page.items()} for page in PAGES)


def read(data: bytes, document: Structure, limits: CodecLimits) -> Any:
    """What `document` builds of its root. Raises SyncmlError."""
    if len(data) > limits.size:
        raise SyncmlError(f"WBXML of {len(data)} octets; {limits.size} are taken")
    data = bytes(data)
    try:
        strings, start = _read_header(data, limits)
        return _read_body(data, start, document, strings, limits)
    except IndexError:
        raise SyncmlError("WBXML ends too early") from None
    except UnicodeDecodeError:
        raise SyncmlError("WBXML: a string is no UTF-8") from None


# --- header ----------------------------------------------------------------------------------


class _StringTable:
    """Strings by index. What they add up to is bounded: a reference costs two octets, and may
    stand for the whole table."""

    __slots__ = ("_left", "_table")

    def __init__(self, table: bytes, limits: CodecLimits) -> None:
        self._table = table
        self._left = limits.size

    def at(self, index: int) -> bytes:
        table = self._table
        if index >= len(table):
            raise SyncmlError(f"WBXML: string {index} of a string table of {len(table)} octets")
        end = table.find(b"\0", index)
        # Some leave out the last terminator (Horde's encoder does).
        text = table[index:] if end < 0 else table[index:end]
        self._left -= len(text)
        if self._left < 0:
            raise SyncmlError("WBXML: what is taken from the string table adds up to too much")
        return text


def _uintvar(data: bytes, pos: int) -> tuple[int, int]:
    """A multi-byte integer (WBXML 1.3 section 5.1) and the position behind it. It has 32 bits, and
    so five octets at most."""
    value = 0
    for octet in data[pos : pos + 5]:
        pos += 1
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            if value > 0xFFFFFFFF:
                break
            return value, pos
    if pos >= len(data):
        raise IndexError
    raise SyncmlError("WBXML: an integer of more than 32 bits")


def _says_charset(data: bytes, pos: int) -> bool:
    """Whether a document that calls itself WBXML 1.0, which has no such field, has it: then what
    would be the length of its string table leads to no beginning of a body."""
    length, start = _uintvar(data, pos)
    body = data[start + length : start + length + 1]
    return length in (UTF_8, ASCII) and body not in (_ROOT, bytes((SWITCH_PAGE,)))


def _read_header(data: bytes, limits: CodecLimits) -> tuple[_StringTable, int]:
    version = data[0]
    if version > 0x0F:
        raise SyncmlError(f"no WBXML 1.x: the version octet is {version:#04x}")
    public_id, pos = _uintvar(data, 1)
    literal = public_id == 0
    if literal:
        public_id, pos = _uintvar(data, pos)
    charset = UTF_8
    if version > 0 or _says_charset(data, pos):
        charset, pos = _uintvar(data, pos)
    if charset not in (UTF_8, ASCII):
        raise SyncmlError(f"WBXML: charset {charset}; SyncML is in UTF-8 ({UTF_8})")
    length, pos = _uintvar(data, pos)
    if length > len(data) - pos:
        raise SyncmlError(f"WBXML: the string table claims {length} octets, {len(data) - pos} came")
    strings = _StringTable(data[pos : pos + length], limits)
    if literal:
        name = strings.at(public_id).decode()
        if name.casefold() not in PUBLIC_NAMES:
            raise SyncmlError(f"WBXML: public id {name[:60]!r} is not SyncML's")
    elif public_id not in PUBLIC_IDS:
        raise SyncmlError(f"WBXML: public id {public_id:#06x} is not SyncML's")
    return strings, pos + length


# --- body ------------------------------------------------------------------------------------


def _read_body(
    data: bytes, pos: int, document: Structure, strings: _StringTable, limits: CodecLimits
) -> Any:
    """`structure`, its `tokens` and `values` are those of the innermost open element, the stack
    holds what is around it; `page` is shifted as the keys of `tokens` have it."""
    page = 0
    structure = document
    tokens = structure.tokens
    values = structure.template.copy()
    stack: list[tuple[Structure, list[Any], Field]] = []
    find, depth, room = data.find, limits.depth, limits.items
    value: Any
    while True:
        token = data[pos]
        pos += 1
        if token != END:
            if token == SWITCH_PAGE:
                page = data[pos] << 8
                pos += 1
                if page > 0x200:
                    raise SyncmlError(f"WBXML: code page {page >> 8}; SyncML has 0, 1 and 2")
                continue
            field = tokens.get(page | token)
            if field is None:
                field, token, pos = _unusual(data, pos, page, structure, strings)
                if field is None:
                    continue
            kind, slot, inner, name = field

            if kind <= DATA:
                if not token & CONTENT:
                    value = ""
                elif data[pos] == STR_I and data[(end := find(b"\0", pos)) + 1] == END and end > 0:
                    value = data[pos + 1 : end]
                    pos = end + 2
                    try:
                        value = value.decode()
                    except UnicodeDecodeError:
                        # A chunk of a large object may end, or begin, inside a character.
                        if kind != DATA:
                            raise
                elif (
                    data[pos] == OPAQUE
                    and data[pos + 1] < 0x80
                    and data[end := pos + 2 + data[pos + 1]] == END
                ):
                    value = data[pos + 2 : end]
                    pos = end + 1
                else:
                    value, pos, page = _text(data, pos, page, strings)
                    if data[pos] == END:
                        pos += 1
                    elif inner is None or value.strip():
                        raise SyncmlError(f"WBXML: {name} holds an element, or text beside one")
                    else:  # a serialised tree
                        stack.append((structure, values, field))
                        structure, tokens, values = inner, inner.tokens, inner.template.copy()
                        continue
                if kind != DATA:
                    if type(value) is bytes:
                        value = value.decode()
                    if kind == TEXT:
                        value = value.strip(_BLANKS)
                    elif kind == INT:
                        value = number(value, name)
                    elif kind == TEXTS:
                        room -= 1
                        if room < 0:
                            raise _too_many(limits)
                        value = value.strip(_BLANKS)
                        if values[slot] is None:
                            values[slot] = [value]
                        else:
                            values[slot].append(value)
                        continue
                if values[slot] is not None:
                    raise SyncmlError(f"{structure.name} has {name} twice")
                values[slot] = value
                continue

            if kind < GROUP:
                if kind == SKIP:
                    if token & CONTENT:
                        pos, page = _skip(data, pos, page, strings, depth - len(stack))
                    continue
                if kind == FLAG:
                    value = True
                    if token & CONTENT:
                        pos, page = _nothing(data, pos, page, strings, name)
                else:
                    value, pos, page = _choice(data, pos, page, strings, name, token)
                if values[slot] is not None:
                    raise SyncmlError(f"{structure.name} has {name} twice")
                values[slot] = value
                continue

            assert inner is not None
            stack.append((structure, values, field))
            if len(stack) > depth:
                raise SyncmlError(f"WBXML: elements inside each other, more than {depth} deep")
            structure = inner
            tokens = inner.tokens
            if kind != GROUP:
                values = inner.template.copy()
            if token & CONTENT:
                continue
            # Without content it ends here.

        elif not stack:
            raise SyncmlError("WBXML: END before any element")
        outer, outer_values, (kind, slot, _, name) = stack.pop()
        if kind != GROUP:
            value = structure.build(values)
            values = outer_values
            if kind == MANY:
                room -= 1
                if values[slot] is None:
                    values[slot] = [value]
                else:
                    values[slot].append(value)
            elif values[slot] is None:
                values[slot] = value
            else:
                raise SyncmlError(f"{outer.name} has {name} twice")
            if room < 0:
                raise _too_many(limits)
        structure = outer
        tokens = outer.tokens
        if not stack:
            break
    if pos != len(data):
        raise SyncmlError(f"WBXML: {len(data) - pos} octets behind the end")
    return structure.build(values)


def _too_many(limits: CodecLimits) -> SyncmlError:
    return SyncmlError(f"more than {limits.items} commands, items and nodes")


def _unusual(
    data: bytes, pos: int, page: int, structure: Structure, strings: _StringTable
) -> tuple[Field | None, int, int]:
    """A token that is no plain tag of `structure` with content: its field (None for blanks between
    elements), its octet as a plain tag would have it, and the position behind it."""
    token = data[pos - 1]
    if token in (STR_I, STR_T, OPAQUE, ENTITY):
        text, pos = _string(data, pos - 1, strings)
        if text.strip():
            raise SyncmlError(f"WBXML: {structure.name} holds text")
        return None, token, pos
    if token in (LITERAL, LITERAL_C):
        index, pos = _uintvar(data, pos)
        name = strings.at(index).decode()
        field = structure.fields.get(name)
        token = CONTENT if token == LITERAL_C else 0
    else:
        if token in GLOBAL_NAMES:
            raise SyncmlError(f"WBXML: {GLOBAL_NAMES[token]}, which SyncML does not use")
        if token & ATTRIBUTES:
            raise SyncmlError(f"WBXML: tag {token:#04x} has attributes, SyncML has none")
        field = structure.tokens.get(page | token | CONTENT)
        code = token & 0x3F
        name = _NAMES[page >> 8].get(code, f"{code:#04x} of page {page >> 8}")
    if field is None:
        field = structure.others
    if field is None:
        raise SyncmlError(f"WBXML: {name[:60]} has no place in {structure.name}")
    return field, token, pos


def _string(data: bytes, pos: int, strings: _StringTable) -> tuple[bytes, int]:
    """The string, opaque data or entity at `pos`, and the position behind it."""
    token = data[pos]
    pos += 1
    if token == STR_I:
        end = data.find(b"\0", pos)
        if end < 0:
            raise IndexError
        return data[pos:end], end + 1
    number, pos = _uintvar(data, pos)
    if token == STR_T:
        return strings.at(number), pos
    if token == OPAQUE:
        if number > len(data) - pos:
            raise SyncmlError(f"WBXML: OPAQUE claims {number} octets, {len(data) - pos} are left")
        return data[pos : pos + number], pos + number
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise SyncmlError(f"WBXML: entity {number:#x} is no character")
    return chr(number).encode(), pos


def _text(data: bytes, pos: int, page: int, strings: _StringTable) -> tuple[str | bytes, int, int]:
    """What stands before END or a tag, in one piece, and the position of that; bytes when any of
    it is OPAQUE, or it is no UTF-8. Some write one text as several strings in a row."""
    parts: list[bytes] = []
    opaque = False
    while True:
        token = data[pos]
        if token in (STR_I, STR_T, OPAQUE, ENTITY):
            opaque = opaque or token == OPAQUE
            part, pos = _string(data, pos, strings)
            parts.append(part)
        elif token == SWITCH_PAGE:
            page, pos = _switched(data, pos)
        else:
            joined = b"".join(parts)
            if opaque:
                return joined, pos, page
            try:
                return joined.decode(), pos, page
            except UnicodeDecodeError:
                return joined, pos, page


def _switched(data: bytes, pos: int) -> tuple[int, int]:
    page = data[pos + 1]
    if page > 2:
        raise SyncmlError(f"WBXML: code page {page}; SyncML has 0, 1 and 2")
    return page << 8, pos + 2


def _nothing(data: bytes, pos: int, page: int, strings: _StringTable, name: str) -> tuple[int, int]:
    """The END of an element that has no content but says so, as Horde writes Final."""
    text, pos, page = _text(data, pos, page, strings)
    if text.strip() or data[pos] != END:
        raise SyncmlError(f"WBXML: {name} is not empty")
    return pos + 1, page


def _choice(
    data: bytes, pos: int, page: int, strings: _StringTable, name: str, token: int
) -> tuple[str, int, int]:
    """The Format of a serialised node: the name of an empty element, or the same as text."""
    if not token & CONTENT:
        raise SyncmlError(f"WBXML: {name} is empty")
    text, pos, page = _text(data, pos, page, strings)
    found = (text.decode() if isinstance(text, bytes) else text).strip(_BLANKS)
    if not found:
        token = data[pos]
        found = _NAMES[page >> 8].get(token & 0x3F, "")
        pos += 1
        if not found or token & ATTRIBUTES:
            raise SyncmlError(f"WBXML: {name} names nothing")
        if token & CONTENT:
            pos, page = _nothing(data, pos, page, strings, found)
    pos, page = _nothing(data, pos, page, strings, name)
    return found, pos, page


def _skip(data: bytes, pos: int, page: int, strings: _StringTable, depth: int) -> tuple[int, int]:
    """Behind the END of an element whose content nobody wants."""
    level = 1
    while level:
        _, pos, page = _text(data, pos, page, strings)
        token = data[pos]
        pos += 1
        if token == END:
            level -= 1
            continue
        if token in (LITERAL, LITERAL_C):
            index, pos = _uintvar(data, pos)
            strings.at(index)
        elif token in GLOBAL_NAMES or token & ATTRIBUTES:
            raise SyncmlError(f"WBXML: token {token:#04x}, which SyncML does not use")
        if token & CONTENT:
            level += 1
            if level > depth:
                raise SyncmlError("WBXML: elements inside each other, too deep")
    return pos, page
