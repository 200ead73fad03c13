"""SyncML as XML (``application/vnd.syncml.dm+xml``), parsed by lxml with everything off that
reaches outside of the message."""

from __future__ import annotations

import binascii
import re
from typing import Any, Final

from lxml import etree

from protocols.omadm.errors import CodecLimits, SyncmlError, SyncmlMisuse
from protocols.omadm.model import Message, MgmtTree
from protocols.omadm.schema import (
    CHOICE,
    DATA,
    DOCUMENT,
    FLAG,
    GROUP,
    INT,
    MANY,
    SKIP,
    TEXT,
    TEXTS,
    TREE_DOCUMENT,
    Field,
    Structure,
    number,
)
from protocols.omadm.writer import METINF, Alphabet, Writer

__all__ = ["decode", "decode_tree", "encode", "encode_tree"]

_LIMITS = CodecLimits()
_BLANKS = " \t\r\n"
_NAMESPACES: Final = ("SYNCML:SYNCML1.2", "syncml:metinf", "syncml:dmddf1.2")
_OURS: Final = "syncml:"
"""How the namespaces of all versions begin, but for case: Horde writes all of them small."""

# --- reading ---------------------------------------------------------------------------------

# Entities, an internal subset and a DTD from elsewhere are never read. The document type may be
# named, as the DTD's own examples do; what else may stand there is refused before the parser sees
# it, because libxml2 would take its entities into attributes whatever it is told.
_PARSER = etree.XMLParser(
    encoding="utf-8",
    resolve_entities=False,
    load_dtd=False,
    dtd_validation=False,
    no_network=True,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)
_MISC = rb"(?:\s++|<!--(?:(?!-->).)*+-->|<\?(?!xml\s)(?:(?!\?>).)*+\?>)*+"
_LITERAL = rb"(?:\"[^\"]*+\"|'[^']*+')"
_PROLOG = re.compile(
    # A declaration is short; its bound keeps the search linear.
    rb"(?:\xef\xbb\xbf)?(?P<declaration><\?xml\s[^>]{0,200}?\?>)?"
    + _MISC
    + rb"(?:<!DOCTYPE\s++[\w:.-]++(?:\s++(?:PUBLIC\s++"
    + _LITERAL
    + rb"|SYSTEM)\s++"
    + _LITERAL
    + rb")?+\s*+>"
    + _MISC
    + rb")?",
    re.DOTALL,
)
_CHARSET = re.compile(rb"\sencoding\s*=\s*[\"']([^\"']*)")
_CHARSETS = frozenset((b"utf-8", b"us-ascii", b"ascii"))
_ROOT = re.compile(rb"<[A-Za-z_]")


def decode(data: bytes, limits: CodecLimits = _LIMITS) -> Message:
    """Raises SyncmlError for what is no XML, no SyncML, or past a limit."""
    message: Message = _read(data, DOCUMENT, limits)
    return message


def decode_tree(data: bytes, limits: CodecLimits = _LIMITS) -> MgmtTree:
    """A serialised tree that is a document of its own (``application/vnd.syncml.dmtnds+xml``).

    Raises SyncmlError.
    """
    tree: MgmtTree = _read(data, TREE_DOCUMENT, limits)
    return tree


def _read(data: bytes, document: Structure, limits: CodecLimits) -> Any:
    if len(data) > limits.size:
        raise SyncmlError(f"XML of {len(data)} octets; {limits.size} are taken")
    data = bytes(data).lstrip(b" \t\r\n")
    prolog = _PROLOG.match(data)
    assert prolog is not None  # everything in it is optional
    if declaration := prolog["declaration"]:
        charset = _CHARSET.search(declaration)
        if charset and charset[1].lower() not in _CHARSETS:
            raise SyncmlError(f"XML: charset {charset[1].decode('ascii', 'replace')}, not UTF-8")
    if data.startswith(b"<!DOCTYPE", prolog.end()):
        raise SyncmlError("XML: a document type with declarations of its own is not read")
    if not _ROOT.match(data, prolog.end()):
        raise SyncmlError("no XML in UTF-8")
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        raise SyncmlError(f"no XML: {str(error.msg)[:120]}") from None
    values = document.template.copy()
    _Reader(limits).child(root, document, values, 1)
    return document.build(values)


def _blank(text: str | None, where: str) -> None:
    if text and not text.isspace():
        raise SyncmlError(f"XML: {where} holds text")


def _split(element: etree._Element) -> tuple[str, str]:
    """Namespace and name; the namespaces of all versions are one here, and small."""
    tag = element.tag
    if not isinstance(tag, str):
        raise SyncmlError("XML: an entity")
    namespace, _, name = tag.rpartition("}")
    return namespace[1:].lower(), name


def _leaf(element: etree._Element, name: str) -> str:
    for inside in element:
        _split(inside)
        raise SyncmlError(f"XML: {name} holds an element")
    return element.text or ""


