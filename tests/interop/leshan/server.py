"""Leshan as a peer: builds the Maven project here, runs its mains, speaks its REST API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.interop.environments import making

HERE = Path(__file__).parent
CLASS_PATH = f"{HERE / 'target' / 'leshan-peer.jar'}:{HERE / 'target' / 'lib'}/*"

# The first build downloads Maven's plugins and Leshan's libraries.
BUILD_SECONDS = 600
READY_SECONDS = 120
STOP_SECONDS = 10
# How long the server waits for a device: it would be 5 s, which a busy machine takes now and then.
DEVICE_SECONDS = 60
# So that its 504 arrives before we give up.
SLACK_SECONDS = 30.0
# How long an event may be waited for.
EVENT_SECONDS = 120.0

Json = Any


class PeerFailed(Exception):
    """The peer could not be built or did not start; carries what it wrote."""


def build() -> None:
    """Run Maven, unless the last build was of exactly these sources."""
    digest = hashlib.sha256()
    for source in sorted([HERE / "pom.xml", *(HERE / "src").rglob("*.java")]):
        digest.update(f"{source.relative_to(HERE)}\0".encode() + source.read_bytes())
    stamp = HERE / "target" / "built-from"
    with making("leshan"):
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        done = subprocess.run(
            ["mvn", "-q", "-B", "-Dstyle.color=never", "package"],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
        )
        if done.returncode:
            raise PeerFailed(f"mvn package: exit code {done.returncode}\n{done.stdout}")
        stamp.write_text(digest.hexdigest())


class JavaProcess:
    """One main of the project. It ends when its standard input does, so it never outlives us."""

    def __init__(self, main: str, *arguments: str) -> None:
        build()
        self._lines: list[Json] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [
                "java",
                "-Xmx768m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                "-cp",
                CLASS_PATH,
                f"fotilla.interop.{main}",
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._lines.append(None)
            self._changed.notify_all()

    def line(self, matches: Callable[[Json], bool] = bool, timeout: float = READY_SECONDS) -> Json:
        """Wait for a line of JSON on its standard output that matches."""

        def find() -> Json:
            if None in self._lines:
                raise PeerFailed(f"ended with code {self._process.wait()}: {self._lines}")
            return next((line for line in self._lines if matches(line)), None)

        with self._changed:
            found = self._changed.wait_for(find, timeout)
        if found is None:
            raise PeerFailed(f"no such line within {timeout} s, only {self._lines}")
        return found

    def freeze(self) -> None:
        """Make it deaf and mute, with its sockets open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Leshan:
    """A running server."""

    process: JavaProcess
    coap_port: int
    http_port: int

    @property
    def coap_uri(self) -> str:
        return f"coap://127.0.0.1:{self.coap_port}"

    @contextlib.asynccontextmanager
    async def api(self) -> AsyncIterator[LeshanApi]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.http_port}/api/",
            limits=limits,
            timeout=DEVICE_SECONDS + SLACK_SECONDS,
            trust_env=False,
        ) as http:
            yield LeshanApi(http)


@contextlib.contextmanager
def running_server(*arguments: str) -> Iterator[Leshan]:
    process = JavaProcess("ServerMain", *arguments)
    try:
        ready = process.line(lambda line: "coap" in line)
        yield Leshan(process, ready["coap"], ready["http"])
    finally:
        process.stop()


@contextlib.contextmanager
def running_client(server_uri: str, endpoint: str, *arguments: str) -> Iterator[JavaProcess]:
    """Leshan's own client; `.line(...)` tells of registered, updated, deregistered."""
    process = JavaProcess("ClientMain", "--server", server_uri, "--endpoint", endpoint, *arguments)
    try:
        yield process
    finally:
        process.stop()


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: Json


