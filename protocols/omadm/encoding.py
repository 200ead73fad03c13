"""Which representation a message travels in, by its media type."""

from __future__ import annotations

import binascii
from dataclasses import replace
from enum import Enum

from protocols.omadm import wbxml, xml
from protocols.omadm.errors import CodecLimits, SyncmlError
from protocols.omadm.model import Item, Message, Meta, MgmtTree

__all__ = ["Encoding", "carried", "decode", "encode", "of", "size_of"]

_LIMITS = CodecLimits()


class Encoding(Enum):
    XML = "application/vnd.syncml.dm+xml"
    WBXML = "application/vnd.syncml.dm+wbxml"

    @property
    def content_type(self) -> str:
        return self.value

    @property
    def tree_type(self) -> str:
        """Of a serialised tree (TNDS), as Meta Type."""
        return self.value.replace(".dm+", ".dmtnds+")


_BY_TYPE = {
    **{encoding.content_type: encoding for encoding in Encoding},
    # Of data synchronisation; clients in the field (libdmclient) send it for OMA-DM too.
    "application/vnd.syncml+xml": Encoding.XML,
    "application/vnd.syncml+wbxml": Encoding.WBXML,
}


def of(content_type: str) -> Encoding:
    """The representation that a Content-Type header names, whatever its parameters.

    Raises SyncmlError for any other.
    """
    essence = content_type.partition(";")[0].strip().lower()
    try:
        return _BY_TYPE[essence]
    except KeyError:
        raise SyncmlError(f"content type {essence[:80]!r} is not SyncML's") from None


def encode(message: Message, encoding: Encoding) -> bytes:
    """Raises SyncmlMisuse for a message that the representation cannot carry."""
    return xml.encode(message) if encoding is Encoding.XML else wbxml.encode(message)


def decode(data: bytes, encoding: Encoding, limits: CodecLimits = _LIMITS) -> Message:
    """Raises SyncmlError."""
    if encoding is Encoding.XML:
        return xml.decode(data, limits)
    return wbxml.decode(data, limits)


def size_of(message: Message, encoding: Encoding) -> int:
    """Octets of the message as it would be sent: what MaxMsgSize is about."""
    return len(encode(message, encoding))


def carried(item: Item, encoding: Encoding) -> Item:
    """The item with its data as the representation carries it, so that it can be cut into chunks
    and its size be told: octets in XML are base64 text."""
    data = item.data
    if encoding is Encoding.WBXML or data is None or isinstance(data, MgmtTree):
        return item
    format = item.meta.format if item.meta else None
    if isinstance(data, str):
        if format != "bin":
            return item
        data = data.encode()
    text = binascii.b2a_base64(data, newline=False).decode()
    return replace(item, data=text, meta=replace(item.meta or Meta(), format="b64"))