class _Reader:
    """Fills the places of structures from elements."""

    __slots__ = ("_depth", "_limits", "_room")

    def __init__(self, limits: CodecLimits) -> None:
        self._limits = limits
        self._depth = limits.depth
        self._room = limits.items

    def _count(self) -> None:
        self._room -= 1
        if self._room < 0:
            raise SyncmlError(f"more than {self._limits.items} commands, items and nodes")

    def children(
        self, element: etree._Element, structure: Structure, values: list[Any], level: int
    ) -> None:
        if level > self._depth:
            raise SyncmlError(f"XML: elements inside each other, more than {self._depth} deep")
        _blank(element.text, structure.name)
        for inside in element:
            self.child(inside, structure, values, level)
            _blank(inside.tail, structure.name)

    def child(
        self, element: etree._Element, structure: Structure, values: list[Any], level: int
    ) -> None:
        namespace, name = _split(element)
        if namespace and not namespace.startswith(_OURS):
            if level == 1:
                raise SyncmlError(f"XML: {name[:60]} of {namespace[:60]} is not SyncML")
            return  # an extension of somebody's own
        field = structure.fields.get(name, structure.others)
        if field is None:
            raise SyncmlError(f"XML: {name[:60]} has no place in {structure.name}")
        kind, slot, inner, _ = field
        if kind == SKIP:
            return
        if kind == GROUP:
            assert inner is not None
            self.children(element, inner, values, level + 1)
            return
        if kind in (TEXTS, MANY):
            self._count()
            if values[slot] is None:
                values[slot] = []
            values[slot].append(self._value(element, field, level))
            return
        if values[slot] is not None:
            raise SyncmlError(f"{structure.name} has {name} twice")
        values[slot] = self._value(element, field, level)

    def _value(self, element: etree._Element, field: Field, level: int) -> Any:
        kind, _, inner, name = field
        if kind in (TEXT, TEXTS):
            return _leaf(element, name).strip(_BLANKS)
        if kind == INT:
            return number(_leaf(element, name), name)
        if kind == FLAG:
            _blank(_leaf(element, name), name)
            return True
        if kind == CHOICE:
            return self._choice(element, name)
        if kind == DATA:
            return self._data(element, inner, level)
        if inner is None:  # to the letter
            return _leaf(element, name)
        values = inner.template.copy()
        self.children(element, inner, values, level + 1)
        return inner.build(values)

    def _choice(self, element: etree._Element, name: str) -> str:
        found = (element.text or "").strip(_BLANKS)
        for inside in element:
            _blank(found, name)
            found = _split(inside)[1]
            _blank(_leaf(inside, found), found)
            _blank(inside.tail, name)
        if not found:
            raise SyncmlError(f"XML: {name} names nothing")
        return found

    def _data(self, element: etree._Element, inner: Structure | None, level: int) -> Any:
        if not len(element):
            return element.text or ""
        first = element[0]
        namespace, name = _split(first)
        ours = not namespace or namespace.startswith(_OURS)
        if inner is not None and name in inner.fields and ours:
            values = inner.template.copy()
            self.children(element, inner, values, level + 1)
            return inner.build(values)
        # Markup that should have been escaped (Format xml): taken as the text that it is.
        for _ in element.iter(etree.Entity):
            raise SyncmlError("XML: an entity")
        return (element.text or "") + "".join(
            etree.tostring(inside, encoding="unicode") for inside in element
        )


# --- writing ---------------------------------------------------------------------------------

_SPECIAL = re.compile("[^\t\n -%'-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What does not stand for itself: markup, carriage returns, and what XML 1.0 has no place for."""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


class _Markup(Alphabet):
    def begin(self, page: int, name: str, inside: int) -> str:
        return f"<{name}{self._namespace(page, name)}>"

    def end(self, page: int, name: str, inside: int) -> str:
        return f"</{name}>"

    def empty(self, page: int, name: str) -> str:
        return f"<{name}{self._namespace(page, name)}/>"

    def leaf(self, page: int, name: str) -> str:
        return f"<{name}{self._namespace(page, name)}>%s</{name}>"

    @staticmethod
    def _namespace(page: int, name: str) -> str:
        """Each child of Meta declares its own; a tree and the message once at their roots."""
        if page == METINF or name in ("SyncML", "MgmtTree"):
            return f' xmlns="{_NAMESPACES[page]}"'
        return ""

    def text(self, text: str) -> str:
        try:
            return _SPECIAL.sub(_escape, text)
        except KeyError as error:
            # What is wrong is told, the text is not: it may be a password.
            character = ord(error.args[0])
            raise SyncmlMisuse(f"XML cannot hold U+{character:04X}") from None

    def data(
        self, data: str | bytes, format: str | None, page: int, name: str
    ) -> tuple[str, str | None]:
        if isinstance(data, str) and format != "bin":
            if not data:
                return f"<{name}/>", format
            try:
                return f"<{name}>{_SPECIAL.sub(_escape, data)}</{name}>", format
            except KeyError:  # what XML has no character for goes as octets
                pass
        octets = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        text = binascii.b2a_base64(octets, newline=False).decode()
        return f"<{name}>{text}</{name}>" if text else f"<{name}/>", "b64"


_WRITER = Writer(_Markup())
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'


def encode(message: Message) -> bytes:
    """Octets go as base64 under Format b64. Raises SyncmlMisuse for names and URIs that XML has no
    characters for."""
    return (_DECLARATION + _WRITER.message(message)).encode()


def encode_tree(tree: MgmtTree) -> bytes:
    """The opposite of :func:`decode_tree`. Raises SyncmlMisuse as :func:`encode` does."""
    return (_DECLARATION + _WRITER.tree(tree)).encode()
