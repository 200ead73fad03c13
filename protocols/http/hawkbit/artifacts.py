"""Which of an action's artifacts this device installs, told by how they begin.

A distribution set may bring files that are not for the bootloader: notes, certificates, images of
another processor. All of them are downloaded and hashed; one of them must begin like a package in
the device's format, and only one may. Names and types are not asked: people call a `.swu` file
`.bin`. A single artifact is taken as it is, and the update engine judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.outcome import Outcome
from firmware_images.package import DEFAULT_LIMITS, PackageLimits, Unpacker
from firmware_images.swu import Hardware, SwuUnpacker
from protocols.http.download import DownloadFailed
from protocols.http.hawkbit.options import HawkbitOptions, PackageFormat
from protocols.http.hawkbit.resources import Artifact

__all__ = ["HEAD_SIZE", "chosen", "unpacker_of"]

HEAD_SIZE = 6
"""Bytes that tell the formats apart."""

_MAGIC: dict[PackageFormat, tuple[bytes, ...]] = {
    # IMAGE_MAGIC 0x96f3b83d, little-endian (MCUboot, bootutil/image.h).
    PackageFormat.MCUBOOT: (bytes.fromhex("3db8f396"),),
    # cpio newc, without and with checksums (cpio(5)); SWUpdate reads both.
    PackageFormat.SWU: (b"070701", b"070702"),
}


def chosen(
    artifacts: Sequence[Artifact], heads: Mapping[str, bytes], form: PackageFormat
) -> Artifact:
    """The one to install. `heads` has the first bytes by URL, and is not asked when there is a
    single artifact. Raises DownloadFailed when there is none, or more than one."""
    if len(artifacts) == 1:
        return artifacts[0]
    fitting = [one for one in artifacts if heads[one.url].startswith(_MAGIC[form])]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(one.filename for one in fitting[:3])
        problem = f"{len(fitting)} artifacts are {form.value} packages: {names}"
    else:
        problem = f"none of {len(artifacts)} artifacts is a {form.value} package"
    raise DownloadFailed(Outcome.UNSUPPORTED_PACKAGE, problem)


def unpacker_of(options: HawkbitOptions, capacity: int) -> Callable[[], Unpacker] | None:
    """What makes what takes the package apart while it arrives; None when it is the image."""
    if options.format is PackageFormat.MCUBOOT:
        return None
    hardware = Hardware(options.hw_boardname, options.hw_revision)
    limits = PackageLimits(image_size=min(capacity, DEFAULT_LIMITS.image_size))
    # No key: a package is checked for its hardware and hashes, the image inside by its signature.
    return lambda: SwuUnpacker(None, hardware=hardware, limits=limits)
