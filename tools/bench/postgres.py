"""A PostgreSQL server of the bench's own: a temporary folder, a port of its own, no root."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from types import TracebackType

from tools.bench.errors import BenchError

__all__ = ["Cluster"]

FOLDERS = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, in a folder for each version."""

PATIENCE = 60
"""Seconds to start, to stop and to answer."""

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "max_connections": "20",
    # As it comes: a commit is on the disk before it is answered.
    "fsync": "on",
}


def _programs() -> Path:
    """The folder of initdb and pg_ctl; the newest version's. Raises BenchError."""
    found = [path.parent for path in FOLDERS.glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    beside = shutil.which("initdb")
    if beside is None:
        raise BenchError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return Path(beside).resolve().parent


class Cluster:
    """A context manager: made, started, and gone."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._temporary = tempfile.TemporaryDirectory(prefix="fotilla-bench-postgres-")
        self._folder = Path(self._temporary.name)
        self._password = secrets.token_hex(16)
        self._port = 0
        self._names = count(1)
        self._user: dict[str, object] = {}
        if os.getuid() == 0:
            # The server refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)

    def __enter__(self) -> Cluster:
        data = self._folder / "data"
        try:
            self._run(
                *("initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C"),
                *("--auth-local=trust", "--auth-host=scram-sha-256"),
            )
            with socket.create_server(("127.0.0.1", 0)) as free:
                self._port = free.getsockname()[1]
            with (data / "postgresql.conf").open("a") as file:
                file.write(f"port = {self._port}\nunix_socket_directories = '{self._folder}'\n")
                file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
            self._run("pg_ctl", "-D", data, "-l", self._folder / "log", "-w", "start")
        except BaseException:
            self._temporary.cleanup()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")
        self._temporary.cleanup()

    def new_database(self) -> str:
        """The URL of a database that nobody has used yet."""
        name = f"bench{next(self._names)}"
        self._run(
            *("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self._folder, "-p", self._port),
            *("-U", "postgres", "-d", "postgres"),
            *("-c", f"CREATE ROLE {name} LOGIN PASSWORD '{self._password}'"),
            *("-c", f"CREATE DATABASE {name} OWNER {name}"),
        )
        return f"postgresql+asyncpg://{name}:{self._password}@127.0.0.1:{self._port}/{name}"

    def _run(self, name: str, *arguments: object) -> None:
        """Run one of the server's programs to its end. Raises BenchError."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as out:
            done = subprocess.run(
                [self._programs / name, *map(str, arguments)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                check=False,
                **self._user,  # type: ignore[call-overload]
            )
        if done.returncode:
            raise BenchError(f"{name} ended with {done.returncode}: {log.read_text()[-400:]}")
