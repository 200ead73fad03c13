"""Server URIs of HTTP protocols, judged before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.errors import UnusableSettings

__all__ = ["BadServer", "Origin", "parse_server"]


class BadServer(UnusableSettings):
    """A `--server` that no HTTP client can use."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server is, and below which path its API begins."""

    base: str
    """`scheme://host[:port][/path]`, without a slash at the end."""
    scheme: str
    host: str
    port: int


def parse_server(uri: str) -> Origin:
    """The origin that `uri` names. Raises BadServer; a password in it is not repeated."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise BadServer(f"the server's URI cannot be read: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise BadServer(f"a server of this protocol is http:// or https://, not {parts.scheme!r}")
    if not parts.hostname:
        raise BadServer("the server's URI names no host")
    if parts.username is not None or parts.password is not None:
        raise BadServer("the server's URI holds a user name; credentials are given apart from it")
    if parts.query or parts.fragment:
        raise BadServer("the server's URI ends in a query or fragment")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return Origin(base, parts.scheme, parts.hostname, port)
