"""What a device tells a ThingsBoard server in each state of its update engine.

The words are those of the server's OTA states. `REPORTS` is walked by a test over every cell: what
the engine can be and has no cell says nothing.
"""

from __future__ import annotations

from agent.outcome import Outcome
from agent.update import State

__all__ = ["ERRORS", "REPORTS", "words"]

DOWNLOADING = "DOWNLOADING"
DOWNLOADED = "DOWNLOADED"
VERIFIED = "VERIFIED"
UPDATING = "UPDATING"
UPDATED = "UPDATED"
FAILED = "FAILED"

REPORTS: dict[State, tuple[str, ...]] = {
    State.IDLE: (),
    State.DOWNLOADING: (DOWNLOADING,),
    # The application has verified the signature by then, so both are true at once.
    State.DOWNLOADED: (DOWNLOADED, VERIFIED),
    State.INSTALLING: (UPDATING,),
    State.TRIAL: (),
}
"""While no outcome is known. TRIAL adds nothing to UPDATING, said before the reboot."""

ERRORS: dict[Outcome, str] = {
    Outcome.CANCELLED: "cancelled",
    Outcome.DEFERRED: "",
    Outcome.NO_SPACE: "the package is larger than the slot",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.CONNECTION_LOST: "the download was interrupted for too long",
    Outcome.INTEGRITY: "the checksum is wrong",
    Outcome.SIGNATURE: "the signature is wrong",
    Outcome.WRONG_DEVICE: "the package is for another device",
    Outcome.DOWNGRADE: "the package is older than what runs",
    Outcome.DEPENDENCY: "a dependency is not met",
    Outcome.UNSUPPORTED_PACKAGE: "the package is of an unknown format",
    Outcome.BAD_URI: "the package cannot be had",
    Outcome.UNSUPPORTED_PROTOCOL: "the URL's scheme is not supported",
    Outcome.INSTALL_FAILED: "the installation failed",
    Outcome.REVERTED: "the new image did not come up and was reverted",
}
"""`fw_error` of every outcome but success; a deferred update is not over and reports nothing [the
texts are ours: the server shows them as they come]."""


def words(state: State, outcome: Outcome | None) -> tuple[str, ...]:
    """The states to tell, in order."""
    if outcome is None or outcome is Outcome.DEFERRED:
        return REPORTS[state]
    if outcome is Outcome.SUCCESS:
        return (UPDATED,)
    return (FAILED,)
