"""Who is asking: OAuth tokens and M2M sessions, in memory.

A restart ends them, as it would at any gateway; clients log in again. Their lifetimes run on the
monotonic wall clock, whatever the rate of the campaign's time, except in virtual time, where there
is no other clock.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tools.backend.inventory import Account, Inventory

TOKEN_LIFE = 3600
"""Seconds an access token lives [documented]."""

SESSION_IDLE = 20 * 60
"""Seconds without a call after which a session token ends [documented]."""

MAX_TOKENS = 10_000
"""Tokens and sessions held at once; the oldest make room, so that a loop cannot fill the memory."""


class Unauthorized(Exception):
    """The caller is nobody we know; `body` is the answer's JSON."""

    def __init__(self, body: dict[str, object]) -> None:
        super().__init__("unauthorized")
        self.body = body


def _fault(code: str, message: str, description: str) -> Unauthorized:
    fault = {"code": code, "message": message, "description": description}
    return Unauthorized({"fault": fault, "errorCode": code, "errorMessage": message})


def missing_credentials() -> Unauthorized:
    return _fault(
        "900902",
        "Missing Credentials",
        "Required OAuth credentials not provided. Make sure your API invocation call has a header: "
        '"Authorization: Bearer ACCESS_TOKEN"',
    )


def invalid_credentials() -> Unauthorized:
    return _fault(
        "900901",
        "Invalid Credentials",
        "Access failure. Make sure you have given the correct access token",
    )


class Sessions:
    """The tokens that are valid now."""

    def __init__(self, inventory: Inventory, now: Callable[[], float]) -> None:
        self._inventory = inventory
        self._now = now
        self._tokens: dict[str, tuple[str, float]] = {}
        self._sessions: dict[str, tuple[str, float]] = {}

    def account(self, name: str, secret: str) -> Account | None:
        """The account of these credentials."""
        account = self._inventory.accounts.get(name)
        known = "" if account is None else account.secret
        # Compared in constant time, and also for an unknown name.
        right = secrets.compare_digest(known.encode(), secret.encode())
        return account if right and account is not None else None

    def _open(self, table: dict[str, tuple[str, float]], account: str, life: float) -> str:
        while len(table) >= MAX_TOKENS:
            del table[next(iter(table))]
        token = secrets.token_urlsafe(24)
        table[token] = (account, self._now() + life)
        return token

    def open_token(self, account: Account) -> str:
        return self._open(self._tokens, account.name, TOKEN_LIFE)

    def open_session(self, account: Account) -> str:
        return self._open(self._sessions, account.name, SESSION_IDLE)

    def close_session(self, token: str) -> None:
        self._sessions.pop(token, None)

    def bearer(self, request: Request) -> Account:
        """The account of the access token. Raises Unauthorized."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise missing_credentials()
        name, expires = self._tokens.get(token.strip(), ("", 0.0))
        account = self._inventory.accounts.get(name)
        if account is None or expires <= self._now():
            raise invalid_credentials()
        return account

    def caller(self, request: Request) -> Account:
        """The account of the access token and the session token, which must agree."""
        account = self.bearer(request)
        token = request.headers.get("vz-m2m-token", "")
        name, expires = self._sessions.get(token, ("", 0.0))
        if name != account.name or expires <= self._now():
            raise Unauthorized(
                {
                    "errorCode": "FOTA.REQUEST_FAILED.SessionToken.Expired",
                    "errorMessage": "The session token is missing, unknown or has expired",
                }
            )
        self._sessions[token] = (name, self._now() + SESSION_IDLE)
        return account


def wall_clock(virtual: bool, now: Callable[[], float]) -> Callable[[], float]:
    """The clock of token lifetimes."""
    return now if virtual else time.monotonic


def _client(sessions: Sessions, request: Request) -> Account:
    """The account that the Basic credentials of a token request name. Raises Unauthorized."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or not encoded:
        raise missing_credentials()
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise invalid_credentials() from None
    account = sessions.account(name, secret)
    if account is None:
        raise invalid_credentials()
    return account


def token_answer(sessions: Sessions, request: Request, body: bytes) -> Response:
    """The answer of the OAuth token endpoint."""
    try:
        account = _client(sessions, request)
    except Unauthorized as error:
        # The gateway's form and that of RFC 6749 section 5.2, which clients' libraries read.
        text = error.body["errorMessage"]
        return JSONResponse(
            {**error.body, "error": "invalid_client", "error_description": text},
            401,
            headers={"WWW-Authenticate": 'Basic realm="token"'},
        )
    form = parse_qs(body.decode("utf-8", "replace"))
    if form.get("grant_type") != ["client_credentials"]:
        text = "grant_type must be client_credentials"
        answer = {
            "error": "invalid_request",
            "error_description": text,
            "errorCode": "invalid_request",
            "errorMessage": text,
        }
        return JSONResponse(answer, 400)
    return JSONResponse(
        {
            "access_token": sessions.open_token(account),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE,
            "scope": " ".join(form.get("scope", [])),
        },
        # RFC 6749 section 5.1.
        headers={"Cache-Control": "no-store"},
    )
