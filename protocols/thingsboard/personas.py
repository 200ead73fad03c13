"""ThingsBoard clients as they are: one that does everything right, and the known faults of others.

Each fault has been reported against the server or its client libraries; the issue is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import UnusableSettings

__all__ = ["PERSONAS", "Persona", "persona"]

DEFAULT_CHUNK = 16 << 10
"""Bytes. A chunk over MQTT fits into the server's default payload limit of 64 KiB with room."""

SERVER_LIMIT = 64 << 10
"""Bytes of a payload that the server takes by default (NETTY_MAX_PAYLOAD_SIZE)."""


@dataclass(frozen=True, slots=True)
class Persona:
    """What one client does differently."""

    chunk: int = DEFAULT_CHUNK
    ids_from_zero: bool = False
    """Request ids begin at 0 again after each reboot (thingsboard/thingsboard#11683)."""
    updated_after_reboot: bool = False
    """A reboot in the middle of a download counts as a finished update: UPDATED with the old
    version (thingsboard/thingsboard#10191)."""
    lost_chunk_stalls: bool = False
    """A chunk that never comes is never asked for again (thingsboard-client-sdk#181)."""


PERSONAS: dict[str, Persona] = {
    "default": Persona(),
    "ids-from-zero": Persona(ids_from_zero=True),
    "updated-after-reboot": Persona(updated_after_reboot=True),
    "lost-chunk-stalls": Persona(lost_chunk_stalls=True),
    # thingsboard/thingsboard#15637: the server closes the connection at this size.
    "large-chunks": Persona(chunk=2 * SERVER_LIMIT),
}


def persona(name: str) -> Persona:
    """Raises UnusableSettings."""
    found = PERSONAS.get(name)
    if found is None:
        raise UnusableSettings(
            f"thingsboard has no persona {name!r}; known: {', '.join(sorted(PERSONAS))}"
        )
    return found
