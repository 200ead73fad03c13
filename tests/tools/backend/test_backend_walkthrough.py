"""`docs/backend.md`: its shell commands, run as they stand there, in one shell and one folder.

All that is changed are the ports, which other processes may have. Its SDK example is run in
`tests/interop/sdk`, where the SDK is.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "backend.md"

PORTS = {
    "rest": (8080, socket.SOCK_STREAM),
    "admin": (8081, socket.SOCK_STREAM),
    "http": (8090, socket.SOCK_STREAM),
    "omadm": (8091, socket.SOCK_STREAM),
    "coap": (5683, socket.SOCK_DGRAM),
}
"""The options of `fotilla backend` and the ports that the page has for them."""

LISTENER = (8099, socket.SOCK_STREAM)

LIMIT = 180.0
"""Seconds until a command that waits will wait forever; all of them take half a minute."""

START = "fotilla backend "


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def free_ports(wanted: list[tuple[int, int]]) -> dict[int, int]:
    """A free port for each. They are not among those that a system gives to whoever asks for any
    (Linux: from 32768; RFC 6335 section 6: from 49152), because the backend starts seconds later.
    """
    candidates = iter(random.sample(range(20_000, 32_000), 200))
    return {port: next(own for own in candidates if is_free(own, kind)) for port, kind in wanted}


def is_free(port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def script() -> str:
    """The blocks, each with its number before it, and nothing left behind."""
    parts = [f"echo '[block {number}]' >&2\n{one}" for number, one in enumerate(blocks("sh"), 1)]
    text = "\n".join(parts)
    free = free_ports([*PORTS.values(), LISTENER])
    for port, own in free.items():
        assert f"127.0.0.1:{port}" in text
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
    text = text.replace(f'"127.0.0.1", {LISTENER[0]}', f'"127.0.0.1", {free[LISTENER[0]]}')
    assert text.count(START) == 1
    places = "".join(f"--{name} 127.0.0.1:{free[port]} " for name, (port, _) in PORTS.items())
    return "set -eu -o pipefail\n" + text.replace(START, START + places)


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    if not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("the page is for people who have bash and curl")
    environment = {key: value for key, value in os.environ.items() if not is_ours(key)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HOME": str(tmp_path)}
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            ["bash", "-c", script()],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # The backend, the listener, and what else the shell has started: its own group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = {name: (tmp_path / name).read_text() for name in ("out", "err", "backend.log")}
    assert code == 0, "\n".join(f"--- {name}\n{text[-3000:]}" for name, text in said.items())
    assert "Traceback" not in "".join(said.values())
    check_results(tmp_path)


def is_ours(variable: str) -> bool:
    """Whether it would tell `fotilla` something that the page does not say, or hide the server."""
    return variable.startswith("FOTILLA_") or variable.lower().endswith("_proxy")


def check_results(folder: Path) -> None:
    """What the commands have left in files is what the page promises."""

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text())

    meters = [f"35000000000000{number}" for number in range(3)]
    done = {one["deviceId"]: one["status"] for one in read("report.json")["deviceList"]}
    assert done == dict.fromkeys(meters, "UpgradeSuccess")
    [row] = read("history.json")
    assert (row["status"], row["firmwareTo"]) == ("UpgradeSuccess", "2.0.0")
    told = [json.loads(line) for line in (folder / "messages.jsonl").read_text().splitlines()]
    states = {(one["deviceId"], one["status"]) for item in told for one in item["deviceList"]}
    assert {(one, "UpgradeSuccess") for one in meters} <= states
    assert {(one, "CampaignCancelled") for one in meters[1:2]} <= states
    assert "CampaignEnded" in [item["status"] for item in told]
    assert "<html" in (folder / "page.html").read_text()
    assert [one["status"] for one in read("file-report.json")["deviceList"]] == ["UpgradeSuccess"]
    assert read("logs.json")
    assert {one["deviceId"] for one in read("check-ins.json")} == {"360000000000000"}
    [attempt] = read("attempts.json")
    assert (attempt["status"], attempt["firmwareTo"]) == ("UpgradeSuccess", "2.0.0")


def test_every_page_that_it_links_to_is_there() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()))
    assert "backend-admin.md" in linked
    assert [name for name in sorted(linked) if not (PAGE.parent / name).exists()] == []
