"""How a request to a download server went wrong, in the terms of FUMO's result codes."""

from __future__ import annotations

from agent.runtime.http import HttpFailed, Why
from protocols.omadm.fumo_tables import Trouble

__all__ = ["trouble_of_failure", "trouble_of_status"]

_FAILURES = {
    Why.UNREACHABLE: Trouble.REFUSED,
    Why.TIMEOUT: Trouble.TIMEOUT,
}


def trouble_of_failure(error: HttpFailed) -> Trouble:
    """Of a request without a usable answer; a cut connection is none: the network did it."""
    return _FAILURES.get(error.why, Trouble.NONE)


def trouble_of_status(status: int) -> Trouble:
    if status in (401, 403):
        return Trouble.AUTHENTICATION
    if status == 408:
        return Trouble.TIMEOUT
    return Trouble.SERVER_ERROR if status >= 500 else Trouble.NONE
