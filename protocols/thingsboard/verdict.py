"""What a server believes after a final report that it has acknowledged."""

from __future__ import annotations

from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from protocols.thingsboard.tables import ERRORS, FAILED, UPDATED

__all__ = ["verdict"]


def verdict(outcome: Outcome, misbehave: frozenset[Misbehaviour]) -> tuple[str, str]:
    """The fleet's verdict, and the words that the device said."""
    updated = outcome is Outcome.SUCCESS
    if Misbehaviour.FALSE_SUCCESS in misbehave:
        updated = True
    elif Misbehaviour.FALSE_FAILURE in misbehave:
        updated = False
    if updated:
        return "updated", UPDATED
    return "failed", f"{FAILED}: {ERRORS.get(outcome, '')}"
