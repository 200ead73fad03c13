"""The constants of the format, and its fixed 32-byte header.

An image is: header (padded to `header_size`), payload, protected records (optional), records.
Everything is little-endian. Each record area begins with {magic u16, length u16}, the length
counting these four bytes; a record is {type u16, length u16, value}. The hash covers header,
payload and protected records; the signature is over that hash. (MCUboot `bootutil/image.h` and
its design document, "Image format".)
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from firmware_images.keys import KeyType
from firmware_images.mcuboot.version import Version

__all__ = ["Flag", "Header", "Tlv", "flag_names", "tlv_name"]

IMAGE_MAGIC = 0x96F3_B83D
HEADER_SIZE = 32
DEFAULT_HEADER_SIZE = 0x200
"""What Zephyr reserves (CONFIG_ROM_START_OFFSET): a Cortex-M vector table must be aligned."""
ERASED = 0xFF
"""Fills the header's padding: unwritten NOR flash, as imgtool does by default."""

PROTECTED_MAGIC = 0x6908
UNPROTECTED_MAGIC = 0x6907
AREA_HEADER = struct.Struct("<HH")
RECORD_HEADER = struct.Struct("<HH")

DIGEST_SIZE = 32
ADDRESS_LIMIT = 1 << 32
"""Sizes and addresses in the header are 32 bits, and so is the memory they mean."""

_HEADER = struct.Struct("<IIHHII8sI")


class Flag(enum.IntFlag):
    PIC = 0x1
    ENCRYPTED_AES128 = 0x4
    ENCRYPTED_AES256 = 0x8
    NON_BOOTABLE = 0x10
    RAM_LOAD = 0x20
    ROM_FIXED = 0x100
    COMPRESSED_LZMA1 = 0x200
    COMPRESSED_LZMA2 = 0x400
    COMPRESSED_ARM_THUMB = 0x800


class Tlv(enum.IntEnum):
    KEYHASH = 0x01
    PUBKEY = 0x02
    SHA256 = 0x10
    SHA384 = 0x11
    SHA512 = 0x12
    RSA2048_PSS = 0x20
    ECDSA = 0x22
    RSA3072_PSS = 0x23
    ED25519 = 0x24
    SIG_PURE = 0x25
    ENC_RSA2048 = 0x30
    ENC_KW = 0x31
    ENC_EC256 = 0x32
    ENC_X25519 = 0x33
    ENC_X25519_SHA512 = 0x34
    DEPENDENCY = 0x40
    SEC_CNT = 0x50
    BOOT_RECORD = 0x60
    DECOMP_SIZE = 0x70
    DECOMP_SHA = 0x71
    DECOMP_SIGNATURE = 0x72
    COMP_DEC_SIZE = 0x73
    UUID_VID = 0x74
    UUID_CID = 0x75


SIGNATURE_OF: dict[KeyType, Tlv] = {
    KeyType.RSA_2048: Tlv.RSA2048_PSS,
    KeyType.RSA_3072: Tlv.RSA3072_PSS,
    KeyType.ECDSA_P256: Tlv.ECDSA,
    KeyType.ED25519: Tlv.ED25519,
}

ENCRYPTION_TLVS = frozenset(
    {Tlv.ENC_RSA2048, Tlv.ENC_KW, Tlv.ENC_EC256, Tlv.ENC_X25519, Tlv.ENC_X25519_SHA512}
)

_VENDOR_LOW_BYTES = range(0xA0, 0xFF)


def flag_names(flags: int) -> str:
    """The set bits by name, nameless ones together in hexadecimal; empty if none is set."""
    names = [flag.name or "" for flag in Flag if flag & flags]
    rest = flags & ~sum(Flag)
    return " ".join([*names, f"0x{rest:x}"] if rest else names)


def tlv_name(kind: int) -> str:
    """`SHA256 (0x10)`, `vendor (0xa1)` or `0x99`."""
    if kind in Tlv._value2member_map_:
        return f"{Tlv(kind).name} (0x{kind:02x})"
    if kind & 0xFF in _VENDOR_LOW_BYTES:
        return f"vendor (0x{kind:02x})"
    return f"0x{kind:02x}"


@dataclass(frozen=True, slots=True)
class Header:
    """`struct image_header` without magic and padding."""

    version: Version
    header_size: int
    image_size: int
    """Length of the payload alone."""
    protected_size: int
    flags: Flag
    load_addr: int

    @property
    def payload_end(self) -> int:
        return self.header_size + self.image_size

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read the 32 bytes; the magic has been looked at before."""
        _, load, header, protected, image, flags, version, _ = _HEADER.unpack(data)
        return cls(Version.decode(version), header, image, protected, Flag(flags), load)

    def encode(self) -> bytes:
        return _HEADER.pack(
            IMAGE_MAGIC,
            self.load_addr,
            self.header_size,
            self.protected_size,
            self.image_size,
            int(self.flags),
            self.version.encode(),
            0,
        )
