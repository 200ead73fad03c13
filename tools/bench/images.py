"""The images of the bench: a small one to run and a signed one of a given size to download."""

from __future__ import annotations

import hashlib
from pathlib import Path

from firmware_images.keys import KeyType, TrustedKeys, generate_key
from firmware_images.mcuboot import Version, build_image, verify_image
from firmware_images.source import as_source

__all__ = ["make_images"]

FACTORY_PAYLOAD = 2048
"""What runs first need not be large: its pages are shared by all devices anyway."""
TLV_ROOM = 1024
"""Header, hash, key hash and an ECDSA signature take less."""


def make_images(folder: Path, target_size: int) -> str:
    """Write `factory` (1.0.0), `target` (1.1.0) and `key.pem` into `folder`; the target's digest.

    The target has `target_size` bytes, give or take the signature, and no page like another.
    """
    key = generate_key(KeyType.ECDSA_P256)
    pages = (hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(target_size // 32))
    payload = b"".join(pages)[: max(FACTORY_PAYLOAD, target_size - TLV_ROOM)]
    factory = build_image(
        bytes(FACTORY_PAYLOAD), version=Version(1, 0, 0), key=key, security_counter=1
    )
    target = build_image(payload, version=Version(1, 1, 0), key=key, security_counter=2)
    (folder / "factory").write_bytes(factory)
    (folder / "target").write_bytes(target)
    (folder / "key.pem").write_bytes(key.public.to_pem())
    return verify_image(as_source(target), TrustedKeys.of([key]), len(target)).digest.hex()
