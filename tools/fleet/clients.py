"""Protocols by name: the only way from a fleet to what its devices speak."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Protocol

import protocols
from agent.errors import UnknownName
from agent.protocol import ClientFactory, ProtocolClient, protocol_clients
from tools.fleet.audit import Belief, BeliefVerdict

Told = Callable[[str, BeliefVerdict, str, str | None], None]
"""(device, verdict, detail, version): what the server just learned over the wire."""

Trace = Callable[..., None]
"""Called with every message of a device, in the protocol's own terms."""


class FleetClient(ProtocolClient, Protocol):
    """What a fleet asks of a client beyond the seam: is it known to its server right now?"""

    registered: bool


def known_protocols() -> list[str]:
    """Imports them all; for error messages and help, not for a run."""
    for module in pkgutil.iter_modules(protocols.__path__):
        importlib.import_module(f"protocols.{module.name}")
    return protocol_clients.names()


def client_class(name: str) -> ClientFactory:
    """The client class of a protocol, imported on demand. Raises UnknownName."""
    if name not in protocol_clients and name.isidentifier():
        try:
            importlib.import_module(f"protocols.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"protocols.{name}":
                raise
    if name not in protocol_clients:
        known = ", ".join(known_protocols()) or "none"
        raise UnknownName(f"no protocol {name!r}; known: {known}")
    return protocol_clients.get(name)


def client_factory(
    protocol: str,
    *,
    server: str,
    lifetime: int,
    bind: str | None,
    told: Told,
    trace: Trace | None = None,
) -> ClientFactory:
    """The one factory that all devices of a shard share."""
    make: Callable[..., ProtocolClient] = client_class(protocol)
    return functools.partial(
        make, server=server, lifetime=lifetime, bind=bind, trace=trace, told=told
    )


def is_registered(client: ProtocolClient | None) -> bool:
    return bool(getattr(client, "registered", False))


class BeliefBook:
    """The latest belief of a server that we do not own, per device."""

    __slots__ = ("beliefs",)

    def __init__(self) -> None:
        self.beliefs: dict[str, Belief] = {}

    def told(self, device: str, verdict: BeliefVerdict, detail: str, version: str | None) -> None:
        self.beliefs[device] = Belief(verdict, detail, version)
