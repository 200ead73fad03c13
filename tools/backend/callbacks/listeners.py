"""Who listens: one address for each account and version of the API; that they are apart is ours.

A listener has to be served over TLS with a certificate that can be verified. Plain http goes to
this host only, for tests and demos: nobody can make the backend send its messages, readable, to a
machine of somebody else's network.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import httpx
from sqlalchemy import Connection

from tools.backend.callbacks import rows
from tools.backend.callbacks.rows import Key, Listener
from tools.backend.errors import RequestRefused
from tools.backend.refusals import Refusal

MAX_URL = 2_048
"""Characters of a callback address, as the store keeps them; common clients take no longer one."""

AUTHORITY = re.compile("[/?#]")
"""What ends the authority of a URL (RFC 3986 section 3.2)."""

LOCALHOST = "localhost"
"""The one name that means this host and nothing else (RFC 6761 section 6.3)."""


def _refused(problem: str) -> RequestRefused:
    return Refusal.INVALID_FIELD(field="url", problem=problem)


def check_url(text: str) -> str:
    """A callback address as it was sent. Raises RequestRefused, whose text does not repeat it: it
    may hold a secret. It is taken apart by the same code that will send to it."""
    if not 0 < len(text) <= MAX_URL:
        raise _refused(f"a callback address has 1 to {MAX_URL} characters")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise _refused("a callback address has printable ASCII characters only")
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, UnicodeError):
        raise _refused("not an absolute http or https address") from None
    if url.scheme not in ("http", "https") or not host:
        raise _refused("not an absolute http or https address")
    if "@" in AUTHORITY.split(text.partition("://")[2], 1)[0]:
        raise _refused("a callback address must not hold a user name or password")
    if url.port is not None and not 0 < url.port < 65_536:
        raise _refused("a callback address has a port of 1 to 65535")
    if url.scheme == "http" and not is_loopback(host):
        raise _refused("a callback address must use https; http goes to loopback only")
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is this one, by its literal address or the reserved name."""
    if host.lower() == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Listeners:
    """All listeners, in memory as in the store."""

    def __init__(self) -> None:
        self._held: dict[Key, Listener] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def load(self, connection: Connection) -> None:
        """Read what a former run left."""
        for listener in rows.load_listeners(connection):
            self._held[listener.key] = listener

    def get(self, key: Key) -> Listener | None:
        """The listener of an account in a version of the API."""
        return self._held.get(key)

    def named(self, key: Key) -> Listener:
        """The same. Raises RequestRefused without one."""
        listener = self._held.get(key)
        if listener is None:
            raise Refusal.CALLBACK_NONE()
        return listener

    def put(self, listener: Listener) -> None:
        """A listener is durable: it is the one from now on."""
        self._held[listener.key] = listener

    def drop(self, key: Key) -> None:
        """A listener is gone from the store."""
        self._held.pop(key, None)
