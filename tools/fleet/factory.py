"""What devices have when they leave the factory: an image, and the keys that they trust.

A person who has only the new image gets an old one built: version 0.0.0, security counter 0, signed
with a throwaway key of the type that signs the new one, which these devices trust as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.runtime.random import DeviceRandom
from agent.trailer import capacity
from firmware_images import ImageRefused, as_source
from firmware_images.keys import PublicKey, load_signing_key
from firmware_images.mcuboot import (
    KeyType,
    SigningKey,
    Tlv,
    TrustedKeys,
    Version,
    build_image,
    check_policy,
    decode_image,
    generate_key,
    verify_image,
)
from tools.fleet.audit import Target
from tools.fleet.spec import FleetSpec

FACTORY_VERSION = Version(0, 0, 0, 0)
FACTORY_PAYLOAD = 4096  # small: an old image needs no size of its own, and every device holds it
PAYLOAD_GROUP = 0xFFFFFFFD  # payloads draw their numbers apart from every device

# Order of the P-256 group minus one: a private key is a number from 1 to it.
_P256_KEYS = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632550


def derived_key(kind: KeyType, seed: int, purpose: str) -> SigningKey:
    """A key for tests and demos: who knows the seed knows it. The same seed gives the same key,
    except for RSA, whose primes the library draws by itself."""
    material = hashlib.sha256(f"fotilla {purpose} {seed}".encode()).digest()
    half: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if kind is KeyType.ED25519:
        half = ed25519.Ed25519PrivateKey.from_private_bytes(material)
    elif kind is KeyType.ECDSA_P256:
        number = int.from_bytes(material, "big") % _P256_KEYS + 1
        half = ec.derive_private_key(number, ec.SECP256R1())
    else:
        return generate_key(kind)
    return load_signing_key(
        half.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), purpose
    )


def payload(size: int, seed: int, index: int) -> bytes:
    """Pseudo-random bytes: they do not compress, and no two pages are alike."""
    return DeviceRandom(seed, PAYLOAD_GROUP, index).bytes(size)


def equip(spec: FleetSpec) -> FleetSpec:
    """The same spec with a factory image, and with the key that it needs."""
    if spec.running is not None:
        return spec
    key = derived_key(_key_type(spec), spec.seed, "factory")
    image = factory_image(key, spec.seed, spec.slot_size)
    return replace(spec, running=image, keys=(*spec.keys, key.public.to_pem()))


def factory_image(key: SigningKey, seed: int, slot_size: int) -> bytes:
    """What a device runs that nobody gave an image for."""
    return build_image(
        payload(FACTORY_PAYLOAD, seed, 0),
        version=FACTORY_VERSION,
        key=key,
        security_counter=0,
        capacity=capacity(slot_size),
    )


def _key_type(spec: FleetSpec) -> KeyType:
    """The type of the key that signed the target, or of the first trusted one."""
    keys = [PublicKey.from_pem(pem) for pem in spec.keys]
    try:
        key_hash = decode_image(as_source(spec.image)).find(Tlv.KEYHASH)
    except ImageRefused:
        key_hash = None
    return next((key.kind for key in keys if key.key_hash == key_hash), keys[0].kind)


def target_of(image: bytes, factory: bytes | None = None) -> Target:
    """What the audit compares with. An image that cannot be parsed is a legitimate test as well:
    no device will run it, and the hash of the whole file stands for it."""
    factory_digest = b"" if factory is None else target_of(factory).digest
    try:
        layout = decode_image(as_source(image))
    except ImageRefused:
        return Target("unreadable", hashlib.sha256(image).digest(), factory_digest)
    digest = layout.find(Tlv.SHA256) or hashlib.sha256(image).digest()
    return Target(str(layout.header.version), digest, factory_digest)


def prospect(spec: FleetSpec) -> str:
    """What these devices will do with the image, in words; `spec` is an equipped one."""
    assert spec.running is not None
    trusted = TrustedKeys.from_pem(*spec.keys)
    room = capacity(spec.slot_size)
    running = verify_image(as_source(spec.running), trusted, room)
    try:
        info = verify_image(as_source(spec.image), trusted, room)
        check_policy(
            info,
            security_counter=running.security_counter or 0,
            running=running.version,
        )
    except ImageRefused as refusal:
        return f"will be refused: {refusal}"
    return f"will be accepted: version {info.version}, replacing {running.version}"
