"""What every HTTP adapter keeps: the same tests over sockets and in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.credentials import Credential
from agent.errors import UnusableSettings
from agent.runtime.http import HttpFailed, HttpLink, HttpTimeouts, Phase, Why
from tests.protocols.http.transport.houses import HOUSES, SHORT, House

BODY = bytes(range(256)) * 1000


class Application:
    """Does what the path says."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.sent = 0
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"].strip("/").split("/")
        await getattr(self, path[0])(scope, body, receive, send, *path[1:])

    async def answer(
        self, send: Any, status: int, *headers: tuple[str, str], body: bytes = b""
    ) -> None:
        fields = [(name.encode(), value.encode()) for name, value in headers]
        if not any(name == b"content-length" for name, _ in fields):
            fields.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def echo(self, scope: Any, body: bytes, receive: Any, send: Any, *_: str) -> None:
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        told = {
            "method": scope["method"],
            "query": scope["query_string"].decode(),
            "path": scope["raw_path"].decode(),
            "headers": headers,
            "body": body.decode(),
        }
        await self.answer(send, 200, ("X-One", "1"), ("x-one", "2"), body=json.dumps(told).encode())

    async def status(self, scope: Any, body: bytes, receive: Any, send: Any, code: str) -> None:
        await self.answer(send, int(code))

    async def body(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await self.answer(send, 200, ("ETag", '"1"'), body=BODY)

    async def part(self, scope: Any, body: bytes, receive: Any, send: Any, start: str) -> None:
        place = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        await self.answer(send, 206, ("Content-Range", place), body=BODY[int(start) :])

    async def endless(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()

        watcher = asyncio.create_task(watch())
        try:
            while not self.gone.is_set():
                await send(
                    {"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True}
                )
                self.sent += 64 * 1024
                await asyncio.sleep(0)
        except OSError:
            await self.gone.wait()
        finally:
            watcher.cancel()

    async def silent(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def stalls(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        length = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"begins", "more_body": True})
        await self.silent(scope, body, receive, send)

    async def breaks(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        length = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"begins", "more_body": True})
        raise RuntimeError("a server that dies")

    async def dies(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        raise RuntimeError("before it answered")

    async def goto(
        self, scope: Any, body: bytes, receive: Any, send: Any, status: str, *_: str
    ) -> None:
        await self.answer(send, int(status), ("Location", scope["query_string"].decode()))

    async def again(self, scope: Any, body: bytes, receive: Any, send: Any, count: str) -> None:
        await self.answer(send, 302, ("Location", f"/again/{int(count) + 1}"))

    async def cookies(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        headers = (("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2, 3; Path=/echo"))
        await self.answer(send, 200, *headers)

    async def gzipped(self, scope: Any, body: bytes, receive: Any, send: Any, size: str) -> None:
        packed = gzip.compress(bytes(int(size)))
        await self.answer(send, 200, ("Content-Encoding", "gzip"), body=packed)


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture(params=HOUSES)
async def house(request: pytest.FixtureRequest, app: Application) -> AsyncIterator[House]:
    async with HOUSES[request.param](app) as made:
        yield made


async def echoed(house: House, *arguments: Any, **named: Any) -> dict[str, Any]:
    answer = await house.client().request(*arguments, **named)
    assert answer.status == 200
    told: dict[str, Any] = json.loads(answer.body)
    told["fields"] = dict(told["headers"])
    return told


async def test_a_request_arrives_as_it_was_made(house: House) -> None:
    told = await echoed(
        house,
        "POST",
        f"{house.origin}/echo/a%2Fb/\u00fc?x=1&y=%20#part",
        headers=[("Authorization", "TargetToken t"), ("Content-Type", "application/json")],
        body=b'{"a":1}',
    )
    assert told["method"] == "POST" and told["body"] == '{"a":1}'
    assert told["path"] == "/echo/a%2Fb/%C3%BC" and told["query"] == "x=1&y=%20"
    fields = told["fields"]
    assert fields["host"] == house.origin.removeprefix("http://")
    assert fields["authorization"] == "TargetToken t"
    assert fields["content-length"] == "7" and fields["content-type"] == "application/json"
    assert fields["accept-encoding"] == "identity"


async def test_a_callers_field_replaces_the_usual_one(house: House) -> None:
    told = await echoed(
        house, "GET", f"{house.origin}/echo", headers=[("ACCEPT", "application/hal+json")]
    )
    accepted = [value for name, value in told["headers"] if name == "accept"]
    assert accepted == ["application/hal+json"]
    assert "content-length" not in told["fields"]


async def test_an_empty_post_says_so(house: House) -> None:
    told = await echoed(house, "POST", f"{house.origin}/echo")
    assert told["fields"]["content-length"] == "0"


async def test_answers_have_fields_without_regard_to_case(house: House) -> None:
    answer = await house.client().request("GET", f"{house.origin}/echo")
    assert answer.headers["X-ONE"] == "1, 2" and "x-One" in answer.headers
    assert "absent" not in answer.headers and answer.headers.get("absent") is None
    assert answer.url == f"{house.origin}/echo"


@pytest.mark.parametrize("status", [201, 204, 304, 404, 410, 429, 500, 503])
async def test_every_status_is_an_answer(house: House, status: int) -> None:
    client = house.client()
    for _ in range(2):
        answer = await client.request("GET", f"{house.origin}/status/{status}")
        assert (answer.status, answer.body) == (status, b"")


async def test_head_has_no_body(house: House) -> None:
    client = house.client()
    for _ in range(2):
        answer = await client.request("HEAD", f"{house.origin}/body", limit=10)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == str(len(BODY))
    assert (await client.request("GET", f"{house.origin}/body")).body == BODY


async def test_a_body_beyond_the_limit_is_not_kept(house: House) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", f"{house.origin}/body", limit=1000)
    assert caught.value.why is Why.TOO_LARGE
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", f"{house.origin}/endless", limit=100_000)
    assert caught.value.why is Why.TOO_LARGE


async def test_a_compressed_answer_is_unpacked_within_the_limit(house: House) -> None:
    client = house.client()
    answer = await client.request("GET", f"{house.origin}/gzipped/5000")
    assert answer.body == bytes(5000)
    with pytest.raises(HttpFailed) as caught:
        await client.request("GET", f"{house.origin}/gzipped/50000000")
    assert caught.value.why is Why.TOO_LARGE


async def test_a_stream_comes_in_chunks(house: House) -> None:
    client = house.client()
    async with client.stream("GET", f"{house.origin}/body") as stream:
        assert stream.status == 200 and stream.headers["etag"] == '"1"'
        chunks = [chunk async for chunk in stream.chunks()]
    assert b"".join(chunks) == BODY and len(chunks) > 1 and all(chunks)
    async with client.stream("GET", f"{house.origin}/body") as stream:
        assert await stream.read() == BODY
    async with client.stream("GET", f"{house.origin}/body") as stream:
        with pytest.raises(HttpFailed) as caught:
            await stream.read(1000)
    assert caught.value.why is Why.TOO_LARGE


async def test_a_server_that_dies_in_the_body_is_a_cut_behind_its_bytes(house: House) -> None:
    got = b""
    with pytest.raises(HttpFailed) as caught:
        async with house.client().stream("GET", f"{house.origin}/breaks") as stream:
            async for chunk in stream.chunks():
                got += chunk
    assert (caught.value.why, caught.value.phase) == (Why.CUT, Phase.BODY)
    assert got == b"begins"


async def test_a_server_that_dies_before_its_answer_says_500(house: House) -> None:
    answer = await house.client().request("GET", f"{house.origin}/dies")
    assert answer.status == 500


async def test_no_answer_is_a_timeout(house: House, app: Application) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", f"{house.origin}/silent", timeouts=SHORT)
    assert (caught.value.why, caught.value.phase) == (Why.TIMEOUT, Phase.WAIT)


async def test_a_body_that_stalls_is_a_timeout(house: House) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", f"{house.origin}/stalls", timeouts=SHORT)
    assert (caught.value.why, caught.value.phase) == (Why.TIMEOUT, Phase.BODY)


async def test_the_whole_of_a_request_may_have_an_end(house: House) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request(
            "GET", f"{house.origin}/silent", timeouts=HttpTimeouts(total=1)
        )
    assert caught.value.why is Why.TIMEOUT


async def test_nobody_there(house: House) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", "http://127.0.0.1:1/?secret")
    assert (caught.value.why, caught.value.phase) == (Why.UNREACHABLE, Phase.CONNECT)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/", "http://", "http://u:secret@host/", "http://host:x/", "secret", ""]
)
async def test_urls_that_cannot_be_asked(house: House, url: str) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", url)
    assert caught.value.why is Why.BAD_URL
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
async def test_a_field_cannot_break_out(house: House, value: str) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", f"{house.origin}/echo", headers=[("X-Token", value)])
    assert (caught.value.why, caught.value.phase) == (Why.VIOLATION, Phase.SEND)
    assert "Evil" not in str(caught.value)


async def test_without_leave_a_redirect_is_an_answer(house: House) -> None:
    answer = await house.client().request("GET", f"{house.origin}/goto/302?/echo")
    assert answer.status == 302 and answer.headers["location"] == "/echo"


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (301, "PUT", "PUT", "b"),
        (307, "POST", "POST", "b"),
        (308, "PUT", "PUT", "b"),
    ],
)
async def test_redirects_keep_or_change_the_method(
    house: House, status: int, method: str, then: str, body: str
) -> None:
    told = await echoed(
        house,
        method,
        f"{house.origin}/goto/{status}?/echo",
        headers=[("Authorization", "t"), ("Content-Type", "text/plain")],
        body=b"b",
        redirects=1,
    )
    assert (told["method"], told["body"]) == (then, body)
    assert told["fields"]["authorization"] == "t"
    assert ("content-type" in told["fields"]) is bool(body)


async def test_secrets_stay_with_their_origin(house: House) -> None:
    client = house.client()
    secret = [("Authorization", "t"), ("Cookie", "c"), ("X-Else", "e")]
    async with client.stream(
        "GET", f"{house.origin}/goto/302?{house.other}/echo", headers=secret, redirects=1
    ) as stream:
        assert stream.url == f"{house.other}/echo"
        fields = dict(json.loads(await stream.read())["headers"])
    assert "authorization" not in fields and "cookie" not in fields and fields["x-else"] == "e"


async def test_secrets_do_not_come_back_with_a_redirect_home(house: House) -> None:
    there_and_back = f"{house.origin}/goto/302?{house.other}/goto/302?{house.origin}/echo"
    told = await echoed(house, "GET", there_and_back, headers=[("Authorization", "t")], redirects=5)
    assert "authorization" not in told["fields"]


async def test_redirects_end(house: House, app: Application) -> None:
    with pytest.raises(HttpFailed) as caught:
        await house.client().request("GET", f"{house.origin}/again/0", redirects=4)
    assert caught.value.why is Why.REDIRECTS
    assert len(app.scopes) == 5


async def test_a_redirect_to_nonsense_is_a_bad_url(house: House) -> None:
    for there in ("gopher://x/", "http://[", "http://u:p@host/"):
        with pytest.raises(HttpFailed) as caught:
            await house.client().request("GET", f"{house.origin}/goto/302?{there}", redirects=4)
        assert caught.value.why is Why.BAD_URL


async def test_cookies_are_kept_when_asked_and_for_one_identity(house: House) -> None:
    keeps = house.client(cookies=True)
    await keeps.request("GET", f"{house.origin}/cookies")
    fields = dict(json.loads((await keeps.request("GET", f"{house.origin}/echo")).body)["headers"])
    assert fields["cookie"].startswith("a=1")
    for other in (house.client(cookies=True), house.client()):
        told = json.loads((await other.request("GET", f"{house.origin}/echo")).body)
        assert "cookie" not in dict(told["headers"])


async def test_a_planned_cut_gives_the_bytes_before_it_and_is_told(
    house: House, app: Application
) -> None:
    cuts: list[int] = []
    got = b""
    with pytest.raises(HttpFailed) as caught:
        async with house.client().stream(
            "GET", f"{house.origin}/body", link=HttpLink(None, (70_000, 90_000), cuts.append)
        ) as stream:
            async for chunk in stream.chunks():
                got += chunk
    assert (caught.value.why, caught.value.phase) == (Why.CUT, Phase.BODY)
    assert got == BODY[:70_000] and cuts == [70_000]


async def test_cuts_count_in_the_resource(house: House) -> None:
    got = b""
    with pytest.raises(HttpFailed):
        async with house.client().stream(
            "GET", f"{house.origin}/part/60000", link=HttpLink(None, (50_000, 70_000))
        ) as stream:
            async for chunk in stream.chunks():
                got += chunk
    assert got == BODY[60_000:70_000]


async def test_a_cut_at_the_end_cuts_nothing(house: House) -> None:
    link = HttpLink(None, (len(BODY),))
    async with house.client().stream("GET", f"{house.origin}/body", link=link) as stream:
        assert await stream.read() == BODY


async def test_a_cut_is_seen_by_the_server(house: House, app: Application) -> None:
    with pytest.raises(HttpFailed):
        async with house.client().stream(
            "GET", f"{house.origin}/endless", link=HttpLink(None, (1000,))
        ) as stream:
            await stream.read()
    await asyncio.wait_for(app.gone.wait(), 10)


async def test_leaving_a_stream_drops_what_is_left(house: House, app: Application) -> None:
    client = house.client()
    async with client.stream("GET", f"{house.origin}/endless") as stream:
        async for _ in stream.chunks():
            break
    await asyncio.wait_for(app.gone.wait(), 10)
    assert (await client.request("GET", f"{house.origin}/status/204")).status == 204


async def test_a_slow_link_takes_its_time_and_holds_the_sender_back(
    house: House, app: Application
) -> None:
    """40,000 bytes at 20,000 a second; the server may run ahead by buffers, not by a body."""
    begun = house.runtime.clock.now()
    got = 0
    async with house.client().stream(
        "GET", f"{house.origin}/endless", link=HttpLink(20_000.0)
    ) as stream:
        async for chunk in stream.chunks():
            got += len(chunk)
            if got >= 40_000:
                break
        assert house.runtime.clock.now() - begun >= 1.9
        assert app.sent < 16 << 20


async def test_requests_run_side_by_side(house: House) -> None:
    client = house.client()
    async with client.stream("GET", f"{house.origin}/endless") as stream:
        answers = await asyncio.gather(
            *(client.request("GET", f"{house.origin}/echo") for _ in range(5))
        )
        assert {answer.status for answer in answers} == {200}
        assert stream.status == 200


async def test_abort_ends_what_runs_and_the_client_can_be_used_again(
    house: House, app: Application
) -> None:
    client = house.client()
    waiting = [
        asyncio.create_task(client.request("GET", f"{house.origin}/{path}"))
        for path in ("silent", "stalls")
    ]
    while len(app.scopes) < 2:
        await asyncio.sleep(0)
    client.abort()
    for task in waiting:
        with pytest.raises(HttpFailed) as caught:
            await task
        assert caught.value.why is Why.CUT
    assert (await client.request("GET", f"{house.origin}/status/204")).status == 204


async def test_a_cancelled_request_leaves_nothing_behind(house: House, app: Application) -> None:
    client = house.client()
    task = asyncio.create_task(client.request("GET", f"{house.origin}/silent"))
    while not app.scopes:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.request("GET", f"{house.origin}/status/204")).status == 204


async def test_certificates_that_do_not_load_are_named_at_once(house: House) -> None:
    for credential in (
        Credential(authorities=b"no certificate"),
        Credential(certificate=b"no", private_key=b"secret"),
    ):
        with pytest.raises(UnusableSettings) as caught:
            house.client(credential=credential)
        assert "secret" not in str(caught.value)


async def test_the_server_sees_the_source_address(house: House, app: Application) -> None:
    await house.client(source="127.0.0.7").request("GET", f"{house.origin}/status/204")
    assert app.scopes[0]["client"][0] == "127.0.0.7"
