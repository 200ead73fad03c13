"""A good image, and one wrong image of each kind, as a foreign server would hand them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware_images.mcuboot import (
    Dependency,
    Flag,
    KeyType,
    TrustedKeys,
    Version,
    build_image,
    generate_key,
)

SLOT_SIZE = 128 * 1024
FACTORY_COUNTER = 3
PAYLOAD = bytes(range(251)) * 160  # 40 KiB: 80 blocks of 512, 40 of 1024
VERSION = "2.0.0"

# Where the header keeps its flags (MCUboot design document, "Image format").
_FLAGS_OFFSET = 16

KEY = generate_key(KeyType.ECDSA_P256)
TRUSTED = TrustedKeys.of([KEY])
FACTORY = build_image(
    b"factory" * 100, version=Version.parse("1.0.0"), key=KEY, security_counter=FACTORY_COUNTER
)


def signed(*, counter: int = FACTORY_COUNTER, payload: bytes = PAYLOAD) -> bytes:
    version = Version.parse(VERSION)
    return build_image(payload, version=version, key=KEY, security_counter=counter)


def _flagged(flag: Flag) -> bytes:
    image = bytearray(signed())
    image[_FLAGS_OFFSET : _FLAGS_OFFSET + 4] = struct.pack("<I", flag)
    return bytes(image)


def _flipped(offset: int) -> bytes:
    image = bytearray(signed())
    image[offset] ^= 1
    return bytes(image)


def _of_other_key() -> bytes:
    other = generate_key(KeyType.ECDSA_P256)
    return build_image(PAYLOAD, version=Version.parse(VERSION), key=other, security_counter=9)


def _needing_another() -> bytes:
    return build_image(
        PAYLOAD,
        version=Version.parse(VERSION),
        key=KEY,
        security_counter=9,
        dependencies=[Dependency(1, Version.parse("1.0.0"))],
    )


@dataclass(frozen=True, slots=True)
class Wrong:
    kind: str
    image: bytes
    result: int
    """Resource 5/0/5; the state goes back to 0 in all these cases."""


WRONG = (
    Wrong("too-large", signed(payload=bytes(SLOT_SIZE)), 2),
    Wrong("no-image", b"not an image at all " * 100, 6),
    Wrong("truncated", signed()[:-20], 6),
    Wrong("unknown-flags", _flagged(Flag(1 << 30)), 6),
    Wrong("encrypted", _flagged(Flag.ENCRYPTED_AES128), 6),
    Wrong("compressed", _flagged(Flag.COMPRESSED_LZMA2), 6),
    Wrong("bad-hash", _flipped(0x200 + 1000), 5),
    Wrong("unknown-key", _of_other_key(), 5),
    Wrong(
        "unsigned",
        build_image(PAYLOAD, version=Version.parse(VERSION), key=None, security_counter=9),
        5,
    ),
    Wrong("bad-signature", _flipped(-1), 5),
    Wrong("low-counter", signed(counter=FACTORY_COUNTER - 1), 5),
    Wrong("unmet-dependency", _needing_another(), 5),
)
