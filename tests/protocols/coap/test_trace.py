from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.coap import (
    Block,
    CoapFormatError,
    Code,
    ContentFormat,
    Message,
    Options,
    Type,
    decode_datagram,
    make_options,
)
from protocols.coap.trace import describe

ADDRESS = ("127.0.0.1", 5683)


def line(message: Message, mtype: int = Type.CON, direction: str = ">") -> str:
    return describe(direction, ADDRESS, mtype, 4711, message)


def test_a_request_shows_its_target_and_its_options_by_name() -> None:
    options = make_options(
        path=("rd",), queries=("ep=meter-4", "lt=300"), content_format=ContentFormat.LINK
    )
    assert line(Message(Code.POST, bytes.fromhex("a1b2"), options, b"</3/0>")) == (
        "> 127.0.0.1:5683 CON 4711 [a1b2] POST /rd?ep=meter-4&lt=300 "
        'Content-Format: link-format, 6 bytes "</3/0>"'
    )


def test_a_response_shows_location_block_and_size() -> None:
    created = Message(Code.CREATED, b"\1", make_options(location=("rd", "7")))
    assert line(created, Type.ACK, "<") == (
        "< 127.0.0.1:5683 ACK 4711 [01] 2.01 Created Location: /rd/7"
    )
    options = make_options(block2=Block(3, True, 6), size2=4096, etag=b"\xab\xcd")
    content = Message(Code.CONTENT, b"\1", options, bytes(1024))
    assert line(content, Type.NON).endswith(
        "NON 4711 [01] 2.05 Content ETag: abcd, Block2: 3/more/1024, Size2: 4096, 1024 bytes"
    )


def test_an_empty_message_is_its_type_and_id() -> None:
    assert line(Message(Code.EMPTY), Type.RST) == "> 127.0.0.1:5683 RST 4711 empty"


def test_an_address_of_version_6_stands_in_brackets() -> None:
    assert describe("<", ("::1", 5683), Type.CON, 1, Message(Code.GET)).startswith("< [::1]:5683 ")


def test_what_is_not_text_is_counted_only_and_escapes_do_not_reach_the_terminal() -> None:
    assert line(Message(Code.CONTENT, b"", payload=b"\x1b[2J")).endswith("2.05 Content 4 bytes")
    assert "\\x1b[2J" in line(Message(Code.GET, b"", make_options(path=("\x1b[2J",))))
    long = line(Message(Code.CONTENT, b"", payload=b"x" * 500))
    assert long.endswith('500 bytes "' + "x" * 64 + '..."')


def test_an_unknown_option_says_whether_it_is_critical() -> None:
    text = line(Message(Code.GET, b"", Options.of((65001, b"\1"), (65002, b""))))
    assert text.endswith("option 65001 (critical): 01, option 65002 (elective): empty")


@given(st.binary(max_size=80), st.booleans())
def test_whatever_can_be_decoded_can_be_shown_in_one_line(data: bytes, framed: bool) -> None:
    if framed:
        data = b"\x41\x01\x00\x01\x99" + data
    try:
        mtype, mid, message = decode_datagram(data)
    except CoapFormatError:
        return
    text = describe("<", ADDRESS, mtype, mid, message)
    assert text.isprintable()


@pytest.mark.parametrize("payload", ["é" * 200, "日" * 200])
def test_long_text_is_cut_between_characters(payload: str) -> None:
    assert f'"{payload[:64]}..."' in line(Message(Code.CONTENT, b"", payload=payload.encode()))
