"""A client of the backend's admin API, for the command line."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tools.backend.errors import BackendError

URL_VARIABLE = "FOTILLA_ADMIN_URL"
TOKEN_VARIABLE = "FOTILLA_ADMIN_TOKEN"
CA_VARIABLE = "FOTILLA_ADMIN_CA"
"""Read by the command itself, as an option."""

DEFAULT_URL = "http://127.0.0.1:8081"

TIMEOUT = httpx.Timeout(10.0, read=300.0)
"""Seconds; a hundred thousand devices take some to load, and a busy backend longer."""


class AdminRefused(BackendError):
    """The backend cannot be reached, or refuses what is asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Where:
    """Whom to ask, and how to log in."""

    url: str
    token: str = field(repr=False)
    authorities: Path | None = None
    """PEM file of who may have signed the backend's certificate; None: whom the system trusts."""


def from_ready_file(path: Path, authorities: Path | None = None) -> Where:
    """What a running backend has written. Raises AdminRefused."""
    try:
        admin = json.loads(path.read_bytes())["admin"]
        return Where(str(admin["url"]), str(admin["token"]), authorities)
    except OSError as error:
        raise AdminRefused(
            f"{path}: {error.strerror}; a backend writes it when it serves"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise AdminRefused(f"{path}: not the ready file of a backend") from None


def find(
    ready_file: Path | None,
    url: str | None,
    token_file: Path | None,
    authorities: Path | None = None,
) -> Where:
    """The backend that is meant: by its ready file, or else by options and environment. Raises
    AdminRefused."""
    if ready_file is not None:
        if url is not None or token_file is not None:
            raise AdminRefused(
                "--ready-file says what --url and --token-file say: give one of them"
            )
        return from_ready_file(ready_file, authorities)
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token_file is not None:
        try:
            token = token_file.read_text("ascii", "replace")
        except OSError as error:
            raise AdminRefused(f"{token_file}: {error.strerror}") from None
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise AdminRefused("the token has characters that no token has")
    if not token:
        raise AdminRefused(
            f"the administrator's token is missing: --ready-file, --token-file or {TOKEN_VARIABLE}"
        )
    return Where(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL, token, authorities)


def tls_context(authorities: Path | None) -> ssl.SSLContext:
    """What a client trusts. Raises AdminRefused."""
    try:
        return ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        raise AdminRefused(f"{authorities}: not a PEM file of certificates") from None
    except OSError as error:
        raise AdminRefused(f"{authorities}: {error.strerror or error}") from None


def segment(text: str) -> str:
    """A name as one segment of a path."""
    return quote(text, safe="")


class AdminClient:
    """Asks, and gives back what was answered. A context manager."""

    def __init__(self, where: Where) -> None:
        try:
            # Without the environment's proxies: the token is for the backend alone.
            self._http = httpx.Client(
                base_url=where.url,
                headers={"Authorization": f"Bearer {where.token}"},
                timeout=TIMEOUT,
                trust_env=False,
                verify=tls_context(where.authorities),
            )
        except (httpx.InvalidURL, ValueError):
            raise AdminRefused(f"{where.url!r} is not a URL") from None
        self._url = where.url

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The JSON of the answer. Raises AdminRefused."""
        return self._parsed(self.fetch(method, path, **more))

    def fetch(self, method: str, path: str, **more: Any) -> bytes:
        """The body of the answer. Raises AdminRefused."""
        try:
            answer = self._http.request(method, path, **more)
        except httpx.TimeoutException:
            raise AdminRefused(f"{self._url}: no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AdminRefused(f"cannot reach {self._url}: {error}") from None
        if answer.is_success:
            return answer.content
        raise AdminRefused(self._problem(answer))

    def _problem(self, answer: httpx.Response) -> str:
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return f"{self._url} refuses the token"
        try:
            return str(answer.json()["errorMessage"])
        except (ValueError, KeyError, TypeError):
            return f"{self._url} answers {answer.status_code}, and not as a backend does"

    def _parsed(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise AdminRefused(f"{self._url} does not answer as a backend does") from None
