"""Datagrams, options and URIs: bytes decode or raise the decoder's own error, and come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.coap import (
    Block,
    CoapFormatError,
    CoapUriError,
    Code,
    Message,
    Options,
    code_text,
    decode_datagram,
    encode_datagram,
    make_options,
    parse_uri,
)
from protocols.coap import options as options_module
from protocols.coap.errors import LocalMisuse

tokens = st.binary(max_size=8)
codes = st.integers(1, 255)
# Numbers that are not registered take any length; the registered ones are bounded.
pairs = st.lists(
    st.one_of(
        st.tuples(st.integers(2000, 0xFFFF), st.binary(max_size=300)),
        st.tuples(st.sampled_from([8, 11, 15, 20]), st.binary(max_size=255)),
        st.tuples(st.sampled_from([6, 23, 27]), st.binary(max_size=3)),
        st.tuples(st.just(60), st.binary(max_size=4)),
    ),
    max_size=6,
)


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        mtype, mid, message = decode_datagram(data)
    except CoapFormatError:
        return
    assert 0 <= mtype <= 3 and 0 <= mid <= 0xFFFF
    again = decode_datagram(encode_datagram(mtype, mid, message))
    assert again == (mtype, mid, message)


@given(st.binary(max_size=60), codes, tokens)
def test_any_options_after_a_good_header_decode_or_are_refused(
    tail: bytes, code: int, token: bytes
) -> None:
    head = bytes((0x40 | len(token), code, 1, 2)) + token
    results = []
    for _ in range(2):  # the second time through the cache
        try:
            results.append(decode_datagram(head + tail)[2])
        except CoapFormatError as error:
            results.append(str(error))
    assert results[0] == results[1]


@given(st.integers(0, 3), st.integers(0, 0xFFFF), codes, tokens, pairs, st.binary(max_size=40))
def test_what_is_encoded_decodes_to_the_same(
    mtype: int, mid: int, code: int, token: bytes, options: list, payload: bytes
) -> None:
    message = Message(code, token, Options.of(*options), payload)
    data = encode_datagram(mtype, mid, message)
    assert decode_datagram(data) == (mtype, mid, message)
    assert decode_datagram(data) == (mtype, mid, message)


@given(st.integers(0, (1 << 20) - 1), st.booleans(), st.integers(0, 6))
def test_blocks_come_back(number: int, more: bool, szx: int) -> None:
    block = Block(number, more, szx)
    options = make_options(block1=block, block2=block)
    assert options.block1 == options.block2 == block
    assert block.offset == number * block.size


def test_a_message_in_bytes() -> None:
    """RFC 7252 appendix A, figure 16: GET coap://server/temperature."""
    message = Message(Code.GET, options=make_options(path=["temperature"]))
    assert encode_datagram(0, 0x7D34, message).hex() == "40017d34bb74656d7065726174757265"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "0 bytes"),
        ("400100", "3 bytes"),
        ("80010000", "version 2"),
        ("49010000" + "00" * 9, "token length 9"),
        ("4f010000" + "00" * 15, "token length 15"),
        ("44010000aabbcc", "token is cut short"),
        ("40000000ff", "Empty message with"),
        ("4100000000", "Empty message with"),
        ("40010000ff", "payload marker without"),
        ("40010000b161ff", "payload marker without"),
        ("40010000b3616263ff", "payload marker without"),
        ("40010000f0", "reserved option nibble"),
        ("400100000f", "reserved option nibble"),
        ("40010000b46162", "claims 4 bytes, 2 are there"),
        ("40010000d0", "header is cut short"),
        ("40010000e0ff", "header is cut short"),
        ("400100000d", "header is cut short"),
        ("40010000e0ffff", "beyond 65535"),
    ],
)
def test_malformed_datagrams_are_named(data: str, text: str) -> None:
    for _ in range(2):
        with pytest.raises(CoapFormatError, match=text):
            decode_datagram(bytes.fromhex(data))


