"""tar as Mender's tools write it: ustar members, and PAX headers for names that do not fit there.

(POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header".) Only regular files: a
link, a directory or a device has no place in an artifact. Read piece by piece, written at once.
"""

from __future__ import annotations

import enum
import re
import tarfile
from collections.abc import Iterable

from firmware_images.archive import Entries, Gather, MemberSink, refuse_name
from firmware_images.errors import PackageRefused, Reason
from firmware_images.package import PackageLimits

__all__ = ["TarReader", "write_tar"]

_BLOCK = 512
_REGULAR = (b"0", b"\0")
_PAX = b"x"
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,4}) ([^=\n]+)=")
PAX_LIMIT = 4096
"""Bytes of one extended header: a name of 255 bytes and a few times of day."""
TRAILING_LIMIT = 64 << 10
"""Zeros behind the last member. Writers end with 1 KiB, or fill a record of 10 KiB."""


class _State(enum.Enum):
    HEADER = enum.auto()
    EXTENDED = enum.auto()
    DATA = enum.auto()
    PADDING = enum.auto()
    END = enum.auto()


class TarReader:
    """Reads an archive from pieces of any size and tells a `MemberSink` of its members."""

    __slots__ = (
        "_entries", "_gather", "_left", "_limits", "_long_name", "_padding", "_sink", "_state",
        "_trailing", "_what",
    )  # fmt: skip

    def __init__(self, sink: MemberSink, limits: PackageLimits, what: str) -> None:
        """`what` is how an error calls the archive."""
        self._sink = sink
        self._limits = limits
        self._what = what
        self._entries = Entries(limits.entries)
        self._gather = Gather(_BLOCK)
        self._state = _State.HEADER
        self._left = self._padding = self._trailing = 0
        self._long_name: bytes | None = None

    def feed(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            match self._state:
                case _State.HEADER:
                    rest = self._gather.take(rest)
                    if self._gather.complete:
                        self._header(self._gather.bytes())
                case _State.EXTENDED:
                    rest = self._gather.take(rest)
                    if self._gather.complete:
                        self._extended(self._gather.bytes())
                case _State.DATA:
                    piece, rest = rest[: self._left], rest[self._left :]
                    self._left -= len(piece)
                    self._sink.data(piece)
                    if not self._left:
                        self._member_end()
                case _State.PADDING:
                    rest = self._gather.take(rest)
                    if self._gather.complete:
                        self._next_header()
                case _State.END:
                    self._trailing += len(rest)
                    if self._trailing > TRAILING_LIMIT or any(rest):
                        raise self._bad("has data behind its end")
                    return

    def finish(self) -> None:
        """The end is two blocks of zeros; the first one led to END."""
        if self._state is not _State.END or self._trailing < _BLOCK or self._trailing % _BLOCK:
            raise PackageRefused(Reason.TRUNCATED, f"{self._what} ends before its last block")

    def _header(self, block: bytes) -> None:
        if not any(block):
            if self._long_name is not None:
                raise self._bad("ends behind an extended header")
            self._state = _State.END
            return
        # The sum is taken with its own field full of spaces.
        total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if block[257:262] != b"ustar":
            raise PackageRefused(Reason.BAD_MAGIC, f"{self._what} is no ustar archive")
        if self._octal(block[148:156]) != total:
            raise self._bad("has a header whose checksum is wrong")
        size, kind = self._octal(block[124:136]), block[156:157]
        if kind == _PAX:
            self._begin_extended(size)
            return
        if kind not in _REGULAR:
            raise self._bad(f"has a member of type {kind!r}, only regular files are allowed")
        self._begin_member(self._name_of(block), size)

    def _begin_extended(self, size: int) -> None:
        if self._long_name is not None or not 0 < size <= PAX_LIMIT:
            raise self._bad(f"has an extended header of {size} bytes, or two in a row")
        self._left = size
        self._gather.ask(_padded(size))
        self._state = _State.EXTENDED

    def _extended(self, area: bytes) -> None:
        records, self._long_name = area[: self._left], b""
        while records:
            found = _PAX_RECORD.match(records)
            length = int(found[1]) if found else 0
            if (
                found is None
                or not found.end() < length <= len(records)
                or records[length - 1 : length] != b"\n"
            ):
                raise self._bad("has an extended header that cannot be read")
            keyword, value = found[2], records[found.end() : length - 1]
            if keyword == b"path":
                self._long_name = value
            elif keyword in (b"size", b"linkpath") or keyword.startswith(b"GNU.sparse"):
                raise self._bad(f"has an extended header with {keyword.decode('ascii', 'replace')}")
            records = records[length:]
        self._next_header()

    def _name_of(self, block: bytes) -> str:
        raw = self._long_name
        self._long_name = None
        if not raw:
            raw = block[:100].split(b"\0", 1)[0]
            # GNU keeps times of day where POSIX has the prefix.
            prefix = block[345:500].split(b"\0", 1)[0] if block[262:263] == b"\0" else b""
            if prefix:
                raw = prefix + b"/" + raw
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._bad("has a member whose name is not UTF-8") from None

    def _begin_member(self, name: str, size: int) -> None:
        refuse_name(name, self._limits)
        self._entries.add(name)
        self._left = size
        self._padding = _padded(size) - size
        self._state = _State.DATA
        self._sink.begin(name, size)
        if not size:
            self._member_end()

    def _member_end(self) -> None:
        self._sink.end()
        if self._padding:
            self._gather.ask(self._padding)
            self._state = _State.PADDING
        else:
            self._next_header()

    def _next_header(self) -> None:
        self._gather.ask(_BLOCK)
        self._state = _State.HEADER

    def _octal(self, field: bytes) -> int:
        found = _OCTAL.fullmatch(field)
        if found is None:
            raise self._bad("has a header with a number that is not octal")
        return int(found[1], 8)

    def _bad(self, detail: str) -> PackageRefused:
        return PackageRefused(Reason.BAD_STRUCTURE, f"{self._what} {detail}")


def write_tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A ustar archive, owned by nobody and of no date, so that it is always the same."""
    out: list[bytes] = []
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        out += (info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % _BLOCK))
    return b"".join(out) + bytes(2 * _BLOCK)


def _padded(size: int) -> int:
    return size + -size % _BLOCK
