"""Whose fault it is: the image's (`ImageRefused`) or the caller's (`UnusableInput`).

`ImageRefused` is what a bootloader's verdict becomes here: one `Reason`, and a sentence that names
what was found. `UnusableInput` covers what a person hands in beside an image: a key file that is
no key, a version that is no version, a payload that no header can describe.
"""

from __future__ import annotations

import enum

__all__ = [
    "BadKey",
    "BadVersion",
    "CannotBuild",
    "ImageRefused",
    "PackageRefused",
    "Reason",
    "UnusableInput",
]


class Reason(enum.Enum):
    """Why an image is refused. Declared in the order in which the checks run."""

    TRUNCATED = "truncated"
    """The bytes end before the image does."""
    BAD_MAGIC = "bad magic"
    """It does not begin like an image of this format."""
    BAD_STRUCTURE = "bad structure"
    """Header and trailer contradict each other or themselves."""
    TOO_LARGE = "too large"
    """It does not fit into the slot."""
    UNSUPPORTED_FLAGS = "unsupported flags"
    """The header asks for something this bootloader does not do."""
    ENCRYPTED = "encrypted"
    """The image is encrypted; decryption is not supported."""
    COMPRESSED = "compressed"
    """The image is compressed; decompression is not supported."""
    BAD_LOAD_ADDRESS = "bad load address"
    """It asks to be copied to RAM that does not exist."""
    UNKNOWN_TLV = "unknown TLV"
    """An unprotected record of a type that is not on the allow-list."""
    DUPLICATE_TLV = "duplicate TLV"
    """Two records where one decides."""
    BAD_HASH = "bad hash"
    """The digest is missing or is not that of the bytes."""
    UNKNOWN_KEY = "unknown key"
    """It names no key, or one that this device does not trust."""
    UNSIGNED = "unsigned"
    """No signature at all."""
    BAD_SIGNATURE = "bad signature"
    """The signature is of the wrong type or length, or does not verify."""
    MISSING_COUNTER = "missing security counter"
    """A security counter is demanded and the image has none."""
    LOW_COUNTER = "low security counter"
    """The security counter is lower than the one the device has stored."""
    UNMET_DEPENDENCY = "unmet dependency"
    """It needs another image, or a newer running one."""
    LOW_VERSION = "low version"
    """It is older than what runs, and downgrades are prevented."""
    WRONG_DEVICE = "wrong device"
    """Only of packages: it names the devices that it is for, and this is none of them."""


class ImageRefused(Exception):
    """An image failed a check. Nothing else about it may be believed."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ImageRefused], tuple[Reason, str]]:
        # The default would call the class with the one formatted message (shards are processes).
        return (type(self), (self.reason, self.detail))


class PackageRefused(ImageRefused):
    """The package around an image failed a check; the image itself has not been judged yet."""


class UnusableInput(ValueError):
    """What the caller handed in cannot be used; the message names it and says why."""


class BadKey(UnusableInput):
    """Not a key, or not one of a kind that MCUboot images are signed with here."""


class BadVersion(UnusableInput):
    """Not a version of the form major.minor.revision+build, or a part out of range."""


class CannotBuild(UnusableInput):
    """No image with these parts can exist."""
