"""Which check refuses an image for which reason.

A device runs these in the order of their numbers and stops at the first that fails, as
`bootutil_img_validate` and the loader around it do. BAD_STRUCTURE also ends checks 2 and 6, where
lengths contradict each other, and records whose own length is wrong. WRONG_DEVICE is a package's
reason and has no check here. Numbers missing here (11, vendor and class ids; 14, decryption) belong
to build options this verifier does not offer.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_images.errors import Reason

__all__ = ["CHECKS", "Check"]


@dataclass(frozen=True, slots=True)
class Check:
    number: int
    rule: str
    where: str
    """The place in MCUboot that enforces it."""


_MAGIC = Check(1, "the magic is 0x96f3b83d", "boot_is_header_valid")
_BOUNDS = Check(
    2, "header, payload and records lie within the slot minus its trailer", "bootutil_img_validate"
)
_FLAGS = Check(3, "every flag is one that this bootloader supports", "boot_is_header_valid")
_RAM = Check(
    4, "an image to be run from RAM is loaded where RAM is", "boot_verify_ram_load_address"
)
_CLAIM = Check(5, "protected area and header agree about its length", "bootutil_tlv_iter_begin")
_ALLOWED = Check(6, "unprotected records are on the allow-list", "allowed_unprot_tlvs")
_HASH = Check(7, "exactly one SHA-256, equal to that of the bytes", "bootutil_img_hash")
_KEY = Check(8, "the named key is compiled in, before a signature counts", "bootutil_find_key")
_SIGNATURE = Check(
    9, "one signature of the key's type and length, and valid", "bootutil_verify_sig"
)
_COUNTER = Check(10, "the security counter is not below the stored one", "IMAGE_TLV_SEC_CNT")
_DEPENDS = Check(12, "every dependency is met", "boot_verify_slot_dependencies")
_DOWNGRADE = Check(13, "the version is not below the running one", "MCUBOOT_DOWNGRADE_PREVENTION")

CHECKS: dict[Reason, Check] = {
    Reason.TRUNCATED: _BOUNDS,
    Reason.BAD_MAGIC: _MAGIC,
    Reason.BAD_STRUCTURE: _CLAIM,
    Reason.TOO_LARGE: _BOUNDS,
    Reason.UNSUPPORTED_FLAGS: _FLAGS,
    Reason.ENCRYPTED: _FLAGS,
    Reason.COMPRESSED: _FLAGS,
    Reason.BAD_LOAD_ADDRESS: _RAM,
    Reason.UNKNOWN_TLV: _ALLOWED,
    Reason.DUPLICATE_TLV: _ALLOWED,
    Reason.BAD_HASH: _HASH,
    Reason.UNKNOWN_KEY: _KEY,
    Reason.UNSIGNED: _SIGNATURE,
    Reason.BAD_SIGNATURE: _SIGNATURE,
    Reason.MISSING_COUNTER: _COUNTER,
    Reason.LOW_COUNTER: _COUNTER,
    Reason.UNMET_DEPENDENCY: _DEPENDS,
    Reason.LOW_VERSION: _DOWNGRADE,
}
