"""Paths of the LwM2M resource model: ``/object/instance/resource/resource instance``.

A path is a plain tuple of zero to four ids, so that it hashes, compares and slices as Python does
it: ``path[: len(base)] == base`` says "lies under". The text form is LwM2M 1.1 core section 7.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

__all__ = [
    "MAX_DEPTH",
    "MAX_ID",
    "Path",
    "PathError",
    "format_path",
    "is_under",
    "parse_path",
    "parse_segments",
]

Path: TypeAlias = tuple[int, ...]

# Object, object instance, resource, resource instance.
MAX_DEPTH = 4
# 65535 is reserved: it names no instance (core section 7.1), in an object link it says "no link".
MAX_ID = 65534


class PathError(ValueError):
    """A text is no LwM2M path; it names the text."""


def parse_path(text: str) -> Path:
    """``"/5/0/3"`` to ``(5, 0, 3)``; ``"/"`` is the root path ``()``."""
    if not text.startswith("/"):
        raise PathError(f"LwM2M path {text[:64]!r} does not begin with '/'")
    if text == "/":
        return ()
    return parse_segments(tuple(text[1:].split("/")))


# The working set of a server is a few dozen paths; the bound keeps a hostile peer out of memory.
@lru_cache(maxsize=1024)
def parse_segments(segments: tuple[str, ...]) -> Path:
    """The segments of a Uri-Path option: ``("5", "0", "3")`` to ``(5, 0, 3)``."""
    if len(segments) > MAX_DEPTH:
        raise PathError(f"an LwM2M path has at most {MAX_DEPTH} ids, not {len(segments)}")
    return tuple(_parse_id(segment) for segment in segments)


def _parse_id(segment: str) -> int:
    # int() also takes signs, blanks, underscores and digits of other scripts, and "00" would make
    # two texts for one path. Five digits hold MAX_ID.
    if len(segment) > 5 or not (segment.isascii() and segment.isdigit()):
        raise PathError(f"{segment[:64]!r} in an LwM2M path is not an id from 0 to {MAX_ID}")
    value = int(segment)
    if value > MAX_ID or (segment[0] == "0" and len(segment) > 1):
        raise PathError(f"{segment!r} in an LwM2M path is not an id from 0 to {MAX_ID}")
    return value


def format_path(path: Iterable[int]) -> str:
    """``(5, 0, 3)`` to ``"/5/0/3"``; the root path is ``"/"``."""
    return "/" + "/".join(map(str, path))


def is_under(path: Sequence[int], base: Sequence[int]) -> bool:
    """Whether `path` is `base` or something inside it."""
    return path[: len(base)] == base
