"""Detached CMS signatures (RFC 5652, SignedData) in DER: what `sw-description.sig` holds.

Written and judged here because `cryptography` makes such blobs but verifies none, and draws a nonce
for ECDSA. One signer, SHA-256, RSA PKCS #1 v1.5 or ECDSA P-256; with or without signed attributes.

A verifier here trusts one public key and needs no certificate, so the certificates inside a blob
are not looked at. SWUpdate judges them: its `-k` names the certificate (or its issuer's).
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from firmware_images.errors import BadKey, PackageRefused, Reason
from firmware_images.keys import KeyType, PublicKey, SigningKey
from firmware_images.signatures import check_package_key, sign_package, verifies_package

__all__ = ["load_certificate", "self_signed", "sign_cms", "verify_cms"]

_INTEGER, _OCTETS, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_DATA = bytes.fromhex("06092a864886f70d010701")
_CONTENT_TYPE = bytes.fromhex("06092a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_SHA256 = bytes.fromhex("0609608648016503040201")
_RSA = bytes.fromhex("06092a864886f70d010101")
_SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
_ECDSA_WITH_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_NULL = b"\x05\x00"
_SIGNATURE_OIDS = {
    KeyType.RSA_2048: (_RSA, _SHA256_WITH_RSA),
    KeyType.RSA_3072: (_RSA, _SHA256_WITH_RSA),
    KeyType.ECDSA_P256: (_ECDSA_WITH_SHA256,),
}

# A certificate made here names nobody and outlives every test; nothing checks its dates but its
# holder's SWUpdate.
_NOT_BEFORE = datetime.datetime(2020, 1, 1)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59)  # RFC 5280, 4.1.2.5: no expiry


def load_certificate(pem: bytes, name: str = "certificate") -> x509.Certificate:
    """Read the first certificate of a PEM file. `name` is how an error calls it."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadKey(f"{name}: holds no certificate in PEM form") from error


def self_signed(key: SigningKey) -> x509.Certificate:
    """A certificate for `key`, always the same: what `swupdate -k` can be given."""
    check_package_key(key)
    half = key.half
    assert not isinstance(half, ed25519.Ed25519PrivateKey)  # what check_package_key has refused
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fotilla package signer")])
    usage = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.CODE_SIGNING]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public.half)
        .serial_number(int.from_bytes(key.public.key_hash[:8], "big") | 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        # The purposes that SWUpdate's --cert-purpose knows; the first is its default.
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .sign(half, SHA256(), ecdsa_deterministic=True if _is_ecdsa(key) else None)
    )


