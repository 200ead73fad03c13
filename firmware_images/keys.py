"""Signing keys and the keys a device trusts.

The four kinds MCUboot images are signed with here. A device knows a key by the SHA-256 of its
public half, over the very DER that `imgtool getpub` compiles into a bootloader: PKCS #1 for RSA,
SubjectPublicKeyInfo for the others.

ECDSA signatures are deterministic (RFC 6979) and Ed25519 ones always are (RFC 8032), so the same
image is built twice into the same bytes. RSA-PSS draws a fresh 32-byte salt for each signature:
MCUboot demands the salt, and `cryptography` lets nobody choose it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from firmware_images.errors import BadKey

__all__ = ["KeyType", "PublicKey", "SigningKey", "TrustedKeys", "generate_key", "load_signing_key"]

_PrivateHalf = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
_PublicHalf = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

RSA_EXPONENT = 65537
"""The only public exponent that mbed TLS and TinyCrypt builds of MCUboot are tested with."""

_PREHASHED = Prehashed(SHA256())
# The bootloader accepts one salt length, that of the hash.
_PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
_ECDSA_SIGN = ec.ECDSA(_PREHASHED, deterministic_signing=True)
_ECDSA_VERIFY = ec.ECDSA(_PREHASHED)


class KeyType(enum.Enum):
    """The value is the name used on the command line."""

    ECDSA_P256 = "ecdsa-p256"
    ED25519 = "ed25519"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key, known by its type and its DER."""

    kind: KeyType
    der: bytes = field(repr=False)
    key_hash: bytes = field(repr=False, compare=False)
    _half: _PublicHalf = field(repr=False, compare=False)

    @classmethod
    def from_pem(cls, pem: bytes, name: str = "key") -> PublicKey:
        """Read a public key; a private one is accepted and only its public half is kept."""
        return cls.from_half(_load(pem, name)[1], name)

    @classmethod
    def from_half(cls, half: object, name: str) -> PublicKey:
        """Of the library's own object, such as the one that a certificate holds."""
        kind = _kind_of(half, name)
        assert isinstance(half, _PublicHalf)  # what _kind_of has just established
        container = (
            serialization.PublicFormat.PKCS1
            if isinstance(half, rsa.RSAPublicKey)
            else serialization.PublicFormat.SubjectPublicKeyInfo
        )
        der = half.public_bytes(serialization.Encoding.DER, container)
        return cls(kind, der, hashlib.sha256(der).digest(), half)

    @property
    def half(self) -> _PublicHalf:
        """The library's own object, for formats that sign otherwise than MCUboot does."""
        return self._half

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether `signature` is this key's over the SHA-256 `digest`."""
        half = self._half
        try:
            if isinstance(half, ed25519.Ed25519PublicKey):
                half.verify(signature, digest)
            elif isinstance(half, ec.EllipticCurvePublicKey):
                half.verify(signature, digest, _ECDSA_VERIFY)
            else:
                half.verify(signature, digest, _PSS, _PREHASHED)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        return self._half.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def __reduce__(self) -> tuple[object, ...]:
        # The library's key object cannot be pickled, its PEM can.
        return (PublicKey.from_pem, (self.to_pem(),))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. Its `repr` shows nothing that is secret."""

    public: PublicKey
    _half: _PrivateHalf = field(repr=False, compare=False)

    @property
    def kind(self) -> KeyType:
        return self.public.kind

    @property
    def half(self) -> _PrivateHalf:
        """The library's own object, for formats that sign otherwise than MCUboot does."""
        return self._half

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest in the way that the bootloader checks it."""
        half = self._half
        if isinstance(half, ed25519.Ed25519PrivateKey):
            return half.sign(digest)
        if isinstance(half, ec.EllipticCurvePrivateKey):
            return half.sign(digest, _ECDSA_SIGN)
        return half.sign(digest, _PSS, _PREHASHED)

    def to_pem(self) -> bytes:
        """PKCS #8, without a passphrase."""
        return self._half.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The keys compiled into a bootloader. Equal sets are equal, whatever the order."""

    keys: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not self.keys:
            raise BadKey("no trusted key: a device that trusts none refuses every image")
        unique = {key.key_hash: key for key in self.keys}
        object.__setattr__(self, "keys", tuple(unique[digest] for digest in sorted(unique)))

    @classmethod
    def from_pem(cls, *pems: bytes) -> TrustedKeys:
        return cls(tuple(PublicKey.from_pem(pem) for pem in pems))

    @classmethod
    def of(cls, keys: Iterable[SigningKey | PublicKey]) -> TrustedKeys:
        return cls(tuple(key.public if isinstance(key, SigningKey) else key for key in keys))

    def find(self, key_hash: bytes) -> PublicKey | None:
        return next((key for key in self.keys if key.key_hash == key_hash), None)


def generate_key(kind: KeyType) -> SigningKey:
    """Draw a new key from the operating system's randomness."""
    half: _PrivateHalf
    match kind:
        case KeyType.ECDSA_P256:
            half = ec.generate_private_key(ec.SECP256R1())
        case KeyType.ED25519:
            half = ed25519.Ed25519PrivateKey.generate()
        case KeyType.RSA_2048:
            half = rsa.generate_private_key(RSA_EXPONENT, 2048)
        case KeyType.RSA_3072:
            half = rsa.generate_private_key(RSA_EXPONENT, 3072)
    return SigningKey(PublicKey.from_half(half.public_key(), "new key"), half)


def load_signing_key(pem: bytes, name: str = "key") -> SigningKey:
    """Read a private key in PEM form. `name` is how an error calls it."""
    half, public_half = _load(pem, name)
    if half is None:
        raise BadKey(f"{name}: holds only a public key; signing needs the private one")
    public = PublicKey.from_half(public_half, name)
    assert isinstance(half, _PrivateHalf)  # the public half is of a known kind, so is this one
    return SigningKey(public, half)


def _load(pem: bytes, name: str) -> tuple[object | None, object]:
    """The private half, if there is one, and the public one."""
    if b"-----BEGIN" not in pem:
        raise BadKey(f"{name}: not a PEM file (no '-----BEGIN' line)")
    try:
        if b"PRIVATE KEY-----" in pem:
            private = serialization.load_pem_private_key(pem, password=None)
            return private, private.public_key()
        return None, serialization.load_pem_public_key(pem)
    except TypeError as error:
        raise BadKey(f"{name}: is protected by a passphrase; decrypt it first") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{name}: PEM that holds no key that can be read") from error


def _kind_of(half: object, name: str) -> KeyType:
    if isinstance(half, ed25519.Ed25519PublicKey):
        return KeyType.ED25519
    if isinstance(half, ec.EllipticCurvePublicKey) and isinstance(half.curve, ec.SECP256R1):
        return KeyType.ECDSA_P256
    if isinstance(half, rsa.RSAPublicKey) and half.key_size in (2048, 3072):
        return KeyType.RSA_2048 if half.key_size == 2048 else KeyType.RSA_3072
    accepted = ", ".join(kind.value for kind in KeyType)
    raise BadKey(f"{name}: {_describe(half)} is not a kind MCUboot images use (of {accepted})")


def _describe(half: object) -> str:
    if isinstance(half, ec.EllipticCurvePublicKey):
        return f"an ECDSA key on {half.curve.name}"
    if isinstance(half, rsa.RSAPublicKey):
        return f"an RSA key of {half.key_size} bits"
    return f"a {type(half).__name__.removesuffix('PublicKey')} key"
