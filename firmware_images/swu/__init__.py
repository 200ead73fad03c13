"""SWUpdate's `.swu`: a cpio archive of a signed description and, here, one image."""

from firmware_images.swu.build import SignatureForm, build_swu
from firmware_images.swu.cms import load_certificate, self_signed
from firmware_images.swu.cpio import MAGIC_PREFIX
from firmware_images.swu.description import Description, Hardware, SwuFile
from firmware_images.swu.unpack import SwuInfo, SwuUnpacker, verify_swu

__all__ = [
    "MAGIC_PREFIX",
    "Description",
    "Hardware",
    "SignatureForm",
    "SwuFile",
    "SwuInfo",
    "SwuUnpacker",
    "build_swu",
    "load_certificate",
    "self_signed",
    "verify_swu",
]
