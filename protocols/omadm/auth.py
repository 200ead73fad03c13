"""Credentials of both sides of a session: basic, md5 and the MAC header.

OMA-TS-DM_Security 1.2.1, section 5.3. H is MD5, B64 is base64::

    basic  B64(user:password)
    md5    B64(H(B64(H(user:password)) : nonce))
    MAC    B64(H(B64(H(user:password)) : nonce : B64(H(whole body of the message))))

The MAC travels in the transport header `x-syncml-hmac`, never in Cred; in spite of that name it is
not the HMAC of RFC 2104. The nonce is the octets that base64 stands for in NextNonce, not its text.

Everything that checks compares in constant time. MD5 is what the protocol prescribes; it protects
nothing here, since a session runs over TLS.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac as compare
import re
from dataclasses import dataclass, field

from protocols.omadm.model import Chal, Cred

__all__ = [
    "AuthSyntaxError",
    "AuthType",
    "HmacHeader",
    "basic",
    "challenge",
    "credentials",
    "hmac_header",
    "mac",
    "md5",
    "next_nonce",
    "nonce_as_text",
    "parse_hmac_header",
    "secret_digest",
    "verify_credentials",
    "verify_hmac",
]

HMAC_HEADER = "x-syncml-hmac"
"""Name of the transport header that carries a MAC."""

MAX_NONCE = 128
"""Octets of a nonce we take; 16 are recommended, and it must fit the device's storage."""

_PARAMETER = re.compile(
    r'\s*([A-Za-z][A-Za-z0-9-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|$)'
)
_MAX_HEADER = 1024
"""Characters of a MAC header: a user name and 24 characters of base64."""


class AuthSyntaxError(ValueError):
    """The remote's credentials or challenge are malformed; never holds what they contain."""


class AuthType(enum.Enum):
    """How one side shows who it is; the value is Meta/Type of Cred and Chal."""

    NONE = ""
    BASIC = "syncml:auth-basic"
    MD5 = "syncml:auth-md5"
    HMAC = "syncml:auth-MAC"

    @classmethod
    def of_meta(cls, name: str) -> AuthType | None:
        """The scheme that Meta/Type names; None for one that we do not speak."""
        return _BY_META.get(name.strip().lower())

    @classmethod
    def of_account(cls, name: str) -> AuthType | None:
        """The scheme that AAuthType or AAuthPref of a DM account names (OMA-TS-DM_StdObj 5.3);
        None for one that is the transport's or that we do not speak."""
        return {"BASIC": cls.BASIC, "DIGEST": cls.MD5, "HMAC": cls.HMAC}.get(name)


# Looked at for every message; an Enum's `value` is slow to ask for.
_BY_META = {kind.value.lower(): kind for kind in AuthType if kind.value}


def secret_digest(user: str, password: str) -> bytes:
    """B64(H(user:password)): what a server may keep instead of the password."""
    return base64.b64encode(_md5(f"{user}:{password}".encode()))


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def md5(user: str, password: str, nonce: bytes) -> str:
    return _b64(_md5(secret_digest(user, password) + b":" + nonce))


def mac(user: str, password: str, nonce: bytes, body: bytes) -> str:
    """The MAC over `body`, the octets of the message exactly as the transport carries them."""
    digest = base64.b64encode(_md5(body))
    return _b64(_md5(b":".join((secret_digest(user, password), nonce, digest))))


def hmac_header(user: str, password: str, nonce: bytes, body: bytes) -> str:
    """Value of the header `x-syncml-hmac`."""
    quoted = user.replace("\\", "\\\\").replace('"', '\\"')
    return f'algorithm=MD5, username="{quoted}", mac={mac(user, password, nonce, body)}'


@dataclass(frozen=True, slots=True)
class HmacHeader:
    """What `x-syncml-hmac` carries."""

    username: str
    mac: str = field(repr=False)
    algorithm: str = "MD5"


def parse_hmac_header(text: str) -> HmacHeader:
    """Raises AuthSyntaxError. `algorithm` may be absent and is MD5 then; the others must be
    there, in any order; each comes once."""
    if len(text) > _MAX_HEADER:
        raise AuthSyntaxError(f"{HMAC_HEADER} of {len(text)} characters")
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            raise AuthSyntaxError(f"{HMAC_HEADER}: no parameter at character {position}")
        name, quoted, token = match.groups()
        name = name.lower()
        if name in found:
            raise AuthSyntaxError(f"{HMAC_HEADER}: {name} comes twice")
        found[name] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
    for name in ("username", "mac"):
        if name not in found:
            raise AuthSyntaxError(f"{HMAC_HEADER}: no {name}")
    algorithm = found.get("algorithm", "MD5")
    if algorithm.upper() != "MD5":
        raise AuthSyntaxError(f"{HMAC_HEADER}: algorithm is not MD5")
    return HmacHeader(found["username"], found["mac"])


def credentials(kind: AuthType, user: str, password: str, nonce: bytes = b"") -> Cred | None:
    """The Cred of a header; None where the scheme has none (none at all, and the MAC)."""
    if kind is AuthType.BASIC:
        return Cred(kind.value, "b64", basic(user, password))
    if kind is AuthType.MD5:
        return Cred(kind.value, "b64", md5(user, password, nonce))
    return None


def challenge(kind: AuthType, nonce: bytes | None = None) -> Chal:
    """The Chal that demands `kind`; md5 and MAC carry the nonce of the next try."""
    return Chal(kind.value, "b64", None if nonce is None else _b64(nonce))


def next_nonce(chal: Chal) -> bytes | None:
    """The nonce that a challenge brings, None where it has none. Raises AuthSyntaxError."""
    if chal.next_nonce is None:
        return None
    text = "".join(chal.next_nonce.split())
    if len(text) > 4 * (MAX_NONCE + 2) // 3:
        raise AuthSyntaxError(f"NextNonce of {len(text)} characters")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise AuthSyntaxError("NextNonce is no base64") from None


def nonce_as_text(nonce: bytes) -> bytes:
    """What clients make of a nonce that keep it as text: octets from 0x80 are replaced, so that
    their digest is wrong. A mode of personas, seen in a shipping automotive client."""
    return nonce.decode("utf-8", "replace").encode()


def verify_credentials(cred: Cred, user: str, password: str, nonce: bytes) -> bool:
    """Whether a Cred is the one of this user. The scheme must be judged by the caller; a format
    other than b64 is wrong for md5, and basic may leave it out (OMA-TS-DM_Security 5.3.1)."""
    kind = AuthType.of_meta(cred.type)
    if kind is AuthType.MD5:
        return cred.format == "b64" and _same(cred.data.strip(), md5(user, password, nonce))
    if kind is AuthType.BASIC:
        return cred.format in (None, "b64") and _same(cred.data.strip(), basic(user, password))
    return False


def verify_hmac(header: HmacHeader, user: str, password: str, nonce: bytes, body: bytes) -> bool:
    """Whether `header` is this user's MAC over `body`."""
    named = _same(header.username, user)
    return _same(header.mac, mac(user, password, nonce, body)) and named


def _same(given: str, expected: str) -> bool:
    return compare.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
