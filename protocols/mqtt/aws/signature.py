"""`sig-sha256-ecdsa`: the signature that an OTA job puts over the file as it is sent.

ECDSA over SHA-256, DER, as FreeRTOS's agent checks it before it lets the bootloader see the image.
It comes on top of the image's own signature. A device checks it when it was given the certificate
or public key of the signer; without one it has nothing to check it with and goes on, as an agent
does whose platform layer leaves the check to the bootloader.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from agent.errors import UnusableSettings
from firmware_images.errors import PackageRefused, Reason

__all__ = ["SignatureCheck", "load_signer"]

_ALGORITHM = ec.ECDSA(Prehashed(hashes.SHA256()))


@functools.lru_cache(maxsize=16)
def load_signer(path: str) -> ec.EllipticCurvePublicKey:
    """The public key in a PEM file, bare or in a certificate; read once for a fleet. Raises
    :class:`~agent.errors.UnusableSettings`."""
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise UnusableSettings(f"the signer's certificate: {error.strerror}: {path}") from None
    try:
        key: object = (
            x509.load_pem_x509_certificate(pem).public_key()
            if b"BEGIN CERTIFICATE" in pem
            else serialization.load_pem_public_key(pem)
        )
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableSettings(f"no certificate and no public key: {path}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UnusableSettings(f"the signer's key is not an ECDSA key: {path}")
    return key


class SignatureCheck:
    """Watches a file pass; an `Unpacker` that changes nothing."""

    __slots__ = ("_digest", "_key", "_signature")

    def __init__(self, key: ec.EllipticCurvePublicKey, signature: bytes) -> None:
        self._key = key
        self._signature = signature
        self._digest = hashlib.sha256()

    def feed(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data

    def finish(self) -> None:
        """Raises :class:`~firmware_images.errors.PackageRefused` when the signature is not the
        signer's, or there is none."""
        if not self._signature:
            raise PackageRefused(Reason.UNSIGNED, "the job has no sig-sha256-ecdsa")
        try:
            self._key.verify(self._signature, self._digest.digest(), _ALGORITHM)
        except InvalidSignature:
            raise PackageRefused(Reason.BAD_SIGNATURE, "sig-sha256-ecdsa does not match") from None
