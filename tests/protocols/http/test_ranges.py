"""What is asked for next, and what an answer means: the table, cell by cell."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.http import Headers
from protocols.http.ranges import ACTIONS, Action, Kind, Known, ask, judge

HALF = Known(500, '"a"', 1000)
START = Known()


def verdict(known: Known, status: int, **fields: str) -> tuple[Kind, Action]:
    headers = Headers([(name.replace("_", "-"), value) for name, value in fields.items()])
    found = judge(known, status, headers)
    return found.kind, found.action


def test_every_cell_of_the_table_is_there() -> None:
    assert set(ACTIONS) == set(itertools.product((False, True), Kind))


@pytest.mark.parametrize(
    ("known", "fields"),
    [
        (START, {}),
        (Known(0, '"a"', 1000), {}),
        (HALF, {"Range": "bytes=500-", "If-Range": '"a"'}),
        (Known(500, 'W/"a"', 1000), {"Range": "bytes=500-"}),
        (Known(500, "", None), {"Range": "bytes=500-"}),
        (Known(500, "unquoted", None), {"Range": "bytes=500-"}),
        (Known(500, '"a", "b"', None), {"Range": "bytes=500-"}),
    ],
)
def test_what_is_asked(known: Known, fields: dict[str, str]) -> None:
    assert dict(ask(known)) == fields


REST = {"content_range": "bytes 500-999/1000"}


@pytest.mark.parametrize(
    ("known", "status", "fields", "kind", "action"),
    [
        (START, 200, {"content_length": "1000"}, Kind.ALL, Action.WHOLE),
        (HALF, 200, {}, Kind.ALL, Action.WHOLE),
        (HALF, 203, {}, Kind.ALL, Action.WHOLE),
        (HALF, 206, REST, Kind.REST, Action.APPEND),
        (HALF, 206, {**REST, "etag": '"a"'}, Kind.REST, Action.APPEND),
        (HALF, 206, {**REST, "content_length": "500"}, Kind.REST, Action.APPEND),
        (HALF, 206, {"content_range": "bytes 500-599/1000"}, Kind.REST, Action.APPEND),
        (HALF, 206, {"content_range": "bytes 500-999/*"}, Kind.REST, Action.APPEND),
        (HALF, 206, {"content_range": "BYTES 500-999/1000"}, Kind.REST, Action.APPEND),
        (HALF, 206, {**REST, "content_length": "400"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {"content_type": "multipart/byteranges; x"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {"content_range": "bytes 0-999/1000"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {"content_range": "bytes 501-999/1000"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {"content_range": "bytes 500-499/1000"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {"content_range": "bytes 500-1000/1000"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {"content_range": "lines 500-999/1000"}, Kind.STRAY, Action.AGAIN),
        (HALF, 206, {**REST, "etag": '"b"'}, Kind.CHANGED, Action.AGAIN),
        (HALF, 206, {"content_range": "bytes 500-1099/1100"}, Kind.CHANGED, Action.AGAIN),
        (START, 206, {"content_range": "bytes 0-999/1000"}, Kind.REST, Action.WHOLE),
        (START, 206, REST, Kind.STRAY, Action.RETRY),
        (Known(1000, "", 1000), 416, {}, Kind.AT_END, Action.DONE),
        (Known(1000), 416, {"content_range": "bytes */1000"}, Kind.AT_END, Action.DONE),
        (Known(1000), 416, {"content_range": "bytes */900"}, Kind.PAST_END, Action.AGAIN),
        (HALF, 416, {"content_range": "bytes */500"}, Kind.PAST_END, Action.AGAIN),
        (HALF, 416, {}, Kind.PAST_END, Action.AGAIN),
        (START, 416, {}, Kind.PAST_END, Action.FAIL),
        *(
            (known, status, {}, Kind.BUSY, Action.RETRY)
            for known in (START, HALF)
            for status in (408, 425, 429, 500, 502, 503, 504)
        ),
        *(
            (known, status, {}, Kind.REFUSED, Action.FAIL)
            for known in (START, HALF)
            for status in (204, 304, 400, 401, 403, 404, 405, 410, 418)
        ),
    ],
)
def test_what_an_answer_means(
    known: Known, status: int, fields: dict[str, str], kind: Kind, action: Action
) -> None:
    assert verdict(known, status, **fields) == (kind, action)


def test_what_an_answer_tells_of_the_resource() -> None:
    found = judge(START, 200, Headers([("ETag", '"a"'), ("Content-Length", "1000")]))
    assert (found.etag, found.size) == ('"a"', 1000)
    found = judge(HALF, 206, Headers([("Content-Range", "bytes 500-999/*")]))
    assert found.size == 1000
    assert judge(START, 200, Headers([("ETag", "naked")])).etag == ""
    assert judge(START, 200, Headers([("Content-Length", "-1")])).size is None


@given(
    st.integers(0, 5),
    st.sampled_from([200, 203, 206, 304, 404, 416, 429, 500, 999]),
    st.dictionaries(
        st.sampled_from(["content-range", "etag", "content-length"]),
        st.text(max_size=30)
        | st.from_regex(r"bytes (\d-\d|\*)/(\d|\*)", fullmatch=True)
        | st.from_regex(r'(W/)?"[a-c]?"', fullmatch=True),
    ),
)
def test_bytes_are_appended_only_where_they_belong(
    offset: int, status: int, fields: dict[str, str]
) -> None:
    known = Known(offset, '"a"', 5)
    found = judge(known, status, Headers(list(fields.items())))
    if found.action is Action.APPEND:
        assert status == 206 and fields["content-range"].startswith(f"bytes {offset}-")
        assert found.size == 5
    if found.action is Action.DONE:
        assert status == 416 and offset == 5
