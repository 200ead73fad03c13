"""The C programs: compiled when the bench runs, started and read here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.bench.errors import BenchError

__all__ = ["LIMIT_EXCHANGES", "Yardsticks"]

SOURCES = ("c_client_limit", "c_server_coap", "c_load_to_devices")
LIMIT_EXCHANGES = 200_000
"""Enough that one run of the limit takes the better part of a second."""
PROGRAM_SECONDS = 300.0
"""A program that runs longer hangs."""


class Yardsticks:
    """The compiled programs in `folder`."""

    def __init__(self, folder: Path) -> None:
        compiler = os.environ.get("CC") or next(
            (name for name in ("cc", "gcc", "clang") if shutil.which(name)), None
        )
        if compiler is None or shutil.which(compiler) is None:
            raise BenchError(
                f"no C compiler ({compiler or 'cc, gcc, clang'}): the yardsticks are C programs; "
                "install one, or set CC"
            )
        self.folder = folder
        self._sent = 0
        for name in SOURCES:
            source = Path(__file__).with_name(f"{name}.c")
            command = [compiler, "-O2", "-o", str(folder / name), str(source)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise BenchError(f"{compiler} refuses {source.name}: {done.stderr.strip()}")

    def _run(self, name: str, *arguments: object) -> dict[str, float]:
        """Run to the end; the last line's words in pairs of name and number."""
        command = [str(self.folder / name), *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} did not end within {PROGRAM_SECONDS:g} s") from None
        if done.returncode:
            raise BenchError(f"{name} failed: {done.stderr.strip()}")
        words = done.stdout.split()
        return dict(zip(words[::2], map(float, words[1::2]), strict=True))

    @contextmanager
    def server(self) -> Iterator[int]:
        """The peer of the limit; gives its port."""
        command = [str(self.folder / "c_server_coap"), "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise BenchError("c_server_coap did not start")
                yield int(line)
            finally:
                process.terminate()

    def limit(self, port: int, sockets: int, count: int = LIMIT_EXCHANGES) -> float:
        """Microseconds of CPU per exchange of the C client."""
        found = self._run("c_client_limit", port, sockets, count)
        return found["user"] + found["sys"]

    def load(
        self,
        base: int,
        devices: int,
        count: int,
        *,
        window: int,
        source_port: int,
        path: str,
        payload: int = 0,
        blocks: int = 1,
    ) -> int:
        """Load the devices; the exchanges done. A refused or lost request is an error: refusing
        is cheaper than serving."""
        block = (payload, blocks) if payload else ()
        first_id = self._sent & 0xFFFF
        self._sent += count
        found = self._run(
            "c_load_to_devices",
            *(base, devices, count, window, source_port, first_id, path),
            *block,
        )
        if found["refused"] or found["lost"]:
            raise BenchError(
                f"of {count} requests to /{path}, {found['lost']:.0f} were lost "
                f"and {found['refused']:.0f} refused"
            )
        return int(found["done"])
