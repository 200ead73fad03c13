"""Who a Mender device is: identity data, a key of its own, and requests signed with it.

Mender's device authentication API: the body of an authentication request is signed as it is sent,
with RSA (PKCS #1 v1.5, SHA-256), ECDSA (SHA-256, the DER form) or Ed25519 (over the body itself).
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from agent.errors import UnusableSettings
from agent.nvm import Nvm

__all__ = ["KEY_KINDS", "DeviceKey", "auth_request", "device_key"]

KEY_KINDS = ("ecdsa", "ed25519", "rsa")
RSA_BITS = 2048
"""Small enough for `nvm`, and what boards with little time for a signature use."""

_NAMESPACE = "mender"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_Half = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, repr=False)
class DeviceKey:
    """The private key of one device."""

    half: _Half

    def public_pem(self) -> str:
        """SubjectPublicKeyInfo, as the server stores it."""
        public = self.half.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, body: bytes) -> str:
        """The value of `X-MEN-Signature`."""
        half = self.half
        if isinstance(half, rsa.RSAPrivateKey):
            signature = half.sign(body, padding.PKCS1v15(), SHA256())
        elif isinstance(half, ec.EllipticCurvePrivateKey):
            # RFC 6979: the same seed sends the same bytes.
            signature = half.sign(body, ec.ECDSA(SHA256(), deterministic_signing=True))
        else:
            signature = half.sign(body)
        return base64.b64encode(signature).decode()


def device_key(pem: bytes, kind: str, seed: int, name: str, nvm: Nvm) -> DeviceKey:
    """The key that was given as PEM, else one of `kind` of the device's own.

    Its own is derived from the run's seed and the device's name, so that a device of another run
    is the same one; RSA, whose primes cannot be derived here, is made once and kept in `nvm`.
    Raises UnusableSettings."""
    if pem:
        return DeviceKey(_loaded(pem, name))
    material = hashlib.sha256(f"fotilla mender {seed} {name}".encode()).digest()
    if kind == "ed25519":
        return DeviceKey(ed25519.Ed25519PrivateKey.from_private_bytes(material))
    if kind == "ecdsa":
        number = int.from_bytes(material, "big") % (_P256_ORDER - 1) + 1
        return DeviceKey(ec.derive_private_key(number, ec.SECP256R1()))
    stored = nvm.get(_NAMESPACE, "key")
    if stored is not None:
        half = load_der_private_key(stored, None)
        if isinstance(half, rsa.RSAPrivateKey):
            return DeviceKey(half)
    made = rsa.generate_private_key(65537, RSA_BITS)
    der = made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    nvm.set(_NAMESPACE, "key", der)
    return DeviceKey(made)


def _loaded(pem: bytes, name: str) -> _Half:
    try:
        half = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableSettings(f"the private key of {name} is no PEM that can be read") from None
    if not isinstance(
        half, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    ):
        raise UnusableSettings(f"the private key of {name} is neither RSA, ECDSA nor Ed25519")
    return half


def auth_request(identity: dict[str, str], key: DeviceKey, tenant_token: str) -> tuple[bytes, str]:
    """Body and signature of an authentication request."""
    body: dict[str, str] = {
        # A JSON text inside the JSON: the server compares identities as sorted text.
        "id_data": json.dumps(identity, separators=(",", ":"), sort_keys=True),
        "pubkey": key.public_pem(),
    }
    if tenant_token:
        body["tenant_token"] = tenant_token
    data = json.dumps(body, separators=(",", ":")).encode()
    return data, key.sign(data)
