"""Server URIs of MQTT: `mqtt://host[:1883]` and `mqtts://host[:8883]`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from agent.errors import UnusableSettings

__all__ = ["BrokerAddress", "parse_broker"]

PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Registered with IANA, with and without TLS."""


class BrokerAddress(NamedTuple):
    host: str
    port: int
    tls: bool


def parse_broker(server: str) -> BrokerAddress:
    """Raises :class:`~agent.errors.UnusableSettings` for what is no broker's URI; the text shows
    no user information, as credentials have a place of their own."""
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        raise UnusableSettings("the MQTT server is no URI: its host or port is malformed") from None
    if parts.scheme not in PORTS:
        raise UnusableSettings(
            f"an MQTT server is mqtt://host or mqtts://host, not {parts.scheme}:"
        )
    if not parts.hostname:
        raise UnusableSettings(f"the MQTT server {parts.scheme}: URI has no host")
    if parts.username is not None or parts.password is not None:
        raise UnusableSettings("credentials do not belong into the MQTT server's URI")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UnusableSettings(f"the MQTT server's URI ends after {parts.hostname}: it has no path")
    if port == 0:
        raise UnusableSettings("the MQTT server's port is 0")
    return BrokerAddress(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts")
