"""MCUboot images: a strict parser and verifier, and a builder whose output imgtool accepts."""

from firmware_images.keys import KeyType, PublicKey, SigningKey, TrustedKeys, generate_key
from firmware_images.mcuboot.build import build_image, resign_image
from firmware_images.mcuboot.checks import CHECKS, Check
from firmware_images.mcuboot.format import Flag, Header, Tlv
from firmware_images.mcuboot.layout import Dependency, ImageInfo, Layout, Record, decode_image
from firmware_images.mcuboot.policy import check_policy
from firmware_images.mcuboot.verify import verify_image
from firmware_images.mcuboot.version import Version

__all__ = [
    "CHECKS",
    "Check",
    "Dependency",
    "Flag",
    "Header",
    "ImageInfo",
    "KeyType",
    "Layout",
    "PublicKey",
    "Record",
    "SigningKey",
    "Tlv",
    "TrustedKeys",
    "Version",
    "build_image",
    "check_policy",
    "decode_image",
    "generate_key",
    "resign_image",
    "verify_image",
]
