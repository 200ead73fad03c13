"""Challenges of download servers: RFC 7616's own examples, and what nobody should answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.http_auth import Account, Challenge, answer, challenges

MUFASA = Account("Mufasa", "Circle of Life")
EXAMPLE = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    (challenge,) = challenges(EXAMPLE.format(algorithm=algorithm))
    value = answer(challenge, MUFASA, "GET", "/dir/index.html", count=1, cnonce=CNONCE)
    assert value is not None
    assert f'response="{response}"' in value
    assert "nc=00000001" in value
    assert "password" not in repr(MUFASA)


def test_the_example_of_rfc_7617() -> None:
    account = Account("Aladdin", "open sesame")
    value = answer(Challenge("basic", {}), account, "GET", "/", count=1, cnonce="")
    assert value == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_several_challenges_in_one_field() -> None:
    text = 'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'
    first, second = challenges(text)
    assert (first.scheme, second.scheme) == ("newauth", "basic")
    assert first.parameters["title"] == 'Login to "apps"'
    assert second.parameters == {"realm": "simple"}
    assert [one.scheme for one in challenges("Negotiate, Basic realm=x")] == ["negotiate", "basic"]


@pytest.mark.parametrize(
    "text",
    [
        'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n", algorithm=MD5-sess',
        'Digest realm="r", nonce="n", algorithm=SHA-512-256',
        'Digest realm="a\\"b", nonce="n"',
        "Negotiate",
    ],
)
def test_what_we_do_not_speak(text: str) -> None:
    (challenge,) = challenges(text)
    assert answer(challenge, MUFASA, "GET", "/", count=1, cnonce="c") is None


@given(st.text(max_size=200))
def test_any_field(text: str) -> None:
    for prefix in ("", 'Digest realm="r", '):
        for challenge in challenges(prefix + text):
            value = answer(challenge, MUFASA, "GET", "/", count=1, cnonce="c")
            assert value is None or "\n" not in value
