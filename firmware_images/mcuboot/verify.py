"""The device-side verdict: checks 1 to 9 of `checks.py`, in that order.

Stricter than MCUboot in three places, each on the safe side: a second hash, key hash, signature or
security counter is refused instead of the last one winning; these records are refused in the
protected area, where no tool puts them; and flag bits that mean nothing yet are refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from firmware_images.errors import ImageRefused, Reason
from firmware_images.keys import KeyType, PublicKey, TrustedKeys
from firmware_images.mcuboot.format import (
    ADDRESS_LIMIT,
    DIGEST_SIZE,
    ENCRYPTION_TLVS,
    SIGNATURE_OF,
    Flag,
    Header,
    Tlv,
    flag_names,
    tlv_name,
)
from firmware_images.mcuboot.layout import (
    ImageInfo,
    Layout,
    Record,
    check_claim,
    locate_areas,
    read_header,
    read_records,
)
from firmware_images.source import ByteSource

__all__ = ["hash_region", "verify_image"]

_ENCRYPTED = Flag.ENCRYPTED_AES128 | Flag.ENCRYPTED_AES256
_COMPRESSED = Flag.COMPRESSED_LZMA1 | Flag.COMPRESSED_LZMA2 | Flag.COMPRESSED_ARM_THUMB
# ROM_FIXED names the slot the image was linked for; only a direct-xip bootloader compares it.
_SUPPORTED = Flag.RAM_LOAD | Flag.ROM_FIXED

_SIGNATURES = frozenset(SIGNATURE_OF.values())
_ALLOWED_UNPROTECTED = frozenset({Tlv.KEYHASH, Tlv.SHA256}) | _SIGNATURES
_DECIDE_ALONE: tuple[frozenset[Tlv], ...] = (
    frozenset({Tlv.SHA256}),
    frozenset({Tlv.KEYHASH}),
    _SIGNATURES,
    frozenset({Tlv.SEC_CNT}),
)
# Protected records of types unknown here are signed, so they are ignored as MCUboot does; but
# nothing that says who signed may hide among them.
_NEVER_PROTECTED = (
    _ALLOWED_UNPROTECTED | ENCRYPTION_TLVS | {Tlv.PUBKEY, Tlv.SHA384, Tlv.SHA512, Tlv.SIG_PURE}
)

_FIXED_LENGTH = {KeyType.ED25519: 64, KeyType.RSA_2048: 256, KeyType.RSA_3072: 384}
ECDSA_LONGEST = 72
"""DER of two 33-byte integers. imgtool before 1.5 padded every signature to it with zeros."""


def verify_image(
    source: ByteSource, keys: TrustedKeys, capacity: int, *, ram: range | None = None
) -> ImageInfo:
    """Verify as a bootloader would, or raise `ImageRefused` with the first check that fails.

    `capacity` is the slot minus its trailer. `ram` is the address range that a RAM_LOAD image may
    be copied to; without it only the 32-bit address space bounds it. Bytes after the image (the
    rest of a slot, a trailer) are not looked at.
    """
    header = read_header(source)
    areas = locate_areas(source, header, capacity)
    _check_flags(header)
    _check_load_address(header, ram)
    check_claim(header, areas)
    layout = Layout(
        header,
        areas,
        read_records(source, areas.protected_start, areas.protected_end),
        read_records(source, areas.protected_end, areas.end),
    )
    _check_records(layout.protected, layout.unprotected)
    digest = _check_digest(source, layout)
    key = _check_key(layout, keys)
    _check_signature(layout.unprotected, key, digest)
    return ImageInfo(
        version=header.version,
        header_size=header.header_size,
        image_size=header.image_size,
        total_size=areas.end,
        security_counter=layout.security_counter(),
        dependencies=layout.dependencies(),
        digest=digest,
        key_hash=key.key_hash,
        flags=header.flags,
        load_addr=header.load_addr,
    )


def hash_region(source: ByteSource, end: int) -> bytes:
    """SHA-256 over the first `end` bytes, piece by piece."""
    digest = hashlib.sha256()
    for chunk in source.chunks(0, end):
        digest.update(chunk)
    return digest.digest()


def _check_flags(header: Header) -> None:
    """Check 3."""
    flags = header.flags
    if flags & _ENCRYPTED:
        raise ImageRefused(Reason.ENCRYPTED, f"flags {flag_names(flags & _ENCRYPTED)}")
    if flags & _COMPRESSED:
        raise ImageRefused(Reason.COMPRESSED, f"flags {flag_names(flags & _COMPRESSED)}")
    # As plain numbers: `~` on an IntFlag forgets the bits that have no name.
    unsupported = int(flags) & ~int(_SUPPORTED)
    if unsupported:
        raise ImageRefused(Reason.UNSUPPORTED_FLAGS, flag_names(unsupported))


def _check_load_address(header: Header, ram: range | None) -> None:
    """Check 4. The header is copied too, so that the vector table lands where it was linked for."""
    if not header.flags & Flag.RAM_LOAD:
        return
    allowed = ram if ram is not None else range(ADDRESS_LIMIT)
    end = header.load_addr + header.payload_end
    if header.load_addr < allowed.start or end > allowed.stop:
        raise ImageRefused(
            Reason.BAD_LOAD_ADDRESS,
            f"0x{header.load_addr:08x} to 0x{end:08x} is not within "
            f"0x{allowed.start:08x} to 0x{allowed.stop:08x}",
        )


def _check_records(protected: Sequence[Record], unprotected: Sequence[Record]) -> None:
    """Check 6: allow-list, and one record where one decides."""
    for record in unprotected:
        if record.kind in ENCRYPTION_TLVS:
            raise ImageRefused(Reason.ENCRYPTED, f"has a key record {tlv_name(record.kind)}")
        if record.kind not in _ALLOWED_UNPROTECTED:
            raise ImageRefused(
                Reason.UNKNOWN_TLV, f"{tlv_name(record.kind)} is not allowed unprotected"
            )
    for record in protected:
        if record.kind in _NEVER_PROTECTED:
            raise ImageRefused(
                Reason.UNKNOWN_TLV, f"{tlv_name(record.kind)} is not allowed protected"
            )
    kinds = [record.kind for record in (*protected, *unprotected)]
    for group in _DECIDE_ALONE:
        found = [kind for kind in kinds if kind in group]
        if len(found) > 1:
            raise ImageRefused(
                Reason.DUPLICATE_TLV, " beside ".join(tlv_name(kind) for kind in found[:2])
            )


def _check_digest(source: ByteSource, layout: Layout) -> bytes:
    """Check 7."""
    claimed = layout.find(Tlv.SHA256)
    if claimed is None:
        raise ImageRefused(Reason.BAD_HASH, "the image carries no SHA-256")
    actual = hash_region(source, layout.areas.protected_end)
    if not hmac.compare_digest(claimed, actual):
        raise ImageRefused(
            Reason.BAD_HASH, f"claims {_short(claimed)}, the bytes have {_short(actual)}"
        )
    return actual


def _check_key(layout: Layout, keys: TrustedKeys) -> PublicKey:
    """Check 8: before any signature is looked at."""
    key_hash = layout.find(Tlv.KEYHASH)
    if key_hash is None:
        if not any(record.kind in _SIGNATURES for record in layout.unprotected):
            raise ImageRefused(Reason.UNSIGNED, "the image carries neither key hash nor signature")
        raise ImageRefused(Reason.UNKNOWN_KEY, "the image names no key")
    if len(key_hash) != DIGEST_SIZE:
        raise ImageRefused(
            Reason.UNKNOWN_KEY, f"a key hash of {len(key_hash)} bytes instead of {DIGEST_SIZE}"
        )
    key = keys.find(key_hash)
    if key is None:
        raise ImageRefused(
            Reason.UNKNOWN_KEY, f"signed with the key {_short(key_hash)}, which is not trusted"
        )
    return key


def _check_signature(unprotected: Sequence[Record], key: PublicKey, digest: bytes) -> None:
    """Check 9."""
    named = False
    for record in unprotected:
        if record.kind == Tlv.KEYHASH:
            named = True
        elif record.kind in _SIGNATURES:
            # The bootloader walks the records once; a signature that comes before its key is lost.
            if not named:
                raise ImageRefused(Reason.BAD_SIGNATURE, "stands before the key hash it needs")
            break
    else:
        raise ImageRefused(Reason.UNSIGNED, "the image names a key but carries no signature")
    expected = SIGNATURE_OF[key.kind]
    if record.kind != expected:
        raise ImageRefused(
            Reason.BAD_SIGNATURE,
            f"{tlv_name(record.kind)}, but the named key makes {tlv_name(expected)}",
        )
    signature = record.value
    if key.kind is KeyType.ECDSA_P256:
        signature = _strip_padding(signature)
    elif len(signature) != _FIXED_LENGTH[key.kind]:
        raise ImageRefused(
            Reason.BAD_SIGNATURE,
            f"{tlv_name(expected)} of {len(signature)} bytes instead of {_FIXED_LENGTH[key.kind]}",
        )
    if not key.verifies(signature, digest):
        raise ImageRefused(Reason.BAD_SIGNATURE, f"{tlv_name(expected)} does not verify")


def _strip_padding(signature: bytes) -> bytes:
    """Cut the zeros behind a DER signature; anything else there is left in and fails."""
    if not 2 <= len(signature) <= ECDSA_LONGEST:
        raise ImageRefused(
            Reason.BAD_SIGNATURE,
            f"ECDSA of {len(signature)} bytes, DER has at most {ECDSA_LONGEST}",
        )
    end = 2 + signature[1]
    return signature if signature[end:].strip(b"\0") else signature[:end]


def _short(digest: bytes) -> str:
    return f"{digest[:8].hex()}..." if len(digest) > 8 else digest.hex() or "nothing"
