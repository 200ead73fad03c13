"""Build images. The same arguments give the same bytes, and imgtool's bytes at that.

One exception, forced by the format: RSA-PSS signatures differ from call to call, because MCUboot
demands a 32-byte salt and `cryptography` always draws it (`keys.py`). Everything else in such an
image, its digest included, is still the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from firmware_images.errors import CannotBuild
from firmware_images.keys import SigningKey
from firmware_images.mcuboot.format import (
    ADDRESS_LIMIT,
    AREA_HEADER,
    DEFAULT_HEADER_SIZE,
    ERASED,
    HEADER_SIZE,
    PROTECTED_MAGIC,
    RECORD_HEADER,
    SIGNATURE_OF,
    UNPROTECTED_MAGIC,
    Flag,
    Header,
    Tlv,
)
from firmware_images.mcuboot.layout import Dependency, decode_image
from firmware_images.mcuboot.version import Version
from firmware_images.source import as_source

__all__ = ["build_image", "resign_image"]

COUNTER_LIMIT = 0xFFFF_FFFF
FIELD_LIMIT = 0xFFFF
"""Header size and area lengths are 16-bit fields."""


def build_image(
    payload: bytes,
    *,
    version: Version,
    key: SigningKey | None = None,
    security_counter: int | None = None,
    dependencies: Iterable[Dependency] = (),
    header_size: int = DEFAULT_HEADER_SIZE,
    load_addr: int | None = None,
    capacity: int | None = None,
) -> bytes:
    """Wrap `payload` into an image, signed with `key` or, without one, only hashed.

    `load_addr` makes it an image to be copied to RAM. `capacity` (a slot minus its trailer) makes
    an image that would not fit an error here instead of a refusal in the device.
    """
    if not payload:
        raise CannotBuild("the payload is empty")
    if not HEADER_SIZE <= header_size <= FIELD_LIMIT:
        raise CannotBuild(
            f"header size {header_size} is not between {HEADER_SIZE} and {FIELD_LIMIT}"
        )
    if header_size + len(payload) >= ADDRESS_LIMIT:
        raise CannotBuild(f"a payload of {len(payload)} bytes cannot be described in 32 bits")
    if security_counter is not None and not 0 <= security_counter <= COUNTER_LIMIT:
        raise CannotBuild(f"security counter {security_counter} is not within 32 bits")
    if load_addr is not None and not 0 <= load_addr < ADDRESS_LIMIT:
        raise CannotBuild(f"load address {load_addr} is not within 32 bits")

    records: list[tuple[int, bytes]] = []
    if security_counter is not None:
        records.append((Tlv.SEC_CNT, struct.pack("<I", security_counter)))
    for dependency in dependencies:
        if not 0 <= dependency.image_id <= 0xFF:
            raise CannotBuild(f"dependency on {dependency}: an image id is one byte")
        records.append((Tlv.DEPENDENCY, dependency.encode()))
    protected = _area(PROTECTED_MAGIC, records)

    header = Header(
        version=version,
        header_size=header_size,
        image_size=len(payload),
        protected_size=len(protected),
        flags=Flag(0) if load_addr is None else Flag.RAM_LOAD,
        load_addr=load_addr or 0,
    )
    region = header.encode().ljust(header_size, bytes([ERASED])) + payload + protected
    image = _seal(region, key)
    if capacity is not None and len(image) > capacity:
        raise CannotBuild(
            f"the image has {len(image)} bytes, {len(image) - capacity} more than fit "
            f"(payload {len(payload)}, room {capacity})"
        )
    return image


def resign_image(image: bytes, key: SigningKey) -> bytes:
    """Replace hash, key hash and signature; header, payload and protected records stay.

    Bytes after the image (padding, a trailer) are dropped. Raises `ImageRefused` if `image` cannot
    be parsed. Encrypted images are not for this: their hash is over what only a key can show.
    """
    layout = decode_image(as_source(image))
    if layout.header.flags & (Flag.ENCRYPTED_AES128 | Flag.ENCRYPTED_AES256):
        raise CannotBuild("an encrypted image cannot be signed again: the hash is over plaintext")
    return _seal(image[: layout.areas.protected_end], key)


def _seal(region: bytes, key: SigningKey | None) -> bytes:
    digest = hashlib.sha256(region).digest()
    records: list[tuple[int, bytes]] = [(Tlv.SHA256, digest)]
    if key is not None:
        records.append((Tlv.KEYHASH, key.public.key_hash))
        records.append((SIGNATURE_OF[key.kind], key.sign(digest)))
    return region + _area(UNPROTECTED_MAGIC, records)


def _area(magic: int, records: Sequence[tuple[int, bytes]]) -> bytes:
    if not records:
        return b""
    body = b"".join(RECORD_HEADER.pack(kind, len(value)) + value for kind, value in records)
    size = AREA_HEADER.size + len(body)
    if size > FIELD_LIMIT:
        raise CannotBuild(f"records of {size} bytes in all; their area has a 16-bit length")
    return AREA_HEADER.pack(magic, size) + body
