"""Who is who in one session: the device's credentials to the server, and the server's to it.

OMA-TS-DM_Security 1.2.1, section 5.3, and the authentication rules of the protocol:

- 212 accepts for the whole session and credentials are no longer sent; 200 accepts one message, and
  the next carries fresh ones. A challenge beside 212 brings the nonce of the next session.
- 407 (none given) and 401 (wrong) carry a challenge. It is answered with the demanded type, or the
  session ends; failing again after a fresh challenge ends it too.
- A nonce is stored only when the other side has accepted, or shown who it is: a stranger's
  challenge must not spoil the next session.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.omadm.auth import (
    AuthSyntaxError,
    AuthType,
    challenge,
    credentials,
    hmac_header,
    next_nonce,
    nonce_as_text,
    parse_hmac_header,
    verify_credentials,
    verify_hmac,
)
from protocols.omadm.model import Chal, Cred
from protocols.omadm.status import StatusCode

__all__ = ["MAX_CHALLENGES", "Account", "ClientAuth", "ServerAuth", "Verdict", "Welcome"]

MAX_CHALLENGES = 2
"""Of each side in a session: for credentials that were missing, and once more for wrong ones (after
bad credentials one more challenge with a new nonce MUST be made)."""

NONCE_SIZE = 16
"""Octets of the nonces we make, as recommended."""


@dataclass(frozen=True, slots=True)
class Account:
    """One server of a device, and the secrets of both."""

    server_id: str
    user: str = ""
    password: str = field(default="", repr=False)
    server_user: str = ""
    """Whom the server names itself; empty: its id."""
    server_password: str = field(default="", repr=False)
    auth: AuthType = AuthType.NONE
    """What the device begins with (AAuthPref)."""
    server_auth: AuthType = AuthType.NONE
    """What it demands of the server; NONE believes any server that TLS believed."""

    @property
    def server_name(self) -> str:
        return self.server_user or self.server_id


class Verdict(enum.Enum):
    """What the server's answer to our header means."""

    ACCEPTED = "accepted"
    AGAIN = "again"
    """Send the package again, with what the challenge asks for."""
    REFUSED = "refused"


class ClientAuth:
    """The device's side. `nonce` is what the last session left."""

    __slots__ = (
        "_account",
        "_as_text",
        "_challenges",
        "_for_good",
        "_kind",
        "_nonce",
        "accepted",
        "to_store",
    )

    def __init__(self, account: Account, nonce: bytes, *, nonce_as_text: bool = False) -> None:
        self._account = account
        self._nonce = nonce
        self._as_text = nonce_as_text
        self._kind = account.auth
        self._challenges = 0
        self._for_good = False
        self.accepted = False
        self.to_store: bytes | None = None
        """The nonce of the next session, once the server has accepted."""

    def cred(self) -> Cred | None:
        """For the header of the next message."""
        if self._for_good:
            return None
        account = self._account
        return credentials(self._kind, account.user, account.password, self._octets())

    def mac(self, body: bytes) -> str | None:
        """For the transport header of a message with this body."""
        if self._kind is not AuthType.HMAC or self._for_good:
            return None
        return hmac_header(self._account.user, self._account.password, self._octets(), body)

    def answered(self, code: int, chal: Chal | None) -> Verdict:
        """The Status of our header."""
        try:
            nonce = None if chal is None else next_nonce(chal)
        except AuthSyntaxError:
            return Verdict.REFUSED
        if code in (StatusCode.AUTHENTICATED, StatusCode.OK):
            self._welcomed(code == StatusCode.AUTHENTICATED, nonce)
            return Verdict.ACCEPTED
        if code not in (StatusCode.MISSING_CREDENTIALS, StatusCode.INVALID_CREDENTIALS):
            # Any other success is one; 4xx and 5xx of the header end the session.
            return Verdict.ACCEPTED if 200 <= code < 300 else Verdict.REFUSED
        if chal is None or self._challenges >= MAX_CHALLENGES:
            return Verdict.REFUSED
        kind = AuthType.of_meta(chal.type)
        if kind is None or not self._account.user:
            return Verdict.REFUSED
        self._challenges += 1
        self._kind = kind
        if nonce is not None:
            self._nonce = nonce
        return Verdict.AGAIN

    def _welcomed(self, for_good: bool, nonce: bytes | None) -> None:
        self.accepted = True
        if self._for_good:
            if nonce is not None:
                self.to_store = nonce
            return
        self._for_good = for_good and self._kind is not AuthType.HMAC
        if not self._for_good and nonce is not None:
            self._nonce = nonce
        # Beside 212 it is the next session's; without a new one the old one serves again.
        kept = self._nonce if nonce is None else nonce
        if kept:
            self.to_store = kept

    def _octets(self) -> bytes:
        return nonce_as_text(self._nonce) if self._as_text else self._nonce


