"""A measured process and the one that measures it: a line of JSON each way.

What is measured runs alone in its process, so that nobody else's CPU and memory are in its
numbers. The driver sends ``{"do": NAME, ...arguments}`` and waits for one object;
``{"error": text}`` is a failure over there and raises :class:`BenchError` here.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any

from tools.bench.errors import BenchError

__all__ = ["Command", "Measured", "answer_commands"]

Command = Callable[..., Awaitable[Mapping[str, object]]]


class Measured:
    """A module of this package as a process, seen from the driver."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.module = module
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, do: str, *, within: float = 60.0, **arguments: object) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self.module} is gone") from None
        answer: dict[str, Any] = json.loads(self._line(do, time.monotonic() + within))
        if "error" in answer:
            raise BenchError(f"{self.module}: {do}: {answer['error']}")
        return answer

    def _line(self, do: str, deadline: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise BenchError(f"{self.module}: no answer to {do!r} in time")
            data = os.read(stdout.fileno(), 65536)
            if not data:
                raise BenchError(f"{self.module} ended during {do!r}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def __enter__(self) -> Measured:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The process ends when its standard input does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def answer_commands(commands: Mapping[str, Command]) -> None:
    """The other side: obey until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    try:
        while line := await reader.readline():
            order = json.loads(line)
            try:
                answer = await commands[order.pop("do")](**order)
            except Exception as error:  # told to the driver, which ends the figure
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        transport.close()
