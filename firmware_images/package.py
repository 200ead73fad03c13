"""What every package format has in common: an image wrapped into something a server hands out.

A package is taken apart while it arrives, because a device has room for the image and not for the
package around it: headers are kept (they are small, and bounded by `PackageLimits`), the image is
passed on piece by piece. That order has a price, which real clients pay too: bytes come out before
anybody knows that they are right. Whoever takes them writes them where nothing is lost (the
secondary slot) and believes them only after `finish` has returned.

The state of an unpacker (running digests, an inflater) lives in RAM. After a power cut a download
resumes by feeding the package's bytes to a new one from the beginning, or by starting it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["DEFAULT_LIMITS", "PackageLimits", "Unpacker"]


class Unpacker(Protocol):
    """Takes the bytes of a package as they arrive and gives those of the image inside it."""

    def feed(self, data: bytes) -> bytes:
        """The bytes of the image that `data` brought, often none. Pieces may be of any size.

        Raises `PackageRefused` (an `ImageRefused`) as soon as something is wrong; what was given
        out before is worth nothing then, and the unpacker is not fed again.
        """
        ...

    def finish(self) -> None:
        """Everything has arrived. Called once.

        Raises `PackageRefused` when the package is incomplete, or when its checksums or its
        signature are wrong.
        """
        ...


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """How much a package may ask for. What asks for more is refused before it is read."""

    image_size: int = 256 << 20
    """Bytes of the image. No slot of a microcontroller is larger; a device hands in its slot."""
    header_size: int = 64 << 10
    """Bytes of one header (sw-description, manifest, header archive), after decompression. Tools
    write one to four KiB; what a device must keep of it has to fit into its RAM."""
    entries: int = 64
    """Members of one archive. A package with one image has fewer than ten."""
    name_size: int = 255
    """Bytes of a file name, as on any file system that it could be written to."""


DEFAULT_LIMITS = PackageLimits()
