"""Resuming a download: what to ask for next, and what an answer to that means (RFC 9110, 13 to 15).

Sans-IO. `ask` gives the fields of the next request; `judge` compares an answer with what is known
of the resource, names it (`Kind`) and looks it up in `ACTIONS`::

    APPEND   the body goes on where we stopped
    WHOLE    the body is the resource from its first byte, whatever we had
    AGAIN    what we have is worthless: ask for the resource from its first byte
    DONE     we had all of it already
    RETRY    ask the same again, later
    FAIL     asking again would change nothing
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ACTIONS", "Action", "Kind", "Known", "Verdict", "ask", "judge"]


class Action(enum.Enum):
    """What an answer means for the download."""

    APPEND = "append"
    WHOLE = "whole"
    AGAIN = "again"
    DONE = "done"
    RETRY = "retry"
    FAIL = "fail"


class Kind(enum.Enum):
    """What an answer is, seen from where we stand."""

    ALL = "200: the whole resource"
    REST = "206: from where we asked, of the same resource"
    STRAY = "206: of another place, or contradicting itself"
    CHANGED = "206: of another resource, by its size or ETag"
    AT_END = "416: and we have every byte"
    PAST_END = "416: and we have not"
    BUSY = "the server cannot answer now"
    REFUSED = "the server will not answer this"


ACTIONS: dict[tuple[bool, Kind], Action] = {
    # (bytes were received before, what came): what to do
    (False, Kind.ALL): Action.WHOLE,
    (False, Kind.REST): Action.WHOLE,  # from byte 0 without having been asked for a range
    (False, Kind.STRAY): Action.RETRY,
    (False, Kind.CHANGED): Action.RETRY,
    (False, Kind.AT_END): Action.FAIL,
    (False, Kind.PAST_END): Action.FAIL,
    (False, Kind.BUSY): Action.RETRY,
    (False, Kind.REFUSED): Action.FAIL,
    (True, Kind.ALL): Action.WHOLE,  # no ranges here, or If-Range found another resource
    (True, Kind.REST): Action.APPEND,
    (True, Kind.STRAY): Action.AGAIN,
    (True, Kind.CHANGED): Action.AGAIN,
    (True, Kind.AT_END): Action.DONE,
    (True, Kind.PAST_END): Action.AGAIN,  # it shrank
    (True, Kind.BUSY): Action.RETRY,
    (True, Kind.REFUSED): Action.FAIL,
}

_BUSY = frozenset((408, 425, 429))
_RANGE = re.compile(r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*", re.IGNORECASE)
_STRONG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_ANY = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Known:
    """What we have of a resource, and what is known of it."""

    offset: int = 0
    """Bytes received."""
    etag: str = ""
    """As the server wrote it, with `W/` where it is weak; empty: none."""
    size: int | None = None
    """Of the whole resource."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means, and what it tells of the resource."""

    kind: Kind
    action: Action
    etag: str = ""
    size: int | None = None


def ask(known: Known) -> list[tuple[str, str]]:
    """The fields that ask for what is missing."""
    if known.offset == 0:
        return []
    fields = [("Range", f"bytes={known.offset}-")]
    # A weak tag says nothing about bytes (RFC 9110 section 13.1.5). Without If-Range a resource
    # that changed is found by its size or tag in the answer.
    if _STRONG.fullmatch(known.etag):
        fields.append(("If-Range", known.etag))
    return fields


def judge(known: Known, status: int, headers: Mapping[str, str]) -> Verdict:
    """What the answer `status` to `ask(known)` means."""
    etag = headers.get("etag", "").strip()
    if not _ANY.fullmatch(etag):
        etag = ""
    size = _length(headers)
    if status in (200, 203):
        kind = Kind.ALL
    elif status == 206:
        kind, size = _part(known, headers, etag, size)
    elif status == 416:
        kind, size = _end(known, headers)
    elif status in _BUSY or status >= 500:
        kind = Kind.BUSY
    else:
        kind = Kind.REFUSED
    return Verdict(kind, ACTIONS[known.offset > 0, kind], etag, size)


def _part(
    known: Known, headers: Mapping[str, str], etag: str, length: int | None
) -> tuple[Kind, int | None]:
    match = _RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or match[1] is None:
        return Kind.STRAY, None  # several ranges at once, too, which nobody asked for
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return Kind.STRAY, None
    if length is not None and length != last - first + 1:
        return Kind.STRAY, None
    if known.offset:
        if total is not None and known.size is not None and total != known.size:
            return Kind.CHANGED, total
        if etag and known.etag and etag != known.etag:
            return Kind.CHANGED, total
    if first != known.offset:
        return Kind.STRAY, None
    return Kind.REST, total if total is not None else known.size


def _end(known: Known, headers: Mapping[str, str]) -> tuple[Kind, int | None]:
    match = _RANGE.fullmatch(headers.get("content-range", ""))
    size = known.size
    if match is not None and match[1] is None and match[3] != "*":
        size = int(match[3])
        if known.size is not None and size != known.size:
            return Kind.PAST_END, size
    return (Kind.AT_END if size == known.offset else Kind.PAST_END), size


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
