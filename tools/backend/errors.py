"""What can go wrong in the backend, and whose fault it is."""

from __future__ import annotations


class BackendError(Exception):
    """Base of the backend's own errors."""


class StoreError(BackendError):
    """The database could not be opened, read or written: ours to report, nobody's request."""


class StoreUnavailable(StoreError):
    """The database cannot be reached now; what was asked may work later."""


class RequestRefused(BackendError):
    """A request that the API answers with a 4xx. The caller is at fault, and the text says how."""

    def __init__(self, message: str, *, code: str = "INVALID_PARAMETER", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class ListenerRefused(BackendError):
    """A listener could not be opened: usually the port is in use."""
