"""The seam between a device and the protocol it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.bootloader import BootReport
from agent.registry import Registry
from agent.update import EngineEvent

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["ClientFactory", "ProtocolClient", "protocol_clients"]


class ProtocolClient(Protocol):
    """One protocol client of one device, for one uptime: a reboot makes a new one.

    What must survive a reboot goes to `device.nvm` and to the engine; nothing else does. A call
    into the engine or `nvm` may raise `PowerLoss`; let it pass. The device is off by then,
    `power_lost` was called, and the I/O adapter that dispatched the packet swallows it
    (`Device.run`)."""

    name: str

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


protocol_clients: Registry[Callable[..., ProtocolClient]] = Registry("protocol")
"""By name, what makes a client of a device and the settings that all protocols share: `server` (a
URI), `lifetime` in seconds, `bind`, `trace` and `told`. With the settings bound by
`functools.partial` it is a `ClientFactory`."""
