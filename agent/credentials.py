"""What a device proves its identity with. Data only: each protocol knows how to present it.

Nothing here shows a secret: `repr` leaves tokens and private keys out, so that no log, journal or
traceback can hold one by accident.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["NO_CREDENTIAL", "Credential", "TokenKind"]


class TokenKind(enum.Enum):
    """Whom a token speaks for, where a server tells them apart."""

    DEVICE = "device"
    """One device: a bearer, access or target token."""
    GATEWAY = "gateway"
    """Any device of a tenant."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The secrets of one device; what is empty it does not have."""

    token: str = field(default="", repr=False)
    token_kind: TokenKind = TokenKind.DEVICE
    username: str = ""
    password: str = field(default="", repr=False)
    certificate: bytes = b""
    """PEM chain, the device's own certificate first."""
    private_key: bytes = field(default=b"", repr=False)
    """PEM; of the certificate, or what a protocol signs its requests with."""
    authorities: bytes = b""
    """PEM of what the device trusts to have signed its server; empty: the system's."""


NO_CREDENTIAL = Credential()
