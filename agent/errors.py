"""Errors of the agent: whose fault something is, told by the class.

A refused image is `firmware_images.ImageRefused`; a simulated power cut is `agent.flash.PowerLoss`.
"""

from __future__ import annotations

__all__ = ["AgentError", "LocalMisuse", "StoreError", "UnknownName", "UnusableSettings"]


class AgentError(Exception):
    """Base of what the agent raises for its callers."""


class LocalMisuse(AgentError):
    """Our own caller asked for something that the state table has no cell for."""


class StoreError(AgentError):
    """A slot store could not do what the engine asked: the flash, or the board behind it,
    failed."""


class UnknownName(AgentError, LookupError):
    """A registry was asked for a name that nobody registered."""


class UnusableSettings(AgentError):
    """What a person asked of a protocol cannot be: a server URI, an option, a credential. `what`
    names the setting as `FleetSpec` spells it, where that is known."""

    def __init__(self, problem: str, what: str = "") -> None:
        super().__init__(problem)
        self.what = what
