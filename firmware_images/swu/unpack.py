"""Take a `.swu` apart while it arrives, and judge it as SWUpdate does.

The order of the archive is part of the format: `sw-description`, then `sw-description.sig` when
the device trusts a key, then the files. So the description is verified before the first byte of an
image is let through, and each image against the digest that the description gave it.

Stricter than SWUpdate in these places, each on the safe side: a member that the description does
not name is refused instead of skipped, a size that the description gives must be right, and
exactly one file must be meant for the device.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_images.archive import Gather
from firmware_images.errors import PackageRefused, Reason
from firmware_images.keys import KeyType, PublicKey
from firmware_images.package import DEFAULT_LIMITS, PackageLimits
from firmware_images.signatures import check_package_key, verifies_package
from firmware_images.source import ByteSource
from firmware_images.swu.cms import verify_cms
from firmware_images.swu.cpio import CpioReader
from firmware_images.swu.description import Description, Hardware, SwuFile

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["DESCRIPTION", "SIGNATURE", "SwuInfo", "SwuUnpacker", "verify_swu"]

DESCRIPTION = "sw-description"
SIGNATURE = "sw-description.sig"

_RSA_BYTES = {KeyType.RSA_2048: 256, KeyType.RSA_3072: 384}


@dataclass(frozen=True, slots=True)
class SwuInfo:
    """A package as its description, once believed, tells of it."""

    version: str
    name: str
    hardware: tuple[tuple[str, str], ...]
    """(board, revision); board "" where any will do."""
    image: SwuFile
    size: int
    """Bytes of the image."""
    signed: bool
    """There is a signature. It has been verified if a key was given, and else not."""


class _Member(enum.Enum):
    DESCRIPTION = enum.auto()
    SIGNATURE = enum.auto()
    IMAGE = enum.auto()
    OTHER = enum.auto()


class SwuUnpacker:
    """The `Unpacker` of `.swu` files.

    With a `key` the package must be signed with it: as CMS, or as raw RSA (PKCS #1 v1.5), the two
    that SWUpdate can be built for. Without one nothing is said about who made it. With `hardware`
    it must be for that board and revision; without, its one image is taken whoever it is for.
    """

    __slots__ = (
        "_description", "_digest", "_gather", "_hardware", "_image", "_image_size", "_key",
        "_limits", "_member", "_members", "_out", "_reader", "_set", "_signed", "_text",
    )  # fmt: skip

    def __init__(
        self,
        key: PublicKey | None,
        *,
        hardware: Hardware | None = None,
        software_set: str = "",
        limits: PackageLimits = DEFAULT_LIMITS,
    ) -> None:
        if key is not None:
            check_package_key(key)
        self._key = key
        self._hardware = hardware
        self._set = software_set
        self._limits = limits
        self._reader = CpioReader(self, limits)
        self._gather = Gather()
        self._out: list[bytes] = []
        self._member: _Member | None = None
        self._members = 0
        self._text = b""
        self._signed = False
        self._description: Description | None = None
        self._image: SwuFile | None = None
        self._image_size: int | None = None
        self._digest: _Hash | None = None

    def feed(self, data: bytes) -> bytes:
        self._reader.feed(data)
        out, self._out = self._out, []
        return b"".join(out)

    def finish(self) -> None:
        self._reader.finish()
        if self._image_size is None:
            raise PackageRefused(
                Reason.TRUNCATED, f"the image {self._chosen().filename!r} is not in the archive"
            )

    @property
    def info(self) -> SwuInfo:
        """What has been unpacked; to be asked after `finish`."""
        image, description = self._chosen(), self._description
        if description is None or self._image_size is None:
            raise PackageRefused(Reason.TRUNCATED, "the package is not complete")
        return SwuInfo(
            description.version,
            description.name,
            description.hardware,
            image,
            self._image_size,
            self._signed,
        )

    # What the reader tells of.

    def begin(self, name: str, size: int) -> None:
        self._members += 1
        self._member = self._role(name)
        match self._member:
            case _Member.DESCRIPTION | _Member.SIGNATURE:
                if size > self._limits.header_size:
                    raise PackageRefused(
                        Reason.BAD_STRUCTURE,
                        f"{name} has {size} bytes, more than {self._limits.header_size}",
                    )
                self._gather.ask(size)
            case _Member.IMAGE:
                self._begin_image(size)

    def data(self, piece: memoryview) -> None:
        match self._member:
            case _Member.DESCRIPTION | _Member.SIGNATURE:
                self._gather.take(piece)
            case _Member.IMAGE:
                assert self._digest is not None  # set when the image began
                self._digest.update(piece)
                self._out.append(bytes(piece))

    def end(self) -> None:
        match self._member:
            case _Member.DESCRIPTION:
                self._text = self._gather.bytes()
                if self._key is None:
                    self._read_description()
            case _Member.SIGNATURE:
                self._signed = True
                if self._key is not None:
                    _check_signature(self._gather.bytes(), self._text, self._key)
                    self._read_description()
            case _Member.IMAGE:
                self._end_image()

    def _role(self, name: str) -> _Member:
        if self._members == 1:
            if name != DESCRIPTION:
                raise PackageRefused(
                    Reason.BAD_MAGIC, f"begins with {name!r} instead of {DESCRIPTION}"
                )
            return _Member.DESCRIPTION
        if self._members == 2 and name == SIGNATURE:
            return _Member.SIGNATURE
        if self._description is None:
            raise PackageRefused(
                Reason.UNSIGNED, f"{name!r} follows the description in place of {SIGNATURE}"
            )
        if name == self._chosen().filename:
            return _Member.IMAGE
        if all(name != file.filename for file in self._description.all_files):
            raise PackageRefused(Reason.BAD_STRUCTURE, f"{name!r} is not in sw-description")
        return _Member.OTHER

    def _read_description(self) -> None:
        description = Description(self._text, self._limits)
        self._text = b""
        if self._hardware is None:
            files = description.all_files
        else:
            description.check_hardware(self._hardware, self._set)
            files = description.files_for(self._hardware.board, self._set)
        # The same file may stand in several groups, and be written to several places.
        chosen = {(file.filename, file.sha256): file for file in files}
        if len(chosen) != 1:
            names = ", ".join(sorted({file.filename for file in files})[:8])
            raise PackageRefused(
                Reason.BAD_STRUCTURE,
                f"{len(chosen)} files ({names or 'none'}) where one image is expected",
            )
        image = next(iter(chosen.values()))
        if image.compressed:
            raise PackageRefused(Reason.COMPRESSED, f"{image.filename!r} is compressed")
        if image.encrypted:
            raise PackageRefused(Reason.ENCRYPTED, f"{image.filename!r} is encrypted")
        if image.sha256 is None and self._key is not None:
            # Signed is only the description: what it gives no digest of, nobody has signed.
            raise PackageRefused(Reason.BAD_HASH, f"{image.filename!r} has no sha256")
        self._description, self._image = description, image

    def _begin_image(self, size: int) -> None:
        image = self._chosen()
        if size > self._limits.image_size:
            raise PackageRefused(
                Reason.TOO_LARGE,
                f"{image.filename!r} has {size} bytes, room is for {self._limits.image_size}",
            )
        if image.size is not None and size != image.size:
            raise PackageRefused(
                Reason.BAD_STRUCTURE,
                f"{image.filename!r} has {size} bytes, the description says {image.size}",
            )
        self._digest = hashlib.sha256()
        self._image_size = size

    def _end_image(self) -> None:
        image = self._chosen()
        assert self._digest is not None  # set when the image began
        actual = self._digest.digest()
        if image.sha256 is not None and not hmac.compare_digest(image.sha256, actual):
            raise PackageRefused(
                Reason.BAD_HASH,
                f"{image.filename!r} should have {image.sha256.hex()}, has {actual.hex()}",
            )
        self._digest = None

    def _chosen(self) -> SwuFile:
        if self._image is None:
            # Only an archive that ends before its signature gets here.
            reason = Reason.TRUNCATED if self._members < 1 else Reason.UNSIGNED
            raise PackageRefused(reason, "the archive ends before its description is verified")
        return self._image


def verify_swu(
    source: ByteSource,
    key: PublicKey | None,
    *,
    hardware: Hardware | None = None,
    software_set: str = "",
    limits: PackageLimits = DEFAULT_LIMITS,
) -> SwuInfo:
    """Judge a whole package, or raise `PackageRefused`. The image inside is not judged here."""
    unpacker = SwuUnpacker(key, hardware=hardware, software_set=software_set, limits=limits)
    for chunk in source.chunks(0, len(source)):
        unpacker.feed(bytes(chunk))
    unpacker.finish()
    return unpacker.info


def _check_signature(signature: bytes, description: bytes, key: PublicKey) -> None:
    # A CMS blob holds such a signature and more, so the length tells the two apart.
    if len(signature) == _RSA_BYTES.get(key.kind):
        if not verifies_package(key, signature, description):
            raise PackageRefused(Reason.BAD_SIGNATURE, f"{SIGNATURE} (raw RSA) does not verify")
        return
    verify_cms(signature, description, key)
