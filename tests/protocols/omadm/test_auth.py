"""Credentials of both directions: published vectors, what is wrong, and who compares how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.auth import (
    MAX_NONCE,
    AuthSyntaxError,
    AuthType,
    HmacHeader,
    basic,
    challenge,
    credentials,
    hmac_header,
    mac,
    md5,
    next_nonce,
    nonce_as_text,
    parse_hmac_header,
    secret_digest,
    verify_credentials,
    verify_hmac,
)
from protocols.omadm.model import Chal, Cred
from tests.protocols.omadm.musts import musts

NONCE = b"nonce-0001"
names = st.text(st.characters(codec="utf-8", exclude_characters=":\0"), min_size=1, max_size=20)


@musts("DM-086")
@pytest.mark.parametrize(
    ("user", "password", "nonce", "digest"),
    [
        # OMA-TS-DM_RepPro 1.2.1, the example of Cred.
        ("Bruce2", "OhBehave", b"Nonce", "Zz6EivR3yeaaENcRN6lpAQ=="),
        # What libdmclient answered to a challenge with this nonce.
        ("funambol", "funambol", NONCE, "wkYWtdF1uLh1ny2kXIIKDg=="),
    ],
)
def test_md5_vectors(user: str, password: str, nonce: bytes, digest: str) -> None:
    assert md5(user, password, nonce) == digest


@musts("DM-087")
def test_mac_is_over_the_digest_of_the_body_and_not_rfc_2104() -> None:
    """Computed by hand after the formula of the specification; no second implementation is
    known."""
    assert mac("Robert Jordan", "secret", NONCE, b"<SyncML/>") == "NWaswWzRA20A4bmE4vjC2A=="


@musts("DM-085")
def test_basic_is_rfc_2617s_text() -> None:
    assert basic("Bruce2", "OhBehave") == "QnJ1Y2UyOk9oQmVoYXZl"


def test_a_server_may_keep_a_digest_in_place_of_the_password() -> None:
    assert secret_digest("Bruce2", "OhBehave") == b"PtEdr8lBQ45IbT1bZIkrOQ=="


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("syncml:auth-basic", AuthType.BASIC),
        ("syncml:auth-md5", AuthType.MD5),
        ("syncml:auth-MAC", AuthType.HMAC),
        ("syncml:auth-mac", AuthType.HMAC),
        ("syncml:auth-securid", None),
        ("", None),
    ],
)
def test_types_in_messages(name: str, kind: AuthType | None) -> None:
    assert AuthType.of_meta(name) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BASIC", AuthType.BASIC),
        ("DIGEST", AuthType.MD5),
        ("HMAC", AuthType.HMAC),
        ("HTTP-DIGEST", None),
        ("X509", None),
        ("TRANSPORT", None),
    ],
)
def test_types_in_accounts(name: str, kind: AuthType | None) -> None:
    assert AuthType.of_account(name) is kind


@musts("DM-083", "DM-089")
def test_credentials_of_each_kind() -> None:
    assert credentials(AuthType.NONE, "u", "p", NONCE) is None
    assert credentials(AuthType.HMAC, "u", "p", NONCE) is None, "it travels in a header"
    assert credentials(AuthType.BASIC, "u", "p") == Cred("syncml:auth-basic", "b64", "dTpw")
    cred = credentials(AuthType.MD5, "u", "p", NONCE)
    assert cred == Cred("syncml:auth-md5", "b64", md5("u", "p", NONCE))


@given(names, names, st.binary(max_size=32), st.sampled_from([AuthType.BASIC, AuthType.MD5]))
def test_what_one_side_makes_the_other_believes(
    user: str, password: str, nonce: bytes, kind: AuthType
) -> None:
    cred = credentials(kind, user, password, nonce)
    assert cred is not None
    assert verify_credentials(cred, user, password, nonce)
    assert not verify_credentials(cred, user, password + "x", nonce)
    assert not verify_credentials(cred, user + "x", password, nonce)
    if kind is AuthType.MD5:
        assert not verify_credentials(cred, user, password, nonce + b"x")


@musts("DM-083", "DM-089")
@pytest.mark.parametrize(
    "cred",
    [
        Cred("syncml:auth-md5", None, md5("u", "p", NONCE)),  # Format MUST be there
        Cred("syncml:auth-md5", "chr", md5("u", "p", NONCE)),
        Cred("syncml:auth-md5", "b64", ""),
        Cred("syncml:auth-md5", "b64", "not base64 ☃"),
        Cred("syncml:auth-basic", "bin", basic("u", "p")),
        Cred("syncml:auth-basic", "b64", md5("u", "p", NONCE)),
        Cred("syncml:auth-MAC", "b64", mac("u", "p", NONCE, b"")),
        Cred("", None, md5("u", "p", NONCE)),
    ],
)
def test_wrong_credentials(cred: Cred) -> None:
    assert not verify_credentials(cred, "u", "p", NONCE)


def test_basic_may_leave_its_format_out() -> None:
    assert verify_credentials(Cred("syncml:auth-basic", None, "dTpw"), "u", "p", b"")


@musts("DM-087")
@given(names, names, st.binary(max_size=32), st.binary(max_size=200))
def test_mac_header_there_and_back(user: str, password: str, nonce: bytes, body: bytes) -> None:
    header = parse_hmac_header(hmac_header(user, password, nonce, body))
    assert header.username == user
    assert verify_hmac(header, user, password, nonce, body)
    assert not verify_hmac(header, user, password, nonce, body + b" ")
    assert not verify_hmac(header, user, password, nonce + b"x", body)
    assert not verify_hmac(header, user + "x", password, nonce, body)
    assert not verify_hmac(header, user, password + "x", nonce, body)


@musts("DM-088")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('algorithm=MD5, username="Robert Jordan", mac=QQ==', HmacHeader("Robert Jordan", "QQ==")),
        ('username="a", mac=QQ==', HmacHeader("a", "QQ==")),
        ("mac=QQ==,username=a", HmacHeader("a", "QQ==")),
        ('algorithm="md5", MAC="QQ==" , Username="a,b=c"', HmacHeader("a,b=c", "QQ==")),
        (r'username="say \"hi\"", mac=QQ==', HmacHeader('say "hi"', "QQ==")),
    ],
)
def test_mac_headers_that_are_taken(text: str, expected: HmacHeader) -> None:
    assert parse_hmac_header(text) == expected


@musts("DM-088")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no username"),
        ("mac=QQ==", "no username"),
        ('username="a"', "no mac"),
        ('username="a", username="b", mac=QQ==', "twice"),
        ('algorithm=SHA1, username="a", mac=QQ==', "not MD5"),
        ('username="a, mac=QQ==', "no parameter at"),
        ("Basic QQ==", "no parameter at"),
        ("x" * 2000, "2000 characters"),
    ],
)
def test_mac_headers_that_are_not(text: str, why: str) -> None:
    with pytest.raises(AuthSyntaxError, match=why):
        parse_hmac_header(text)


@given(st.text(max_size=80))
def test_any_text_is_a_mac_header_or_refused(text: str) -> None:
    try:
        parse_hmac_header(text)
    except AuthSyntaxError as error:
        assert str(error)


@musts("DM-073", "DM-092")
@given(st.binary(max_size=MAX_NONCE))
def test_challenges_carry_octets(nonce: bytes) -> None:
    chal = challenge(AuthType.MD5, nonce)
    assert (chal.type, chal.format) == ("syncml:auth-md5", "b64")
    assert next_nonce(chal) == nonce


@musts("DM-092")
def test_challenges_without_and_with_a_bad_nonce() -> None:
    assert next_nonce(challenge(AuthType.BASIC)) is None
    assert next_nonce(Chal("syncml:auth-md5", "b64", " Tm9u\r\n Y2U= ")) == b"Nonce"
    for bad in ("Tm9uY2U", "%%%%", "Tm9uY2U=Tm9u", "A" * 4 * MAX_NONCE):
        with pytest.raises(AuthSyntaxError):
            next_nonce(Chal("syncml:auth-md5", "b64", bad))


def test_a_client_that_keeps_nonces_as_text_is_wrong_from_0x80_on() -> None:
    assert nonce_as_text(NONCE) == NONCE
    assert nonce_as_text(b"\x80\xff") != b"\x80\xff"


def test_secrets_stay_out_of_texts() -> None:
    cred = credentials(AuthType.BASIC, "user", "password")
    header = parse_hmac_header(hmac_header("user", "password", NONCE, b""))
    for thing in (cred, header, challenge(AuthType.MD5, NONCE)):
        text = repr(thing)
        assert "dXNlcjpwYXNzd29yZA" not in text
        assert header.mac not in text
        assert "bm9uY2U" not in text
