"""URLs, judged before anything is sent: a server's, given by a person, and links of servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlsplit

from agent.errors import UnusableSettings

__all__ = ["BadServer", "BadUrl", "Origin", "Site", "locate", "parse_server"]

MAX_URL = 8192
"""Characters. Servers refuse longer request lines (nginx: 8 KiB), and signed links stay below."""


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


@lru_cache(maxsize=256)  # one entry per server, not per device
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


class BadUrl(ValueError):
    """A link that cannot be followed. `str` does not repeat it: links carry secrets."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where requests go: an origin (RFC 6454 section 4)."""

    scheme: str
    host: str
    """In ASCII; an IPv6 address without brackets."""
    port: int
    authority: str
    """As in a Host field: the port only where it is not the scheme's own."""

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"


_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_SENDABLE = re.compile(r"[^!-~]")


@lru_cache(maxsize=256)  # one entry per server, not per device
def _site(prefix: str) -> Site:
    try:
        parts = urlsplit(prefix)
        port = parts.port
        host = parts.hostname or ""
        # An IPv6 address has colons; IDNA is for names.
        encoded = host.encode("ascii" if ":" in host else "idna")
    except (ValueError, UnicodeError):
        raise BadUrl("the URL cannot be read") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadUrl("the URL is neither http:// nor https://")
    if parts.username is not None or parts.password is not None:
        raise BadUrl("the URL holds a user name")
    name = encoded.decode()
    if not name or _NOT_SENDABLE.search(name):
        raise BadUrl("the URL names no host")
    default = _DEFAULT_PORTS[parts.scheme]
    shown = f"[{name}]" if ":" in name else name
    if port is None:
        port = default
    if not port:
        raise BadUrl("the URL names port 0")
    return Site(parts.scheme, name, port, shown if port == default else f"{shown}:{port}")


def locate(url: str) -> tuple[Site, str]:
    """Where to send a request for `url`, and its target: path and query, ready to be sent. Raises
    BadUrl."""
    if len(url) > MAX_URL:
        raise BadUrl(f"the URL is longer than {MAX_URL} characters")
    url = url.partition("#")[0]
    slash = url.find("/", 8)  # behind the two of `https://`
    question = url.find("?")
    if question >= 0 and (slash < 0 or question < slash):
        prefix, target = url[:question], f"/{url[question:]}"
    elif slash < 0:
        prefix, target = url, "/"
    else:
        prefix, target = url[:slash], url[slash:]
    if _NOT_SENDABLE.search(target):
        # Servers do hand out links with spaces and umlauts; browsers and curl escape them too.
        target = quote(target, safe="%/:?#[]@!$&'()*+,;=~-._")
    return _site(prefix), target
