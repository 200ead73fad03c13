"""Standard output whose reader may go away: `fotilla ... | head` is no error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["reader_may_leave"]


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Drop the rest of what is printed inside once nobody reads it; what comes after goes on."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _drop()
    except SystemExit as stop:
        # What rich and typer make of a broken pipe.
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        _drop()


def _drop() -> None:
    """Nothing more is written there, nor by the interpreter's last flush."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the interpreter ends
