"""imgtool as the oracle: what one of the two builds, the other accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imgtool.image
import imgtool.keys
import pytest
from imgtool.version import decode_version

from firmware_images import ImageRefused, Reason, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys
from firmware_images.mcuboot import (
    Dependency,
    Flag,
    Version,
    build_image,
    decode_image,
    resign_image,
    verify_image,
)

CAPACITY = 1 << 18
PAYLOAD = bytes(range(256)) * 37 + b"odd"
TRAILER = 128 * 3 * 8 + 4 * 8 + 16  # status, four fields and the magic, at align 8
OK = imgtool.image.VerifyResult.OK

Keyring = dict[KeyType, SigningKey]
Make = Callable[..., bytes]


@pytest.fixture
def imgtool_key(tmp_path: Path, keyring: Keyring) -> Callable[[KeyType], object]:
    def load(kind: KeyType) -> object:
        path = tmp_path / f"{kind.value}.pem"
        path.write_bytes(keyring[kind].to_pem())
        return imgtool.keys.load(str(path))

    return load


@pytest.fixture
def imgtool_build(tmp_path: Path, imgtool_key: Callable[[KeyType], object]) -> Make:
    def make(kind: KeyType | None, *, deps: object = None, enckey: object = None, **options):
        settings = {"header_size": 0x200, "pad_header": True, "align": 8, **options}
        image = imgtool.image.Image(version=decode_version("1.2.3+4"), **settings)
        raw, out = tmp_path / "raw.bin", tmp_path / "out.bin"
        raw.write_bytes(PAYLOAD)
        image.load(str(raw))
        signer = imgtool_key(kind) if kind is not None else None
        image.create(signer, "hash", enckey, dependencies=deps)
        image.save(str(out))
        return out.read_bytes()

    return make


@pytest.mark.parametrize("kind", list(KeyType))
@pytest.mark.parametrize("bare", [True, False])
def test_imgtool_accepts_ours(
    kind: KeyType,
    bare: bool,
    keyring: Keyring,
    tmp_path: Path,
    imgtool_key: Callable[[KeyType], object],
) -> None:
    extras = {"security_counter": 9, "dependencies": [Dependency(0, Version(1, 0, 7))]}
    image = build_image(
        PAYLOAD, version=Version(1, 2, 3, 4), key=keyring[kind], **({} if bare else extras)
    )
    path = tmp_path / "ours.bin"
    path.write_bytes(image)
    verdict, version, digest, _ = imgtool.image.Image.verify(str(path), imgtool_key(kind))
    assert verdict is OK
    assert version == (1, 2, 3, 4)
    info = verify_image(as_source(image), TrustedKeys.of([keyring[kind]]), CAPACITY)
    assert info.digest == digest

    path.write_bytes(image[:600] + b"!" + image[601:])
    verdict, *_ = imgtool.image.Image.verify(str(path), imgtool_key(kind))
    assert verdict is not OK


@pytest.mark.parametrize("kind", list(KeyType))
def test_ours_accepts_imgtools(
    kind: KeyType, keyring: Keyring, trusted: TrustedKeys, imgtool_build: Make
) -> None:
    deps = {"images": [0], "versions": [decode_version("1.0.7+2")]}
    image = imgtool_build(kind, deps=deps, security_counter=9)
    info = verify_image(as_source(image), trusted, CAPACITY)
    assert info.version == Version(1, 2, 3, 4)
    assert info.security_counter == 9
    assert info.dependencies == (Dependency(0, Version(1, 0, 7, 2)),)
    assert info.image_size == len(PAYLOAD)
    assert info.total_size == len(image)
    assert info.key_hash == keyring[kind].public.key_hash


@pytest.mark.parametrize("kind", [KeyType.ED25519, None])
@pytest.mark.parametrize("header_size", [0x20, 0x200, 0x400])
def test_byte_for_byte_the_same(
    kind: KeyType | None, header_size: int, keyring: Keyring, imgtool_build: Make
) -> None:
    """Where the signature leaves no choice, both write the very same file."""
    deps = {"images": [0, 2], "versions": [decode_version("1.0.7"), decode_version("2")]}
    theirs = imgtool_build(kind, deps=deps, security_counter=9, header_size=header_size)
    ours = build_image(
        PAYLOAD,
        version=Version(1, 2, 3, 4),
        key=keyring[kind] if kind is not None else None,
        security_counter=9,
        dependencies=[Dependency(0, Version(1, 0, 7)), Dependency(2, Version(2))],
        header_size=header_size,
    )
    assert ours == theirs


@pytest.mark.parametrize("kind", list(KeyType))
def test_resigned_image_of_imgtool(
    kind: KeyType, keyring: Keyring, trusted: TrustedKeys, imgtool_build: Make
) -> None:
    theirs = imgtool_build(KeyType.ED25519, security_counter=9, vid="example.com", cid="board")
    again = resign_image(theirs, keyring[kind])
    info = verify_image(as_source(again), TrustedKeys.of([keyring[kind]]), CAPACITY)
    assert info.digest == verify_image(as_source(theirs), trusted, CAPACITY).digest
    assert decode_image(as_source(again)).protected == decode_image(as_source(theirs)).protected


def test_ram_load_image(trusted: TrustedKeys, imgtool_build: Make, keyring: Keyring) -> None:
    image = imgtool_build(KeyType.ED25519, load_addr=0x2000_0000)
    info = verify_image(as_source(image), trusted, CAPACITY)
    assert info.flags == Flag.RAM_LOAD
    assert info.load_addr == 0x2000_0000
    ours = build_image(
        PAYLOAD,
        version=Version(1, 2, 3, 4),
        key=keyring[KeyType.ED25519],
        load_addr=0x2000_0000,
    )
    assert ours == image


def test_non_bootable_image(trusted: TrustedKeys, imgtool_build: Make) -> None:
    image = imgtool_build(KeyType.ED25519, non_bootable=True)
    with pytest.raises(ImageRefused, match="NON_BOOTABLE") as caught:
        verify_image(as_source(image), trusted, CAPACITY)
    assert caught.value.reason is Reason.UNSUPPORTED_FLAGS


@pytest.mark.parametrize("kind", [KeyType.ECDSA_P256, KeyType.RSA_2048])
def test_encrypted_image(
    kind: KeyType,
    trusted: TrustedKeys,
    keyring: Keyring,
    tmp_path: Path,
    imgtool_build: Make,
) -> None:
    path = tmp_path / "enc.pem"
    path.write_bytes(keyring[kind].public.to_pem())
    image = imgtool_build(KeyType.ED25519, enckey=imgtool.keys.load(str(path)))
    with pytest.raises(ImageRefused) as caught:
        verify_image(as_source(image), trusted, CAPACITY)
    assert caught.value.reason is Reason.ENCRYPTED


def test_padded_image_fits_and_its_trailer_is_left_alone(
    trusted: TrustedKeys, imgtool_build: Make
) -> None:
    image = imgtool_build(KeyType.ED25519, pad=True, slot_size=0x8000)
    assert len(image) == 0x8000
    assert set(image[-TRAILER:-16]) == {0xFF}
    info = verify_image(as_source(image), trusted, 0x8000 - TRAILER)
    assert info.total_size < 0x8000
