"""The server's name, looked up once: a thousand devices must not each ask a name server, and a name
that does not exist is a mistake on the command line, not a thousand failed registrations."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from tools.fleet.spec import SpecError, split_server


def resolve_server(uri: str) -> str:
    """The same URI with a numeric host. Raises SpecError for a host that has no address."""
    parts = split_server(uri)
    assert parts.hostname is not None  # split_server refuses the rest
    try:
        infos = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError("server", f"{parts.hostname!r} has no address: {reason}") from None
    # IPv4 first: a device bound to an IPv4 address cannot speak to an IPv6 one.
    infos.sort(key=lambda info: info[0] != socket.AF_INET)
    host = str(infos[0][4][0])
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if parts.port is None else f"{shown}:{parts.port}"
    return parts._replace(netloc=netloc).geturl()


def checked_server(uri: str, protocol: str, options: Mapping[str, str]) -> str:
    """What devices are given as their server. Raises SpecError for a host that has no address."""
    if protocol == "lwm2m":
        return resolve_server(uri)
    # The others need the name itself, for TLS and for virtual hosts. Behind a proxy only the proxy
    # has to know it.
    if not options.get("proxy"):
        resolve_server(uri)
    return uri


def address_towards(uri: str) -> str:
    """Our own address on the route to a resolved server; nothing is sent."""
    parts = split_server(uri)
    assert parts.hostname is not None
    family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((parts.hostname, parts.port or 9))
        except OSError as error:
            reason = error.strerror or error
            raise SpecError("server", f"no route to {parts.hostname}: {reason}") from None
        return str(probe.getsockname()[0])
