"""The virtual device: what every protocol drives and no protocol is known to.

The names here are loaded on first use: the package's own parts import each other, and the runtime
is imported by some of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.bootloader import BootReport as BootReport
    from agent.bootloader import Policy as Policy
    from agent.device import Device as Device
    from agent.device import DeviceTiming as DeviceTiming
    from agent.errors import LocalMisuse as LocalMisuse
    from agent.faults import FaultPlan as FaultPlan
    from agent.faults import FaultSpec as FaultSpec
    from agent.flash import PowerLoss as PowerLoss
    from agent.image_store import ImageStore as ImageStore
    from agent.protocol import ProtocolClient as ProtocolClient
    from agent.protocol import protocol_clients as protocol_clients
    from agent.runtime.runtime import Runtime as Runtime
    from agent.update import EngineEvent as EngineEvent
    from agent.update import Outcome as Outcome
    from agent.update import State as State
    from agent.update import UpdateEngine as UpdateEngine

_HOME = {
    "BootReport": "agent.bootloader",
    "Device": "agent.device",
    "DeviceTiming": "agent.device",
    "EngineEvent": "agent.update",
    "FaultPlan": "agent.faults",
    "FaultSpec": "agent.faults",
    "ImageStore": "agent.image_store",
    "LocalMisuse": "agent.errors",
    "Outcome": "agent.update",
    "Policy": "agent.bootloader",
    "PowerLoss": "agent.flash",
    "ProtocolClient": "agent.protocol",
    "Runtime": "agent.runtime.runtime",
    "State": "agent.update",
    "UpdateEngine": "agent.update",
    "protocol_clients": "agent.protocol",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agent' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
