"""SyncML status codes (SyncML Representation Protocol, OMA device management usage), and the error
that carries one."""

from __future__ import annotations

import enum

__all__ = ["StatusCode", "TreeError"]


class StatusCode(enum.IntEnum):
    """What a Status says. Those of data synchronisation only are left out."""

    IN_PROGRESS = 101
    OK = 200
    ADDED = 201
    ACCEPTED = 202
    AUTHENTICATED = 212
    """For the whole session; `OK` on a header is for one message."""
    CHUNK_BUFFERED = 213
    CANCELLED = 214
    NOT_EXECUTED = 215
    ROLLED_BACK = 216
    NOT_MODIFIED = 304
    """The user's "No"."""
    BAD_REQUEST = 400
    INVALID_CREDENTIALS = 401
    FORBIDDEN = 403
    NOT_FOUND = 404
    NOT_ALLOWED = 405
    NOT_SUPPORTED = 406
    MISSING_CREDENTIALS = 407
    TIMED_OUT = 408
    CONFLICT = 409
    GONE = 410
    SIZE_REQUIRED = 411
    INCOMPLETE = 412
    TOO_LARGE = 413
    URI_TOO_LONG = 414
    UNSUPPORTED_FORMAT = 415
    RANGE = 416
    RETRY_LATER = 417
    ALREADY_EXISTS = 418
    DEVICE_FULL = 420
    SIZE_MISMATCH = 424
    PERMISSION_DENIED = 425
    COMMAND_FAILED = 500
    NOT_IMPLEMENTED = 501
    SERVICE_UNAVAILABLE = 503
    GATEWAY_TIMEOUT = 504
    DTD_VERSION = 505
    PROCESSING_ERROR = 506
    ATOMIC_FAILED = 507
    DATA_STORE = 510
    SERVER_FAILURE = 511
    PROTOCOL_VERSION = 513
    CANCELLED_EARLY = 514
    """Cancelled before it was processed."""
    ROLL_BACK_FAILED = 516
    RESPONSE_TOO_LARGE = 517
    """The answer to an Atomic would not fit."""


class TreeError(Exception):
    """A command on the management tree failed; `status` is the answer, the text says why and
    holds no values."""

    def __init__(self, status: StatusCode, reason: str) -> None:
        super().__init__(f"{int(status)}: {reason}")
        self.status = status
        self.reason = reason
