"""Serialised trees (OMA-TS-DM_TNDS) as the data of an item.

A tree may stand in Data as elements (in WBXML: of code page 2), or as a document of its own: XML
as text, WBXML as octets, which is how libwbxml carries every tree. Meta Type says which document it
is.
"""

from __future__ import annotations

from protocols.omadm import wbxml, xml
from protocols.omadm.encoding import Encoding
from protocols.omadm.errors import CodecLimits, SyncmlError
from protocols.omadm.model import Item, Meta, MgmtTree

__all__ = ["TYPES", "is_tree", "item_meta", "octets_of", "text_of", "tree_of"]

TYPES = {encoding.tree_type: encoding for encoding in Encoding}
_LIMITS = CodecLimits()


def is_tree(item: Item, meta: Meta | None = None) -> bool:
    """Whether the item brings a serialised tree; `meta` is the command's."""
    return isinstance(item.data, MgmtTree) or _type(item, meta) in TYPES


def tree_of(item: Item, meta: Meta | None = None, limits: CodecLimits = _LIMITS) -> MgmtTree:
    """The tree that an item brings, however it is carried; `meta` is the command's.

    Raises SyncmlError when it brings none, or one that cannot be read.
    """
    if isinstance(item.data, MgmtTree):
        return item.data
    type = _type(item, meta)
    encoding = TYPES.get(type)
    if encoding is None:
        raise SyncmlError(f"{type[:80] or 'data without a type'!r} is no serialised tree")
    octets = item.octets(meta.format if meta else None)
    if encoding is Encoding.XML:
        return xml.decode_tree(octets, limits)
    return wbxml.decode_tree(octets, limits)


def item_meta(encoding: Encoding) -> Meta:
    """Of an item whose data is a :class:`MgmtTree`: it goes as elements of the same message."""
    return Meta(format="xml", type=encoding.tree_type)


def text_of(tree: MgmtTree) -> str:
    """The tree as an XML document, for data that is text (and may be cut into chunks)."""
    return xml.encode_tree(tree).decode()


def octets_of(tree: MgmtTree) -> bytes:
    """The tree as a WBXML document, for data that is octets."""
    return wbxml.encode_tree(tree)


def _type(item: Item, meta: Meta | None) -> str:
    type = item.meta.type if item.meta else None
    if type is None and meta is not None:
        type = meta.type
    return (type or "").partition(";")[0].strip().lower()
