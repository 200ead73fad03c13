"""Namespaced key/value storage that survives reboots, written as flash operations, so it can tear.

Theory of operation
===================

The NVM region is two sectors; one is active, the other spare. The active sector is a log::

    sector header, 8 bytes: u16 mark, u16 0, u32 sequence   (then 8 bytes: u32 CRC, ffffffff)
    record:  u32 crc, u16 value length, u8 key length, u8 kind, key, value, padding to 8 bytes
    ...
    erased bytes

A record counts when its CRC is right; the newest record of a key wins; kind `_DELETED` removes it.
A key is `namespace NUL name`. Reading walks the log, because a device reads at boot and hardly ever
after: there is no index in RAM, and a device that stored nothing costs nothing.

Appending is one flash write, so a power cut leaves the old value or the new one. A cut inside the
write leaves a record with a wrong CRC; nothing is ever appended behind such a record. The next
write *compacts* instead: erase the spare sector, write the live records, and the header last. The
header makes the sector valid, the higher sequence number makes it active, and until then the old
sector is untouched; then it is erased, because nobody needs it and a fleet would keep it in memory
for every device. A cut inside that leaves a sector that is older, or none at all.

The same happens when the log is full, and earlier when most of it is history: at each page that a
log grows into it is compacted if its live records are less than half of it.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.errors import StoreError
from agent.flash import NVM, SECTOR_SIZE, Flash
from agent.image_store import PAGE_SIZE

__all__ = ["MAX_LIVE", "Nvm", "NvmFull", "decode_log"]

_HEADER = struct.Struct("<HHI")
_RECORD = struct.Struct("<IHBB")
_MARK = 0x4E56
_HEADER_SIZE = 16
_PUT, _DELETED = 0x01, 0x02
_PAGES = SECTOR_SIZE // PAGE_SIZE
_ERASED8 = b"\xff" * 8

MAX_LIVE = SECTOR_SIZE - _HEADER_SIZE
"""Live records must fit one sector, or compaction could not finish."""


class NvmFull(StoreError):
    """The live records would not fit one sector."""


def _header(sequence: int) -> bytes:
    head = _HEADER.pack(_MARK, 0, sequence)
    return head + zlib.crc32(head).to_bytes(4, "little") + b"\xff" * 4


def _sequence(sector: bytes) -> int | None:
    """The sequence number of a valid sector, else None."""
    mark, _, sequence = _HEADER.unpack_from(sector)
    return sequence if mark == _MARK and sector[:_HEADER_SIZE] == _header(sequence) else None


def _record(kind: int, key: bytes, value: bytes) -> bytes:
    body = _RECORD.pack(0, len(value), len(key), kind)[4:] + key + value
    record = zlib.crc32(body).to_bytes(4, "little") + body
    return record + b"\xff" * (-len(record) % 8)


def decode_log(log: bytes) -> tuple[dict[bytes, bytes], int, bool]:
    """Live records of a sector's log, the end of the good part, and whether only erased bytes
    follow. Any bytes decode: a torn or foreign record ends the log, it is never an error."""
    live: dict[bytes, bytes] = {}
    position = 0
    while position + _RECORD.size <= len(log):
        crc, value_size, key_size, kind = _RECORD.unpack_from(log, position)
        start = position + _RECORD.size
        end = start + key_size + value_size
        if end > len(log) or zlib.crc32(log[position + 4 : end]) != crc:
            break
        key = log[start : start + key_size]
        if kind == _PUT:
            live[key] = log[start + key_size : end]
        else:
            live.pop(key, None)
        position = end + -end % 8
    rest = log[position:]
    return live, min(position, len(log)), rest.count(0xFF) == len(rest)


class _Walked(NamedTuple):
    """What a walk through both sectors found. Shared: `live` is not to be changed."""

    live: Mapping[bytes, bytes]
    sector: int
    sequence: int | None
    end: int
    """Where the next record goes, from the start of the region; -1 when the log is torn."""


# A boot reads many values of the same log, one after the other. Pages are kept by reference and
# know their hashes, so that asking costs less than joining them would.
@functools.lru_cache(maxsize=64)
def _walked(pages: tuple[bytes, ...]) -> _Walked:
    best: int | None = None
    active, log = 0, b""
    for sector in (0, 1):
        inside = pages[sector * _PAGES : (sector + 1) * _PAGES]
        data = b"".join(page.ljust(PAGE_SIZE, b"\xff") for page in inside)
        sequence = _sequence(data)
        if sequence is not None and (best is None or sequence > best):
            best, active, log = sequence, sector, data[_HEADER_SIZE:]
    if best is None:
        return _Walked({}, 0, None, -1)
    live, end, clean = decode_log(log)
    return _Walked(live, active, best, active * SECTOR_SIZE + _HEADER_SIZE + end if clean else -1)


class Nvm:
    """The key/value store of one device."""

    __slots__ = ("_end", "_flash", "_sector")

    def __init__(self, flash: Flash) -> None:
        self._flash = flash
        # Where the next record goes; -1 until the log was walked after a boot, or when it is torn.
        self._sector = 0
        self._end = -1

    def mount(self) -> None:
        """Forget what RAM knew: to be called at each boot."""
        self._end = -1

    def get(self, namespace: str, name: str) -> bytes | None:
        if self._flash.is_blank(NVM):
            return None
        return self._load()[0].get(_key(namespace, name))

    def items(self, namespace: str) -> Iterator[tuple[str, bytes]]:
        if self._flash.is_blank(NVM):
            return
        prefix = namespace.encode() + b"\0"
        for key, value in self._load()[0].items():
            if key.startswith(prefix):
                yield key[len(prefix) :].decode(), value

    def set(self, namespace: str, name: str, value: bytes) -> None:
        """Store atomically: after a power cut either the old value or this one is there."""
        self._append(_PUT, _key(namespace, name), value)

    def delete(self, namespace: str, name: str) -> None:
        if self.get(namespace, name) is not None:
            self._append(_DELETED, _key(namespace, name), b"")

    # --- internals

    def _load(self) -> tuple[Mapping[bytes, bytes], int | None]:
        """Live records and sequence of the active sector; remembers where the log ends."""
        found = _walked(tuple(self._flash.pages(NVM)))
        if found.sequence is not None:
            self._sector = found.sector
        self._end = found.end
        return found.live, found.sequence

    def _append(self, kind: int, key: bytes, value: bytes) -> None:
        if len(key) > 255 or len(value) > MAX_LIVE:
            raise NvmFull(f"key of {len(key)} bytes, value of {len(value)} bytes")
        record = _record(kind, key, value)
        if self._end < 0 and not self._flash.is_blank(NVM):
            self._load()
        end = self._end
        if end < 0 or self._is_full(end, end + len(record)):
            self._compact(kind, key, value)
            return
        # Not clean until the write is over: a cut inside it must be found by walking the log.
        self._end = -1
        self._flash.write(NVM, end, record)
        self._end = end + len(record)

    def _is_full(self, end: int, after: int) -> bool:
        """Whether the log is to be compacted before it grows from `end` to `after`."""
        if after > (self._sector + 1) * SECTOR_SIZE:
            return True
        if (after - 1) // PAGE_SIZE == end // PAGE_SIZE:
            return False
        live, _ = self._load()
        size = sum(len(_record(_PUT, key, value)) for key, value in live.items())
        return 2 * size < end - self._sector * SECTOR_SIZE - _HEADER_SIZE

    def _compact(self, kind: int, key: bytes, value: bytes) -> None:
        found, sequence = self._load()
        live = dict(found)
        live.pop(key, None)
        if kind == _PUT:
            live[key] = value
        log = b"".join(_record(_PUT, k, v) for k, v in live.items())
        if len(log) > MAX_LIVE:
            raise NvmFull(f"{len(log)} bytes of live records, {MAX_LIVE} fit")
        spare = 0 if sequence is None else 1 - self._sector
        self._end = -1
        start = spare * SECTOR_SIZE
        self._clear(spare)
        if log:
            self._flash.write(NVM, start + _HEADER_SIZE, log)
        self._flash.write(NVM, start, _header(0 if sequence is None else sequence + 1))
        self._sector = spare
        self._end = start + _HEADER_SIZE + len(log)
        if sequence is not None:
            self._clear(1 - spare)

    def _clear(self, sector: int) -> None:
        """Erase a sector that is not erased yet."""
        first = sector * _PAGES
        if any(self._flash.pages(NVM)[first : first + _PAGES]):
            self._flash.erase(NVM, sector)


def _key(namespace: str, name: str) -> bytes:
    key = f"{namespace}\0{name}"
    if "\0" in name or "\0" in namespace:
        raise ValueError(f"NUL in the key {key!r}")
    return key.encode()
