"""`fotilla run --drive` by its command line, over sockets, against stubs that know both sides of a
server: devices made known, an image published, a campaign, the audit, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from protocols.http import poller
from tests.agent.parts import image, trusted
from tests.busy import ANY_LAG_FLAGS
from tests.stubs.hawkbit.listener import listening
from tests.stubs.joined import MenderServer, ThingsBoardServer
from tools import cli
from tools.fleet import shard

DEVICES = 50
PATIENCE = "60s"  # what takes so long here has failed
Server = MenderServer | ThingsBoardServer


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boot_seconds", "reboot_delay", "watchdog_seconds"):
        monkeypatch.setattr(f"agent.device.DeviceTiming.{name}", 0.0)
    monkeypatch.setattr(shard, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(poller, "FIRST_POLL_SPREAD", 0.0)


@contextmanager
def served(server: Server) -> Iterator[str]:
    """The server's URL. It runs on a thread: the command line has this one, with a loop of its
    own."""
    listens, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with listening(server.app, "127.0.0.1") as port:
            urls.append(f"http://127.0.0.1:{port}")
            listens.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert listens.wait(30)
        if isinstance(server, MenderServer):
            server.base = urls[0]
        yield urls[0]
    finally:
        over.set()
        thread.join(30)


class Call:
    """`fotilla run --drive`, called with what a person types."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, server: Server, driver: str, *more: str) -> dict[str, Any]:
        """The object that the run prints, with its exit code as `exit`."""
        target, key = self._folder / "new.img", self._folder / "key.pem"
        target.write_bytes(image(2, 60_000, 2))
        key.write_bytes(trusted().keys[0].to_pem())
        prefix = f"FOTILLA_{driver.upper()}"
        self._monkeypatch.setenv(f"{prefix}_USER", server.user)
        self._monkeypatch.setenv(f"{prefix}_PASSWORD", server.password)
        with served(server) as base:
            code = cli.call(
                [
                    *("run", "--drive", driver, "--server", base),
                    *("--image", str(target), "--key", str(key), "--devices", str(DEVICES)),
                    *("--ramp", "200", "--option", "interval=0.2", "--json"),
                    *ANY_LAG_FLAGS,
                    *("--duration", PATIENCE, "--report", str(self._folder / "report"), *more),
                ]
            )
        out, err = self._capfd.readouterr()
        assert server.device_side.violations == []
        assert server.password not in err
        assert server.password not in out
        assert out, err
        return {**json.loads(out), "exit": code}


@pytest.fixture
def run_driven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    return Call(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize("kind", [MenderServer, ThingsBoardServer])
def test_fifty_devices_from_nothing_to_nothing(run_driven: Call, kind: type[Server]) -> None:
    server = kind()
    driver = "mender" if kind is MenderServer else "thingsboard"
    result = run_driven(server, driver)
    assert result["exit"] == 0, result
    assert result["by_protocol"][driver]["updated"] == DEVICES
    assert result["audit"]["agree"] == DEVICES
    assert server.devices == {}


@pytest.mark.parametrize("kind", [MenderServer, ThingsBoardServer])
def test_both_sides_agree_on_failures(run_driven: Call, kind: type[Server]) -> None:
    driver = "mender" if kind is MenderServer else "thingsboard"
    result = run_driven(kind(), driver, "--fault", "bad-boot=20%")
    counts = result["by_protocol"][driver]
    assert 0 < counts["failed"] < DEVICES
    assert counts["failed"] + counts["updated"] == DEVICES
    assert result["audit"] == {**result["audit"], "agree": DEVICES, "differ": 0}
