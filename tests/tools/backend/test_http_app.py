"""The device wire against everything a stranger can send: paths, credentials, bodies, ranges."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.backend.http_device import TIME, HttpDevice, devices, in_process
from tests.tools.backend.virtual import IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.faces import http_app
from tools.backend.faces.http_packages import select_part
from tools.backend.faces.http_wire import (
    MAX_CHECK_IN,
    MAX_LOG,
    MAX_STATUS,
    CheckIn,
    DeviceLog,
    Refused,
    Report,
    parse,
)

CHECK_IN = "/device/v1/checkin"
ETAG = b'"abc"'


async def one(backend: Backend, client: httpx.AsyncClient) -> HttpDevice:
    [device] = await devices(backend, client, 1)
    return device


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/device", 404),
        ("GET", "/device/v1", 404),
        ("POST", "/device/v1/", 404),
        ("POST", "/device/v1/nothing", 404),
        ("POST", "/device/v1/campaigns/1", 404),
        ("POST", "/device/v1/campaigns/1/status/2", 404),
        ("POST", "/device/v1/checkin/", 404),
        ("POST", "/elsewhere/v1/checkin", 404),
        ("POST", "/device/v2/checkin", 400),
        ("POST", "/device/v01/checkin", 400),
        ("POST", "/device//checkin", 400),
        ("GET", CHECK_IN, 405),
        ("HEAD", CHECK_IN, 405),
        ("PUT", "/device/v1/logs", 405),
        ("DELETE", "/device/v1/campaigns/1/status", 405),
        ("POST", "/device/v1/packages/1", 405),
        ("GET", "/device/v1/packages/1", 404),
    ],
)
@virtual
async def test_places(method: str, path: str, status: int) -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        answer = await client.request(method, path, headers=device.headers)
        assert answer.status_code == status
        if method != "HEAD":
            assert set(answer.json()) == {"errorCode", "errorMessage"}
        if status == 405:
            assert answer.headers["allow"] in ("POST", "GET, HEAD")


@virtual
async def test_who_is_there() -> None:
    async with world() as backend, in_process(backend) as client:
        first, second = await devices(backend, client, 2)
        await backend.load_devices([{"name": "meter", "protocol": "LWM2M"}])
        body = first.checkin_body()
        token = first.headers["Authorization"].removeprefix("Bearer ")
        for headers in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": token},
            second.headers,  # a valid token with another's name
        ):
            answer = await client.post(CHECK_IN, headers=headers, json=body)
            assert (answer.status_code, answer.content) == (401, b"")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in (first.headers, {"authorization": f"bearer {token} "}):
            assert (await client.post(CHECK_IN, headers=headers, json=body)).status_code == 200
        short = {**body, "deviceId": first.name.removeprefix("urn:imei:")}
        assert (await client.post(CHECK_IN, headers=first.headers, json=short)).status_code == 200
        # A new token ends the old one.
        fresh = await backend.mint_tokens([first.name])
        assert (await client.post(CHECK_IN, headers=first.headers, json=body)).status_code == 401
        headers = {"Authorization": f"Bearer {fresh[first.name]}"}
        assert (await client.post(CHECK_IN, headers=headers, json=body)).status_code == 200


@virtual
async def test_a_client_certificate_is_who_it_is() -> None:
    async with world() as backend, in_process(backend) as client:
        first, second = await devices(backend, client, 2)
        asked = json.dumps(first.checkin_body()).encode()

        async def status(name: str | None, device: HttpDevice | None) -> int:
            sent: list[dict[str, Any]] = []
            headers = []
            if device is not None:
                headers = [(b"authorization", device.headers["Authorization"].encode())]

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": asked}

            async def send(event: dict[str, Any]) -> None:
                sent.append(event)

            state = {} if name is None else {http_app.CLIENT_NAME: name}
            await backend.device_app(
                {
                    "type": "http",
                    "method": "POST",
                    "path": CHECK_IN,
                    "headers": headers,
                    "state": state,
                },
                receive,
                send,
            )
            return int(sent[0]["status"])

        assert await status(first.name, None) == 200
        assert await status(first.name.removeprefix("urn:imei:"), None) == 200
        assert await status(first.name, first) == 200
        assert await status(second.name, first) == 401
        assert await status(first.name, second) == 401
        assert await status("stranger", None) == 401
        assert await status(None, None) == 401


@virtual
async def test_tokens_are_checked_and_never_shown() -> None:
    async with world() as backend:
        for token in ("short", "with space", "", 12345678, "x" * 600):
            with pytest.raises(Exception, match="A token has") as caught:
                await backend.load_devices([{"name": "meter", "token": token}])
            assert not token or str(token) not in str(caught.value)
        await backend.load_devices([{"name": "meter", "token": "given-to-the-device"}])
        assert "given-to-the-device" not in repr(backend.inventory.devices["meter"])
        with pytest.raises(Exception, match="belongs to another"):
            await backend.load_devices([{"name": "other", "token": "given-to-the-device"}])
        with pytest.raises(Exception, match="does not exist"):
            await backend.mint_tokens(["nobody"])
        stored = await backend.writer.read(
            lambda connection: "\n".join(map(str, connection.connection.iterdump()))  # type: ignore[union-attr]
        )
        assert "given-to-the-device" not in stored


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {**base, **changes}
    return {key: value for key, value in found.items() if value is not ...}


GOOD = HttpDevice(None, "meter", None).checkin_body()  # type: ignore[arg-type]
REPORT = {"seq": 0, "state": "downloading", "time": TIME}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"deviceId": ...}, "deviceId"),
        ({"deviceId": 350000000000000}, "deviceId"),
        ({"deviceId": ""}, "deviceId"),
        ({"reason": "boredom"}, "reason"),
        ({"clientType": None}, "clientType"),
        ({"make": "x" * 65}, "make"),
        ({"model": ["virtual"]}, "model"),
        ({"software": ...}, "software"),
        ({"software": {"name": "a"}}, "software"),
        ({"software": [{"name": "a"}]}, "software.0.version"),
        ({"software": [{"name": "a", "version": "1"}] * 65}, "software"),
        ({"files": None}, "files"),
        ({"current": {"campaignId": "1", "state": "flying"}}, "current.state"),
        ({"current": {"campaignId": "1", "state": "waiting", "offset": -1}}, "current.offset"),
        ({"current": {"campaignId": "1", "state": "waiting", "offset": "5"}}, "current.offset"),
        ({"current": []}, "current"),
    ],
)
def test_a_wrong_member_of_a_check_in_is_named(changes: dict[str, Any], where: str) -> None:
    body = json.dumps(changed(GOOD, **changes)).encode()
    with pytest.raises(Refused) as caught:
        parse(CheckIn, body)
    assert caught.value.status == 400
    assert str(caught.value).startswith(where)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"seq": ...}, "seq"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**53}, "seq"),
        ({"seq": 1.5}, "seq"),
        ({"seq": True}, "seq"),
        ({"state": "waiting"}, "state"),
        ({"time": 1}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2030-01-01T00:00:00"}, "time"),
        ({"version": 2}, "version"),
    ],
)
def test_a_wrong_member_of_a_report_is_named(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(Report, json.dumps(changed(REPORT, **changes)).encode())
    assert str(caught.value).startswith(where)


def test_unknown_members_are_ignored() -> None:
    future = {"new": {"deep": [1]}}
    assert parse(CheckIn, json.dumps({**GOOD, **future}).encode()).deviceId == "meter"
    assert parse(Report, json.dumps({**REPORT, **future}).encode()).seq == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 60_000, b'{"deviceId":' * 5_000, b"1e999"],
)
@virtual
async def test_what_is_no_message_is_400(body: bytes) -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        for path in ("/checkin", "/campaigns/1/status", "/logs"):
            answer = await device.post(path, content=body[:4000])
            assert answer.status_code == 400
            assert answer.json()["errorMessage"]
        assert (await device.post("/checkin", content=body)).status_code == 400


@pytest.mark.parametrize("reason", ["boredom", "", "Integrity", None])
@virtual
async def test_a_failure_needs_a_reason(reason: str | None) -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        firmware = await backend.add_package(IMAGE, name="a", version="2", protocol="HTTP")
        campaign = await backend.create_campaign([device.name], firmware)
        await backend.runtime.clock.sleep(0.1)
        await device.check_in()
        answer = await device.report(campaign.id, "failed", reason=reason, seq=1)
        assert (answer.status_code, "reason" in answer.text) == (400, True)
        await device.told(campaign.id, "failed", reason="integrity", seq=1)


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/checkin", MAX_CHECK_IN), ("/campaigns/1/status", MAX_STATUS), ("/logs", MAX_LOG)],
)
@virtual
async def test_too_much_is_413(path: str, limit: int) -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        assert (await device.post(path, content=b" " * (limit + 1))).status_code == 413

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(10 * limit // 1000):
                taken.append(1)
                yield b" " * 1000

        taken: list[int] = []
        answer = await device.post(path, content=endless())  # chunked: no length to refuse
        assert answer.status_code == 413
        # Refused before the body, if its length is said.
        length = {**device.headers, "Content-Length": str(limit + 1)}
        answer = await client.post(f"/device/v1{path}", headers=length, content=b"")
        assert answer.status_code == 413
        for wrong in ("-1", "+5", "1e3", "0x10"):
            length["Content-Length"] = wrong
            answer = await client.post(f"/device/v1{path}", headers=length, content=b"")
            assert answer.status_code == 413


async def raw(
    backend: Backend, device: HttpDevice, receive: Any, path: str = CHECK_IN
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    headers = [(b"authorization", device.headers["Authorization"].encode())]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await backend.device_app(scope, receive, send)
    return sent


@virtual
async def test_a_body_that_trickles_ends_in_408() -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        clock = backend.runtime.clock

        async def receive() -> dict[str, Any]:
            await clock.sleep(5)
            return {"type": "http.request", "body": b" ", "more_body": True}

        before = clock.now()
        sent = await raw(backend, device, receive)
        assert sent[0]["status"] == 408
        assert clock.now() - before == http_app.BODY_TIME


@virtual
async def test_a_client_that_hangs_up_costs_nothing() -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        events = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return events.pop(0)

        assert await raw(backend, device, receive) == []
        await device.check_in()


@virtual
async def test_overload_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_app, "MAX_WAITING", 3)
    async with world() as backend, in_process(backend) as client:
        made = await devices(backend, client, 8)
        answers = await asyncio.gather(
            *(device.post("/checkin", json=device.checkin_body()) for device in made)
        )
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * 3 + [503] * 5
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) > 0
        assert (await made[0].post("/checkin", json=made[0].checkin_body())).status_code == 200


@virtual
async def test_a_store_that_fails_takes_nothing_back() -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        firmware = await backend.add_package(IMAGE, name="a", version="2", protocol="HTTP")
        campaign = await backend.create_campaign([device.name], firmware)
        await backend.runtime.clock.sleep(0.1)
        await device.check_in()
        runner = backend.writer._runner
        whole = runner.run_inline
        runner.run_inline = lambda _work: 1 / 0  # type: ignore[method-assign]
        answer = await device.report(campaign.id, "downloading", seq=3)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await device.post("/checkin", json=device.checkin_body())).status_code == 503
        runner.run_inline = whole  # type: ignore[method-assign]
        await device.told(campaign.id, "downloading", seq=3)


# -- packages ---


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (200, 0, 100)),
        ({b"range": b"bytes=0-"}, (206, 0, 100)),
        ({b"range": b"bytes=10-19"}, (206, 10, 20)),
        ({b"range": b"bytes=10-1000"}, (206, 10, 100)),
        ({b"range": b"Bytes = 99-"}, (206, 99, 100)),
        ({b"range": b"bytes=-30"}, (206, 70, 100)),
        ({b"range": b"bytes=-300"}, (206, 0, 100)),
        ({b"range": b"bytes=-0"}, (416, 0, 0)),
        ({b"range": b"bytes=100-"}, (416, 0, 0)),
        ({b"range": b"bytes=100-5"}, (200, 0, 100)),
        ({b"range": b"bytes=5-3"}, (200, 0, 100)),
        ({b"range": b"bytes=0-4,6-9"}, (200, 0, 100)),
        ({b"range": b"bytes=-"}, (200, 0, 100)),
        ({b"range": b"lines=0-4"}, (200, 0, 100)),
        ({b"range": b"bytes=" + b"9" * 5000 + b"-"}, (200, 0, 100)),
        ({b"range": b"bytes=5-", b"if-range": ETAG}, (206, 5, 100)),
        ({b"range": b"bytes=5-", b"if-range": b'"old"'}, (200, 0, 100)),
        ({b"range": b"bytes=5-", b"if-range": b"W/" + ETAG}, (200, 0, 100)),
        (
            {b"range": b"bytes=5-", b"if-range": b"Tue, 01 Jan 2030 00:00:00 GMT"},
            (200, 0, 100),
        ),
        ({b"range": b"bytes=100-", b"if-range": b'"old"'}, (200, 0, 100)),
        ({b"if-none-match": ETAG}, (304, 0, 0)),
        ({b"if-none-match": b'"x", W/"abc"'}, (304, 0, 0)),
        ({b"if-none-match": b"*"}, (304, 0, 0)),
        ({b"if-none-match": b'"x"'}, (200, 0, 100)),
    ],
)
def test_ranges(headers: dict[bytes, bytes], expected: tuple[int, int, int]) -> None:
    part = select_part(headers, 100, ETAG)
    assert (part.status, part.start, part.end) == expected


@given(st.binary(max_size=60), st.integers(0, 1 << 20))
def test_any_range_is_inside(field: bytes, size: int) -> None:
    for value in (field, b"bytes=" + field):
        part = select_part({b"range": value}, size, ETAG)
        assert 0 <= part.start <= part.end <= size
        assert part.status in (200, 206, 416)
        assert part.status != 206 or part.start < part.end


@virtual
async def test_a_download_goes_on_where_it_was_cut() -> None:
    async with world() as backend, in_process(backend) as client:
        device = await one(backend, client)
        content = bytes(range(256)) * 1024  # several chunks
        firmware = await backend.add_package(content, name="a", version="2", protocol="HTTP")
        campaign = await backend.create_campaign([device.name], firmware)
        await backend.runtime.clock.sleep(0.1)
        url = (await device.check_in())["campaign"]["url"]
        head = await device.fetch(url, "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(content)
        etag = head.headers["etag"]
        assert etag == f'"{firmware.digest}"'
        assert campaign.members[device.name].position == 1  # a HEAD is no download
        first = await device.fetch(url, Range="bytes=0-99999")
        assert first.headers["content-range"] == f"bytes 0-99999/{len(content)}"
        rest = await device.fetch(url, Range="bytes=100000-", **{"If-Range": etag})
        assert (rest.status_code, first.content + rest.content) == (206, content)
        changed = await device.fetch(url, Range="bytes=100000-", **{"If-Range": '"other"'})
        assert (changed.status_code, changed.content) == (200, content)
        past = await device.fetch(url, Range=f"bytes={len(content)}-")
        assert (past.status_code, past.headers["content-range"], past.content) == (
            416,
            f"bytes */{len(content)}",
            b"",
        )
        same = await device.fetch(url, **{"If-None-Match": etag})
        assert (same.status_code, same.content) == (304, b"")
        assert (await client.get(url)).status_code == 401


# -- decoders ---


@given(st.binary(max_size=400))
def test_any_body_is_a_message_or_refused(body: bytes) -> None:
    for model in (CheckIn, Report, DeviceLog):
        try:
            parse(model, body)
        except Refused as refusal:
            assert refusal.status == 400
            assert json.loads(refusal.body)["errorMessage"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted({**GOOD, "current": 0})), JSON))
def test_any_json_is_a_message_or_refused(changes: dict[str, Any]) -> None:
    try:
        parse(CheckIn, json.dumps({**GOOD, **changes}).encode())
    except Refused as refusal:
        assert str(refusal)