@dataclass(frozen=True, slots=True)
class Welcome:
    """How a message of the server is received."""

    code: StatusCode
    chal: Chal | None = None
    trusted: bool = True
    """Its commands may be obeyed."""
    hopeless: bool = False
    """It was challenged often enough."""


class ServerAuth:
    """The server's side, judged by the device. `nonce` is what the last session told it to use."""

    __slots__ = ("_account", "_challenges", "_nonce", "_random", "_trusted", "to_store", "wrong")

    def __init__(self, account: Account, nonce: bytes, random: Callable[[int], bytes]) -> None:
        self._account = account
        self._nonce = nonce
        self._random = random
        self._challenges = 0
        self._trusted = False
        self.wrong = False
        """Its last credentials were not right."""
        self.to_store: bytes | None = None
        """The nonce that the server was told for its next credentials."""

    @property
    def trusted(self) -> bool:
        """It has shown who it is, or need not."""
        return self._trusted or self._account.server_auth is AuthType.NONE

    def glance(self, cred: Cred | None, mac: str | None, body: bytes) -> None:
        """A message without commands is never challenged, but what it shows is looked at."""
        given = mac is not None if self._account.server_auth is AuthType.HMAC else cred is not None
        if not self.trusted and given:
            self._trusted = self._right(cred, mac, body)
            self.wrong = not self._trusted

    def judge(self, cred: Cred | None, mac: str | None, body: bytes) -> Welcome:
        """A message with commands."""
        account = self._account
        kind = account.server_auth
        if kind is AuthType.NONE or (self._trusted and kind is not AuthType.HMAC):
            return Welcome(StatusCode.OK)
        given = mac is not None if kind is AuthType.HMAC else cred is not None
        right = given and self._right(cred, mac, body)
        self.wrong = not right
        if right:
            self._trusted = True
            if kind is AuthType.BASIC:
                return Welcome(StatusCode.AUTHENTICATED)
            chal = self._challenge(kind)
            self.to_store = self._nonce
            # The MAC is judged message by message, and each answer brings the next nonce.
            code = StatusCode.OK if kind is AuthType.HMAC else StatusCode.AUTHENTICATED
            return Welcome(code, chal)
        code = StatusCode.INVALID_CREDENTIALS if given else StatusCode.MISSING_CREDENTIALS
        self._challenges += 1
        hopeless = self._challenges > MAX_CHALLENGES
        return Welcome(code, self._challenge(kind), trusted=False, hopeless=hopeless)

    def _right(self, cred: Cred | None, mac: str | None, body: bytes) -> bool:
        account = self._account
        name, password = account.server_name, account.server_password
        if account.server_auth is AuthType.HMAC:
            try:
                header = parse_hmac_header(mac or "")
            except AuthSyntaxError:
                return False
            return verify_hmac(header, name, password, self._nonce, body)
        if cred is None or AuthType.of_meta(cred.type) is not account.server_auth:
            return False
        return verify_credentials(cred, name, password, self._nonce)

    def _challenge(self, kind: AuthType) -> Chal:
        if kind is AuthType.BASIC:
            return challenge(kind)
        self._nonce = self._random(NONCE_SIZE)
        return challenge(kind, self._nonce)
