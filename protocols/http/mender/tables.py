"""What a Mender device reports: one status for each step, and one for each end.

`STATUSES` and `FINAL` are walked by a test over every state and outcome.
"""

from __future__ import annotations

from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from agent.update import State

__all__ = ["FINAL", "RIGHT_ANSWERS", "STATUSES"]

DOWNLOADING = "downloading"
INSTALLING = "installing"
REBOOTING = "rebooting"
SUCCESS = "success"
FAILURE = "failure"
ALREADY_INSTALLED = "already-installed"

STATUSES: dict[State, tuple[str, ...]] = {
    State.IDLE: (),
    State.DOWNLOADING: (DOWNLOADING,),
    # Both before the reboot: afterwards nobody is there to say so.
    State.DOWNLOADED: (INSTALLING, REBOOTING),
    State.INSTALLING: (),
    State.TRIAL: (),
}
"""Reported in order while no outcome is known; a 409 to any of them ends the deployment."""

FINAL: dict[Outcome, str] = {
    Outcome.SUCCESS: SUCCESS,
    # Cancelled is what the server did itself: it hears nothing more (409: stop, be silent).
    Outcome.CANCELLED: "",
    # A deferred install is not over.
    Outcome.DEFERRED: "",
    Outcome.NO_SPACE: FAILURE,
    Outcome.OUT_OF_MEMORY: FAILURE,
    Outcome.CONNECTION_LOST: FAILURE,
    Outcome.INTEGRITY: FAILURE,
    Outcome.SIGNATURE: FAILURE,
    Outcome.WRONG_DEVICE: FAILURE,
    Outcome.DOWNGRADE: FAILURE,
    Outcome.DEPENDENCY: FAILURE,
    Outcome.UNSUPPORTED_PACKAGE: FAILURE,
    Outcome.BAD_URI: FAILURE,
    Outcome.UNSUPPORTED_PROTOCOL: FAILURE,
    Outcome.INSTALL_FAILED: FAILURE,
    Outcome.REVERTED: FAILURE,
}
"""A failure is followed by the device's log."""

RIGHT_ANSWERS: dict[Misbehaviour, frozenset[int]] = {
    # The same status again is no step back: accepted.
    Misbehaviour.DUPLICATE_REPORT: frozenset({204}),
    # A deployment that is another device's, or nobody's.
    Misbehaviour.FOREIGN_REPORT: frozenset({404}),
    # Aborted stays aborted.
    Misbehaviour.IGNORE_CANCEL: frozenset({409}),
    Misbehaviour.STALE_CREDENTIAL: frozenset({401}),
    # The identity of a known device with another key: a new authentication set, not accepted.
    Misbehaviour.CLONED_IDENTITY: frozenset({401}),
}
"""What a right server answers; lies and silence are found by the audit."""

AUDITED = frozenset(
    {Misbehaviour.NEVER_REPORT, Misbehaviour.FALSE_SUCCESS, Misbehaviour.FALSE_FAILURE}
)
