"""URIs of the management tree: paths, `?prop=` and `?list=`, and the device's limits on them.

OMA-TS-DM_TND 1.2.1, section 7: a URI is relative to the root, which is ".", and `./DevInfo/Man` is
`DevInfo/Man`. It has no slash at its end and no "../"; names are UTF-8, compared octet for octet.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeAlias

from protocols.omadm.status import StatusCode, TreeError

__all__ = ["ROOT", "Path", "TreeUri", "UriLimits", "check_path", "format_path", "parse_uri"]

Path: TypeAlias = tuple[str, ...]

ROOT: Path = ()

MAX_URI = 1024
"""Octets. What "no limit" means: a device that sets none still has a receive buffer."""

KNOWN_URIS = 1024
"""Parsed ones that are kept, for all devices: they are asked for the same few again and again, and
what a server makes up must not fill the memory."""


@dataclass(frozen=True, slots=True)
class UriLimits:
    """DevDetail/URI of a device. 0 is "no limit" (OMA-TS-DM_StdObj 1.2.1, section 5.3.4)."""

    max_depth: int = 0
    """Segments of a URI."""
    max_total_length: int = 127
    """Octets of a URI without its query: what terminals commonly announce."""
    max_segment_length: int = 32
    """Octets of one segment."""


@dataclass(frozen=True, slots=True)
class TreeUri:
    """A node, or one property of it, or a list of what is below it."""

    path: Path
    prop: str | None = None
    list: str | None = None


def format_path(path: Path) -> str:
    return "./" + "/".join(path) if path else "."


@functools.lru_cache(KNOWN_URIS)
def parse_uri(uri: str, limits: UriLimits) -> TreeUri:
    """Raises TreeError: 414 past a limit, 404 for what names no node, 406 for a query that is
    neither `prop` nor `list`."""
    text, mark, query = uri.partition("?")
    path = _path(text, limits)
    if not mark:
        return TreeUri(path)
    name, _, value = query.partition("=")
    if value and name == "prop":
        return TreeUri(path, prop=value)
    if value and name == "list":
        return TreeUri(path, list=value)
    raise TreeError(StatusCode.NOT_SUPPORTED, "the URI's query is neither prop nor list")


def check_path(path: Path, limits: UriLimits) -> None:
    """Whether a path that a device makes itself keeps its limits; raises TreeError(414)."""
    _path(format_path(path), limits)


def _path(text: str, limits: UriLimits) -> Path:
    # "./a" and "a" are the same node: the limit must not tell them apart.
    relative = text[2:] if text.startswith("./") else text
    octets = len(relative.encode("utf-8", "replace"))
    if octets > (limits.max_total_length or MAX_URI):
        raise TreeError(StatusCode.URI_TOO_LONG, f"a URI of {octets} octets")
    if text == ".":
        return ROOT
    path = tuple(relative.split("/"))
    if limits.max_depth and len(path) > limits.max_depth:
        raise TreeError(StatusCode.URI_TOO_LONG, f"a URI of {len(path)} segments")
    for segment in path:
        if segment in ("", ".", ".."):
            raise TreeError(StatusCode.NOT_FOUND, "the URI has an empty or relative segment")
        if "\0" in segment:
            raise TreeError(StatusCode.NOT_FOUND, "the URI has a NUL")
        if limits.max_segment_length:
            octets = len(segment.encode("utf-8", "replace"))
            if octets > limits.max_segment_length:
                raise TreeError(StatusCode.URI_TOO_LONG, f"a segment of {octets} octets")
    return path