def test_a_value_with_0xff_inside_is_no_payload_marker() -> None:
    message = Message(Code.PUT, b"\xff", Options.of((2049, b"a\xffb"), (4, b"\xff\xff")), b"\xff")
    data = encode_datagram(0, 0xFFFF, message)
    assert decode_datagram(data)[2] == decode_datagram(data)[2] == message


def test_options_are_shared_and_the_cache_is_bounded() -> None:
    first = make_options(path=["5", "0", "3"])
    assert first is make_options(path=[5, 0, 3])
    data = encode_datagram(0, 1, Message(Code.GET, options=first))
    assert decode_datagram(data)[2].options is decode_datagram(data)[2].options
    for n in range(options_module.CACHE_LIMIT + 10):
        options = Options.of((2000, n.to_bytes(4, "big")))
        decode_datagram(encode_datagram(0, 1, Message(Code.GET, options=options)))
    assert len(options_module._by_bytes) <= options_module.CACHE_LIMIT
    assert len(options_module._by_pairs) <= options_module.CACHE_LIMIT


@pytest.mark.parametrize(
    ("options", "unsupported"),
    [
        ([(11, b"a")], None),
        ([(65001, b"")], 65001),  # unknown, critical
        ([(65000, b"")], None),  # unknown, elective
        ([(9, b"")], 9),  # OSCORE without OSCORE
        ([(12, b"abc")], None),  # elective, too long: as if it were not there
        ([(17, b"abc")], 17),  # critical, too long
        ([(17, b"a"), (17, b"a")], 17),  # not repeatable
        ([(23, b"\x07")], 23),  # reserved block size
        ([(11, b"\xff\xfe")], 11),  # no UTF-8
        ([(35, b"coap://x")], 35),  # we are no proxy
        ([(65001, b""), (65003, b"")], 65001),
    ],
)
def test_critical_options_are_understood_or_named(
    options: list[tuple[int, bytes]], unsupported: int | None
) -> None:
    raw = options_module._encode(options)
    assert decode_datagram(b"\x40\x01\0\0" + raw)[2].options.unsupported == unsupported


def test_options_of_our_own_that_are_too_long_are_misuse() -> None:
    with pytest.raises(LocalMisuse, match="option 11 takes 0 to 255 bytes, not 256"):
        make_options(path=["x" * 256])
    with pytest.raises(LocalMisuse, match="option 23"):
        make_options(block2=Block(1 << 21, False, 6))


@given(st.text(max_size=40))
def test_any_text_after_the_scheme_is_a_uri_or_is_refused_by_name(text: str) -> None:
    for candidate in (text, f"coap://{text}", f"coap://h/{text}", f"coap://h:{text}"):
        try:
            uri = parse_uri(candidate)
        except CoapUriError as error:
            assert repr(candidate) in str(error)
            continue
        assert uri.host and 0 < uri.port < 65536
        uri.options()


def test_uris() -> None:
    uri = parse_uri("coap://[::1]:1234/a%20b//c?x=1&y=%26")
    assert (uri.host, uri.port, uri.path, uri.queries) == (
        "::1",
        1234,
        ("a b", "", "c"),
        ("x=1", "y=&"),
    )
    assert parse_uri("coap://h/").path == parse_uri("coap://h").path == ()
    assert parse_uri("coap://h").port == 5683


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "http://h",
        "coap://",
        "coap://h#f",
        "coap://h:x",
        "coap://h:0",
        "coap://h:99999",
        "coap://[::1",
        "coap://h/" + "x" * 256,
        "coap://h/\udc80",
    ],
)
def test_bad_uris_are_named(text: str) -> None:
    with pytest.raises(CoapUriError) as caught:
        parse_uri(text)
    assert repr(text) in str(caught.value)


def test_codes_read_well() -> None:
    assert code_text(Code.NOT_FOUND) == "4.04 Not Found"
    assert code_text(Code.GET) == "GET" and code_text(8) == "0.08" and code_text(255) == "7.31"
