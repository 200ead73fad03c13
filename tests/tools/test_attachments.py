"""A fleet's devices in the operator network of a backend: attached while they run, gone after."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend, BackendConfig
from tools.backend.errors import RequestRefused
from tools.fleet.attachments import Attachments, OperatorAccess, listening, read_access
from tools.fleet.spec import FleetSpec, SpecError

IMEI = 350000000000000


@pytest.fixture
async def backend():  # type: ignore[no-untyped-def]
    async with Runtime.in_memory() as runtime:
        backend = Backend(runtime, BackendConfig())
        await backend.start()
        yield backend
        await backend.stop()


def access(backend: Backend, secret: str | None = None, cells: int = 1) -> OperatorAccess:
    account = backend.account
    return OperatorAccess("http://test", account.name, secret or account.secret, cells)


def attachments(backend: Backend, **changes: object) -> Attachments:
    return Attachments(
        access(backend, **changes),  # type: ignore[arg-type]
        httpx.ASGITransport(app=backend.app),
    )


async def test_devices_are_spread_over_cells_and_gone_at_the_end(backend: Backend) -> None:
    names = [f"urn:imei:{IMEI + number}" for number in range(10)]
    await backend.load_devices({"name": name} for name in names)
    fleet = attachments(backend, cells=3)
    for position, name in enumerate(names):
        fleet.attach(name, position)
    await fleet.settled()
    cells = [backend.operator.cell_of(str(IMEI + number)) for number in range(10)]
    assert cells == [f"cell-{number % 3}" for number in range(10)]
    assert backend.engine.cell_of(str(IMEI)) == "cell-0"
    assert fleet.failed == 0
    await fleet.close()
    assert [backend.operator.attachment(name) for name in names] == [None] * 10


async def test_messages_to_a_device_without_an_address_wait(backend: Backend) -> None:
    name = f"urn:imei:{IMEI}"
    await backend.load_devices([{"name": name}])
    await backend.operator.attach(name, "c", None)
    await backend.operator.submit(name, b"x", 60.0)
    assert backend.operator.waiting(name) == 1
    with pytest.raises(RequestRefused, match="not an IP address"):
        await backend.operator.attach(name, "c", ("", 0))


async def test_what_the_network_refuses_is_counted_and_said(backend: Backend) -> None:
    fleet = attachments(backend, secret="wrong")
    fleet.attach("urn:imei:1", 0)
    await fleet.settled()
    assert fleet.failed == 1
    assert fleet.trouble.startswith("401")
    assert "wrong" not in fleet.trouble and "wrong" not in repr(access(backend, "wrong"))
    await fleet.close()


def test_a_ready_file_says_where_to_ask(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    content = {"listeners": {"rest": "http://h:1"}, "account": {"name": "a", "secret": "s"}}
    ready.write_text(json.dumps(content))
    assert read_access(ready, 5) == OperatorAccess("http://h:1", "a", "s", 5)


@pytest.mark.parametrize(
    ("text", "cells", "wrong"),
    [
        (None, 1, "cannot read"),
        ("{", 1, "no ready file"),
        ('{"listeners": {}}', 1, "no ready file"),
        ("[]", 1, "no ready file"),
        ("{}", 0, "from 1 to"),
    ],
)
def test_another_file_is_named(tmp_path: Path, text: str | None, cells: int, wrong: str) -> None:
    ready = tmp_path / "ready.json"
    if text is not None:
        ready.write_text(text)
    with pytest.raises(SpecError, match=wrong):
        read_access(ready, cells)


async def test_a_device_that_boots_again_says_where_it_is_now(backend: Backend) -> None:
    name = f"IMEI:{IMEI}"
    await backend.load_devices([{"name": name, "protocol": "OMADM"}])
    fleet = attachments(backend)
    for port in (1000, 1001):
        fleet.attach(name, 0, ("127.0.0.1", port))
    await fleet.settled()
    found = backend.operator.attachment(name)
    assert found is not None and found.push == ("127.0.0.1", 1001)
    await fleet.close()
    assert backend.operator.attachment(name) is None


async def test_a_network_that_was_away_or_forgot_the_token_is_asked_again(backend: Backend) -> None:
    names = [f"urn:imei:{IMEI + number}" for number in range(2)]
    await backend.load_devices({"name": name} for name in names)
    app = httpx.ASGITransport(app=backend.app)
    away, waits = True, []

    async def answer(request: httpx.Request) -> httpx.Response:
        if away:
            raise httpx.ConnectError("refused")
        if request.headers.get("Authorization") == "Bearer forgotten":
            return httpx.Response(401)
        return await app.handle_async_request(request)

    async def back_soon(seconds: float) -> None:
        nonlocal away
        waits.append(seconds)
        away = len(waits) < 3

    fleet = Attachments(access(backend), httpx.MockTransport(answer), back_soon)
    fleet.attach(names[0], 0)
    await fleet.settled()
    assert waits == [1.0, 2.0, 4.0]
    assert backend.operator.cell_of(str(IMEI)) == "cell-0"
    fleet._token = "forgotten"
    fleet.attach(names[1], 0)
    await fleet.settled()
    assert backend.operator.cell_of(str(IMEI + 1)) == "cell-0"
    assert (fleet.failed, fleet.trouble) == (0, "")
    await fleet.close()


def test_an_account_is_one_of_the_ready_file(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    first, second = {"name": "a", "secret": "s"}, {"name": "b", "secret": "t"}
    content = {"listeners": {"rest": "http://h:1"}, "account": first, "accounts": [first, second]}
    ready.write_text(json.dumps(content))
    assert read_access(ready, 1, "b") == OperatorAccess("http://h:1", "b", "t", 1)
    with pytest.raises(SpecError, match=r"account: .*ready.json has the secrets of a, b only"):
        read_access(ready, 1, "c")


def spec(protocol: str, server: str, **changes: object) -> FleetSpec:
    return FleetSpec(
        server=server,
        devices=1,
        names=("n",),
        image=b"x",
        keys=(b"x",),
        protocol=protocol,
        operator=OperatorAccess("http://h:1", "a", "s"),
        **changes,  # type: ignore[arg-type]
    )


def test_devices_that_can_be_woken_listen_for_pushes() -> None:
    server = "http://127.0.0.1:1/dm"
    assert dict(listening(spec("omadm", server)).options) == {"push": "0"}
    given = spec("omadm", server, options=(("push", "2948"),))
    assert dict(listening(given).options) == {"push": "2948"}
    assert listening(spec("lwm2m", "coap://h")).options == ()
    assert listening(spec("omadm", "http://192.0.2.1", bind="192.0.2.2")).bind == "192.0.2.2"
    with pytest.raises(SpecError, match="bind: needed with --operator"):
        listening(spec("omadm", "http://192.0.2.1/dm"))
    with pytest.raises(SpecError, match="attach by --option operator already"):
        listening(spec("omadm", server, options=(("operator", "http://h"),)))
