"""`fotilla backend` as a process: the ready file, the signals, ports that are taken."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.tools.backend.process import BackendProcess, ok
from tools.backend.serve import ListenOptions, ServeOptions, parse_bind, serve

FREE = "127.0.0.1:0"
GONE = Path("/nowhere.pem")
DEVICES = ("coap", "http", "omadm")
ANYWHERE = {name: ListenOptions(FREE) for name in DEVICES}


async def test_it_serves_until_interrupted_and_keeps_its_secret(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path)
    await backend.start()
    first = backend.ready["account"]
    async with backend.login() as client:
        listed = await ok(await client.get(f"/api/fota/v3/devices/{first['name']}"))
        assert listed["deviceList"] == []
    database = tmp_path / "b.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert backend.interrupt() == 0
    assert not list(tmp_path.glob("ready*"))
    said = (tmp_path / "stderr").read_text()
    assert first["secret"] not in said
    assert "warning" not in said
    assert "REST on http://127.0.0.1:" in said and "--ready-file" not in said
    await backend.start()
    assert backend.ready["account"] == first
    assert backend.interrupt() == 0


class InMemory(BackendProcess):
    database = ":memory:"


async def test_it_warns_of_a_database_that_keeps_nothing(tmp_path: Path) -> None:
    backend = InMemory(tmp_path)
    await backend.start()
    assert backend.interrupt() == 0
    assert "warning: the database is in memory" in (tmp_path / "stderr").read_text()


@pytest.mark.parametrize("listener", ["coap", "http", "omadm", "rest", "admin"])
def test_a_port_in_use_is_a_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listener: str
) -> None:
    kind = socket.SOCK_DGRAM if listener == "coap" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if listener != "coap":
            taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        listen = dict(ANYWHERE)
        if listener in DEVICES:
            listen[listener] = ListenOptions(where)
        options = ServeOptions(
            listen,
            rest=where if listener == "rest" else FREE,
            admin=where if listener == "admin" else FREE,
            db=str(tmp_path / "b.db"),
        )
        assert serve(options) == 2
    error = capsys.readouterr().err
    assert where in error
    assert "in use" in error


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"coap": ListenOptions("nowhere")}, "nowhere"),
        ({"rest": "::1:80"}, "::1:80"),
        ({"rest": "127.0.0.1:70000"}, "70000"),
        ({"http": ListenOptions("somewhere")}, "somewhere"),
        ({"omadm": ListenOptions("nobody")}, "nobody"),
        ({"admin": "nobody"}, "nobody"),
        ({"admin_cert": GONE}, "certificate and its key"),
        ({"admin_cert": GONE, "admin_key": GONE}, "admin listener: /nowhere.pem"),
        ({"http": ListenOptions(FREE, cert=GONE)}, "--http-cert and --http-key: a TLS listener"),
        ({"omadm": ListenOptions(FREE, cert=GONE)}, "certificate and its key"),
        ({"omadm": ListenOptions(FREE, GONE, GONE)}, "OMA-DM listener: /nowhere.pem"),
        ({"http": ListenOptions(FREE, GONE, GONE)}, "HTTP listener: /nowhere.pem"),
        ({"timing": "soon"}, "soon"),
        ({"db": "/nowhere/at/all.db"}, "/nowhere/at/all.db"),
        ({"db": "mysql://user:hidden@host/db"}, "mysql"),
        ({"db": "postgresql:user:hidden@host/db"}, "malformed"),
        ({"db": "postgresql://user:hidden@127.0.0.1:port/db"}, "malformed"),
        ({"db": "postgresql://user:hidden@127.0.0.1:1/db"}, "postgresql+asyncpg://user@127.0.0.1"),
        ({"durable": "very"}, "very"),
    ],
)
def test_bad_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], text: str
) -> None:
    listen = {name: changes.pop(name, free) for name, free in ANYWHERE.items()}
    usual = {"rest": FREE, "admin": FREE, "db": str(tmp_path / "b.db")}
    options = ServeOptions(listen, **{**usual, **changes})  # type: ignore[arg-type]
    assert serve(options) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "hidden" not in error


def test_a_file_that_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.db"
    path.write_bytes(os.urandom(4096))
    assert serve(ServeOptions(ANYWHERE, FREE, str(path), admin=FREE)) == 2
    assert str(path) in capsys.readouterr().err


def test_bind() -> None:
    assert parse_bind("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_bind("[::1]:80") == ("::1", 80)
    assert parse_bind(":80") == ("0.0.0.0", 80)
