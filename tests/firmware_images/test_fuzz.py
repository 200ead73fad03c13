"""Any bytes verify or are refused; no other exception, and no forged image."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firmware_images import ImageRefused, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys
from firmware_images.mcuboot import (
    Dependency,
    Version,
    build_image,
    decode_image,
    resign_image,
    verify_image,
)

CAPACITY = 4096
MAGIC = struct.pack("<I", 0x96F3B83D)
fuzz = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="session", params=list(KeyType))
def valid(request: pytest.FixtureRequest, keyring: dict[KeyType, SigningKey]) -> bytes:
    return build_image(
        b"firmware" * 8,
        version=Version(1, 2, 3, 4),
        key=keyring[request.param],
        security_counter=5,
        dependencies=[Dependency(0, Version(1))],
        header_size=48,
    )


@fuzz
@given(st.binary(max_size=200))
@example(b"")
@example(MAGIC)
def test_any_bytes(trusted: TrustedKeys, data: bytes) -> None:
    for candidate in (data, MAGIC + data):
        with pytest.raises(ImageRefused):
            verify_image(as_source(candidate), trusted, CAPACITY)


@fuzz
@given(
    header_size=st.integers(0, 80),
    protected_size=st.integers(0, 80),
    image_size=st.integers(0, 200) | st.integers(0, 0xFFFF_FFFF),
    flags=st.sampled_from([0, 0x20, 0x100, 0x4, 0x400]) | st.integers(0, 0xFFFF_FFFF),
    load_addr=st.integers(0, 0xFFFF_FFFF),
    body=st.lists(
        st.sampled_from([b"\x07\x69", b"\x08\x69", b"\x10\x00\x20\x00", b"\x01\x00\x20\x00"])
        | st.binary(max_size=40),
        max_size=12,
    ).map(b"".join),
)
def test_headers_with_any_claims(
    trusted: TrustedKeys,
    header_size: int,
    protected_size: int,
    image_size: int,
    flags: int,
    load_addr: int,
    body: bytes,
) -> None:
    fields = (load_addr, header_size, protected_size, image_size, flags)
    image = MAGIC + struct.pack("<IHHII12x", *fields) + body
    with pytest.raises(ImageRefused):
        verify_image(as_source(image), trusted, CAPACITY)
    try:
        layout = decode_image(as_source(image))
        layout.security_counter()
        layout.dependencies()
    except ImageRefused:
        pass


@fuzz
@given(data=st.data())
def test_mutations_of_valid_images(valid: bytes, trusted: TrustedKeys, data: st.DataObject) -> None:
    """Changed anywhere, an image is refused, unless the change is behind its end."""
    image = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        start = data.draw(st.integers(0, len(image)), "start")
        end = data.draw(st.integers(start, min(len(image), start + 8)), "end")
        image[start:end] = data.draw(st.binary(max_size=8), "instead")
    try:
        info = verify_image(as_source(bytes(image)), trusted, CAPACITY)
    except ImageRefused:
        return
    assert bytes(image[: info.total_size]) == valid


@pytest.mark.parametrize("bit", range(8))
def test_every_single_bit_counts(valid: bytes, trusted: TrustedKeys, bit: int) -> None:
    if len(valid) > 400:  # the RSA images: every bit of them would take seconds
        positions = [*range(0, 200, 3), *range(200, len(valid), 17)]
    else:
        positions = list(range(len(valid)))
    for position in positions:
        image = bytearray(valid)
        image[position] ^= 1 << bit
        with pytest.raises(ImageRefused):
            verify_image(as_source(bytes(image)), trusted, CAPACITY)


@fuzz
@given(st.binary(max_size=200))
def test_resigning_any_bytes(key: SigningKey, data: bytes) -> None:
    try:
        signed = resign_image(MAGIC + data, key)
    except (ImageRefused, ValueError):
        return
    decode_image(as_source(signed))
