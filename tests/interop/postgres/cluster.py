"""A PostgreSQL cluster of our own: a temporary folder, a port of its own, no root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.tools.backend.process import READY_WITHIN
from tools.bench.ports import free_port

FOLDERS = "/usr/lib/postgresql"
"""Where Debian keeps the server's programs, in a folder for each version."""

SUPERUSER = "postgres"
PASSWORD = "hidden+password"
ESCAPED = "hidden%2Bpassword"


def programs() -> Path:
    """The folder of initdb and pg_ctl; the newest version's."""
    found = [path.parent for path in Path(FOLDERS).glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    beside = shutil.which("initdb")
    assert beside is not None, "no PostgreSQL server; tests/interop/setup.sh installs it"
    return Path(beside).resolve().parent


class Cluster:
    """`start`, `stop` and `start` again; roles with a password and a schema each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = programs()
        self.port = 0
        self._user: dict[str, object] = {}
        if os.getuid() == 0:
            # The server refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        self._run(
            *("initdb", "-D", self.data, "-U", SUPERUSER, "-E", "UTF8", "--locale=C"),
            *("--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256"),
        )
        self.port = free_port()
        settings = {
            "listen_addresses": "'127.0.0.1'",
            "port": self.port,
            "unix_socket_directories": f"'{self.folder}'",
            # The machine does not fail in these tests, only processes do.
            "fsync": "off",
            "max_connections": 50,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self) -> None:
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.data, "-l", log, "-w", "-t", READY_WITHIN, "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends sessions, `immediate` is a crash of the server."""
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", READY_WITHIN, "stop")

    def execute(self, *statements: str) -> str:
        """Run statements as the superuser; what the last one returns, a row a line."""
        command = [self.programs / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.folder]
        command += ["-p", str(self.port), "-U", SUPERUSER, "-d", "postgres"]
        for statement in statements:
            command += ["-c", statement]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def add_user(self, name: str) -> str:
        """A role with a password and an empty schema that is its own; the URL of its database."""
        self.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
            f"CREATE SCHEMA {name} AUTHORIZATION {name}",
        )
        return f"postgresql+asyncpg://{name}:{ESCAPED}@127.0.0.1:{self.port}/postgres"

    def drop_user(self, name: str) -> None:
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'",
            f"DROP SCHEMA {name} CASCADE",
            f"DROP ROLE {name}",
        )

    def _run(self, name: str, *arguments: object) -> None:
        command = [self.programs / name, *(str(argument) for argument in arguments)]
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            subprocess.run(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=2 * READY_WITHIN,
                check=False,
                **self._user,  # type: ignore[call-overload]
            )
        if name == "initdb":
            assert (self.data / "PG_VERSION").exists(), log.read_text()
