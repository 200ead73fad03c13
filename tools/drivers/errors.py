"""What can go wrong between a driver and its server, and whose fault it is.

No text of these errors holds a secret: they name calls, status codes and variables, never values.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BadOption",
    "CleanupIncomplete",
    "ConnectionBroken",
    "DriverError",
    "MissingSecret",
    "RequestRefused",
    "ServerLost",
    "ServerUnreachable",
    "UnsupportedServer",
    "WrongCredentials",
]


MAX_NAMED = 5
"""Things that a sentence names; thousands would hide why."""


class DriverError(Exception):
    """Base of what a driver raises; its text is fit for a person."""


class MissingSecret(DriverError):
    """The environment variable that holds a user, password or token is not set."""


class BadOption(DriverError):
    """An option that the driver does not know, or a value that cannot be."""


class ServerUnreachable(DriverError):
    """No connection, no answer in time, or a connection that broke."""


class ConnectionBroken(ServerUnreachable):
    """A connection that was there and broke: the next one may well do."""


class ServerLost(DriverError):
    """The server was there when the run began and is no longer."""


class WrongCredentials(DriverError):
    """The server knows the call and refuses this user (401 or 403)."""


class UnsupportedServer(DriverError):
    """What answers there is not the server this driver speaks to, or not a version it knows."""


class RequestRefused(DriverError):
    """The server refused a call; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class CleanupIncomplete(DriverError):
    """Things that the driver made and could not remove; `left` names each with the reason."""

    def __init__(self, left: Sequence[str]) -> None:
        more = f"; and {len(left) - MAX_NAMED} more" if len(left) > MAX_NAMED else ""
        super().__init__("left behind at the server: " + "; ".join(left[:MAX_NAMED]) + more)
        self.left = tuple(left)
