"""What peers are made of that no package of the system brings: made once, whoever asks first.

Tests run in several processes at once (`make interop`), so who makes something holds a lock; the
others wait for it and find it made.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PEERS = Path(__file__).parent / ".peers"

INSTALL_SECONDS = 600.0
"""What holds the lock is given up after so long, so nobody waits for it forever."""


@contextmanager
def making(name: str) -> Iterator[None]:
    """Alone with what `name` stands for, among all processes of this folder."""
    PEERS.mkdir(exist_ok=True)
    (PEERS / ".gitignore").write_text("*\n")
    with (PEERS / f"{name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of when the file is closed, or its holder dies
        yield


def environment(name: str, requirements: Path) -> Path:
    """The interpreter of a virtual environment with pinned packages, which is made when it is not
    there yet."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = PEERS / f"{name}-py{version}-{digest}"
    interpreter, done = home / "bin" / "python", home / "installed"
    with making(name):
        if not done.exists():
            for command in (
                [sys.executable, "-m", "venv", "--clear", str(home)],
                [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
                + ["-r", str(requirements)],
            ):
                ran = subprocess.run(
                    command, capture_output=True, text=True, timeout=INSTALL_SECONDS
                )
                assert ran.returncode == 0, f"{name} was not installed:\n{ran.stderr[-4000:]}"
            done.touch()
    return interpreter
