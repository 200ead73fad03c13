"""``coap://`` URIs (RFC 7252 section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from protocols.coap.errors import CoapUriError
from protocols.coap.options import Options, make_options

__all__ = ["DEFAULT_PORT", "CoapUri", "parse_uri"]

DEFAULT_PORT = 5683


@dataclass(frozen=True, slots=True)
class CoapUri:
    """A parsed URI; ``path`` and ``queries`` are decoded segments."""

    scheme: str
    host: str
    port: int
    path: tuple[str, ...]
    queries: tuple[str, ...]

    def options(self) -> Options:
        """The Uri-Path and Uri-Query options of a request for it (section 6.4)."""
        return make_options(path=self.path, queries=self.queries)


def parse_uri(text: str, schemes: tuple[str, ...] = ("coap",)) -> CoapUri:
    """Raises :class:`CoapUriError`, which names the text, for anything but a usable URI."""
    try:
        parts: SplitResult = urlsplit(text)
        port = parts.port
        text.encode()
    except ValueError as error:
        raise CoapUriError(f"{text!r} is no URI: {error}") from None
    if parts.scheme not in schemes:
        expected = " or ".join(f"{scheme}://" for scheme in schemes)
        raise CoapUriError(f"{text!r} does not begin with {expected}")
    if not parts.hostname:
        raise CoapUriError(f"{text!r} names no host")
    if port == 0:
        raise CoapUriError(f"{text!r} has port 0")
    if parts.fragment:
        raise CoapUriError(f"{text!r} has a fragment (RFC 7252 section 6.1 allows none)")
    path = parts.path[1:].split("/") if parts.path not in ("", "/") else []
    queries = parts.query.split("&") if parts.query else []
    segments = tuple(unquote(part) for part in path)
    arguments = tuple(unquote(part) for part in queries)
    for part in (*segments, *arguments):
        if len(part.encode()) > 255:
            raise CoapUriError(f"{text!r} has a segment of more than 255 bytes")
    return CoapUri(parts.scheme, parts.hostname, port or DEFAULT_PORT, segments, arguments)
