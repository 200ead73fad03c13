"""The token of the administrator: one for the whole backend, apart from every account's."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from fastapi import Request

from tools.backend.errors import BackendError
from tools.backend.rest.auth import Unauthorized

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*")
"""What can stand in a header (RFC 6750 section 2.1), and is too long to be guessed."""

MAX_FILE = 1_024
"""Bytes of a token file."""

MODE = 0o600


class TokenRefused(BackendError):
    """A token file that cannot be used; the text never repeats what is in it."""


def new_token() -> str:
    """A fresh token."""
    return secrets.token_urlsafe(32)


def token_from_file(path: Path) -> str:
    """The token in a file, which is made with a fresh one, for its owner only, when there is none.
    Raises TokenRefused."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise TokenRefused(f"the token file {path}: {error.strerror}") from error
    token = new_token()
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    return token


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise TokenRefused(f"the token file {path}: {error.strerror}") from error
    text = content.decode("ascii", "replace").strip()
    if not TOKEN.fullmatch(text):
        raise TokenRefused(
            f"the token file {path}: a token has 16 to 512 characters of RFC 6750 section 2.1"
        )
    return text


class AdminToken:
    """Checks who is asking. `required` is the dependency of every route."""

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __repr__(self) -> str:
        return "<AdminToken>"

    def matches(self, token: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return secrets.compare_digest(self._token, token.encode("utf-8", "surrogatepass"))

    # A coroutine: FastAPI runs plain functions in a thread.
    async def required(self, request: Request) -> None:
        """Raises Unauthorized unless the request carries the token as its bearer."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self.matches(token.strip()):
            raise Unauthorized(
                {
                    "errorCode": "UNAUTHORIZED",
                    "errorMessage": "The administrator's token is missing or wrong",
                }
            )
