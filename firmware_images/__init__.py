"""Firmware package formats: build, parse, verify. Knows no device and no protocol."""

from firmware_images.errors import (
    BadKey,
    BadVersion,
    CannotBuild,
    ImageRefused,
    PackageRefused,
    Reason,
    UnusableInput,
)
from firmware_images.source import ByteSource, as_source

__all__ = [
    "BadKey",
    "BadVersion",
    "ByteSource",
    "CannotBuild",
    "ImageRefused",
    "PackageRefused",
    "Reason",
    "UnusableInput",
    "as_source",
]