class EventLog:
    """Everything the event stream said so far, and a way to wait for more."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.open = asyncio.Event()
        self._changed = asyncio.Condition()

    async def follow(self, lines: AsyncIterator[str]) -> None:
        name = ""
        async for line in lines:
            self.open.set()
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                async with self._changed:
                    self.events.append(Event(name, json.loads(line.removeprefix("data: "))))
                    self._changed.notify_all()

    async def until(
        self, reached: Callable[[list[Event]], bool], timeout: float = EVENT_SECONDS
    ) -> None:
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: reached(self.events))

    def values(self, endpoint: str, path: str) -> list[Json]:
        """What was notified of one resource, in order."""
        return [
            event.data["val"]["value"]
            for event in self.events
            if event.name == "NOTIFICATION"
            and event.data["ep"] == endpoint
            and event.data["res"] == path
        ]


class LeshanApi:
    """The served part of the demo server's REST API; each call returns the answer's JSON."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def call(
        self,
        method: str,
        path: str,
        *,
        timeout: int | None = DEVICE_SECONDS,
        body: Json = None,
        **query: object,
    ) -> httpx.Response:
        """One REST call. `timeout` is how long the server waits for the device, in seconds;
        None leaves that to it."""
        query["timeout"] = timeout
        return await self.http.request(
            method,
            path,
            params={name: str(value) for name, value in query.items() if value is not None},
            timeout=(timeout or DEVICE_SECONDS) + SLACK_SECONDS,
            content=body if isinstance(body, str) else None,
            json=None if isinstance(body, str) else body,
        )

    async def ask(self, method: str, path: str, **options: Any) -> Json:
        answer = await self.call(method, path, **options)
        if answer.status_code != 200:
            raise PeerFailed(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    async def clients(self) -> Json:
        return await self.ask("GET", "clients")

    async def client(self, endpoint: str) -> Json | None:
        answer = await self.call("GET", f"clients/{endpoint}")
        return answer.json() if answer.status_code == 200 else None

    async def read(
        self, endpoint: str, path: str, format: str | None = None, **options: Any
    ) -> Json:
        return await self.ask("GET", f"clients/{endpoint}{path}", format=format, **options)

    async def value(self, endpoint: str, path: str, format: str | None = None) -> Json:
        """The value of a single resource that must be readable."""
        answer = await self.read(endpoint, path, format)
        if not answer["success"]:
            raise PeerFailed(f"read {endpoint}{path}: {answer}")
        return answer["content"]["value"]

    async def write(self, endpoint: str, path: str, node: Json, **options: Any) -> Json:
        return await self.ask("PUT", f"clients/{endpoint}{path}", body=node, **options)

    async def write_value(
        self, endpoint: str, path: str, kind: str, value: Json, **options: Any
    ) -> Json:
        """Write one resource; an opaque value is given as bytes."""
        node = {
            "id": int(path.rpartition("/")[2]),
            "kind": "singleResource",
            "type": kind,
            "value": value.hex() if isinstance(value, bytes) else value,
        }
        return await self.write(endpoint, path, node, **options)

    async def attributes(self, endpoint: str, path: str, **values: object) -> Json:
        # Whatever is in the query is taken for an attribute.
        return await self.ask("PUT", f"clients/{endpoint}{path}/attributes", timeout=None, **values)

    async def execute(self, endpoint: str, path: str, arguments: str | None = None) -> Json:
        return await self.ask("POST", f"clients/{endpoint}{path}", body=arguments)

    async def create(self, endpoint: str, path: str, node: Json, **options: Any) -> Json:
        return await self.ask("POST", f"clients/{endpoint}{path}", body=node, **options)

    async def delete(self, endpoint: str, path: str) -> Json:
        return await self.ask("DELETE", f"clients/{endpoint}{path}")

    async def discover(self, endpoint: str, path: str) -> Json:
        return await self.ask("GET", f"clients/{endpoint}{path}/discover")

    async def observe(self, endpoint: str, path: str, format: str | None = None) -> Json:
        return await self.ask("POST", f"clients/{endpoint}{path}/observe", format=format)

    async def cancel(self, endpoint: str, path: str, *, active: bool) -> Json:
        query = {"active": ""} if active else {}
        return await self.ask("DELETE", f"clients/{endpoint}{path}/observe", **query)

    @contextlib.asynccontextmanager
    async def events(self, endpoint: str | None = None) -> AsyncIterator[EventLog]:
        log = EventLog()
        params = {"ep": endpoint} if endpoint else {}
        async with self.http.stream("GET", "event", params=params, timeout=None) as stream:
            follower = asyncio.create_task(log.follow(stream.aiter_lines()))
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await log.open.wait()
                yield log
            finally:
                follower.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await follower
