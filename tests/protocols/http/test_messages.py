"""JSON bodies, `Retry-After` and back-off."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.http import Headers, HttpResponse
from agent.runtime.random import DeviceRandom
from protocols.backoff import DEFAULT_BACKOFF, Backoff
from protocols.http.messages import (
    MAX_RETRY_AFTER,
    BadAnswer,
    json_body,
    json_object,
    retry_after,
)

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def answer(body: bytes) -> HttpResponse:
    return HttpResponse(200, Headers(), body, "http://host/")


def after(text: str) -> float | None:
    return retry_after(Headers([("Retry-After", text)]), NOW)


def test_json_goes_and_comes() -> None:
    value = {"a": [1, None, "\u00fc"], "b": {"c": 1.5}}
    assert json_object(answer(json_body(value))) == value
    assert b" " not in json_body(value)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 1_000_000, "too deeply"),
        (b"[]", "list"),
        (b"null", "NoneType"),
        (b'"text"', "str"),
    ],
)
def test_what_is_no_object_is_named(body: bytes, word: str) -> None:
    with pytest.raises(BadAnswer, match=word):
        json_object(answer(body))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_bad_answer(body: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        assert isinstance(json_object(answer(body)), dict)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("999999", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("Tue, 01 Jan 2030 00:01:00 GMT", 60.0),
        ("Tuesday, 01-Jan-30 00:01:00 GMT", 60.0),
        ("Tue Jan  1 00:01:00 2030", 60.0),
        ("Mon, 31 Dec 2029 23:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2099 00:00:00 GMT", MAX_RETRY_AFTER),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\u0661\u0662", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert after(text) == seconds


def test_no_retry_after_is_none() -> None:
    assert retry_after(Headers(), NOW) is None


@given(st.text(max_size=60))
def test_any_retry_after_is_bounded_or_none(text: str) -> None:
    seconds = after(text)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.integers(1, 10_000), st.integers(0, 1000))
def test_back_off_doubles_within_its_bounds(failures: int, index: int) -> None:
    delay = DEFAULT_BACKOFF.delay(failures, DeviceRandom(1, 0, index))
    longest = min(300.0, 5.0 * 2 ** min(failures - 1, 20))
    assert longest / 2 <= delay <= longest


def test_back_off_differs_between_devices() -> None:
    backoff = Backoff(first=1.0, limit=60.0)
    delays = {backoff.delay(3, DeviceRandom(1, 0, index)) for index in range(50)}
    assert len(delays) == 50
