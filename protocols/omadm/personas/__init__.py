"""Personas of OMA-DM devices: carriers' profiles and known clients, as data."""

from __future__ import annotations

from agent.errors import UnusableSettings
from protocols.omadm.personas.carriers import CARRIERS
from protocols.omadm.personas.clients import CLIENTS
from protocols.omadm.personas.profile import Fumo, Notifications, Profile, Quirks, Schedule

__all__ = ["PERSONAS", "Fumo", "Notifications", "Profile", "Quirks", "Schedule", "persona"]

PERSONAS: dict[str, Profile] = {one.name: one for one in (*CLIENTS, *CARRIERS)}


def persona(name: str) -> Profile:
    """Raises UnusableSettings."""
    found = PERSONAS.get(name)
    if found is None:
        raise UnusableSettings(f"omadm has no persona {name!r}; known: {', '.join(PERSONAS)}")
    return found
