"""A customer who uses the public SDK of the Software Management Services.

The SDK lives in a virtual environment of its own (`tests/interop/.peers`) and runs in a process of
its own; nothing here imports it. `caller.py` is the other end of the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.interop.sdk.answers import ANSWERS, OAUTH, UNSET
from tests.tools.backend.api_models import problems

HERE = Path(__file__).parent

CALL_SECONDS = 240.0
"""The first call waits for the import of the whole SDK, some thousand modules."""

LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Operation:
    version: int
    client: str
    """The attribute of the SDK's client that has it."""
    method: str
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.client}.{self.method}"


class Refused(Exception):
    """The SDK raised one of its exceptions for an answer."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(str(answer))
        self.kind = str(answer["error"])
        self.status = int(answer["status"])
        self.code, self.message = answer["code"], answer["message"]
        """As the SDK read them; None where its exception has no such fields."""
        self.provider = answer["provider"]
        """`error` of RFC 6749 section 5.2, likewise."""
        self.body: dict[str, Any] = {}
        with contextlib.suppress(ValueError):  # what is no JSON is shown by the text of this
            self.body = json.loads(answer["raw"])


class Choked(Exception):
    """The SDK raised something else: before it sent anything, or over what it received."""


def model(name: str, /, **fields: Any) -> dict[str, Any]:
    """A model of the SDK as an argument, by the names of its constructor."""
    return {"model": name, "fields": fields}


def date(day: str) -> dict[str, str]:
    """A `datetime.date`, from its ISO form."""
    return {"date": day}


def upload(path: Path) -> dict[str, str]:
    return {"file": str(path)}


def _problems(operation: str, raw: Any) -> list[str]:
    """What is wrong with an answer: fields that it must have or that are no such field, and values
    of another type; null is no type."""
    kind = ANSWERS[operation]
    unset = tuple(f".{name}: missing" for name in UNSET)
    every = problems(kind, raw, every=True, where=operation)
    required = problems(kind, raw, where=operation)
    return required + [one for one in every if not one.endswith(unset) and one not in required]


def _value(parsed: Any, raw: Any, where: str) -> Any:
    """What the SDK parsed, as objects; nothing that its models want may be absent from the JSON."""
    if isinstance(parsed, list):
        assert isinstance(raw, list), where
        return [
            _value(*pair, f"{where}[{index}]")
            for index, pair in enumerate(zip(parsed, raw, strict=True))
        ]
    if not isinstance(parsed, dict):
        return parsed
    if "date" in parsed:
        return datetime.date.fromisoformat(parsed["date"])
    if "time" in parsed:
        return datetime.datetime.fromisoformat(parsed["time"])
    names: dict[str, str] = parsed["names"]
    absent = [
        name for field, name in names.items() if field not in parsed["optional"] and name not in raw
    ]
    assert not absent, f"{where} ({parsed['model']}) lacks {absent}"
    fields = {
        field: _value(value, raw.get(names[field]), f"{where}.{names[field]}")
        for field, value in parsed["fields"].items()
    }
    for field, name in names.items():
        # The SDK drops what is empty or zero. What else it drops, it did not understand.
        dropped = fields.get(field) is None and bool(raw.get(name))
        assert not dropped, f"{where}.{name}: {raw[name]!r} was dropped"
    # Neither does it have attributes for what it drops; ours are None, as for what is required.
    return type(parsed["model"], (SimpleNamespace,), {})(**{**dict.fromkeys(names), **fields})


class Customer:
    """The SDK, logged in; `call` is one of its methods."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.operations: dict[str, Operation] = {}
        self.answered: set[str] = set()
        """The operations that have been answered with success."""

    async def _ask(self, line: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        async with asyncio.timeout(CALL_SECONDS):
            answer = await self._process.stdout.readline()
        assert answer, "the SDK's process has ended"
        found: dict[str, Any] = json.loads(answer)
        if "choked" in found:
            raise Choked(f"{line.get('method')}: {found['choked']}")  # no arguments: secrets
        return found

    async def call(self, operation: str, **arguments: Any) -> Any:
        """The SDK's answer, whose JSON is of the model that the operation has. Raises Refused for
        an exception of the SDK."""
        client, method = operation.split(".")
        answer = await self._ask({"client": client, "method": method, "arguments": arguments})
        if "error" in answer:
            raise Refused(answer)
        assert answer["status"] == 200
        self.answered.add(operation)
        raw = json.loads(answer["raw"])
        if operation not in OAUTH:
            found = _problems(operation, raw)
            assert not found, "\n".join(found)
        return _value(answer["parsed"], raw, operation)

    async def log_in(self, name: str, secret: str) -> str:
        """Open a session with the SDK and use it from now on; the token."""
        answer = await self.call(
            "session_management.start_connectivity_management_session",
            body=model("LogInRequest", username=name, password=secret),
        )
        await self.use_session(answer.session_token)
        return str(answer.session_token)

    async def use_session(self, token: str) -> None:
        answer = await self._ask({"session": token})
        found = [
            Operation(version, client, method, tuple(parameters))
            for version, client, method, parameters in answer["operations"]
        ]
        self.operations = {operation.name: operation for operation in found}


@contextlib.asynccontextmanager
async def running_sdk(
    interpreter: Path, rest: str, name: str, secret: str
) -> AsyncIterator[Customer]:
    """The SDK in front of a backend, not logged in yet."""
    environment = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
    process = await asyncio.create_subprocess_exec(
        interpreter,
        "-I",  # one of its dependencies installs a package `tests`, which must not meet ours
        HERE / "caller.py",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=LINE,
        env={**environment, "NO_PROXY": "127.0.0.1"},
    )
    try:
        assert process.stdin is not None
        who = {"rest": rest, "name": name, "secret": secret}
        process.stdin.write(json.dumps(who).encode() + b"\n")
        yield Customer(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
