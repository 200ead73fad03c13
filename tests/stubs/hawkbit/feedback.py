"""The tables of feedback.

hawkBit has one table for feedback on a deployment and one for feedback on a cancel. Feedback first
becomes an entry of the action's history. Only a few entries move the action itself:

- FINISHED and ERROR close it; DOWNLOADED closes it when it is download-only;
- CANCELED on a cancel closes it; ERROR and CANCEL_REJECTED on a cancel put it back to running;
- everything else (also `canceled` and `rejected` on a deployment, `canceled` on a cancel) is
  history and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.stubs.hawkbit.model import ActionStatus

UPDATE_FEEDBACK: dict[str, dict[str, ActionStatus]] = {
    "closed": {
        "success": ActionStatus.FINISHED,
        "none": ActionStatus.FINISHED,
        "failure": ActionStatus.ERROR,
    },
    "canceled": dict.fromkeys(("success", "none", "failure"), ActionStatus.CANCELED),
    "rejected": dict.fromkeys(("success", "none", "failure"), ActionStatus.WARNING),
    "download": dict.fromkeys(("success", "none", "failure"), ActionStatus.DOWNLOAD),
    "downloaded": dict.fromkeys(("success", "none", "failure"), ActionStatus.DOWNLOADED),
    "proceeding": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
    "scheduled": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
    "resumed": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
}
"""Execution, finished: the history entry of feedback on a deployment."""

CANCEL_FEEDBACK: dict[str, dict[str, ActionStatus]] = {
    "closed": {
        "success": ActionStatus.CANCELED,
        "none": ActionStatus.CANCELED,
        "failure": ActionStatus.ERROR,
    },
    "canceled": dict.fromkeys(("success", "none", "failure"), ActionStatus.WARNING),
    "rejected": dict.fromkeys(("success", "none", "failure"), ActionStatus.CANCEL_REJECTED),
    "download": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
    "downloaded": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
    "proceeding": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
    "scheduled": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
    "resumed": dict.fromkeys(("success", "none", "failure"), ActionStatus.RUNNING),
}
"""The same for feedback on a cancel."""

DEFAULT_MESSAGES = {
    ActionStatus.CANCELED: "Target confirmed cancellation..",
    ActionStatus.WARNING: "Target REJECTED update.",
    ActionStatus.DOWNLOAD: "Target confirmed download start.",
    ActionStatus.DOWNLOADED: "Target confirmed download finished.",
    ActionStatus.ERROR: "Target reported CLOSED with ERROR!.",
    ActionStatus.FINISHED: "Target reported CLOSED with OK!.",
}
"""What the server writes when deployment feedback came without details."""

CANCEL_MESSAGES = {
    ActionStatus.WARNING: (
        "Target reported cancel for a cancel which is not supported by the server."
    ),
    ActionStatus.CANCEL_REJECTED: "Target rejected the cancellation request.",
    ActionStatus.CANCELED: "Cancellation confirmed.",
    ActionStatus.ERROR: "Target was not able to complete cancellation.",
}
"""What the server writes before the device's own details on a cancel."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """The body of a feedback POST, checked."""

    execution: str
    finished: str
    details: tuple[str, ...]
    code: int | None
    timestamp: int | None
