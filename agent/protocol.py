"""The seam between a device and the protocol it speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from agent.bootloader import BootReport
from agent.credentials import NO_CREDENTIAL, Credential
from agent.misbehaviour import Misbehaviour
from agent.registry import Registry
from agent.update import EngineEvent

if TYPE_CHECKING:
    from agent.device import Device

__all__ = [
    "ClientFactory",
    "ClientSettings",
    "ProtocolClient",
    "Told",
    "Trace",
    "protocol_clients",
]

Told = Callable[[str, str, str, str | None], None]
"""(device, verdict, detail, version): what the server just got to know of a device over the wire.
The verdict is `updated`, `failed` or `unfinished`."""

Trace = Callable[[str], None]
"""Gets one line for each message of a device, in the protocol's own terms and without secrets."""

DEFAULT_LIFETIME = 300


class ProtocolClient(Protocol):
    """One protocol client of one device, for one uptime: a reboot makes a new one.

    What must survive a reboot goes to `device.nvm` and to the engine; nothing else does. A call
    into the engine or `nvm` may raise `PowerLoss`; let it pass. The device is off by then,
    `power_lost` was called, and the I/O adapter that dispatched the packet swallows it
    (`Device.run`)."""

    @property
    def name(self) -> str:
        """Of the protocol, as in the registry."""
        ...

    def booted(self, report: BootReport) -> None:
        """What the bootloader did; comes once, before `start`, and the engine has judged it."""
        ...

    def start(self) -> None:
        """The device is up: begin to talk."""
        ...

    def stop(self) -> None:
        """The device is being switched off in order: say goodbye, then fall silent."""
        ...

    def power_lost(self) -> None:
        """Drop everything at once and silently. Also what a reboot does to a client."""
        ...

    def engine_event(self, event: EngineEvent) -> None:
        """The update engine changed state or outcome."""
        ...


class ClientFactory(Protocol):
    """Makes the client of a device at each boot."""

    def __call__(self, device: Device, /) -> ProtocolClient: ...


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What every protocol client is given beside its device."""

    server: str
    """URI; the protocol judges its scheme."""
    lifetime: int = DEFAULT_LIFETIME
    """Seconds that a registration lasts, for protocols that have one."""
    bind: str | None = None
    """Local address; None leaves it to the system or the protocol."""
    trace: Trace | None = None
    told: Told | None = None
    credential: Callable[[Device], Credential] = field(default=lambda device: NO_CREDENTIAL)
    """What a device presents; asked anew at each boot."""
    misbehave: Callable[[Device], frozenset[Misbehaviour]] = field(
        default=lambda device: frozenset()
    )
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Settings that only this protocol knows, such as `poll` or `tenant`; it refuses others."""
    bandwidth: float | None = None
    """Bytes a second of a device's link."""


protocol_clients: Registry[Callable[[Device, ClientSettings], ProtocolClient]] = Registry(
    "protocol"
)
"""By name, what makes a client of a device and the settings of its group."""
