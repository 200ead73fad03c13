"""Protocols by name: the only way from a fleet to what its devices speak."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, cast

from agent.device import Device
from agent.errors import UnknownName
from agent.protocol import ClientFactory, ClientSettings, ProtocolClient, protocol_clients
from tools.fleet.audit import Belief, BeliefVerdict

MODULES = {
    "lwm2m": "protocols.lwm2m",
    "http": "protocols.http.checkin",
    "hawkbit": "protocols.http.hawkbit",
    "mender": "protocols.http.mender",
    "thingsboard": "protocols.thingsboard",
    "aws": "protocols.mqtt.aws",
    "omadm": "protocols.omadm.client",
}
"""Where the client of each protocol is registered; a run imports its own alone."""


class FleetClient(ProtocolClient, Protocol):
    """What a fleet asks of a client beyond the seam: is it known to its server right now?"""

    registered: bool


def client_maker(name: str) -> Callable[[Device, ClientSettings], ProtocolClient]:
    """What makes clients of a protocol, imported on demand. Raises UnknownName."""
    if name not in protocol_clients:
        if name not in MODULES:
            known = ", ".join(sorted({*MODULES, *protocol_clients.names()}))
            raise UnknownName(f"no protocol {name!r}; known: {known}")
        importlib.import_module(MODULES[name])
    return protocol_clients.get(name)


def client_factory(protocol: str, settings: ClientSettings) -> ClientFactory:
    """The one factory that all devices of a shard share."""
    make = client_maker(protocol)
    return lambda device: make(device, settings)


def is_registered(client: ProtocolClient | None) -> bool:
    return bool(getattr(client, "registered", False))


class BeliefBook:
    """The latest belief of a server that we do not own, per device."""

    __slots__ = ("beliefs",)

    def __init__(self) -> None:
        self.beliefs: dict[str, Belief] = {}

    def told(self, device: str, verdict: str, detail: str, version: str | None) -> None:
        self.beliefs[device] = Belief(cast(BeliefVerdict, verdict), detail, version)
