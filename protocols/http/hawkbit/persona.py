"""How known DDI clients differ from each other. One frozen record per client, by name.

The differences are few, because DDI leaves a device little choice; each is said with its source.
`fotilla` is what a device does that nobody gave a persona.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.registry import Registry
from protocols.http.hawkbit.tables import Execution, Report

__all__ = ["FOTILLA", "RAUC_HAWKBIT_UPDATER", "SWUPDATE", "Persona", "personas"]


@dataclass(frozen=True, slots=True)
class Persona:
    """One kind of client."""

    name: str
    etag: bool = False
    """Polls with If-None-Match: a quiet poll is then a 304 without a body."""
    body_id: bool = False
    """Repeats the action's id in the body of a feedback, which hawkBit ignores (recorded: an id
    that differs from the path is accepted)."""
    progress: bool = False
    """Always has the member `progress`, which hawkBit takes and does not use."""
    executions: frozenset[Execution] = frozenset(Execution)
    """The words it has; a step that it has no word for is `proceeding`."""

    def worded(self, report: Report) -> Report:
        """A step in this client's words."""
        if report.execution in self.executions:
            return report
        return Report(Execution.PROCEEDING, report.finished)


FOTILLA = Persona("fotilla")
"""Reports every step, once."""

_TERSE = frozenset({Execution.PROCEEDING, Execution.CLOSED})

RAUC_HAWKBIT_UPDATER = Persona("rauc-hawkbit-updater", body_id=True, executions=_TERSE)
"""The client of RAUC devices: everything short of the end is `proceeding`, the id is in the body,
and no If-None-Match is sent (`feedback_progress` and `json_build_status` of its
src/hawkbit-client.c)."""

SWUPDATE = Persona("swupdate", body_id=True, progress=True, executions=_TERSE)
"""SWUpdate's suricatta: likewise, and a progress of 0 of 0 unless a handler counts
(`server_send_deployment_reply` and `handle_feedback` of its suricatta/server_hawkbit.c)."""

personas: Registry[Persona] = Registry("hawkBit persona")
for _persona in (FOTILLA, RAUC_HAWKBIT_UPDATER, SWUPDATE):
    personas.register(_persona.name)(_persona)
