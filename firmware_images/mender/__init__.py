"""Mender artifacts, version 3: a tar archive of a signed manifest, a header and one image."""

from firmware_images.mender.build import ROOTFS_IMAGE, build_artifact
from firmware_images.mender.compression import Compression
from firmware_images.mender.unpack import MenderArtifact, MenderUnpacker, verify_artifact

__all__ = [
    "ROOTFS_IMAGE",
    "Compression",
    "MenderArtifact",
    "MenderUnpacker",
    "build_artifact",
    "verify_artifact",
]
