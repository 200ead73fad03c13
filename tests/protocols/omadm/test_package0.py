"""Package 0: the vector, what a device must refuse, and the special nonce."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.nonces import SPECIAL_NONCES
from protocols.omadm.package0 import (
    MAX_PACKAGE,
    Notification,
    NotificationError,
    UiMode,
    Verified,
    decode,
    encode,
    session_text,
    verify,
)
from tests.protocols.omadm.musts import musts

VECTOR = (Path(__file__).parent / "vectors" / "pkg0.bin").read_bytes()
USER, PASSWORD = "funambol", "srvpwd"

notifications = st.builds(
    Notification,
    session_id=st.integers(1, 0xFFFF),
    server_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    ui_mode=st.sampled_from(UiMode),
    initiator=st.booleans(),
    vendor=st.binary(max_size=64),
)


@musts("DM-001", "DM-002", "DM-003")
def test_the_vector() -> None:
    found = decode(VECTOR)
    assert found == Notification(0x1F, USER, UiMode.BACKGROUND, initiator=True)
    assert found.version == 11
    assert found.session_text == "1F"
    assert verify(VECTOR, USER, PASSWORD, b"") is Verified.GENUINE
    assert encode(found, USER, PASSWORD, b"") == VECTOR
    assert VECTOR[16:24].hex() == "02d8000000001f08"


@musts("DM-004")
@pytest.mark.parametrize(
    ("session_id", "text"), [(1, "1"), (0x1F, "1F"), (0xABCD, "ABCD"), (0x0A0, "A0")]
)
def test_session_ids_in_messages(session_id: int, text: str) -> None:
    assert session_text(session_id) == text


@musts("DM-002")
@given(notifications, st.binary(max_size=20))
def test_there_and_back(notification: Notification, nonce: bytes) -> None:
    data = encode(notification, notification.server_id, PASSWORD, nonce)
    assert decode(data) == notification
    assert verify(data, notification.server_id, PASSWORD, nonce) is Verified.GENUINE


@musts("DM-003")
@given(notifications, st.integers(0, 1 << 16), st.integers(1, 255))
def test_a_changed_octet_is_noticed(notification: Notification, at: int, bits: int) -> None:
    data = bytearray(encode(notification, USER, PASSWORD, b"n"))
    data[at % len(data)] ^= bits
    assert not verify(bytes(data), USER, PASSWORD, b"n")


@musts("DM-008")
@pytest.mark.parametrize("special", SPECIAL_NONCES)
def test_the_special_nonce_is_told_from_the_stored_one(special: bytes) -> None:
    data = encode(Notification(1, USER), USER, PASSWORD, special)
    found = verify(data, USER, PASSWORD, b"stored")
    assert found is Verified.RESYNCHRONISE
    assert found
    assert verify(data, USER, PASSWORD, special) is Verified.GENUINE
    assert verify(data, USER, "wrong", b"stored") is Verified.FORGED
    assert not verify(data, USER, "wrong", b"stored")


def _with_header(bits: int, rest: bytes) -> bytes:
    return bytes(16) + bits.to_bytes(8, "big") + rest


@musts("DM-001", "DM-004")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "only 0 octets"),
        (VECTOR[:23], "only 23 octets"),
        (VECTOR[:-1], "7 octets, 8 announced"),
        (_with_header(12 << 54 | 1 << 8 | 1, b"s"), "version 12"),  # DM 1.2 MUST carry 11
        (_with_header(0 << 54 | 1 << 8 | 1, b"s"), "version 0"),
        (_with_header(11 << 54 | 0 << 8 | 1, b"s"), "session id 0"),
        (_with_header(11 << 54 | 1 << 8 | 0, b""), "0 octets, 0 announced"),
        (_with_header(11 << 54 | 1 << 8 | 1, b"\xff"), "no UTF-8"),
        (VECTOR + bytes(MAX_PACKAGE), "octets"),
    ],
)
def test_what_is_no_package_0(data: bytes, why: str) -> None:
    with pytest.raises(NotificationError, match=why):
        decode(data)


@musts("DM-002")
def test_future_bits_are_not_looked_at() -> None:
    data = bytearray(VECTOR)
    data[18:21] = b"\xff\xff\xff"
    assert decode(bytes(data)) == decode(VECTOR)


@given(st.binary(max_size=80))
def test_any_octets_are_a_package_0_or_refused(data: bytes) -> None:
    for octets in (data, VECTOR[:16] + data, VECTOR[:18] + data):
        try:
            found = decode(octets)
        except NotificationError as error:
            assert str(error)
        else:
            assert decode(encode(found, "u", "p", b"")) == found


@musts("DM-004")
@pytest.mark.parametrize(
    "notification",
    [
        Notification(0, "s"),
        Notification(0x10000, "s"),
        Notification(1, ""),
        Notification(1, "s" * 256),
        Notification(1, "s", version=1 << 10),
        Notification(1, "s", vendor=bytes(MAX_PACKAGE)),
    ],
)
def test_what_cannot_be_written(notification: Notification) -> None:
    with pytest.raises(ValueError):
        encode(notification, USER, PASSWORD, b"")
