"""Registration over REST, in all three versions: shapes, refusals, and what is never repeated."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.runtime import Runtime
from tests.tools.backend.callbacks.callback_room import ScriptedListener
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, started
from tools.backend.backend import Backend
from tools.backend.callbacks.listeners import MAX_URL, check_url
from tools.backend.errors import RequestRefused
from tools.backend.store import tables

SECRET = "hunter2-never-again"
URL = "https://listener.example:8443/fota?key=k"
PATH = {version: f"/api/fota/v{version}/callbacks" for version in (1, 2, 3)}


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    config = replace(CONFIG, db=str(tmp_path / "b.db"), callback_transport=ScriptedListener())
    async with Runtime.in_memory() as runtime, started(runtime, config) as made:
        yield made


@pytest.fixture
async def api(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    async with logged_in(backend) as client:
        yield client


async def register(
    api: httpx.AsyncClient, backend: Backend, version: int, url: Any = URL, method: str = "POST"
) -> httpx.Response:
    body = {"url": url, "username": "me", "password": SECRET}
    if version == 1:
        body["name"] = "Fota"
    # The Content-Type that the SDK sends.
    return await api.request(
        method,
        f"{PATH[version]}/{backend.account.name}",
        content=json.dumps(body),
        headers={"Content-Type": "*/*"},
    )


async def listed(api: httpx.AsyncClient, backend: Backend, version: int) -> Any:
    answer = await api.get(f"{PATH[version]}/{backend.account.name}")
    assert answer.status_code == 200
    return answer.json()


async def deregister(
    api: httpx.AsyncClient, backend: Backend, version: int, service: str = "Fota"
) -> httpx.Response:
    tail = f"/name/{service}" if version == 1 else ""
    return await api.delete(f"{PATH[version]}/{backend.account.name}{tail}")


async def test_v1_is_registered_listed_and_removed(
    api: httpx.AsyncClient, backend: Backend
) -> None:
    account = backend.account.name
    assert await listed(api, backend, 1) == []
    answer = await register(api, backend, 1)
    assert (answer.status_code, answer.json()) == (
        200,
        {"accountName": account, "serviceName": "Fota"},
    )
    assert await listed(api, backend, 1) == [{"aname": account, "name": "Fota", "url": URL}]
    assert (await deregister(api, backend, 1)).json() == {"success": True}
    assert await listed(api, backend, 1) == []


@pytest.mark.parametrize("version", [2, 3])
async def test_v2_and_v3_are_registered_changed_and_removed(
    api: httpx.AsyncClient, backend: Backend, version: int
) -> None:
    assert await listed(api, backend, version) == {}
    answer = await register(api, backend, version)
    assert (answer.status_code, answer.json()) == (200, {"url": URL})
    answer = await register(api, backend, version, "https://other.example/", "PUT")
    assert (answer.status_code, answer.json()) == (200, {"url": "https://other.example/"})
    assert await listed(api, backend, version) == {"url": "https://other.example/"}
    assert (await deregister(api, backend, version)).json() == {"success": True}
    assert await listed(api, backend, version) == {}


@rules("BR-125")
@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_second_registration_replaces_the_first(
    api: httpx.AsyncClient, backend: Backend, version: int
) -> None:
    await register(api, backend, version)
    await register(api, backend, version, "https://second.example/")
    found = await listed(api, backend, version)
    assert found == (
        [{"aname": backend.account.name, "name": "Fota", "url": "https://second.example/"}]
        if version == 1
        else {"url": "https://second.example/"}
    )


@rules("BR-125")
async def test_versions_have_listeners_of_their_own(
    api: httpx.AsyncClient, backend: Backend
) -> None:
    await register(api, backend, 2)
    assert await listed(api, backend, 1) == []
    assert await listed(api, backend, 3) == {}


@rules("BR-134")
@pytest.mark.parametrize("version", [1, 2, 3])
async def test_what_needs_a_listener_says_so(
    api: httpx.AsyncClient, backend: Backend, version: int
) -> None:
    answers = [await deregister(api, backend, version)]
    if version != 1:
        answers.append(await register(api, backend, version, method="PUT"))
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json() == {
            "errorCode": "INVALID_PARAMETER",
            "errorMessage": "No callback listener is registered",
        }


async def test_v1_has_one_service(api: httpx.AsyncClient, backend: Backend) -> None:
    path = f"{PATH[1]}/{backend.account.name}"
    answer = await api.post(path, json={"name": "CarrierService", "url": URL})
    assert (answer.status_code, answer.json()["errorMessage"]) == (
        400,
        "The name of the callback service is Fota",
    )
    assert (await api.post(path, json={"url": URL})).status_code == 400
    assert (await deregister(api, backend, 1, "fota")).status_code == 400
    assert await listed(api, backend, 1) == []


@rules("BR-136")
@pytest.mark.parametrize("version", [1, 2, 3])
async def test_user_name_and_password_are_accepted_and_dropped(
    api: httpx.AsyncClient,
    backend: Backend,
    version: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await register(api, backend, version)
    assert answer.status_code == 200
    shown = json.dumps([answer.json(), await listed(api, backend, version)])
    assert "username" not in shown
    assert "password" not in shown
    await backend.writer.flushed()
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
    assert SECRET not in caplog.text
    assert SECRET not in repr(backend.callbacks.listener(backend.account.name, version))


GOOD = [
    "https://listener.example",
    "https://listener.example:8443/a/b?c=d",
    "https://10.0.0.1/",
    "https://[2001:db8::1]/x",
    "http://127.0.0.1:9/x",
    "http://127.255.0.1/",
    "http://[::1]:8080/x",
    "http://localhost:1/x",
    "http://LOCALHOST/",
]
BAD = [
    ("", "1 to 2048"),
    ("x" * (MAX_URL + 1), "1 to 2048"),
    ("https://" + "h" * MAX_URL, "1 to 2048"),
    ("ftp://listener.example/", "not an absolute"),
    ("file:///etc/passwd", "not an absolute"),
    ("listener.example/x", "not an absolute"),
    ("//listener.example/x", "not an absolute"),
    ("https:///x", "not an absolute"),
    ("https:listener.example", "not an absolute"),
    ("https://h:port/", "not an absolute"),
    ("https://[::1/", "not an absolute"),
    ("https://h:0/", "port"),
    ("https://h:65536/", "port"),
    ("https://user:hunter2@h/", "user name"),
    ("https://user@h/", "user name"),
    ("https://@h/", "user name"),
    ("https://h /", "printable"),
    ("https://h\n/", "printable"),
    ("https://h\x00/", "printable"),
    ("https://h\\@evil/", "printable"),
    ("https://b\u00fccher.example/", "printable"),
    ("http://listener.example/", "loopback"),
    ("http://10.0.0.1/", "loopback"),
    ("http://0.0.0.0/", "loopback"),
    ("http://169.254.169.254/latest/meta-data", "loopback"),
    ("http://127.0.0.1.evil.example/", "loopback"),
    ("http://localhost.evil.example/", "loopback"),
    ("http://2130706433/", "loopback"),
    ("http://0x7f000001/", "loopback"),
    ("http://127.1/", "loopback"),
]


@pytest.mark.parametrize("url", GOOD)
def test_an_address_that_is_taken(url: str) -> None:
    assert check_url(url) == url


@rules("BR-133")
@pytest.mark.parametrize(("url", "why"), BAD)
def test_an_address_that_is_refused(url: str, why: str) -> None:
    with pytest.raises(RequestRefused, match=why) as refused:
        check_url(url)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_PARAMETER")
    assert refused.value.message.startswith("url: ")
    assert "hunter2" not in refused.value.message


@given(st.text(max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"http://{text}", f"http://127.0.0.1{text}"):
        with contextlib.suppress(RequestRefused):
            # What is taken goes over TLS or stays here, for the code that sends it too.
            taken = httpx.URL(check_url(url))
            if taken.scheme != "https" and taken.host != "localhost":
                assert ipaddress.ip_address(taken.host).is_loopback
            assert not taken.userinfo


REGISTRATIONS = [
    {"url": None},
    {"url": 5},
    {"url": ["https://h/"]},
    {"url": {"a": 1}},
    {"url": True},
    {"url": ""},
    {"url": "https://user:hunter2@h/"},
    {"url": "http://10.0.0.1/"},
]
BODIES = [b"", b"{", b"[]", b"null", b"{}", b'"https://h/"', b"\xff"]


async def test_a_body_that_is_no_registration(api: httpx.AsyncClient, backend: Backend) -> None:
    bodies = BODIES + [json.dumps({"name": "Fota", **body}).encode() for body in REGISTRATIONS]
    for version in (1, 2, 3):
        for body in bodies:
            answer = await api.post(f"{PATH[version]}/{backend.account.name}", content=body)
            assert (answer.status_code, set(answer.json())) == (400, {"errorCode", "errorMessage"})
            assert answer.json()["errorCode"] == "INVALID_PARAMETER"
            assert "hunter2" not in answer.text
    found = await backend.writer.read(
        lambda connection: connection.execute(tables.listeners.select()).all()
    )
    assert found == []


async def test_another_account_answers_as_one_that_does_not_exist(
    api: httpx.AsyncClient, backend: Backend
) -> None:
    answers = set()
    for name in ("0000000009-00009", "0000000008-00008"):
        for version in (1, 2, 3):
            path = f"{PATH[version]}/{name}"
            tail = "/name/Fota" if version == 1 else ""
            for answer in (
                await api.get(path),
                await api.post(path, json={"name": "Fota", "url": URL}),
                await api.delete(path + tail),
            ):
                answers.add((answer.status_code, answer.text))
    assert len(answers) == 1
    assert answers.pop()[0] == 400


async def test_every_route_wants_a_login(backend: Backend) -> None:
    transport = httpx.ASGITransport(app=backend.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for version, path in PATH.items():
            tail = "/name/Fota" if version == 1 else ""
            name = backend.account.name
            for method, url in (
                ("GET", f"{path}/{name}"),
                ("POST", f"{path}/{name}"),
                ("DELETE", f"{path}/{name}{tail}"),
            ):
                assert (await client.request(method, url)).status_code == 401


OPERATIONS = {
    1: {"list_registered_callbacks", "register_callback", "deregister_callback"},
    2: {
        "list_registered_callbacks",
        "register_callback",
        "update_callback",
        "deregister_callback",
    },
}


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_operations_have_the_names_of_the_sdk(api: httpx.AsyncClient, version: int) -> None:
    document = (await api.get(f"/api/fota/v{version}/openapi.json")).json()
    found = {
        operation["operationId"]
        for path, methods in document["paths"].items()
        if "/callbacks/" in path
        for operation in methods.values()
    }
    assert found == OPERATIONS[min(version, 2)]


async def test_a_listener_outlives_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"), callback_transport=ScriptedListener())
    async with Runtime.in_memory() as runtime:
        async with started(runtime, config) as backend, logged_in(backend) as api:
            await register(api, backend, 2)
        async with started(runtime, config) as backend, logged_in(backend) as api:
            assert await listed(api, backend, 2) == {"url": URL}
