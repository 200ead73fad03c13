"""How known DDI clients differ from each other. One frozen record per client, by name.

The differences are few, because DDI leaves a device little choice; each is said with its source.
`fotilla` is what a device does that nobody gave a persona.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.registry import Registry
from protocols.http.hawkbit.tables import CancelAnswer, Execution

__all__ = ["FOTILLA", "RAUC_HAWKBIT_UPDATER", "Persona", "personas"]


@dataclass(frozen=True, slots=True)
class Persona:
    """One kind of client."""

    name: str
    etag: bool = False
    """Polls with If-None-Match: a quiet poll is then a 304 without a body."""
    body_id: bool = False
    """Repeats the action's id in the body of a feedback, which hawkBit ignores (recorded: an id
    that differs from the path is accepted)."""
    executions: frozenset[Execution] = frozenset(Execution)
    """What it reports on deploymentBase; a final report is sent whatever stands here."""
    cancel: CancelAnswer = CancelAnswer.ACCEPT
    """Its answer to a cancel that it could accept."""


FOTILLA = Persona("fotilla")
"""Reports every step, once."""

RAUC_HAWKBIT_UPDATER = Persona(
    "rauc-hawkbit-updater",
    body_id=True,
    executions=frozenset({Execution.PROCEEDING, Execution.CLOSED}),
)
"""The client of RAUC devices: everything short of the end is `proceeding`, the id is in the body,
and no If-None-Match is sent (`feedback_progress` and `json_build_status` of its
src/hawkbit-client.c)."""

personas: Registry[Persona] = Registry("hawkBit persona")
for _persona in (FOTILLA, RAUC_HAWKBIT_UPDATER):
    personas.register(_persona.name)(_persona)
