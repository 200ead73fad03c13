"""What a DDI client keeps in `nvm`, namespace "hawkbit": the action it works on, and its image.

`action` is written when an action is taken up, before the engine begins an attempt for it, and
deleted when the server knows its end. It holds the number that the engine's attempt had *before*:
an attempt of another number is this action's (a download may begin anew and count on), and the same
number means that nothing has begun yet.

`image` says what the image in the slot is, by the hashes its server gave: an action for the same
files needs no second download (a download-only action is followed by a forced one).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from agent.nvm import Nvm

__all__ = ["ActionRecord", "Memory", "decode_action"]

_NAMESPACE = "hawkbit"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """The action that the device works on."""

    id: str
    version: str
    """Its `c=`, as last fetched."""
    before: int
    """Number of the engine's attempt when the action was taken up."""
    download_only: bool = False
    sent: tuple[str, ...] = ()
    """Steps that were reported; each is reported once, and a lost report is not made up for."""

    def encode(self) -> bytes:
        value = [_FORMAT, self.id, self.version, self.before, self.download_only, *self.sent]
        return json.dumps(value, separators=(",", ":")).encode()


def decode_action(data: bytes) -> ActionRecord | None:
    """None for what no client of this version wrote."""
    try:
        form, action, version, before, download_only, *sent = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return None
    if (
        form != _FORMAT
        or not all(isinstance(text, str) for text in (action, version, *sent))
        or type(before) is not int
        or type(download_only) is not bool
    ):
        return None
    return ActionRecord(action, version, before, download_only, tuple(sent))


class Memory:
    """The records of one device, read once per uptime. Every write may raise PowerLoss."""

    __slots__ = ("_nvm", "action")

    def __init__(self, nvm: Nvm) -> None:
        self._nvm = nvm
        stored = nvm.get(_NAMESPACE, "action")
        self.action: ActionRecord | None = None if stored is None else decode_action(stored)

    def take_up(self, action: ActionRecord) -> None:
        """Work on this action from now on."""
        self._store(action)

    def fetched(self, version: str, download_only: bool) -> None:
        """The action was fetched again."""
        action = self.action
        if action is not None:
            changed = replace(action, version=version, download_only=download_only)
            if changed != action:
                self._store(changed)

    def sent(self, step: str) -> None:
        """A step was reported."""
        action = self.action
        if action is not None and step not in action.sent:
            self._store(replace(action, sent=(*action.sent, step)))

    def forget(self) -> None:
        """The action is over."""
        if self.action is not None:
            self.action = None
            self._nvm.delete(_NAMESPACE, "action")

    def image(self) -> tuple[int, str] | None:
        """(attempt, fingerprint) of the last image that was downloaded."""
        stored = self._nvm.get(_NAMESPACE, "image")
        if stored is None:
            return None
        number, _, fingerprint = stored.decode(errors="replace").partition(" ")
        return (int(number), fingerprint) if number.isdecimal() else None

    def set_image(self, attempt: int, fingerprint: str) -> None:
        self._nvm.set(_NAMESPACE, "image", f"{attempt} {fingerprint}".encode())

    def _store(self, action: ActionRecord) -> None:
        self._nvm.set(_NAMESPACE, "action", action.encode())
        self.action = action
