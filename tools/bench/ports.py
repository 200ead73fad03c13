"""Free ports for servers that cannot be told to take any and say which."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

RANGE = range(20_000, 32_000)
"""Not among those that a system gives to whoever asks for any (Linux: from 32768; RFC 6335
section 6: from 49152): thousands of those are taken in the moment before the server starts."""

TRIES = 200

_random = random.SystemRandom()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody has; `kind` is the socket's type. Raises OSError."""
    for port in _random.sample(RANGE, TRIES):
        with socket.socket(socket.AF_INET, kind) as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError(f"no free port among {TRIES} tried from {RANGE.start} to {RANGE.stop}")
