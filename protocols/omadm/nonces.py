"""Nonces of a device, kept across sessions, reboots and power cuts.

For each server a device keeps two, apart from each other (AAuthData of the CLCRED and SRVCRED
accounts): the one the server gave for the device's credentials, and the one the device gave for the
server's. Each is one record of `nvm`, written atomically: a power cut loses the newest at most, and
then the side that has the older one is challenged, which sets both right again. The record also
tells which AAuthData it followed: when a server writes another one, that is the newest nonce.

When both sides disagree about the server's nonce, package 0 cannot be checked; it may then be made
with the special nonce, and the session it starts begins with that one too, until Chal brings new
ones (OMA-TS-DM_Notification 1.2.1, section 6).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable

from agent.nvm import Nvm, NvmFull
from protocols.omadm.auth import MAX_NONCE

__all__ = ["NONCE_SIZE", "SPECIAL_NONCE", "SPECIAL_NONCES", "NonceBook", "Side"]

NONCE_SIZE = 16
"""Octets of a nonce of ours: the recommended least (OMA-TS-DM_Security 1.2.1, section 5.3)."""

SPECIAL_NONCE = b"0x00000000"
"""What libdmclient takes for the nonce 0x00000000. The text says not whether it is these ten
characters or four zero octets [unverified]."""

SPECIAL_NONCES = (SPECIAL_NONCE, b"\0\0\0\0")
"""Both readings: what we check accepts either."""

_NAMESPACE = "omadm"
_MARK_SIZE = 2
"""Octets that tell one AAuthData from another; a chance hit costs one challenge."""
_LONGEST_NAME = 64
"""Octets of a server id in a key of `nvm`; a longer one is replaced by its hash."""


class Side(enum.Enum):
    """Whose credentials a nonce is for; the value is part of the key in `nvm`."""

    CLIENT = "c"
    SERVER = "s"


class NonceBook:
    """The nonces of one device."""

    __slots__ = ("_first", "_nvm")

    def __init__(
        self, nvm: Nvm, first: Callable[[Side, str], bytes] = lambda side, server: b""
    ) -> None:
        """`first`: the account's AAuthData, the nonce until another is given."""
        self._nvm = nvm
        self._first = first

    def get(self, side: Side, server_id: str) -> bytes:
        first = self._first(side, server_id)
        kept = self._nvm.get(_NAMESPACE, _key(side, server_id))
        if kept is None or not kept.startswith(_mark(first)):
            return first
        return kept[_MARK_SIZE:]

    def set(self, side: Side, server_id: str, nonce: bytes) -> bool:
        """Keep the nonce of the next session; one that is kept already costs no write. False: it
        is too long or the storage is full, and the old one stays: the next session is challenged.
        """
        if len(nonce) > MAX_NONCE:
            return False
        record = _mark(self._first(side, server_id)) + nonce
        if self._nvm.get(_NAMESPACE, _key(side, server_id)) == record:
            return True
        try:
            self._nvm.set(_NAMESPACE, _key(side, server_id), record)
        except NvmFull:
            return False
        return True

    def forget(self, server_id: str) -> None:
        """The account is gone."""
        for side in Side:
            self._nvm.delete(_NAMESPACE, _key(side, server_id))


def _mark(first: bytes) -> bytes:
    return hashlib.sha256(first).digest()[:_MARK_SIZE]


def _key(side: Side, server_id: str) -> str:
    name = server_id
    if len(name.encode()) > _LONGEST_NAME or "\0" in name:
        name = hashlib.sha256(name.encode()).hexdigest()
    return f"{side.value}:{name}"
