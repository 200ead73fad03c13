"""URLs of servers and of their links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.urls import BadServer, BadUrl, Site, locate, parse_server


@pytest.mark.parametrize(
    ("uri", "base", "port"),
    [
        ("http://host", "http://host", 80),
        ("https://host/", "https://host", 443),
        ("http://host:8080/a/b/", "http://host:8080/a/b", 8080),
        ("http://[::1]:1/x", "http://[::1]:1/x", 1),
    ],
)
def test_a_server_has_an_origin(uri: str, base: str, port: int) -> None:
    origin = parse_server(uri)
    assert (origin.base, origin.port) == (base, port)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "host",
        "coap://host",
        "http://",
        "http:///path",
        "http://host:99999",
        "http://host:x",
        "http://[::1",
        "http://user:secret@host",
        "http://host?secret",
        "http://host#secret",
    ],
)
def test_a_server_that_cannot_be_is_refused(uri: str) -> None:
    with pytest.raises(BadServer) as caught:
        parse_server(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://host", "http://host", "/"),
        ("http://h/", "http://h", "/"),
        ("http://h:80/a", "http://h", "/a"),
        ("https://h:443/a", "https://h", "/a"),
        ("https://h:80/a", "https://h:80", "/a"),
        ("http://h?x=1", "http://h", "/?x=1"),
        ("http://h?x=/y", "http://h", "/?x=/y"),
        ("http://h/a?b=c/d?e#f", "http://h", "/a?b=c/d?e"),
        ("http://H/A", "http://h", "/A"),
        ("http://[::1]:8080/a", "http://[::1]:8080", "/a"),
        ("http://h/a b/\u00fc", "http://h", "/a%20b/%C3%BC"),
        ("http://h/a%20b", "http://h", "/a%20b"),
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example", "/"),
    ],
)
def test_a_link_is_a_site_and_a_target(url: str, origin: str, target: str) -> None:
    site, found = locate(url)
    assert (site.origin, found) == (origin, target)


def test_sites_are_the_same_by_value() -> None:
    assert locate("http://host:80/a")[0] == locate("http://HOST/b")[0]
    assert locate("http://host/a")[0] == Site("http", "host", 80, "host")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/relative",
        "//host/x",
        "ftp://host/x",
        "http:/host",
        "http://",
        "http:///x",
        "https:///x",
        "http://?x",
        "http://host:0/",
        "http://host:x/",
        "http://host:99999/",
        "http://[::1/",
        "http://user@host/",
        "http://user:secret@host/",
        "http://a b/",
        "http://" + "a" * 300 + "/",
        "http://host/" + "a" * 9000,
    ],
)
def test_a_link_that_cannot_be_followed(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        locate(url)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=80))
def test_any_text_is_a_target_that_can_be_sent_or_refused(text: str) -> None:
    for url in (text, f"http://host/{text}", f"http://{text}/x", f"https://host{text}"):
        try:
            site, target = locate(url)
        except BadUrl:
            continue
        assert target.startswith("/") and target.isascii() and target.isprintable()
        assert " " not in target
        assert site.authority.isascii() and " " not in site.authority
        assert "@" not in site.authority and "/" not in site.authority
