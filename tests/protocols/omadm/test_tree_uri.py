"""URIs of nodes: what names one, what does not, and the limits of DevDetail/URI."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.omadm.status import TreeError
from protocols.omadm.tree_uri import MAX_URI, ROOT, TreeUri, UriLimits, format_path, parse_uri
from tests.protocols.omadm.musts import musts

LIMITS = UriLimits(max_depth=3, max_total_length=20, max_segment_length=8)
NONE = UriLimits(0, 0, 0)


@musts("DM-116")
@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (".", TreeUri(ROOT)),
        ("./DevInfo", TreeUri(("DevInfo",))),
        ("DevInfo", TreeUri(("DevInfo",))),
        ("./DevInfo/Man", TreeUri(("DevInfo", "Man"))),
        ("DevInfo/Man", TreeUri(("DevInfo", "Man"))),
        ("./a/b/c", TreeUri(("a", "b", "c"))),
        ("./Ä/ö", TreeUri(("Ä", "ö"))),
        (".?prop=ACL", TreeUri(ROOT, prop="ACL")),
        ("./a?prop=Name", TreeUri(("a",), prop="Name")),
        ("a?list=Struct", TreeUri(("a",), list="Struct")),
        ("a?list=TNDS+ACL-Value", TreeUri(("a",), list="TNDS+ACL-Value")),
        ("./a.b", TreeUri(("a.b",))),
        ("./.a", TreeUri((".a",))),
    ],
)
def test_what_a_uri_names(uri: str, expected: TreeUri) -> None:
    assert parse_uri(uri, LIMITS) == expected


@musts("DM-116", "DM-117")
@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("", 404),
        ("./", 404),
        ("/", 404),
        ("./a/", 404),
        ("a/", 404),
        ("/a", 404),
        ("./a//b", 404),
        ("..", 404),
        ("./../a", 404),
        ("./a/../b", 404),
        ("./a/./b", 404),
        ("././a", 404),
        ("./a\0b", 404),
        ("./a?", 406),
        ("./a?prop", 406),
        ("./a?prop=", 406),
        ("./a?list=", 406),
        ("./a?size=1", 406),
        ("./a?Prop=ACL", 406),
        # 3 segments of 8 octets and 20 in all are the most.
        ("./a/b/c/d", 414),
        ("./123456789", 414),
        ("./ÄÄÄÄÄ", 414),
        ("./12345678/12345678/123", 414),
    ],
)
def test_what_names_nothing(uri: str, status: int) -> None:
    with pytest.raises(TreeError) as caught:
        parse_uri(uri, LIMITS)
    assert caught.value.status == status


@musts("DM-117")
@pytest.mark.parametrize(
    "uri", ["./a/b/c", "./12345678", "./ÄÄÄÄ", "./12345678/12345678/12", "12345678/12345678/12"]
)
def test_at_the_limit(uri: str) -> None:
    assert parse_uri(uri, LIMITS).path


def test_the_query_is_not_counted() -> None:
    uri = "./12345678/12345678/12"
    assert parse_uri(uri + "?prop=Format", LIMITS).prop == "Format"


@musts("DM-117")
def test_0_is_no_limit_but_a_uri_is_bounded() -> None:
    deep = "./" + "/".join("a" * 50)
    assert len(parse_uri(deep, NONE).path) == 50
    assert parse_uri("./" + "x" * 1000, NONE).path == ("x" * 1000,)
    with pytest.raises(TreeError) as caught:
        parse_uri("./" + "x" * (MAX_URI + 1), NONE)
    assert caught.value.status == 414


@given(st.text(max_size=30))
def test_any_text_names_a_node_or_is_refused(text: str) -> None:
    try:
        found = parse_uri(text, NONE)
    except TreeError as error:
        assert error.status in (404, 406, 414)
    else:
        bare = format_path(found.path)
        assert parse_uri(bare, NONE) == TreeUri(found.path)
        assert text.split("?")[0].removeprefix("./") == bare.removeprefix("./")
