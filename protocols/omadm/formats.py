"""What may be written into a leaf: formats of values, and binary in its two disguises.

OMA-TS-DM_TND 1.2.1, section 7.7.2: a binary value travels as base64 with Format b64 over XML, and
as octets with Format bin or as base64 over WBXML; the node's own Format is bin in every case.
"""

from __future__ import annotations

import binascii
import re

from protocols.omadm.model import Meta
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree_nodes import Schema, TreeNode

__all__ = ["leaf_node", "value_size"]

_SYNTAX = {
    "int": re.compile(r"[+-]?[0-9]{1,20}"),
    "bool": re.compile(r"true|false", re.IGNORECASE),
    "float": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    "null": re.compile(""),
}


def leaf_node(
    schema: Schema,
    data: str | bytes | None,
    meta: Meta | None,
    before: TreeNode | None = None,
) -> TreeNode:
    """The leaf that a command writes; `before` keeps its ACL and title.

    A missing Format or Type is the one of the description: servers leave them out, although the
    standard has them supplied with every value. Raises TreeError: 415, 413, 405.
    """
    format = schema.formats[0] if meta is None or meta.format is None else meta.format
    value: str | bytes
    if format == "b64" and "bin" in schema.formats:
        format, value = "bin", _octets(data)
    elif format == "bin":
        value = data if isinstance(data, bytes) else (data or "").encode()
    else:
        value = _text(data)
    if format not in schema.formats:
        raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Format is {schema.formats[0]}")
    type = schema.type if meta is None or not meta.type else meta.type
    if schema.type and type != schema.type:
        raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"Type is {schema.type}")
    if before is not None and schema.permanent and format != before.format:
        raise TreeError(StatusCode.NOT_ALLOWED, "the Format of a permanent node")
    syntax = _SYNTAX.get(format)
    if syntax is not None and isinstance(value, str) and not syntax.fullmatch(value.strip()):
        raise TreeError(StatusCode.UNSUPPORTED_FORMAT, f"a value that is no {format}")
    if value_size(value) > schema.max_size:
        raise TreeError(StatusCode.TOO_LARGE, f"a value of {value_size(value)} octets")
    if before is None:
        return TreeNode(schema, format, type, value)
    return TreeNode(schema, format, type, value, before.acl, before.title)


def value_size(value: str | bytes) -> int:
    return len(value) if isinstance(value, bytes) else len(value.encode())


def _text(data: str | bytes | None) -> str:
    if not isinstance(data, bytes):
        return data or ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "octets that are no text") from None


def _octets(data: str | bytes | None) -> bytes:
    text = "".join(_text(data).split())
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise TreeError(StatusCode.UNSUPPORTED_FORMAT, "Format b64, Data is no base64") from None
