"""WSP push, both ways: the octets of the standard, other senders' forms, and any octets at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.wsp import DM_APPLICATION, MAX_PUSH, Push, WspError, decode, encode
from tests.protocols.omadm.musts import musts

PACKAGE = (Path(__file__).parent / "vectors" / "pkg0.bin").read_bytes()
NOTIFICATION = "application/vnd.syncml.notification"
BOOTSTRAP = "application/vnd.syncml.dm+wbxml"

texts = st.text(st.characters(codec="utf-8", min_codepoint=33, exclude_characters='\x7f"'),
                min_size=1, max_size=40)  # fmt: skip


@musts("DM-011")
def test_the_header_of_a_notification() -> None:
    """The order of its headers is fixed, and with the datagram's it has 48 octets at most."""
    push = Push(NOTIFICATION, PACKAGE, DM_APPLICATION, transaction_id=1)
    assert encode(push) == bytes.fromhex("010603c4af87") + PACKAGE
    assert decode(encode(push)) == push


def test_a_bootstrap_message_names_its_protection() -> None:
    push = Push(BOOTSTRAP, b"\x02", DM_APPLICATION, {"SEC": "USERPIN", "MAC": "0A" * 20})
    octets = encode(push)
    # media, SEC and its number, MAC and its text, behind a length past 30
    assert octets.startswith(bytes.fromhex("0006311f2dc2918192") + b"0A0A")
    assert decode(octets) == push


@given(
    texts.map(str.lower),
    st.one_of(st.none(), st.just(DM_APPLICATION), texts),
    st.dictionaries(texts.map(lambda t: "x" + t).map(str.upper), texts, max_size=3),
    st.integers(0, 255),
    st.binary(max_size=64),
)
def test_there_and_back(
    content_type: str,
    application: str | None,
    parameters: dict[str, str],
    transaction_id: int,
    body: bytes,
) -> None:
    push = Push(content_type, body, application, parameters, transaction_id)
    octets = encode(push)
    again = decode(octets)
    assert (again.body, again.application, again.transaction_id) == (
        body,
        application,
        transaction_id,
    )
    assert again.content_type == content_type.lower()
    assert {key.upper(): value for key, value in parameters.items()} == again.parameters


@musts("DM-012")
@pytest.mark.parametrize(
    ("hexadecimal", "content_type", "application"),
    [
        ("0106 03 c4 af87", NOTIFICATION, DM_APPLICATION),
        # The application id as a text, as a one-octet integer, and unknown ones.
        ("0106 1f c4 af" + DM_APPLICATION.encode().hex() + "00", NOTIFICATION, DM_APPLICATION),
        ("0106 04 c4 af0107", NOTIFICATION, DM_APPLICATION),
        ("0106 03 c4 af82", NOTIFICATION, "2"),
        ("0106 05 c4 af022345", NOTIFICATION, "9029"),
        # Content-Type as text, with a length, and one of a number that we do not know.
        ("0106 26" + NOTIFICATION.encode().hex() + "00 af87", NOTIFICATION, DM_APPLICATION),
        ("0106 04 01c4 af87", NOTIFICATION, DM_APPLICATION),
        ("0106 03 ae af87", "0x2E", DM_APPLICATION),
        # Headers that we do not know stand between, in each of the forms a value has.
        ("0106 0e c4 b480 b4024142 b4616200 af87 b480", NOTIFICATION, DM_APPLICATION),
        # A header by its name, after a change of the code page and back.
        (
            "0106 39 c4 7f02 af81 01"
            + b"X-Wap-Application-Id\0".hex()
            + DM_APPLICATION.encode().hex()
            + "00 8d81",
            NOTIFICATION,
            DM_APPLICATION,
        ),
    ],
)
def test_forms_of_other_senders(hexadecimal: str, content_type: str, application: str) -> None:
    header = bytearray(bytes.fromhex(hexadecimal))
    header[2] = len(header) - 3
    push = decode(bytes(header) + PACKAGE)
    assert (push.content_type, push.application, push.body) == (
        content_type,
        application,
        PACKAGE,
    )


@pytest.mark.parametrize(
    ("hexadecimal", "why"),
    [
        ("", "only 0"),
        ("010603", "only 3"),
        ("010703c4af87", "no push"),
        ("010600c4af87", "0 octets of headers"),
        ("01067fc4af87", "127 octets of headers"),
        ("0106ffffffffffff01", "five octets"),
        ("0106ffff", "end inside a length"),
        ("010602c4af87", "end inside a header"),
        ("010603616263", "without its NUL"),
        ("01060205c4", "past the headers"),
        ("01060400ffaf87", "end inside"),
        ("010603c4af41", "without its NUL"),
        ("010606c4af41fffe00", "no UTF-8"),
    ],
)
def test_what_is_no_push(hexadecimal: str, why: str) -> None:
    with pytest.raises(WspError, match=why):
        decode(bytes.fromhex(hexadecimal))


def test_a_datagram_is_bounded() -> None:
    with pytest.raises(WspError, match="octets"):
        decode(bytes.fromhex("010603c4af87") + bytes(MAX_PUSH))


@given(st.binary(max_size=80))
def test_any_octets_are_a_push_or_refused(data: bytes) -> None:
    for octets in (data, b"\x01\x06" + data, b"\x01\x06\x03\xc4" + data):
        try:
            push = decode(octets)
        except WspError as error:
            assert str(error)
        else:
            assert octets.endswith(push.body)


@pytest.mark.parametrize("text", ["", "a\0b", "\x10x", "\x7fx"])
def test_texts_that_no_header_can_carry(text: str) -> None:
    with pytest.raises(ValueError):
        encode(Push(text, b""))
