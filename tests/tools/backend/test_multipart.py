"""multipart/form-data: what clients send, and what nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.backend.errors import RequestRefused
from tools.backend.rest.multipart import basename, parse_multipart

KIND = "multipart/form-data; boundary=xyz"


def form(*parts: bytes, end: bytes = b"--") -> bytes:
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz" + end + b"\r\n"


def part(content: bytes, disposition: str) -> bytes:
    return f"Content-Disposition: form-data; {disposition}\r\n\r\n".encode() + content


@given(st.binary().filter(lambda content: b"\r\n--xyz" not in b"\r\n" + content))
def test_content_comes_as_it_was_sent(content: bytes) -> None:
    body = form(part(content, 'name="a"; filename="x"'), part(b"7", "name=version"))
    fields = parse_multipart(KIND, body)
    assert (fields["a"].content, fields["a"].filename) == (content, "x")
    assert (fields["version"].content, fields["version"].filename) == (b"7", None)


def test_names_of_files() -> None:
    body = form(part(b"", r'name="a"; filename="C:\\dir\\a \"b\".cfg"'))
    assert parse_multipart(KIND, body)["a"].filename == r'C:\dir\a "b".cfg'
    for path, name in (
        (r"C:\dir\a.cfg", "a.cfg"),
        ("/home/x/a.cfg", "a.cfg"),
        ("../../a", "a"),
        ("a", "a"),
        ("/", ""),
    ):
        assert basename(path) == name


def test_a_preamble_and_a_quoted_boundary() -> None:
    body = b"ignored\r\n" + form(part(b"1", 'name="a"'))
    assert parse_multipart('Multipart/Form-Data; boundary="xyz"', body)["a"].content == b"1"


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("", b"", "not multipart"),
        ("multipart/form-data", form(), "not multipart"),
        ("multipart/mixed; boundary=xyz", form(), "not multipart"),
        ("multipart/form-data; boundary=" + "x" * 71, form(), "not multipart"),
        (KIND, b"", "no delimiter"),
        (KIND, b"--abc\r\n", "no delimiter"),
        (KIND, b"--xyz", "broken delimiter"),
        (KIND, b"--xyzzy\r\n", "broken delimiter"),
        (KIND, b"--xyz\r\n" + part(b"1", 'name="a"'), "no end"),
        (KIND, form(b"no header"), "no header"),
        (KIND, form(part(b"1", 'title="a"')), "no name"),
        (KIND, form(b"X: " + b"x" * 9000 + b"\r\n\r\n1"), "no header"),
        (KIND, form(*[part(b"1", 'name="a"')] * 40), "more than 32"),
    ],
)
def test_what_is_broken_is_refused(kind: str, body: bytes, text: str) -> None:
    with pytest.raises(RequestRefused, match=text):
        parse_multipart(kind, body)


@given(st.text(max_size=60), st.binary(max_size=200))
def test_anything_is_a_form_or_refused(kind: str, body: bytes) -> None:
    for content_type in (kind, KIND):
        for sent in (body, b"--xyz\r\n" + body, form(body)):
            try:
                parse_multipart(content_type, sent)
            except RequestRefused as refusal:
                assert refusal.status == 400
