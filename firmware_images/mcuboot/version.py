"""Image versions: 8, 8, 16 and 32 bits, written `major.minor.revision+build`."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from firmware_images.errors import BadVersion

__all__ = ["Version"]

_LAYOUT = struct.Struct("<BBHI")
_TEXT = re.compile(r"(\d{1,10})(?:\.(\d{1,10})(?:\.(\d{1,10})(?:\+(\d{1,10}))?)?)?", re.ASCII)
_LIMITS = {"major": 0xFF, "minor": 0xFF, "revision": 0xFFFF, "build": 0xFFFF_FFFF}


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`major.minor.revision+build`, ordered by all four parts.

    MCUboot itself decides by the first three (`boot_version_cmp` without
    MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER); `release` is what to compare where it is imitated.
    """

    major: int
    minor: int = 0
    revision: int = 0
    build: int = 0

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise BadVersion(f"version {self}: {name} must be between 0 and {limit}")

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `1`, `1.2`, `1.2.3` or `1.2.3+4`."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise BadVersion(
                f"version {text!r}: expected major.minor.revision+build, as in 1.2.3+4"
            )
        return cls(*(int(part or 0) for part in match.groups()))

    @classmethod
    def decode(cls, data: bytes) -> Version:
        """Read the eight bytes of `struct image_version`."""
        return cls(*_LAYOUT.unpack(data))

    def encode(self) -> bytes:
        return _LAYOUT.pack(self.major, self.minor, self.revision, self.build)

    @property
    def release(self) -> tuple[int, int, int]:
        return (self.major, self.minor, self.revision)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.revision}"
        return f"{text}+{self.build}" if self.build else text