def sign_cms(content: bytes, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """Sign without attributes, so that the same content gives the same bytes (no signing time)."""
    if PublicKey.from_half(certificate.public_key(), "certificate").key_hash != key.public.key_hash:
        raise BadKey("the certificate is for another key than the one that signs")
    digest_algorithm = _der(_SEQUENCE, _SHA256 + _NULL)
    signature_algorithm = _ECDSA_WITH_SHA256 if _is_ecdsa(key) else _RSA + _NULL
    signer = _der(
        _SEQUENCE,
        _der(_INTEGER, b"\x01")
        + _der(_SEQUENCE, certificate.issuer.public_bytes() + _integer(certificate.serial_number))
        + digest_algorithm
        + _der(_SEQUENCE, signature_algorithm)
        + _der(_OCTETS, sign_package(key, content)),
    )
    signed_data = _der(
        _SEQUENCE,
        _der(_INTEGER, b"\x01")
        + _der(_SET, digest_algorithm)
        + _der(_SEQUENCE, _DATA)
        + _der(_CONTEXT_0, certificate.public_bytes(Encoding.DER))
        + _der(_SET, signer),
    )
    return _der(_SEQUENCE, _SIGNED_DATA + _der(_CONTEXT_0, signed_data))


def verify_cms(blob: bytes, content: bytes, key: PublicKey) -> None:
    """Raise `PackageRefused` unless `blob` holds exactly one signature, `key`'s over `content`."""
    signer = _Reader(_only_signer(blob))
    signer.take(_INTEGER)
    signer.skip()  # who it says it is: issuer and serial number, or a key identifier
    if _Reader(signer.take(_SEQUENCE).body).take(_OID).whole != _SHA256:
        raise _bad("the CMS digest is not SHA-256")
    signed = content
    if (attributes := signer.take_if(_CONTEXT_0)) is not None:
        _check_attributes(attributes.body, content)
        # RFC 5652, 5.4: signed is the SET OF as such, not the implicit tag that it travels under.
        signed = _der(_SET, attributes.body)
    algorithm = _Reader(signer.take(_SEQUENCE).body).take(_OID).whole
    if algorithm not in _SIGNATURE_OIDS.get(key.kind, ()):
        raise _bad(f"the CMS signature is not one that a {key.kind.value} key makes")
    if not verifies_package(key, signer.take(_OCTETS).body, signed):
        raise _bad("the CMS signature does not verify")


def _only_signer(blob: bytes) -> bytes:
    outer = _Reader(blob)
    info = _Reader(outer.take(_SEQUENCE).body)
    if info.take(_OID).whole != _SIGNED_DATA:
        raise _bad("the CMS blob is no SignedData")
    data = _Reader(_Reader(info.take(_CONTEXT_0).body).take(_SEQUENCE).body)
    data.take(_INTEGER)
    data.take(_SET)
    encapsulated = _Reader(data.take(_SEQUENCE).body)
    if encapsulated.take(_OID).whole != _DATA or not encapsulated.done:
        raise _bad("the CMS signature is not a detached one over data")
    data.take_if(_CONTEXT_0)  # certificates
    data.take_if(_CONTEXT_1)  # revocation lists
    signers = _Reader(data.take(_SET).body)
    signer = signers.take(_SEQUENCE).body
    if not signers.done:
        raise _bad("the CMS blob has more than one signer")
    return signer


def _check_attributes(body: bytes, content: bytes) -> None:
    """RFC 5652, 11.1 and 11.2: content type and digest must be there, and right."""
    values: dict[bytes, bytes] = {}
    for item in _Reader(body):
        attribute = _Reader(item.body)
        kind = attribute.take(_OID).whole
        if kind in values:
            raise _bad("a CMS attribute stands there twice")
        values[kind] = attribute.take(_SET).body
    if values.get(_CONTENT_TYPE) != _DATA:
        raise _bad("the signed CMS content type is not data")
    digest = _der(_OCTETS, hashlib.sha256(content).digest())
    if not hmac.compare_digest(values.get(_MESSAGE_DIGEST, b""), digest):
        raise _bad("the signed CMS digest is not that of sw-description")


class _Value(NamedTuple):
    tag: int
    body: bytes
    whole: bytes


class _Reader:
    """The values of a DER sequence, one after the other. Definite lengths, tags of one byte."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def __iter__(self) -> Iterator[_Value]:
        while not self.done:
            yield self.skip()

    def skip(self) -> _Value:
        data, start = self._data, self._at
        if len(data) - start < 2:
            raise _bad("the CMS blob is cut short")
        body, size = start + 2, data[start + 1]
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise _bad("the CMS blob is not DER")
            size = int.from_bytes(data[body : body + count], "big")
            body += count
        end = body + size
        if end > len(data):
            raise _bad("the CMS blob is cut short")
        self._at = end
        return _Value(data[start], data[body:end], data[start:end])

    def take(self, tag: int) -> _Value:
        value = self.skip()
        if value.tag != tag:
            raise _bad(f"the CMS blob has tag 0x{value.tag:02x} in place of 0x{tag:02x}")
        return value

    def take_if(self, tag: int) -> _Value | None:
        if not self.done and self._data[self._at] == tag:
            return self.skip()
        return None


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _integer(number: int) -> bytes:
    return _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _is_ecdsa(key: SigningKey) -> bool:
    return key.kind is KeyType.ECDSA_P256


def _bad(detail: str) -> PackageRefused:
    return PackageRefused(Reason.BAD_SIGNATURE, detail)
