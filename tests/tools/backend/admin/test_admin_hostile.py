"""Whatever is sent to the admin API: an answer in its one form, and never a fault of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.protocols.http.transport.certificates import authority
from tests.tools.backend.process import BackendProcess
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.virtual import IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.serve import is_loopback

BODIES: tuple[bytes, ...] = (
    b"",
    b" ",
    b"{",
    b"{}",
    b"[]",
    b"null",
    b"1e999",
    b'"text"',
    b"\xff\xfe\x00",
    b"\x00" * 100,
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b'{"names": ["\\ud800"]}',
    b'{"names": [null]}',
    b'{"names": ["nobody"], "auth": "none"}',
    b'{"name": "\\u0000", "status": "active", "capacity": 1e400, "rate": 1e400}',
    b'{"status": "active", "mdn": "' + b"1" * 100_000 + b'"}',
    b'{"advanceTo": "0000-00-00T00:00:00Z"}',
    b'{"advanceTo": 1e308}',
    b'{"advanceTo": -1}',
    b'{"capacity": ' + b"9" * 5_000 + b"}",
    b'{"purchaseType": ",,,", "licenseCount": 1}',
    b'{"purchaseType": "TS-HFOTA-EVNT,TS-HFOTA-EVNT", "licenseCount": 1}',
    b'[{"name": "a\\u0000b"}]',
    b'[{"name": "x", "firmware": "\\u0000"}]',
)
NAMES = ("x", "%00", "%ED%A0%80", "..", "%2e%2e%2f", "a" * 3_000, "%F0%9F%92%A9", "a%2Fb", "%0d%0a")
QUERIES = (
    "",
    "account=%00",
    "account=&account=1",
    "limit=99999999999999999999&after=%ff",
    "limit=-1&state=%00",
    "name=&version=",
    "name=%00&version=%ED%A0%80&protocol=LWM2M",
    "name=" + "n" * 200 + "&version=1",
    "name=x&version=1&make=" + "m" * 65,
)


def requests(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        for method in operations:
            for name in NAMES if "{name}" in path else ("",):
                yield method.upper(), path.replace("{name}", name)


async def in_the_one_form(answer: httpx.Response, what: object) -> None:
    assert answer.status_code < 500, (what, answer.text)
    if answer.status_code >= 400:
        assert set(answer.json()) == {"errorCode", "errorMessage"}, what
        assert len(answer.text) < 2_000, what


async def stocked(backend: Backend) -> None:
    await backend.load_devices([{"name": "x"}])
    await backend.add_package(IMAGE, name="x", version="1")


@virtual
async def test_every_route_survives_every_body() -> None:
    async with world() as backend, administrator(backend) as admin:
        await stocked(backend)
        document = (await admin.get("/admin/openapi.json")).json()
        for method, path in requests(document):
            if method == "GET":
                continue
            for body in BODIES:
                for kind in ("application/json", "text/csv", "\x7f"):
                    answer = await admin.request(
                        method, path, content=body, headers={"Content-Type": kind}
                    )
                    await in_the_one_form(answer, (method, path, kind, body[:40]))
        # It still works, and what was refused was not done.
        assert backend.time.rate == 1
        listed = (await admin.get("/admin/accounts")).json()["accounts"]
        assert [account["name"] for account in listed] == [backend.account.name]


@virtual
async def test_every_route_survives_every_query() -> None:
    async with world() as backend, administrator(backend) as admin:
        await stocked(backend)
        document = (await admin.get("/admin/openapi.json")).json()
        for method, path in requests(document):
            for query in QUERIES:
                answer = await admin.request(method, f"{path}?{query}")
                await in_the_one_form(answer, (method, path, query))


# -- on real sockets ---


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("example.org", False),
    ],
)
def test_what_loopback_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_the_listener_of_a_process(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path)
    await backend.start()
    token = backend.ready["admin"]["token"]
    async with backend.administrator() as admin:
        assert (await admin.get("/admin/clock")).json()["rate"] == 1
        assert (await admin.get("/readyz")).json() == {"status": "ok"}
        text = (await admin.get("/metrics")).text
        assert "fotilla_store_commits_total" in text
        assert "process_resident_memory_bytes" in text
        made = await admin.post("/admin/accounts", json={"name": "0000000000-00002"})
        assert made.status_code == 200
        await admin.post("/admin/clock", json={"advanceBy": 86_400})
        last = (await admin.get("/admin/clock")).json()["now"]
    async with httpx.AsyncClient(base_url=backend.ready["listeners"]["rest"]) as customer:
        assert (await customer.get("/healthz")).status_code == 200
        assert (await customer.get("/admin/clock")).status_code == 404
        assert (await customer.get("/metrics")).status_code == 404
    backend.kill()
    # Nothing that was answered is lost, and the time goes on.
    await backend.start()
    assert backend.ready["admin"]["token"] != token
    async with backend.administrator() as admin:
        assert (await admin.get("/admin/clock")).json()["now"] >= last
        names = [one["name"] for one in (await admin.get("/admin/accounts")).json()["accounts"]]
        assert "0000000000-00002" in names
    assert backend.interrupt() == 0
    said = (tmp_path / "stderr").read_text()
    assert token not in said
    assert made.json()["secret"] not in said
    assert "warning" not in said


@pytest.mark.parametrize("tls", [False, True])
async def test_an_open_listener_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    from tests.tools.backend import process

    file = tmp_path / "token"
    more = f'admin="0.0.0.0:0", admin_token_file=Path({json.dumps(str(file))}),'
    if tls:
        for name, content in zip(("cert", "key"), authority().issue("backend"), strict=True):
            (tmp_path / name).write_bytes(content)
            more += f"admin_{name}=Path({json.dumps(str(tmp_path / name))}),"
    monkeypatch.setattr(process, "PROGRAM", process.PROGRAM.replace('admin="127.0.0.1:0",', more))
    backend = BackendProcess(tmp_path)
    await backend.start()
    assert backend.ready["admin"]["token"] == file.read_text().strip()
    assert backend.interrupt() == 0
    said = (tmp_path / "stderr").read_text()
    assert ("warning: --admin 0.0.0.0 is no loopback address" in said) is not tls
    assert f"administration on http{'s' * tls}://0.0.0.0:" in said
    assert file.read_text().strip() not in said
