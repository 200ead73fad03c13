"""What stands inside the two inner archives: the header's small files, and the payload's one."""

from __future__ import annotations

import hashlib
import hmac

from firmware_images.archive import Gather
from firmware_images.errors import PackageRefused, Reason
from firmware_images.mender.header import (
    HEADER_INFO,
    META_DATA,
    TYPE_INFO,
    HeaderInfo,
    Names,
    TypeInfo,
)
from firmware_images.package import PackageLimits

__all__ = ["HeaderMembers", "PayloadMember"]

_SCRIPTS = "scripts/"


class HeaderMembers:
    """Reads `header.tar`: header-info first, then scripts, then type-info and meta-data."""

    __slots__ = ("_gather", "_info", "_name", "_scripts", "_type_info")

    def __init__(self) -> None:
        self._gather = Gather()
        self._name = ""
        self._info: HeaderInfo | None = None
        self._type_info: TypeInfo | None = None
        self._scripts: list[str] = []

    def result(self) -> tuple[HeaderInfo, TypeInfo, Names]:
        """All of it, once the archive has ended. Raises `PackageRefused` when a part is missing."""
        if self._info is None or self._type_info is None:
            raise _bad(f"has no {HEADER_INFO if self._info is None else TYPE_INFO}")
        return self._info, self._type_info, tuple(self._scripts)

    def begin(self, name: str, size: int) -> None:
        if (name == HEADER_INFO) != (self._info is None):
            raise _bad(f"has {name!r} where {HEADER_INFO!r} belongs, or it there twice")
        script = name.startswith(_SCRIPTS) and name.count("/") == 1
        if not script and name not in (HEADER_INFO, TYPE_INFO, META_DATA):
            raise _bad(f"has a file {name!r}, which has no place in it")
        if script:
            if self._type_info is not None:
                raise _bad(f"has {name!r} behind {TYPE_INFO!r}")
            self._scripts.append(name.removeprefix(_SCRIPTS))
        self._name = name
        self._gather.ask(size)

    def data(self, piece: memoryview) -> None:
        self._gather.take(piece)

    def end(self) -> None:
        if self._name == HEADER_INFO:
            self._info = HeaderInfo.parse(self._gather.bytes())
        elif self._name == TYPE_INFO:
            assert self._info is not None  # `begin` lets nothing stand before it
            self._type_info = TypeInfo.parse(self._gather.bytes(), self._info.payload_type)
        # meta-data is for the payload type's own installer; ours has no use for it.
        self._gather.ask(0)


class PayloadMember:
    """Reads `data/0000.tar`: passes the one file on to `out` and takes its digest."""

    __slots__ = ("_digest", "_limits", "_out", "_seen", "filename", "size")

    def __init__(self, filename: str, limits: PackageLimits, out: list[bytes]) -> None:
        self.filename = filename
        self.size = 0
        self._limits = limits
        self._out = out
        self._seen = False
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        return self._digest.digest()

    def check(self, claimed: bytes) -> None:
        """The archive has ended. Raises `PackageRefused` unless it held the file as claimed."""
        if not self._seen:
            raise PackageRefused(Reason.TRUNCATED, f"the payload does not hold {self.filename!r}")
        if not hmac.compare_digest(claimed, self.sha256):
            raise PackageRefused(
                Reason.BAD_HASH,
                f"{self.filename!r} should have {claimed.hex()}, has {self.sha256.hex()}",
            )

    def begin(self, name: str, size: int) -> None:
        if name != self.filename:
            raise PackageRefused(
                Reason.BAD_STRUCTURE,
                f"the payload holds {name!r}, which the manifest does not name",
            )
        if size > self._limits.image_size:
            raise PackageRefused(
                Reason.TOO_LARGE,
                f"{name!r} has {size} bytes, room is for {self._limits.image_size}",
            )
        self.size = size
        self._seen = True

    def data(self, piece: memoryview) -> None:
        self._digest.update(piece)
        self._out.append(bytes(piece))

    def end(self) -> None:
        pass


def _bad(detail: str) -> PackageRefused:
    return PackageRefused(Reason.BAD_STRUCTURE, f"the header archive {detail}")
