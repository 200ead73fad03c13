"""Package 0: the notification by which a server makes a device begin a session.

OMA-TS-DM_Notification 1.2.1, section 6.2. Big endian::

    digest 128 bits | version 10 | ui-mode 2 | initiator 1 | future use 27 | session id 16
    | length 8 | server id | vendor body

    digest = H(B64(H(server id:password)) : nonce : B64(H(all after the digest)))     raw MD5

A DM 1.2 message carries version 11, "1.1". Silence is the answer to anything that is wrong.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import struct
from dataclasses import dataclass

from protocols.omadm.auth import secret_digest
from protocols.omadm.nonces import SPECIAL_NONCES

__all__ = [
    "CONTENT_TYPE",
    "MAX_PACKAGE",
    "VERSION",
    "Notification",
    "NotificationError",
    "UiMode",
    "Verified",
    "decode",
    "encode",
    "session_text",
    "verify",
]

CONTENT_TYPE = "application/vnd.syncml.notification"
VERSION = 11

DIGEST_SIZE = 16
_HEADER = struct.Struct(">Q")
"""Version to length: 64 bits."""

MAX_PACKAGE = 1400
"""Octets: one datagram, or ten concatenated short messages."""

MAX_SESSION = 0xFFFF


class NotificationError(ValueError):
    """What arrived is no package 0 that we may act upon; the text says why."""


class UiMode(enum.IntEnum):
    """What the user is to notice of the session."""

    UNSPECIFIED = 0
    BACKGROUND = 1
    INFORMATIVE = 2
    INTERACTION = 3
    """Ask first."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a package 0 says."""

    session_id: int
    """1 to 65535."""
    server_id: str
    ui_mode: UiMode = UiMode.UNSPECIFIED
    initiator: bool = True
    """The server wants it; False: the device or its user once asked for it."""
    vendor: bytes = b""
    version: int = VERSION

    @property
    def session_text(self) -> str:
        """The SessionID that the device's messages must carry."""
        return session_text(self.session_id)


class Verified(enum.Enum):
    """Whether a package 0 is genuine; truth value: whether to act upon it."""

    FORGED = ""
    GENUINE = "genuine"
    RESYNCHRONISE = "resynchronise"
    """Made with the special nonce: the session uses that one too, and both sides give new ones."""

    def __bool__(self) -> bool:
        return self is not Verified.FORGED


def session_text(session_id: int) -> str:
    """Upper-case hexadecimal without leading zeros, 1 to 4 characters."""
    return f"{session_id:X}"


def encode(notification: Notification, user: str, password: str, nonce: bytes) -> bytes:
    """`user` is the name in the server's credentials, normally its server id. Raises ValueError
    for a notification that cannot be written."""
    server = notification.server_id.encode()
    if not 1 <= notification.session_id <= MAX_SESSION:
        raise ValueError(f"session id {notification.session_id} is not from 1 to {MAX_SESSION}")
    if not 1 <= len(server) <= 255:
        raise ValueError(f"a server id of {len(server)} octets")
    if not 0 <= notification.version < 1 << 10:
        raise ValueError(f"version {notification.version} does not fit 10 bits")
    bits = notification.version << 54 | notification.ui_mode << 52 | notification.initiator << 51
    bits |= notification.session_id << 8 | len(server)
    trigger = _HEADER.pack(bits) + server + notification.vendor
    if DIGEST_SIZE + len(trigger) > MAX_PACKAGE:
        raise ValueError(f"a package 0 of {DIGEST_SIZE + len(trigger)} octets")
    return _digest(trigger, user, password, nonce) + trigger


def decode(data: bytes) -> Notification:
    """Raises NotificationError. The digest is another matter: see `verify`. The bits for future
    use are not looked at."""
    if len(data) > MAX_PACKAGE:
        raise NotificationError(f"{len(data)} octets")
    start = DIGEST_SIZE + _HEADER.size
    if len(data) < start:
        raise NotificationError(f"only {len(data)} octets")
    (bits,) = _HEADER.unpack_from(data, DIGEST_SIZE)
    length = bits & 0xFF
    version = bits >> 54
    if version != VERSION:
        raise NotificationError(f"version {version}")
    session_id = bits >> 8 & MAX_SESSION
    if session_id == 0:
        raise NotificationError("session id 0")
    server = data[start : start + length]
    if length == 0 or len(server) < length:
        raise NotificationError(f"a server id of {len(server)} octets, {length} announced")
    try:
        server_id = server.decode()
    except UnicodeDecodeError:
        raise NotificationError("a server id that is no UTF-8") from None
    return Notification(
        session_id,
        server_id,
        UiMode(bits >> 52 & 3),
        bool(bits >> 51 & 1),
        data[start + length :],
        version,
    )


def verify(data: bytes, user: str, password: str, nonce: bytes) -> Verified:
    """Whether the digest of a package 0 that `decode` took is the server's, made with the nonce
    that the device keeps, or with the special one."""
    given, trigger = data[:DIGEST_SIZE], data[DIGEST_SIZE:]
    if hmac.compare_digest(given, _digest(trigger, user, password, nonce)):
        return Verified.GENUINE
    fits = False
    for special in SPECIAL_NONCES:
        fits |= hmac.compare_digest(given, _digest(trigger, user, password, special))
    return Verified.RESYNCHRONISE if fits else Verified.FORGED


def _digest(trigger: bytes, user: str, password: str, nonce: bytes) -> bytes:
    hashed = base64.b64encode(hashlib.md5(trigger, usedforsecurity=False).digest())
    whole = b":".join((secret_digest(user, password), nonce, hashed))
    return hashlib.md5(whole, usedforsecurity=False).digest()
