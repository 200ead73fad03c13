"""cpio "newc" as SWUpdate writes and reads it: 110 bytes of hexadecimal header, name, data.

Magic 070701 is newc, 070702 the same with a sum of the data's bytes ("crc"; it is none). Name and
data are padded to four bytes each; a member called TRAILER!!! ends the archive, zeros may follow.
(The format is described in FreeBSD's cpio(5), "New ASCII Format" and "New CRC Format".)
"""

from __future__ import annotations

import enum
import re
import zlib
from collections.abc import Iterable

from firmware_images.archive import Entries, Gather, MemberSink, refuse_name
from firmware_images.errors import CannotBuild, PackageRefused, Reason
from firmware_images.package import PackageLimits

__all__ = ["MAGIC_PREFIX", "CpioReader", "write_cpio"]

MAGIC_PREFIX = b"0707"
_NEWC = b"070701"
_CRC = b"070702"
_HEADER_SIZE = 110
_TRAILER = "TRAILER!!!"
_REGULAR = 0o100000
_TYPE_MASK = 0o170000
_FIELDS = re.compile(rb"[0-9A-Fa-f]{104}")
_ALIGN = 4
_BLOCK = 512
_SUM_PIECE = 256
TRAILING_LIMIT = 64 << 10
"""Zeros behind the trailer. Writers pad to 512 bytes, or to a tape record of a few KiB."""


class _State(enum.Enum):
    HEADER = enum.auto()
    NAME = enum.auto()
    DATA = enum.auto()
    PADDING = enum.auto()
    END = enum.auto()


class CpioReader:
    """Reads an archive of regular files from pieces of any size and tells a `MemberSink`."""

    __slots__ = (
        "_checked", "_claimed_sum", "_entries", "_gather", "_left", "_limits", "_name_size",
        "_padding", "_sink", "_size", "_state", "_sum", "_trailing",
    )  # fmt: skip

    def __init__(self, sink: MemberSink, limits: PackageLimits) -> None:
        self._sink = sink
        self._limits = limits
        self._entries = Entries(limits.entries)
        self._gather = Gather(_HEADER_SIZE)
        self._state = _State.HEADER
        self._checked = False
        self._claimed_sum = self._sum = 0
        self._name_size = self._size = self._left = self._padding = self._trailing = 0

    def feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            match self._state:
                case _State.HEADER:
                    rest = self._gather.take(rest)
                    if self._gather.complete:
                        self._header(self._gather.bytes())
                case _State.NAME:
                    rest = self._gather.take(rest)
                    if self._gather.complete:
                        self._name(self._gather.bytes())
                case _State.DATA:
                    piece, rest = rest[: self._left], rest[self._left :]
                    self._left -= len(piece)
                    if self._checked:
                        self._sum = (self._sum + _byte_sum(piece)) & 0xFFFF_FFFF
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
                        raise PackageRefused(Reason.BAD_STRUCTURE, "data behind the cpio trailer")
                    return

    def finish(self) -> None:
        if self._state is not _State.END:
            raise PackageRefused(Reason.TRUNCATED, "the cpio archive ends before its trailer")

    def _header(self, header: bytes) -> None:
        magic = header[:6]
        if magic not in (_NEWC, _CRC):
            raise PackageRefused(Reason.BAD_MAGIC, f"no cpio header (newc or crc): {magic!r}")
        if not _FIELDS.fullmatch(header, 6):
            raise PackageRefused(Reason.BAD_STRUCTURE, "a cpio header that is not hexadecimal")
        fields = [int(header[at : at + 8], 16) for at in range(6, _HEADER_SIZE, 8)]
        mode, self._size, self._name_size, self._claimed_sum = (fields[i] for i in (1, 6, 11, 12))
        self._checked = magic == _CRC
        if not 2 <= self._name_size <= self._limits.name_size + 1:
            raise PackageRefused(
                Reason.BAD_STRUCTURE, f"a cpio member's name of {self._name_size} bytes"
            )
        # Writers leave the trailer's mode 0; what is no regular file has no place in a .swu.
        if mode & _TYPE_MASK not in (0, _REGULAR):
            raise PackageRefused(Reason.BAD_STRUCTURE, f"a cpio member of mode {mode:o}")
        self._state = _State.NAME
        self._gather.ask(_padded(_HEADER_SIZE + self._name_size) - _HEADER_SIZE)

    def _name(self, field: bytes) -> None:
        raw, nul = field[: self._name_size - 1], field[self._name_size - 1 :]
        if any(nul) or not raw.isascii():
            raise PackageRefused(Reason.BAD_STRUCTURE, "a cpio member's name is not ended by NUL")
        name = raw.decode("ascii")
        if name == _TRAILER:
            if self._size:
                raise PackageRefused(Reason.BAD_STRUCTURE, "a cpio trailer with data")
            self._state = _State.END
            return
        refuse_name(name, self._limits)
        self._entries.add(name)
        self._sum = 0
        self._left = self._size
        self._padding = _padded(self._size) - self._size
        self._state = _State.DATA
        self._sink.begin(name, self._size)
        if not self._left:
            self._member_end()

    def _member_end(self) -> None:
        if self._checked and self._sum != self._claimed_sum:
            raise PackageRefused(
                Reason.BAD_HASH,
                f"cpio sum {self._claimed_sum:08x}, the bytes have {self._sum:08x}",
            )
        self._sink.end()
        if self._padding:
            self._gather.ask(self._padding)
            self._state = _State.PADDING
        else:
            self._next_header()

    def _next_header(self) -> None:
        self._gather.ask(_HEADER_SIZE)
        self._state = _State.HEADER


def write_cpio(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive in the "crc" variant, which SWUpdate checks member by member."""
    out: list[bytes] = []
    for number, (name, data) in enumerate(members, 1):
        if len(data) > 0xFFFF_FFFF:
            raise CannotBuild(f"{name}: {len(data)} bytes; a cpio member has at most 4 GiB")
        out.append(_member(number, name, _REGULAR | 0o644, data))
    out.append(_member(0, _TRAILER, 0, b""))
    archive = b"".join(out)
    return archive + bytes(-len(archive) % _BLOCK)


def _member(number: int, name: str, mode: int, data: bytes) -> bytes:
    # inode, mode, uid, gid, links, mtime, size, four device numbers, name size, sum
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, _byte_sum(data))
    head = _CRC + b"".join(b"%08X" % field for field in fields) + name.encode("ascii") + b"\0"
    return head + bytes(-len(head) % _ALIGN) + data + bytes(-len(data) % _ALIGN)


def _padded(size: int) -> int:
    return size + -size % _ALIGN


def _byte_sum(data: bytes | memoryview) -> int:
    """Modulo 2**32. Adler-32's lower half, begun at 0, is the sum of the bytes modulo 65521, which
    256 of them cannot reach: seven times as fast as adding them up in Python."""
    view = memoryview(data)
    pieces = range(0, len(view), _SUM_PIECE)
    return sum(zlib.adler32(view[at : at + _SUM_PIECE], 0) & 0xFFFF for at in pieces) & 0xFFFF_FFFF
