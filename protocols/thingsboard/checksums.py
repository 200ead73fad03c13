"""The checksums that ThingsBoard announces packages with, fed as the bytes arrive.

The names are those of the server's enum (`ChecksumAlgorithm`). CRC32 and the two MurmurHash3 are
written as the hash's bytes in little-endian order, which is what the server's hash library prints;
the vendor's example clients reverse their numbers for the same reason.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Protocol

import mmh3

__all__ = ["ALGORITHMS", "Checksum", "UnknownAlgorithm", "new_checksum"]


class UnknownAlgorithm(Exception):
    """The server announced a checksum that no version of it is known to have."""


class Checksum(Protocol):
    """Takes bytes in any portions."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc32:
    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return self._value.to_bytes(4, "little").hex()


class _Murmur:
    __slots__ = ("_hasher",)

    def __init__(self, hasher: mmh3.Hasher) -> None:
        self._hasher = hasher

    def update(self, data: bytes, /) -> None:
        self._hasher.update(data)

    def hexdigest(self) -> str:
        return self._hasher.digest().hex()


ALGORITHMS: dict[str, Callable[[], Checksum]] = {
    "MD5": hashlib.md5,
    "SHA256": hashlib.sha256,
    "SHA384": hashlib.sha384,
    "SHA512": hashlib.sha512,
    "CRC32": _Crc32,
    "MURMUR3_32": lambda: _Murmur(mmh3.mmh3_32()),
    "MURMUR3_128": lambda: _Murmur(mmh3.mmh3_x64_128()),
}


def new_checksum(algorithm: str) -> Checksum:
    """Raises UnknownAlgorithm."""
    make = ALGORITHMS.get(algorithm.upper())
    if make is None:
        raise UnknownAlgorithm(f"checksum algorithm {algorithm[:32]!r}")
    return make()
