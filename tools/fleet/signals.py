"""Ctrl-C once stops in order; twice, at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C or SIGTERM sets. Once: a second one acts as if nobody listened."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def release() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    def asked() -> None:
        stop.set()
        release()

    for number in numbers:
        loop.add_signal_handler(number, asked)
    try:
        yield stop
    finally:
        release()
