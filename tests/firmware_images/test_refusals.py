"""One image for each way to be refused, and the order in which the checks speak."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from firmware_images import ImageRefused, Reason, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys
from firmware_images.mcuboot import (
    CHECKS,
    Dependency,
    ImageInfo,
    Version,
    check_policy,
    verify_image,
)

CAPACITY = 1 << 16
Craft = Callable[..., bytes]


def refusal(image: bytes, trusted: TrustedKeys, capacity: int = CAPACITY, **options: object):
    with pytest.raises(ImageRefused) as caught:
        verify_image(as_source(image), trusted, capacity, **options)
    return caught.value


def test_every_reason_has_its_check() -> None:
    assert set(CHECKS) == set(Reason) - {Reason.WRONG_DEVICE}  # an image names no device
    assert {check.number for check in CHECKS.values()} == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13}


def test_a_right_image_is_accepted(craft: Craft, trusted: TrustedKeys, key: SigningKey) -> None:
    image = craft(protected=[(0x50, struct.pack("<I", 7)), (0xA1, b"vendor"), (0x7F, b"later")])
    info = verify_image(as_source(image), trusted, CAPACITY)
    assert info.version == Version(1, 2, 3, 4)
    assert (info.header_size, info.image_size, info.total_size) == (64, 512, len(image))
    assert info.security_counter == 7
    assert info.key_hash == key.public.key_hash


def test_what_follows_the_image_does_not_matter(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft()
    padded = verify_image(as_source(image + b"\xff" * 99), trusted, CAPACITY)
    assert padded == verify_image(as_source(image), trusted, CAPACITY)


# -- check 1


@pytest.mark.parametrize("image", [b"\x7fELF", b"\x00" * 64, b"\xff" * 4096])
def test_bad_magic(image: bytes, trusted: TrustedKeys) -> None:
    assert refusal(image, trusted).reason is Reason.BAD_MAGIC


# -- check 2


@pytest.mark.parametrize("size", [0, 3, 4, 31, 32, 63, 64, 500, 576, 579, 580, 600])
def test_truncated(size: int, craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft()[:size], trusted).reason is Reason.TRUNCATED


def test_truncated_anywhere(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(payload=b"x", header_size=32, protected=[(0x50, bytes(4))])
    for size in range(len(image)):
        assert refusal(image[:size], trusted).reason is Reason.TRUNCATED, size


def test_too_large_by_one_byte(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft()
    verify_image(as_source(image), trusted, len(image))
    refused = refusal(image, trusted, capacity=len(image) - 1)
    assert refused.reason is Reason.TOO_LARGE
    assert str(len(image)) in refused.detail


def test_sizes_that_overflow_32_bits_are_too_large(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(image_size=0xFFFF_FFFF)
    assert refusal(image, trusted).reason is Reason.TOO_LARGE


# -- checks 2, 5 and 6: structure


def test_header_smaller_than_itself(craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(header_size=31), trusted).reason is Reason.BAD_STRUCTURE


def test_no_record_area(craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(area_magic=0x6906), trusted).reason is Reason.BAD_STRUCTURE


def test_protected_area_twice(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(protected=[(0x50, bytes(4))], area_magic=0x6908)
    assert refusal(image, trusted).reason is Reason.BAD_STRUCTURE


@pytest.mark.parametrize("claim", [0, 1, 3])
def test_area_shorter_than_its_header(claim: int, craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(area_claim=claim), trusted).reason is Reason.BAD_STRUCTURE


@pytest.mark.parametrize("claim", [0, 8, 11, 13, 0xFFFF])
def test_header_lies_about_protected_area(claim: int, craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(protected=[(0x50, bytes(4))], protected_claim=claim)
    assert refusal(image, trusted).reason is Reason.BAD_STRUCTURE


def test_header_claims_a_protected_area_that_is_not_there(
    craft: Craft, trusted: TrustedKeys
) -> None:
    assert refusal(craft(protected_claim=12), trusted).reason is Reason.BAD_STRUCTURE


@pytest.mark.parametrize("short_by", [1, 63, 66])
def test_record_beyond_its_area(short_by: int, craft: Craft, trusted: TrustedKeys) -> None:
    image = craft()
    claim = len(image) - 64 - 512 - short_by
    refused = refusal(craft(area_claim=claim), trusted)
    assert refused.reason is Reason.BAD_STRUCTURE


def test_counter_of_wrong_length(craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(protected=[(0x50, bytes(5))]), trusted).reason is Reason.BAD_STRUCTURE


def test_dependency_of_wrong_length(craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(protected=[(0x40, bytes(11))]), trusted).reason is Reason.BAD_STRUCTURE


# -- check 3


@pytest.mark.parametrize("flags", [0x1, 0x2, 0x10, 0x40, 0x1000, 0x8000_0000, 0x111])
def test_unsupported_flags(flags: int, craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(flags=flags), trusted).reason is Reason.UNSUPPORTED_FLAGS


def test_rom_fixed_is_supported(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(flags=0x100, load_addr=0x0800_0000)
    assert verify_image(as_source(image), trusted, CAPACITY).load_addr == 0x0800_0000


@pytest.mark.parametrize("flags", [0x4, 0x8, 0x204])
def test_encrypted_by_flag(flags: int, craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(flags=flags), trusted).reason is Reason.ENCRYPTED


@pytest.mark.parametrize("kind", [0x30, 0x31, 0x32, 0x33, 0x34])
def test_encrypted_by_key_record(kind: int, craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, k), (0x24, s), (kind, bytes(48))])
    assert refusal(image, trusted).reason is Reason.ENCRYPTED


@pytest.mark.parametrize("flags", [0x200, 0x400, 0x800, 0xC00])
def test_compressed(flags: int, craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(flags=flags), trusted).reason is Reason.COMPRESSED


# -- check 4


def test_load_address_beyond_the_address_space(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(flags=0x20, load_addr=0xFFFF_FFF0)
    assert refusal(image, trusted).reason is Reason.BAD_LOAD_ADDRESS


@pytest.mark.parametrize("load_addr", [0x1FFF_FFFF, 0x2000_0001])
def test_load_address_outside_ram(load_addr: int, craft: Craft, trusted: TrustedKeys) -> None:
    ram = range(0x2000_0000, 0x2000_0000 + 64 + 512)
    image = craft(flags=0x20, load_addr=0x2000_0000)
    verify_image(as_source(image), trusted, CAPACITY, ram=ram)
    image = craft(flags=0x20, load_addr=load_addr)
    assert refusal(image, trusted, ram=ram).reason is Reason.BAD_LOAD_ADDRESS


# -- check 6


@pytest.mark.parametrize("kind", [0x02, 0x11, 0x12, 0x25, 0x40, 0x50, 0x60, 0x75, 0xA1, 0x7F])
def test_record_not_allowed_unprotected(kind: int, craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, k), (0x24, s), (kind, bytes(4))])
    assert refusal(image, trusted).reason is Reason.UNKNOWN_TLV


@pytest.mark.parametrize("kind", [0x01, 0x02, 0x10, 0x11, 0x20, 0x22, 0x24, 0x25, 0x31])
def test_record_not_allowed_protected(kind: int, craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(protected=[(kind, bytes(32))]), trusted).reason is Reason.UNKNOWN_TLV


@pytest.mark.parametrize("twice", [0, 1, 2])
def test_hash_key_or_signature_twice(twice: int, craft: Craft, trusted: TrustedKeys) -> None:
    def records(*values: bytes) -> list[tuple[int, bytes]]:
        once = list(zip((0x10, 0x01, 0x24), values, strict=True))
        return [*once, once[twice]]

    assert refusal(craft(records=records), trusted).reason is Reason.DUPLICATE_TLV


def test_signatures_of_two_types(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, k), (0x24, s), (0x22, s)])
    assert refusal(image, trusted).reason is Reason.DUPLICATE_TLV


def test_two_security_counters(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(protected=[(0x50, bytes(4)), (0x50, b"\xff" * 4)])
    assert refusal(image, trusted).reason is Reason.DUPLICATE_TLV


# -- check 7


def test_no_hash(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x01, k), (0x24, s)])
    assert refusal(image, trusted).reason is Reason.BAD_HASH


@pytest.mark.parametrize("size", [0, 20, 31])
def test_shortened_hash(size: int, craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d[:size]), (0x01, k), (0x24, s)])
    assert refusal(image, trusted).reason is Reason.BAD_HASH


@pytest.mark.parametrize("offset", [20, 40, 64, 575, 584])
def test_flipped_bit_in_hashed_region(offset: int, craft: Craft, trusted: TrustedKeys) -> None:
    image = bytearray(craft(protected=[(0x50, bytes(4))]))
    image[offset] ^= 1
    assert refusal(bytes(image), trusted).reason is Reason.BAD_HASH


# -- check 8


def test_key_not_trusted(craft: Craft, trusted: TrustedKeys, stranger: SigningKey) -> None:
    refused = refusal(craft(signer=stranger), trusted)
    assert refused.reason is Reason.UNKNOWN_KEY
    assert stranger.public.key_hash[:8].hex() in refused.detail


def test_trusted_type_but_other_key(
    craft: Craft, keyring: dict[KeyType, SigningKey], stranger: SigningKey
) -> None:
    only = TrustedKeys.of([keyring[KeyType.ECDSA_P256]])
    assert refusal(craft(signer=stranger), only).reason is Reason.UNKNOWN_KEY


def test_key_not_named(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x24, s)])
    assert refusal(image, trusted).reason is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("change", [lambda k: k[:31], lambda k: b"", lambda k: k + b"\0"])
def test_key_hash_of_wrong_length(
    change: Callable[[bytes], bytes], craft: Craft, trusted: TrustedKeys
) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, change(k)), (0x24, s)])
    assert refusal(image, trusted).reason is Reason.UNKNOWN_KEY


# -- check 9


def test_unsigned(craft: Craft, trusted: TrustedKeys) -> None:
    assert refusal(craft(records=lambda d, k, s: [(0x10, d)]), trusted).reason is Reason.UNSIGNED
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, k)])
    assert refusal(image, trusted).reason is Reason.UNSIGNED


@pytest.mark.parametrize("kind", list(KeyType))
def test_flipped_bit_in_signature(
    kind: KeyType, craft: Craft, trusted: TrustedKeys, keyring: dict[KeyType, SigningKey]
) -> None:
    image = bytearray(craft(signer=keyring[kind]))
    verify_image(as_source(bytes(image)), trusted, CAPACITY)
    image[-1] ^= 1
    assert refusal(bytes(image), trusted).reason is Reason.BAD_SIGNATURE


def test_signature_of_other_type_than_the_key(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, k), (0x22, s)])
    refused = refusal(image, trusted)
    assert refused.reason is Reason.BAD_SIGNATURE
    assert "ED25519" in refused.detail


def test_signature_of_trusted_but_other_key(
    craft: Craft, trusted: TrustedKeys, stranger: SigningKey
) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x01, k), (0x24, stranger.sign(d))])
    assert refusal(image, trusted).reason is Reason.BAD_SIGNATURE


def test_signature_before_its_key(craft: Craft, trusted: TrustedKeys) -> None:
    image = craft(records=lambda d, k, s: [(0x10, d), (0x24, s), (0x01, k)])
    assert refusal(image, trusted).reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + b"\0", lambda s: b""])
@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.RSA_2048, KeyType.RSA_3072])
def test_signature_of_wrong_length(
    kind: KeyType,
    change: Callable[[bytes], bytes],
    craft: Craft,
    trusted: TrustedKeys,
    keyring: dict[KeyType, SigningKey],
) -> None:
    tlv = {KeyType.ED25519: 0x24, KeyType.RSA_2048: 0x20, KeyType.RSA_3072: 0x23}[kind]
    image = craft(
        signer=keyring[kind],
        records=lambda d, k, s: [(0x10, d), (0x01, k), (tlv, change(s))],
    )
    refused = refusal(image, trusted)
    assert refused.reason is Reason.BAD_SIGNATURE
    assert "bytes" in refused.detail


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        (lambda s: s.ljust(72, b"\0"), True),  # as imgtool padded before 1.5
        (lambda s: s.ljust(73, b"\0"), False),
        (lambda s: s.ljust(72, b"\1") if len(s) < 72 else s[:-1], False),
        (lambda s: s[:-1], False),
        (lambda s: s[:1], False),
        (lambda s: b"", False),
    ],
)
def test_ecdsa_padding(
    change: Callable[[bytes], bytes],
    accepted: bool,
    craft: Craft,
    trusted: TrustedKeys,
    keyring: dict[KeyType, SigningKey],
) -> None:
    image = craft(
        signer=keyring[KeyType.ECDSA_P256],
        records=lambda d, k, s: [(0x10, d), (0x01, k), (0x22, change(s))],
    )
    if accepted:
        verify_image(as_source(image), trusted, CAPACITY)
    else:
        assert refusal(image, trusted).reason is Reason.BAD_SIGNATURE


# -- order: an image with two faults is refused for the one that is checked first


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"magic": 1, "image_size": 1 << 30}, Reason.BAD_MAGIC),
        ({"image_size": 1 << 30, "flags": 0x4}, Reason.TOO_LARGE),
        ({"flags": 0x24, "load_addr": 0xFFFF_FFFF}, Reason.ENCRYPTED),
        (
            {"flags": 0x20, "load_addr": 0xFFFF_FFFF, "protected_claim": 8},
            Reason.BAD_LOAD_ADDRESS,
        ),
        ({"protected_claim": 8, "records": lambda d, k, s: [(0x99, d)]}, Reason.BAD_STRUCTURE),
        ({"records": lambda d, k, s: [(0x99, d), (0x10, s)]}, Reason.UNKNOWN_TLV),
        ({"records": lambda d, k, s: [(0x10, k), (0x01, d)]}, Reason.BAD_HASH),
        ({"records": lambda d, k, s: [(0x10, d), (0x01, d), (0x24, d)]}, Reason.UNKNOWN_KEY),
        (
            {
                "records": lambda d, k, s: [(0x10, d), (0x01, k), (0x24, d)],
                "protected": [(0x50, b"")],
            },
            Reason.BAD_SIGNATURE,
        ),
    ],
)
def test_order(
    faults: dict[str, object], expected: Reason, craft: Craft, trusted: TrustedKeys
) -> None:
    assert refusal(craft(**faults), trusted).reason is expected


# -- checks 10, 12 and 13


@pytest.fixture
def info(craft: Craft, trusted: TrustedKeys) -> Callable[..., ImageInfo]:
    def make(counter: int | None = None, *dependencies: Dependency) -> ImageInfo:
        protected = [(0x40, dependency.encode()) for dependency in dependencies]
        if counter is not None:
            protected.append((0x50, struct.pack("<I", counter)))
        return verify_image(as_source(craft(protected=protected)), trusted, CAPACITY)

    return make


def policy_refusal(info: ImageInfo, **situation: object) -> Reason:
    with pytest.raises(ImageRefused) as caught:
        check_policy(info, **{"security_counter": 0, "running": Version(1), **situation})
    return caught.value.reason


def test_low_counter(info: Callable[..., ImageInfo]) -> None:
    check_policy(info(7), security_counter=7, running=None)
    assert policy_refusal(info(7), security_counter=8) is Reason.LOW_COUNTER


def test_missing_counter(info: Callable[..., ImageInfo]) -> None:
    check_policy(info(), security_counter=0, running=None)
    assert policy_refusal(info(), require_counter=True) is Reason.MISSING_COUNTER
    assert policy_refusal(info(), security_counter=1) is Reason.MISSING_COUNTER


def test_unmet_dependency(info: Callable[..., ImageInfo]) -> None:
    needs = info(None, Dependency(0, Version(1)), Dependency(0, Version(1, 2)))
    check_policy(needs, security_counter=0, running=Version(1, 2))
    assert policy_refusal(needs, running=Version(1, 1, 9)) is Reason.UNMET_DEPENDENCY
    assert policy_refusal(needs, running=None) is Reason.UNMET_DEPENDENCY
    other = info(None, Dependency(1, Version(0)))
    assert policy_refusal(other, running=Version(9)) is Reason.UNMET_DEPENDENCY


def test_low_version(info: Callable[..., ImageInfo]) -> None:
    check_policy(info(), security_counter=0, running=Version(2))
    check_policy(info(), security_counter=0, running=None, prevent_downgrade=True)
    # The build number does not count, as in a default MCUboot.
    newer_build = Version(1, 2, 3, 99)
    check_policy(info(), security_counter=0, running=newer_build, prevent_downgrade=True)
    low = policy_refusal(info(), running=Version(1, 2, 4), prevent_downgrade=True)
    assert low is Reason.LOW_VERSION


def test_policy_order(info: Callable[..., ImageInfo]) -> None:
    all_wrong = info(1, Dependency(3, Version(9)))
    situation = {"running": Version(2), "prevent_downgrade": True}
    assert policy_refusal(all_wrong, security_counter=2, **situation) is Reason.LOW_COUNTER
    assert policy_refusal(all_wrong, security_counter=1, **situation) is Reason.UNMET_DEPENDENCY
