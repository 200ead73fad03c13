"""A file that may be an image or a package around one: which it is, and what is inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_images import UnusableInput, as_source
from firmware_images.errors import BadKey
from firmware_images.keys import PublicKey, TrustedKeys
from firmware_images.mender import MenderArtifact, MenderUnpacker
from firmware_images.package import PackageLimits, Unpacker
from firmware_images.swu import MAGIC_PREFIX, Hardware, SwuInfo, SwuUnpacker
from tools.image_files import FILE_LIMIT

__all__ = ["Opened", "Target", "kind_of", "open_package"]

_TAR_MAGIC = b"ustar"
_TAR_MAGIC_AT = 257
_LIMITS = PackageLimits(image_size=FILE_LIMIT)


@dataclass(frozen=True, slots=True)
class Target:
    """The device that a package is judged for; what is empty is not judged."""

    keys: Sequence[PublicKey] = ()
    """Those that the package must be signed with."""
    hardware: Hardware | None = None
    software_set: str = ""
    device_type: str = ""
    artifact_name: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A package that has been judged, and the image from inside, which has not."""

    kind: str
    facts: SwuInfo | MenderArtifact
    image: bytes


def kind_of(data: bytes) -> str:
    """ "swu", "mender", or "" for what is no package."""
    if data.startswith(MAGIC_PREFIX):
        return "swu"
    if data[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        return "mender"
    return ""


def open_package(data: bytes, target: Target) -> Opened | None:
    """Judge `data` if it is a package. Raises `PackageRefused`, and `UnusableInput` for a target
    that says what only the other kind of package can answer."""
    kind = kind_of(data)
    _check_target(kind, target)
    if kind == "swu":
        if len(target.keys) > 1:
            raise BadKey("a .swu is signed with one key; give one --package-key")
        key = target.keys[0] if target.keys else None
        swu = SwuUnpacker(
            key, hardware=target.hardware, software_set=target.software_set, limits=_LIMITS
        )
        image = _unpack(swu, data)
        return Opened(kind, swu.info, image)
    if kind == "mender":
        mender = MenderUnpacker(
            TrustedKeys(tuple(target.keys)) if target.keys else None,
            device_type=target.device_type or None,
            artifact_name=target.artifact_name,
            limits=_LIMITS,
        )
        image = _unpack(mender, data)
        return Opened(kind, mender.artifact, image)
    return None


def _check_target(kind: str, target: Target) -> None:
    asked = {
        "--package-key": (target.keys, ("swu", "mender")),
        "--hardware": (target.hardware, ("swu",)),
        "--software-set": (target.software_set, ("swu",)),
        "--device-type": (target.device_type, ("mender",)),
        "--artifact-name": (target.artifact_name, ("mender",)),
    }
    for option, (value, kinds) in asked.items():
        if value and kind not in kinds:
            raise UnusableInput(
                f"{option} is for {' and '.join(f'.{k}' for k in kinds)} files, "
                f"and this is {f'a .{kind}' if kind else 'no package'}"
            )
    if target.artifact_name and not target.device_type:
        raise UnusableInput("--artifact-name is judged together with --device-type")


def _unpack(unpacker: Unpacker, data: bytes) -> bytes:
    source = as_source(data)
    pieces = [unpacker.feed(bytes(chunk)) for chunk in source.chunks(0, len(source))]
    unpacker.finish()
    return b"".join(pieces)
