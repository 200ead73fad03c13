"""Calls to a management API: what a person reads when they fail, and what waits for itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from tools.drivers.api import Api, ApiTuning, members, objects
from tools.drivers.errors import (
    ConnectionBroken,
    DriverError,
    RequestRefused,
    ServerUnreachable,
    UnsupportedServer,
    WrongCredentials,
)

SECRET = "hunter2-hunter2"
Handler = Callable[[httpx.Request], httpx.Response]


class Slept:
    """A sleep that only remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def api(handler: Handler, slept: Slept | None = None, tuning: ApiTuning | None = None) -> Api:
    return Api(
        "http://server.example:8080/base/",
        driver="test",
        hidden=(SECRET,),
        tuning=tuning,
        transport=httpx.MockTransport(handler),
        sleep=slept or Slept(),
    )


async def failure(handler: Handler, expected: type[DriverError], **options: object) -> str:
    client = api(handler)
    try:
        with pytest.raises(expected) as raised:
            await client.json("GET", "things", "list the things", **options)
    finally:
        await client.close()
    assert type(raised.value) is expected
    assert SECRET not in str(raised.value)
    return str(raised.value)


def answering(status: int, **options: object) -> Handler:
    return lambda request: httpx.Response(status, **options)  # type: ignore[arg-type]


async def test_a_call_goes_below_the_base_url_with_the_token_that_was_got() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"ok": True})

    client = api(handler)
    client.use_bearer("t0ken")
    assert await client.json("GET", "things", "list", params={"limit": 5}) == {"ok": True}
    await client.close()
    assert str(seen[0].url) == "http://server.example:8080/base/things?limit=5"
    assert seen[0].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (401, WrongCredentials, "refuses the credentials"),
        (403, WrongCredentials, "may not do that"),
        (302, UnsupportedServer, "redirected (302)"),
        (404, RequestRefused, "refused with 404"),
        (409, RequestRefused, "refused with 409"),
        (500, RequestRefused, "refused with 500"),
    ],
)
async def test_each_status_has_its_error(
    status: int, expected: type[DriverError], words: str
) -> None:
    text = await failure(answering(status), expected)
    assert words in text
    assert "http://server.example:8080/base: list the things" in text


async def test_the_servers_explanation_is_short_printable_and_without_secrets() -> None:
    message = f"password {SECRET} is\x1b[31m wrong " + "x" * 1000
    text = await failure(answering(400, json={"message": message}), RequestRefused)
    assert "password *** is" in text
    assert text.isprintable()
    assert len(text) < 400


async def test_a_quiet_call_repeats_nothing() -> None:
    text = await failure(
        answering(400, json={"message": "token abc exists"}), RequestRefused, quiet=True
    )
    assert "abc" not in text


async def test_an_answer_that_is_no_json() -> None:
    text = await failure(answering(200, text="<html>"), UnsupportedServer)
    assert "not JSON" in text


async def test_a_server_that_is_not_there() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed")

    text = await failure(handler, ServerUnreachable)
    assert "http://server.example:8080/base cannot be reached" in text


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (httpx.ConnectTimeout(""), ServerUnreachable, "no answer in time"),
        (httpx.ReadTimeout(""), ServerUnreachable, "no answer in time"),
        (httpx.RemoteProtocolError("peer closed it"), ConnectionBroken, "peer closed it"),
        (httpx.ReadError(""), ConnectionBroken, "ReadError"),
    ],
)
async def test_a_connection_that_fails(
    error: httpx.TransportError, expected: type[DriverError], words: str
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    assert words in await failure(handler, expected)


async def test_a_body_without_end_is_cut_off() -> None:
    client = api(answering(200, content=b"x" * 5000), tuning=ApiTuning(largest_answer=4096))
    with pytest.raises(UnsupportedServer, match="exceeds 4,096 bytes"):
        await client.call("GET", "things", "list the things")
    await client.close()


async def test_what_is_gone_may_be_gone() -> None:
    client = api(answering(404))
    answer = await client.call("DELETE", "things/1", "remove it", gone=True)
    await client.close()
    assert answer.status == 404


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_asks_for_patience_gets_it(status: int) -> None:
    answers = [
        httpx.Response(status, headers={"Retry-After": "7"}),
        httpx.Response(status),
        httpx.Response(status, headers={"Retry-After": "9999"}),
        httpx.Response(status, headers={"Retry-After": "soon"}),
        httpx.Response(200, json=[]),
    ]
    slept = Slept()
    client = api(lambda request: answers.pop(0), slept)
    assert await client.json("GET", "things", "list") == []
    await client.close()
    assert slept.seconds == [7.0, 2.0, 30.0, 8.0]


async def test_patience_until_a_date() -> None:
    until = datetime.now(UTC) + timedelta(seconds=20)
    answers = [
        httpx.Response(503, headers={"Retry-After": format_datetime(until, usegmt=True)}),
        httpx.Response(200, json=[]),
    ]
    slept = Slept()
    client = api(lambda request: answers.pop(0), slept)
    await client.json("GET", "things", "list")
    await client.close()
    assert 0.0 < slept.seconds[0] <= 20.0


async def test_patience_ends() -> None:
    slept = Slept()
    client = api(answering(429), slept, ApiTuning(retries=2))
    with pytest.raises(RequestRefused) as raised:
        await client.call("GET", "things", "list")
    await client.close()
    assert raised.value.status == 429
    assert len(slept.seconds) == 2


@pytest.mark.parametrize("server", ["coap://host", "host:8080", "http://", "/path"])
def test_a_server_needs_a_url(server: str) -> None:
    with pytest.raises(UnsupportedServer):
        Api(server, driver="test")


def test_a_url_is_no_place_for_a_password() -> None:
    with pytest.raises(UnsupportedServer, match="FOTILLA_TEST_USER") as raised:
        Api(f"http://admin:{SECRET}@host", driver="test")
    assert SECRET not in str(raised.value)


def test_members_and_objects_name_what_is_missing() -> None:
    assert members({"a": 1, "b": 2}, "read", "b", "a") == [2, 1]
    with pytest.raises(UnsupportedServer, match="read: the answer has no 'c'"):
        members({"a": 1}, "read", "c")
    with pytest.raises(UnsupportedServer, match="no JSON object"):
        members([], "read", "c")
    assert objects([{"a": 1}], "list") == [{"a": 1}]
    with pytest.raises(UnsupportedServer, match="no array of objects"):
        objects([1], "list")
