"""Signatures of packages: RSA as PKCS #1 v1.5 and ECDSA P-256, each over SHA-256.

SWUpdate and Mender sign what describes a package in these two ways. MCUboot signs the image inside
differently (RSA as PSS, see `keys.py`); the same key can do both. Both are deterministic here,
ECDSA by RFC 6979. Neither format has a place for Ed25519.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from firmware_images.errors import BadKey
from firmware_images.keys import PublicKey, SigningKey

__all__ = ["check_package_key", "sign_package", "verifies_package"]

_PKCS1 = padding.PKCS1v15()
_SHA256 = SHA256()


def check_package_key(key: SigningKey | PublicKey) -> None:
    """Raise `BadKey` for a key that no package format here can use."""
    if not isinstance(
        key.half,
        rsa.RSAPrivateKey
        | rsa.RSAPublicKey
        | ec.EllipticCurvePrivateKey
        | ec.EllipticCurvePublicKey,
    ):
        raise BadKey(f"packages are signed with RSA or ECDSA P-256 keys, not with {key.kind.value}")


def sign_package(key: SigningKey, message: bytes) -> bytes:
    """PKCS #1 v1.5 for an RSA key, DER of two integers for an ECDSA one."""
    half = key.half
    if isinstance(half, rsa.RSAPrivateKey):
        return half.sign(message, _PKCS1, _SHA256)
    if isinstance(half, ec.EllipticCurvePrivateKey):
        return half.sign(message, ec.ECDSA(_SHA256, deterministic_signing=True))
    raise BadKey(f"packages are signed with RSA or ECDSA P-256 keys, not with {key.kind.value}")


def verifies_package(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is this key's, made as `sign_package` makes it."""
    half = key.half
    try:
        if isinstance(half, rsa.RSAPublicKey):
            half.verify(signature, message, _PKCS1, _SHA256)
        elif isinstance(half, ec.EllipticCurvePublicKey):
            half.verify(signature, message, ec.ECDSA(_SHA256))
        else:
            return False
    except InvalidSignature:
        return False
    return True
