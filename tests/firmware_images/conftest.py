"""Keys made once, and a writer of images that knows nothing of the builder under test."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

import pytest

from firmware_images.keys import KeyType, SigningKey, TrustedKeys, generate_key

SIGNATURE_TLV = {
    KeyType.RSA_2048: 0x20,
    KeyType.ECDSA_P256: 0x22,
    KeyType.RSA_3072: 0x23,
    KeyType.ED25519: 0x24,
}

Records = Sequence[tuple[int, bytes]]
Craft = Callable[..., bytes]


@pytest.fixture(scope="session")
def keyring() -> dict[KeyType, SigningKey]:
    return {kind: generate_key(kind) for kind in KeyType}


@pytest.fixture(scope="session")
def key(keyring: dict[KeyType, SigningKey]) -> SigningKey:
    return keyring[KeyType.ED25519]


@pytest.fixture(scope="session")
def trusted(keyring: dict[KeyType, SigningKey]) -> TrustedKeys:
    return TrustedKeys.of(keyring.values())


@pytest.fixture(scope="session")
def stranger() -> SigningKey:
    return generate_key(KeyType.ED25519)


def area(magic: int, records: Records, claim: int | None = None) -> bytes:
    body = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in records)
    return struct.pack("<HH", magic, 4 + len(body) if claim is None else claim) + body


@pytest.fixture(scope="session")
def craft(key: SigningKey) -> Craft:
    """Write an image part by part. Whatever is not given is right, the signature included."""

    def write(
        *,
        payload: bytes = b"firmware" * 64,
        magic: int = 0x96F3B83D,
        header_size: int = 64,
        flags: int = 0,
        load_addr: int = 0,
        image_size: int | None = None,
        protected: Records = (),
        protected_claim: int | None = None,
        area_magic: int = 0x6907,
        area_claim: int | None = None,
        signer: SigningKey = key,
        records: Callable[[bytes, bytes, bytes], Records] | None = None,
    ) -> bytes:
        guarded = area(0x6908, protected) if protected else b""
        header = struct.pack(
            "<IIHHII8sI",
            magic,
            load_addr,
            header_size,
            len(guarded) if protected_claim is None else protected_claim,
            len(payload) if image_size is None else image_size,
            flags,
            struct.pack("<BBHI", 1, 2, 3, 4),
            0,
        )
        region = header.ljust(header_size, b"\xff") + payload + guarded
        digest = hashlib.sha256(region).digest()
        signature = signer.sign(digest)
        chosen = (
            records(digest, signer.public.key_hash, signature)
            if records is not None
            else (
                (0x10, digest),
                (0x01, signer.public.key_hash),
                (SIGNATURE_TLV[signer.kind], signature),
            )
        )
        return region + area(area_magic, chosen, area_claim)

    return write
