"""Keys: what is taken for one, and that signatures are what they say."""

from __future__ import annotations

import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from firmware_images import BadKey, ImageRefused, Reason
from firmware_images.keys import (
    KeyType,
    PublicKey,
    SigningKey,
    TrustedKeys,
    generate_key,
    load_signing_key,
)

Keyring = dict[KeyType, SigningKey]
DIGEST = bytes(range(32))


def private_pem(half: object, encryption: object = None) -> bytes:
    return half.private_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )


@pytest.mark.parametrize("kind", list(KeyType))
def test_round_trip(kind: KeyType, keyring: Keyring) -> None:
    key = keyring[kind]
    again = load_signing_key(key.to_pem())
    assert again.public == key.public == PublicKey.from_pem(key.public.to_pem())
    assert again.kind is kind
    assert key.public.verifies(again.sign(DIGEST), DIGEST)
    assert not key.public.verifies(again.sign(DIGEST), bytes(32))
    assert not key.public.verifies(b"", DIGEST)


def test_private_key_given_as_public(key: SigningKey) -> None:
    assert PublicKey.from_pem(key.to_pem()) == key.public


def test_public_key_given_as_private(key: SigningKey) -> None:
    with pytest.raises(BadKey, match="mine.pem: holds only a public key"):
        load_signing_key(key.public.to_pem(), "mine.pem")


@pytest.mark.parametrize(
    ("half", "words"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
        (rsa.generate_private_key(65537, 1024), "1024"),
        (x25519.X25519PrivateKey.generate(), "X25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
        (dsa.generate_private_key(1024), "DSA"),
    ],
)
def test_key_of_another_kind(half: object, words: str) -> None:
    pem = private_pem(half)
    with pytest.raises(BadKey, match=words) as caught:
        PublicKey.from_pem(pem, "k.pem")
    assert str(caught.value).startswith("k.pem: ")
    with pytest.raises(BadKey, match=words):
        load_signing_key(pem)
    public = half.public_key().public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(BadKey, match=words):
        PublicKey.from_pem(public)


def test_key_with_passphrase() -> None:
    encryption = serialization.BestAvailableEncryption(b"secret")
    pem = private_pem(ec.generate_private_key(ec.SECP256R1()), encryption)
    with pytest.raises(BadKey, match="passphrase"):
        load_signing_key(pem)


@pytest.mark.parametrize("pem", [b"", b"\x00\xff", b"-----BEGIN", b"-----BEGIN PUBLIC KEY-----"])
def test_no_key_at_all(pem: bytes) -> None:
    with pytest.raises(BadKey):
        PublicKey.from_pem(pem)


@given(
    st.binary(max_size=300), st.sampled_from([b"PUBLIC KEY", b"PRIVATE KEY", b"RSA PRIVATE KEY"])
)
def test_any_bytes_are_a_key_or_bad(noise: bytes, label: bytes) -> None:
    for pem in (noise, b"-----BEGIN " + label + b"-----\n" + noise + b"\n-----END " + label):
        with pytest.raises(BadKey):
            PublicKey.from_pem(pem)


@given(position=st.integers(28, 110), value=st.integers(0, 255))
def test_damaged_pem_is_a_key_or_bad(key: SigningKey, position: int, value: int) -> None:
    pem = bytearray(key.public.to_pem())
    pem[position % len(pem)] = value
    try:
        PublicKey.from_pem(bytes(pem))
    except BadKey as error:
        assert str(error).startswith("key: ")


def test_trusted_keys_are_a_set(keyring: Keyring) -> None:
    keys = list(keyring.values())
    forward, backward = TrustedKeys.of(keys), TrustedKeys.of([*reversed(keys), keys[0]])
    assert forward == backward
    assert hash(forward) == hash(backward)
    assert TrustedKeys.from_pem(*(key.to_pem() for key in keys)) == forward
    assert all(forward.find(key.public.key_hash) == key.public for key in keys)
    assert forward.find(bytes(32)) is None


def test_trusting_nobody_is_a_mistake() -> None:
    with pytest.raises(BadKey, match="no trusted key"):
        TrustedKeys(())


def test_what_crosses_a_process_border(trusted: TrustedKeys) -> None:
    assert pickle.loads(pickle.dumps(trusted)) == trusted
    refused = pickle.loads(pickle.dumps(ImageRefused(Reason.BAD_HASH, "because")))
    assert (refused.reason, refused.detail) == (Reason.BAD_HASH, "because")
    assert str(refused) == "bad hash: because"


def test_repr_hides_the_secret() -> None:
    key = generate_key(KeyType.ED25519)
    assert repr(key) == "SigningKey(public=PublicKey(kind=<KeyType.ED25519: 'ed25519'>))"
