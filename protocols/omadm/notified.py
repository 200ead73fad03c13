"""The notification that a device keeps until a session came of it, in `nvm`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.nvm import Nvm, NvmFull
from protocols.omadm.package0 import Notification, UiMode

__all__ = ["Notified", "NotifiedBook"]

_NAMESPACE = "omadm"
_NAME = "notified"


@dataclass(frozen=True, slots=True)
class Notified:
    """A package 0 that was verified."""

    session_id: int
    server_id: str
    ui_mode: UiMode
    by_server: bool
    resynchronise: bool
    """It was made with the special nonce, and so must the session's first credentials be."""
    until: float
    """UTC seconds: what is older is dropped."""

    @classmethod
    def of(cls, notification: Notification, resynchronise: bool, until: float) -> Notified:
        return cls(
            notification.session_id,
            notification.server_id,
            notification.ui_mode,
            notification.initiator,
            resynchronise,
            until,
        )


class NotifiedBook:
    """At most one, the newest."""

    __slots__ = ("_nvm", "notified")

    def __init__(self, nvm: Nvm) -> None:
        self._nvm = nvm
        self.notified: Notified | None = None
        stored = nvm.get(_NAMESPACE, _NAME)
        if stored is not None:
            try:
                values = json.loads(stored)
                self.notified = Notified(
                    int(values[0]),
                    str(values[1]),
                    UiMode(values[2]),
                    bool(values[3]),
                    bool(values[4]),
                    float(values[5]),
                )
            except (ValueError, TypeError, IndexError, KeyError):
                nvm.delete(_NAMESPACE, _NAME)  # of another version of this program

    def keep(self, notified: Notified) -> None:
        self.notified = notified
        record = [
            notified.session_id,
            notified.server_id,
            int(notified.ui_mode),
            int(notified.by_server),
            int(notified.resynchronise),
            notified.until,
        ]
        try:
            self._nvm.set(_NAMESPACE, _NAME, json.dumps(record, separators=(",", ":")).encode())
        except NvmFull:
            return  # it lives as long as this uptime

    def drop(self) -> None:
        if self.notified is not None:
            self.notified = None
            self._nvm.delete(_NAMESPACE, _NAME)
