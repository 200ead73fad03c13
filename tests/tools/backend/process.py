"""The backend as a process of its own, and a client of its REST side."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

PROGRAM = """
import sys
from pathlib import Path
from tools.backend.serve import ListenOptions, ServeOptions, serve
coap, http, rest, db, ready = sys.argv[1:]
options = ServeOptions(
    {
        "coap": ListenOptions(coap),
        "http": ListenOptions(http),
        "omadm": ListenOptions("127.0.0.1:0"),
    },
    rest=rest, db=db, ready_file=Path(ready),
    admin="127.0.0.1:0", timing="immediate", pilot_waived=True,
)
sys.exit(serve(options))
"""

READY_WITHIN = 120.0
"""Seconds a process may take to serve; only a broken one takes them."""

ANSWER_WITHIN = 60.0
"""Seconds an answer may take, likewise."""


class Killed(Exception):
    """The process was killed while it was starting."""


class BackendProcess:
    """`start`, `kill` and `start` again: the database and the ports of devices stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coap = ("127.0.0.1", 0)
        self.http = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}
        self.starts = 0
        self.killed = False

    @property
    def database(self) -> str:
        return str(self.folder / "b.db")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None and bool(self.ready)

    def launch(self, ready: Path) -> subprocess.Popen[bytes]:
        """Run it; it is ready when the file is there."""
        coap = f"{self.coap[0]}:{self.coap[1]}"
        arguments = [coap, self.http, "127.0.0.1:0", self.database, str(ready)]
        return self.run(sys.executable, "-c", PROGRAM, *arguments)

    def run(self, *command: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
        """A process whose errors are kept."""
        with (self.folder / "stderr").open("ab") as stderr:
            return subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr)

    async def start(self) -> None:
        self.starts += 1
        self.killed = False
        ready = self.folder / f"ready-{self.starts}.json"
        self.process = self.launch(ready)
        async with asyncio.timeout(READY_WITHIN):
            while not ready.exists():
                if self.killed:
                    raise Killed
                assert self.process.poll() is None, (self.folder / "stderr").read_text()
                await asyncio.sleep(0.01)
        assert ready.stat().st_mode & 0o777 == 0o600
        if self.killed:
            raise Killed
        self.ready = json.loads(ready.read_text())
        host, port = self.ready["listeners"]["coap"].removeprefix("coap://").split(":")
        self.coap = (host, int(port))
        self.http = self.ready["listeners"]["http"].removeprefix("http://")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.ready = {}
        self.killed = True
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        """SIGINT; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=READY_WITHIN)

    def administrator(self) -> httpx.AsyncClient:
        """A client of the admin API, to be used as a context manager."""
        where = self.ready["admin"]
        headers = {"Authorization": f"Bearer {where['token']}"}
        return httpx.AsyncClient(base_url=where["url"], headers=headers, timeout=ANSWER_WITHIN)

    @asynccontextmanager
    async def login(self) -> AsyncIterator[httpx.AsyncClient]:
        account = self.ready["account"]
        async with httpx.AsyncClient(
            base_url=self.ready["listeners"]["rest"], timeout=ANSWER_WITHIN
        ) as client:
            answer = await client.post(
                "/api/ts/v1/oauth2/token",
                auth=(account["name"], account["secret"]),
                data={"grant_type": "client_credentials"},
            )
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            answer = await client.post(
                "/api/m2m/v1/session/login",
                json={"username": account["name"], "password": account["secret"]},
            )
            client.headers["VZ-M2M-Token"] = answer.json()["sessionToken"]
            yield client


async def ok(answer: httpx.Response) -> Mapping[str, Any]:
    assert answer.status_code == 200, answer.text
    found: Mapping[str, Any] = answer.json()
    return found
