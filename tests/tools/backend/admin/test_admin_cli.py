"""`fotilla admin` against a backend on real sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.protocols.http.transport.certificates import authority as authority_of
from tests.tools.backend.virtual import CONFIG, IMAGE, started
from tools import cli
from tools.admin_cli import plain, table
from tools.admin_client import CA_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE, AdminRefused, Where, find
from tools.backend.backend import Backend, authority
from tools.backend.faces.base import TlsFiles
from tools.backend.serve import write_ready_file

SECOND = "0000000000-00002"
Call = Callable[..., "asyncio.Future[tuple[int, str, str]]"]


@asynccontextmanager
async def listening() -> AsyncIterator[Backend]:
    config = replace(CONFIG, admin=("127.0.0.1", 0))
    async with Runtime.real() as runtime, started(runtime, config) as backend:
        yield backend


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run the command in a thread, as a process of its own would be beside the backend."""

    def run(*argv: object) -> asyncio.Future[tuple[int, str, str]]:
        def command() -> tuple[int, str, str]:
            code = cli.call(["admin", *map(str, argv)])
            out, err = capsys.readouterr()
            return code, out, err

        return asyncio.get_running_loop().run_in_executor(None, command)

    return run


async def test_a_day_of_an_administrator(call: Call, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    by = ("--ready-file", ready)
    async with listening() as backend:
        write_ready_file(ready, backend)
        assert json.loads(ready.read_text())["admin"]["token"] == backend.admin_token

        async def done(*argv: object) -> str:
            code, out, err = await call(*by, *argv)
            assert (code, err) == (0, ""), argv
            return out

        secret = (await done("accounts", "add", SECOND, "--omadm-mode", "one_attempt")).split()[-1]
        assert backend.inventory.accounts[SECOND].secret == secret
        assert backend.inventory.accounts[SECOND].omadm_mode == "one_attempt"
        listed = await done("accounts", "list")
        assert secret not in listed
        assert [line.split()[0] for line in listed.splitlines()] == [
            "ACCOUNT",
            backend.account.name,
            SECOND,
        ]
        rotated = (await done("accounts", "secret", SECOND)).split()[-1]
        assert backend.inventory.accounts[SECOND].secret == rotated != secret
        await done("accounts", "subscription", SECOND, "--type", "TS-HFOTA-MRC", "--licences", "3")
        assert backend.inventory.accounts[SECOND].licence_count == 3

        table_file = tmp_path / "devices.csv"
        table_file.write_text("deviceId,make\n350000000000001,acme\n350000000000002,=1+1\n")
        assert await done("devices", "load", table_file) == "2 devices loaded\n"
        saved = tmp_path / "saved.json"
        await done("devices", "save", saved)
        assert [item["make"] for item in json.loads(saved.read_text())] == ["acme", "=1+1"]
        assert await done("devices", "load", saved, "--account", backend.account.name)
        line = await done("devices", "line", "350000000000001", "suspend", "--mdn", "1555")
        assert line == "urn:imei:350000000000001: suspend 1555\n"
        assert "line: suspend" in await done("devices", "show", "urn:imei:350000000000001")
        assert await done("devices", "unknown") == ""

        image = tmp_path / "app.bin"
        image.write_bytes(IMAGE)
        added = await done(
            "firmware", "add", image, "--name", "app v2", "--version", "2", "--make", "acme"
        )
        assert backend.inventory.packages[backend.account.name, "app v2"].make == "acme"
        assert await done("firmware", "list") == added
        assert await done("firmware", "remove", "app v2") == "app v2 removed\n"

        await done("cells", "set", "c/1", "4")
        assert backend.operator.cells.own() == {"c/1": 4}
        assert "c/1" in await done("cells", "list")
        await done("cells", "reset", "c/1")
        assert backend.operator.cells.own() == {}

        before = backend.time.now()
        await done("clock", "advance", "2d")
        assert backend.time.now() >= before + 2 * 86_400
        await done("clock", "rate", "60")
        await done("clock", "advance", "2100-01-01T00:00:00Z")
        assert "2100-01-01T" in await done("clock", "show")
        assert json.loads(await done("--json", "clock", "show"))["rate"] == 60
        assert (await done("callbacks")).split()[0] == "NUMBER"


async def test_what_goes_wrong_is_said_in_a_line(call: Call, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    token = tmp_path / "token"
    async with listening() as backend:
        write_ready_file(ready, backend)
        assert backend.admin_address is not None
        url = f"http://{authority(backend.admin_address)}"
        token.write_text("not-the-token-at-all\n")
        image = tmp_path / "x.txt"
        image.write_text("x")
        by = ("--ready-file", ready)
        for argv, says in (
            (("--url", url, "--token-file", token, "clock", "show"), "refuses the token"),
            (("--url", url, "clock", "show"), "token is missing"),
            (("--ready-file", tmp_path / "none", "clock", "show"), "No such file"),
            (("--ready-file", token, "clock", "show"), "not the ready file"),
            ((*by, "--url", url, "clock", "show"), "give one of them"),
            (("--url", "http://127.0.0.1:1", "--token-file", token, "clock", "show"), "cannot"),
            (("--url", "nowhere", "--token-file", token, "clock", "show"), "cannot"),
            (("--url", "http://[", "--token-file", token, "clock", "show"), "http://["),
            ((*by, "clock", "advance", "soon"), "not a duration"),
            ((*by, "clock", "advance", "2000-01-01T00:00:00Z"), "never goes back"),
            ((*by, "clock", "rate", "0"), "rate"),
            ((*by, "accounts", "add", "me"), "name"),
            ((*by, "accounts", "secret", SECOND), "Account does not exist"),
            ((*by, "devices", "load", tmp_path / "none.csv"), "none.csv"),
            ((*by, "devices", "load", image), "neither a .csv file nor a JSON array"),
            ((*by, "devices", "save", tmp_path / "x.xml"), ".csv or .json"),
            ((*by, "devices", "show", "nobody"), "Device does not exist"),
            ((*by, "firmware", "remove", "none"), "Firmware does not exist"),
            ((*by, "cells", "set", "c1", "many"), "capacity"),
            ((*by, "nothing"), "nothing"),
        ):
            code, out, err = await call(*argv)
            assert (code, out) == (2, ""), argv
            assert says in err, (argv, err)
            assert "Traceback" not in err
            assert "not-the-token-at-all" not in err
            assert backend.admin_token not in err
        assert (await call("--help"))[0] == 0
        assert (await call("clock", "--help"))[0] == 0


def test_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "from-the-environment")
    monkeypatch.setenv(URL_VARIABLE, "http://h:1")
    assert find(None, None, None) == Where("http://h:1", "from-the-environment")
    path = tmp_path / "token"
    path.write_text(" from-the-file\n")
    assert find(None, "http://h:2", path) == Where("http://h:2", "from-the-file")
    assert "from-the-file" not in repr(Where("u", "from-the-file"))
    path.write_bytes(b"\xff\n\n")
    with pytest.raises(AdminRefused, match="characters"):
        find(None, None, path)


def test_what_a_device_says_does_not_steer_the_terminal() -> None:
    assert plain("\x1b[31mred\u202e") == "\ufffd[31mred\ufffd"
    lines = list(table([{"a": "\x1b", "b": None}], {"a": "A", "b": "B"}))
    assert lines == ["A  B", "\ufffd  -"]


def admin_tls(folder: Path) -> tuple[TlsFiles, Path]:
    """The files of a listener on the loopback, and of who signed them."""
    trusted = authority_of("administration")
    certificate, key = trusted.issue("backend", address="127.0.0.1")
    paths = folder / "admin.pem", folder / "admin.key", folder / "ca.pem"
    for path, content in zip(paths, (certificate, key, trusted.pem), strict=True):
        path.write_bytes(content)
    return TlsFiles(paths[0], paths[1]), paths[2]


async def test_over_tls(call: Call, tmp_path: Path) -> None:
    ready, junk = tmp_path / "ready.json", tmp_path / "junk.pem"
    junk.write_text("no certificate")
    tls, ca = admin_tls(tmp_path)
    config = replace(CONFIG, admin=("127.0.0.1", 0), admin_tls=tls)
    async with Runtime.real() as runtime, started(runtime, config) as backend:
        write_ready_file(ready, backend)
        url = json.loads(ready.read_text())["admin"]["url"]
        assert url == backend.admin_url and url.startswith("https://127.0.0.1:")
        by = ("--ready-file", ready)
        code, out, err = await call(*by, "--ca", ca, "accounts", "list")
        assert (code, err) == (0, "") and backend.account.name in out
        for trust, says in (
            ((), "CERTIFICATE_VERIFY_FAILED"),
            (("--ca", junk), "junk.pem: not a PEM file of certificates"),
            (("--ca", tmp_path / "none.pem"), "none.pem: No such file"),
        ):
            code, out, err = await call(*by, *trust, "accounts", "list")
            assert (code, out) == (2, "") and says in err, err
            assert backend.admin_token not in err
        # The page and its data, over the same listener; nothing of it in clear.
        context = ssl.create_default_context(cafile=ca)
        bearer = {"Authorization": f"Bearer {backend.admin_token}"}
        async with httpx.AsyncClient(base_url=url, verify=context, headers=bearer) as client:
            assert "<title>" in (await client.get("/")).text
            assert (await client.get("/page/api/summary")).status_code == 200
        async with httpx.AsyncClient(headers=bearer) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(url.replace("https", "http"))


async def test_the_authority_may_be_in_the_environment(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, ca = admin_tls(tmp_path)
    ready = tmp_path / "ready.json"
    config = replace(CONFIG, admin=("127.0.0.1", 0), admin_tls=tls)
    monkeypatch.setenv(CA_VARIABLE, str(ca))
    async with Runtime.real() as runtime, started(runtime, config) as backend:
        write_ready_file(ready, backend)
        code, out, _err = await call("--ready-file", ready, "clock", "show")
        assert code == 0 and "times as fast" in out


async def test_removing(call: Call, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    async with listening() as backend:
        write_ready_file(ready, backend)

        async def run(*argv: object) -> tuple[int, str, str]:
            return await call("--ready-file", ready, *argv)

        assert (await run("accounts", "add", SECOND, "--pilot-waived"))[0] == 0
        names = [f"urn:imei:35000000000000{number}" for number in range(3)]
        await backend.load_devices([{"name": name, "account": SECOND} for name in names])
        firmware = await backend.add_package(IMAGE, name="app", version="2", account=SECOND)
        await backend.add_file(b"x", filename="f", version="1", account=SECOND)
        campaign = await backend.create_campaign(names[:1], firmware)
        listed = await run("files", "list", "--account", SECOND)
        assert "configfile-fotilla_virtual_f" in listed[1]
        file = ("files", "remove", "configfile-fotilla_virtual_f", "--account", SECOND)
        assert (await run(*file))[:2] == (0, "configfile-fotilla_virtual_f removed\n")
        # One after the other, as far as it goes.
        code, out, err = await run("devices", "remove", names[1], names[0], names[2])
        assert (code, out) == (2, f"{names[1]} removed\n")
        assert campaign.id in err and "Traceback" not in err
        code, out, err = await run("accounts", "remove", SECOND, "--everything")
        assert (code, out) == (2, "") and campaign.id in err
        await backend.engine.cancel(campaign)
        code, out, err = await run("accounts", "remove", SECOND)
        assert (code, out) == (2, "") and "everything=true" in err
        assert SECOND in (await run("accounts", "unsubscribe", SECOND))[1]
        done = await run("accounts", "remove", SECOND, "--everything")
        assert done == (0, f"{SECOND} removed\n", "")
        assert SECOND not in backend.inventory.accounts and not backend.inventory.devices
