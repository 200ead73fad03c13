"""multipart/form-data (RFC 7578), from a body that is already in memory and bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tools.backend.refusals import Refusal

MAX_FIELDS = 32
"""Fields of a form; ours have five."""

MAX_HEAD = 8 << 10
"""Bytes of the header of one field."""

# RFC 2046 section 5.1.1, as a token or quoted.
_BOUNDARY = re.compile(
    r';\s*boundary=(?:"([^"]{1,70})"|([^\s;",]{1,70})(?=[\s;,]|$))', re.IGNORECASE
)
_PARAMETER = re.compile(r';\s*(name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form; `filename` is what the client calls the file, None for a text."""

    content: bytes = field(repr=False)
    filename: str | None = None


def parse_multipart(content_type: str, body: bytes) -> dict[str, Field]:
    """The fields of a form by name, the last of a name. Raises RequestRefused."""
    kind, _, _ = content_type.partition(";")
    found = _BOUNDARY.search(content_type)
    if kind.strip().lower() != "multipart/form-data" or found is None:
        raise Refusal.INVALID_BODY(problem="The body is not multipart/form-data with a boundary")
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    # The first delimiter may stand at the very beginning, all others follow a line break.
    if not body.startswith(mark):
        start = body.find(b"\r\n" + mark)
        if start < 0:
            raise Refusal.INVALID_BODY(problem="The multipart body has no delimiter")
        body = body[start + 2 :]
    fields: dict[str, Field] = {}
    position = len(mark)
    delimiter = b"\r\n" + mark
    for _ in range(MAX_FIELDS + 1):
        if body.startswith(b"--", position):
            return fields
        begin = body.find(b"\r\n", position)
        # After a delimiter only white space stands before the line break.
        if begin < 0 or body[position:begin].strip():
            raise Refusal.INVALID_BODY(problem="The multipart body has a broken delimiter")
        end = body.find(delimiter, begin)
        if end < 0:
            raise Refusal.INVALID_BODY(problem="The multipart body has no end")
        name, value = _field(body, begin, end)
        fields[name] = value
        position = end + len(delimiter)
    raise Refusal.INVALID_BODY(problem=f"The multipart body has more than {MAX_FIELDS} fields")


def _field(body: bytes, begin: int, end: int) -> tuple[str, Field]:
    """The field between two delimiters; `begin` is the line break after the first."""
    split = body.find(b"\r\n\r\n", begin, min(end, begin + MAX_HEAD))
    if split < 0:
        raise Refusal.INVALID_BODY(
            problem="A field of the multipart body has no header, or too long a one"
        )
    for line in body[begin:split].split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() != b"content-disposition":
            continue
        parameters = {
            match[1].lower(): _unquote(match[2]) if match[2] is not None else match[3]
            for match in _PARAMETER.finditer(value.decode("utf-8", "replace"))
        }
        if "name" in parameters:
            content = body[split + 4 : end]
            return parameters["name"], Field(content, parameters.get("filename"))
    raise Refusal.INVALID_BODY(problem="A field of the multipart body has no name")


def _unquote(text: str) -> str:
    """Backslash and quote are escaped by some clients, as `%22` by others (RFC 7578 section 2)."""
    return re.sub(r'\\(["\\])', r"\1", text).replace("%22", '"')


def basename(path: str) -> str:
    """The last part of what a client calls its file: some send their whole path."""
    return re.split(r"[/\\]", path)[-1]
