"""The builder: deterministic, and it says what cannot be built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_images import BadVersion, ByteSource, CannotBuild, ImageRefused, as_source
from firmware_images.keys import KeyType, SigningKey, TrustedKeys
from firmware_images.mcuboot import (
    Dependency,
    Version,
    build_image,
    decode_image,
    resign_image,
    verify_image,
)

CAPACITY = 1 << 20
versions = st.builds(
    Version,
    st.integers(0, 0xFF),
    st.integers(0, 0xFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
)


@pytest.mark.parametrize("kind", [KeyType.ECDSA_P256, KeyType.ED25519])
def test_same_arguments_same_bytes(kind: KeyType, keyring: dict[KeyType, SigningKey]) -> None:
    first, second = (
        build_image(b"app", version=Version(1), key=keyring[kind], security_counter=1)
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("kind", [KeyType.RSA_2048, KeyType.RSA_3072])
def test_rsa_differs_in_the_signature_alone(
    kind: KeyType, keyring: dict[KeyType, SigningKey]
) -> None:
    first, second = (build_image(b"app", version=Version(1), key=keyring[kind]) for _ in range(2))
    signature = keyring[kind].sign(bytes(32))
    assert first[: -len(signature)] == second[: -len(signature)]
    assert len(first) == len(second)


@settings(deadline=None, max_examples=60)
@given(
    payload=st.binary(min_size=1, max_size=2000),
    version=versions,
    counter=st.none() | st.integers(0, 0xFFFF_FFFF),
    needs=st.lists(st.builds(Dependency, st.integers(0, 255), versions), max_size=4),
    header_size=st.integers(32, 2048),
)
def test_what_goes_in_comes_out(
    key: SigningKey,
    trusted: TrustedKeys,
    payload: bytes,
    version: Version,
    counter: int | None,
    needs: list[Dependency],
    header_size: int,
) -> None:
    image = build_image(
        payload,
        version=version,
        key=key,
        security_counter=counter,
        dependencies=needs,
        header_size=header_size,
    )
    info = verify_image(as_source(image), trusted, len(image))
    assert info.version == version
    assert info.security_counter == counter
    assert info.dependencies == tuple(needs)
    assert image[info.header_size : info.header_size + info.image_size] == payload


class Pieces:
    """A source that hands out a byte at a time and counts how often the whole was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.longest_read = 0

    def __len__(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        self.longest_read = max(self.longest_read, size)
        return self.data[offset : offset + size]

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        for offset in range(start, end):
            yield self.data[offset : offset + 1]


def test_verification_never_reads_the_payload_at_once(
    key: SigningKey, trusted: TrustedKeys
) -> None:
    image = build_image(b"x" * 5000, version=Version(1), key=key, security_counter=1)
    source = Pieces(image)
    as_protocol: ByteSource = source
    assert verify_image(as_protocol, trusted, CAPACITY).total_size == len(image)
    assert source.longest_read < 200


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 200_000), (5, 70_000), (150_000, 10**9)])
def test_memory_source(start: int, end: int) -> None:
    data = bytes(range(256)) * 700
    source = as_source(bytearray(data))
    assert b"".join(source.chunks(start, end)) == data[start:end]
    assert source.read(start, 40) == data[start : start + 40]
    assert len(source) == len(data)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"payload": b""}, "payload"),
        ({"header_size": 31}, "header size 31"),
        ({"header_size": 0x10000}, "header size 65536"),
        ({"security_counter": -1}, "counter -1"),
        ({"security_counter": 1 << 32}, "counter 4294967296"),
        ({"load_addr": 1 << 32}, "load address"),
        ({"dependencies": [Dependency(256, Version(1))]}, "image 256"),
        ({"dependencies": [Dependency(0, Version(1))] * 5000}, "16-bit"),
        ({"capacity": 100}, "more than fit"),
    ],
)
def test_what_cannot_be_built(change: dict[str, object], names: str) -> None:
    with pytest.raises(CannotBuild, match=names):
        build_image(**{"payload": b"app", "version": Version(1), **change})  # type: ignore[arg-type]


def test_resigning_what_is_no_image(key: SigningKey) -> None:
    with pytest.raises(ImageRefused):
        resign_image(b"not an image at all", key)


def test_resigning_drops_what_stood_behind(key: SigningKey) -> None:
    image = build_image(b"app", version=Version(1))
    signed = resign_image(image + b"\xff" * 50, key)
    assert decode_image(as_source(signed)).areas.end == len(signed)


def test_resigning_an_encrypted_image(craft, key: SigningKey) -> None:
    with pytest.raises(CannotBuild, match="encrypted"):
        resign_image(craft(flags=0x4), key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", Version(1)),
        ("1.2", Version(1, 2)),
        ("1.2.3", Version(1, 2, 3)),
        ("255.255.65535+4294967295", Version(255, 255, 65535, 4294967295)),
        (" 0.0.0 ", Version(0)),
    ],
)
def test_version_texts(text: str, expected: Version) -> None:
    assert Version.parse(text) == expected
    assert Version.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "v1", "1.", "1.2+3", "1.2.3-4", "256", "0.256", "0.0.65536", "-1", "1.2.3+", "١"]
)
def test_version_texts_refused(text: str) -> None:
    with pytest.raises(BadVersion):
        Version.parse(text)


@given(versions)
def test_version_round_trip(version: Version) -> None:
    assert Version.decode(version.encode()) == version
    assert Version.parse(str(version)) == version
