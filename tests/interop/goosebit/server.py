"""gooseBit, an update server by other authors that speaks hawkBit's DDI, as a peer.

It lives in a virtual environment of its own (`tests/interop/.peers`), since it brings some sixty
packages; the versions are pinned in `requirements.txt`. Each server has a database and a folder of
its own and ends with its test session.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.interop.environments import environment
from tools.bench.ports import free_port

REQUIREMENTS = Path(__file__).parent / "requirements.txt"

USER = "admin@example.com"
PASSWORD = "a test's own password"

START_SECONDS = 120.0
CALL_SECONDS = 60.0
STOP_SECONDS = 10.0

SCHEMA = """
import asyncio
from goosebit.db.config import TORTOISE_CONF
from tortoise import Tortoise

async def main():
    await Tortoise.init(TORTOISE_CONF)
    await Tortoise.generate_schemas()
    await Tortoise.close_connections()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Goosebit:
    url: str
    log: Path
    """All that the server wrote."""


@contextlib.contextmanager
def running_server(folder: Path, *, poll: str = "00:00:01") -> Iterator[Goosebit]:
    """A server with an empty database, one administrator, and strict target tokens."""
    interpreter = environment("goosebit", REQUIREMENTS)
    settings = _environment(folder, poll)
    subprocess.run(
        [str(interpreter), "-c", SCHEMA],
        check=True,
        env=settings,
        cwd=folder,
        timeout=START_SECONDS,
    )
    # Its logging silences uvicorn's, which would have told the port of its own choice.
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "goosebit.log"
    command = [str(interpreter), "-m", "uvicorn", "goosebit:app", "--host", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-access-log"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=settings,
            cwd=folder,
        )
        try:
            _await_start(process, url, log)
            # The first visitor makes the first administrator.
            made = httpx.post(
                f"{url}/setup",
                data={"username": USER, "password": PASSWORD},
                timeout=CALL_SECONDS,
                trust_env=False,
            )
            assert made.status_code == 200, made.text
            yield Goosebit(url, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)


def _environment(folder: Path, poll: str) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GOOSEBIT_")}
    return {
        **kept,
        "GOOSEBIT_DB_URI": f"sqlite:///{folder / 'goosebit.sqlite3'}",
        "GOOSEBIT_ARTIFACTS_DIR": str(folder / "artifacts"),
        "GOOSEBIT_DEVICE_AUTH__ENABLE": "true",
        "GOOSEBIT_DEVICE_AUTH__MODE": "strict",
        "GOOSEBIT_POLL_TIME": poll,
    }


def _await_start(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/openapi.json", trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"gooseBit did not start:\n{log.read_text()[-4000:]}")
