"""Checksums against published values, and the way ThingsBoard writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.thingsboard.checksums import ALGORITHMS, UnknownAlgorithm, new_checksum

# CRC-32 of "123456789" is the check value CBF43926 of every catalogue. MurmurHash3 with seed 0 of
# "hello" is 248bfa47 (x86, 32 bits) and cbd8a7b341bd9b02 5b1e906a48ae1d19 (x64, 128 bits) in the
# test vectors of the function's ports. Both are shown in little-endian order of their bytes.
VECTORS = {
    "MD5": (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
    "SHA256": (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    "SHA384": (
        b"abc",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
        "8086072ba1e7cc2358baeca134c825a7",
    ),
    "SHA512": (
        b"abc",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
    "CRC32": (b"123456789", "2639f4cb"),
    "MURMUR3_32": (b"hello", "47fa8b24"),
    "MURMUR3_128": (b"hello", "029bbd41b3a7d8cb191dae486a901e5b"),
}


def test_every_algorithm_has_a_vector() -> None:
    assert VECTORS.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_published_values(algorithm: str) -> None:
    data, expected = VECTORS[algorithm]
    checksum = new_checksum(algorithm.lower())
    checksum.update(data)
    assert checksum.hexdigest() == expected


@given(st.sampled_from(sorted(ALGORITHMS)), st.lists(st.binary(max_size=70), max_size=8))
def test_portions_make_no_difference(algorithm: str, portions: list[bytes]) -> None:
    whole, parts = new_checksum(algorithm), new_checksum(algorithm)
    whole.update(b"".join(portions))
    for portion in portions:
        parts.update(portion)
    assert parts.hexdigest() == whole.hexdigest()


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(UnknownAlgorithm, match="ROT13"):
        new_checksum("ROT13")
