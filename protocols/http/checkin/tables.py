"""The wire's states and reasons over the update engine, and the machine of one campaign.

`REPORTS` says what a device tells of (engine state, outcome); docs/device-checkin.md lists the
words. `TRANSITIONS` is one campaign on the device, from the order to the server's acknowledgement::

    NONE         no campaign
    WAITING      the order is taken; the download waits for its window
    DOWNLOADING  the package is fetched
    DOWNLOADED   the package is complete and verified; the install waits for its window
    INSTALLING   the server gave leave to install: from here on nothing is taken back
    ENDED        the result is known here, and told until the server acknowledges it

`dropped` covers every end without a report: cancelled or closed by the server, the campaign's dates
over. Firmware campaigns follow the engine; file campaigns have no engine and follow the same path.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from agent.update import Outcome, State

__all__ = ["REPORTS", "TRANSITIONS", "Cause", "Report", "Stage", "Word", "reason_of", "report"]


class Word(enum.StrEnum):
    """`state` of a status report and of `current` in a check-in."""

    WAITING = "waiting"
    """Only in `current`."""
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLING = "installing"
    SUCCESS = "success"
    FAILED = "failed"


class Report(NamedTuple):
    word: Word
    reason: str = ""

    @property
    def final(self) -> bool:
        return self.word is Word.SUCCESS or self.word is Word.FAILED


def reason_of(outcome: Outcome) -> str:
    """The wire's reason: the outcome's own name."""
    return outcome.name.lower().replace("_", "-")


# What is missing does not happen: a running attempt has no outcome, and only an install can fail
# with the image still there. A missed window (DEFERRED) is no end: nothing new is told.
REPORTS: dict[tuple[State, Outcome | None], Report] = {
    (State.IDLE, None): Report(Word.WAITING),
    (State.DOWNLOADING, None): Report(Word.DOWNLOADING),
    (State.DOWNLOADED, None): Report(Word.DOWNLOADED),
    (State.INSTALLING, None): Report(Word.INSTALLING),
    (State.TRIAL, None): Report(Word.INSTALLING),
    (State.IDLE, Outcome.SUCCESS): Report(Word.SUCCESS),
    (State.IDLE, Outcome.CANCELLED): Report(Word.FAILED, "cancelled"),
    (State.IDLE, Outcome.NO_SPACE): Report(Word.FAILED, "no-space"),
    (State.IDLE, Outcome.OUT_OF_MEMORY): Report(Word.FAILED, "out-of-memory"),
    (State.IDLE, Outcome.CONNECTION_LOST): Report(Word.FAILED, "connection-lost"),
    (State.IDLE, Outcome.INTEGRITY): Report(Word.FAILED, "integrity"),
    (State.IDLE, Outcome.SIGNATURE): Report(Word.FAILED, "signature"),
    (State.IDLE, Outcome.WRONG_DEVICE): Report(Word.FAILED, "wrong-device"),
    (State.IDLE, Outcome.DOWNGRADE): Report(Word.FAILED, "downgrade"),
    (State.IDLE, Outcome.DEPENDENCY): Report(Word.FAILED, "dependency"),
    (State.IDLE, Outcome.UNSUPPORTED_PACKAGE): Report(Word.FAILED, "unsupported-package"),
    (State.IDLE, Outcome.BAD_URI): Report(Word.FAILED, "bad-uri"),
    (State.IDLE, Outcome.UNSUPPORTED_PROTOCOL): Report(Word.FAILED, "unsupported-protocol"),
    (State.IDLE, Outcome.INSTALL_FAILED): Report(Word.FAILED, "install-failed"),
    (State.IDLE, Outcome.REVERTED): Report(Word.FAILED, "reverted"),
    (State.DOWNLOADED, Outcome.DEFERRED): Report(Word.DOWNLOADED),
    (State.DOWNLOADED, Outcome.INSTALL_FAILED): Report(Word.FAILED, "install-failed"),
    (State.DOWNLOADED, Outcome.REVERTED): Report(Word.FAILED, "reverted"),
}


class Stage(enum.Enum):
    """Where a campaign stands; the values are stored in `nvm`, so they never change."""

    NONE = "none"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLING = "installing"
    ENDED = "ended"


class Cause(enum.Enum):
    """What moves a campaign. The value is the cause in the journal."""

    ORDERED = "ordered"
    OPENED = "download window open"
    COMPLETE = "package complete"
    LEAVE = "leave to install"
    ENDED = "ended"
    ACKNOWLEDGED = "acknowledged"
    DROPPED = "dropped"


TRANSITIONS: dict[Stage, dict[Cause, Stage]] = {
    Stage.NONE: {Cause.ORDERED: Stage.WAITING},
    Stage.WAITING: {
        Cause.OPENED: Stage.DOWNLOADING,
        Cause.ENDED: Stage.ENDED,
        Cause.DROPPED: Stage.NONE,
    },
    Stage.DOWNLOADING: {
        Cause.COMPLETE: Stage.DOWNLOADED,
        Cause.ENDED: Stage.ENDED,
        Cause.DROPPED: Stage.NONE,
    },
    Stage.DOWNLOADED: {
        Cause.LEAVE: Stage.INSTALLING,
        Cause.ENDED: Stage.ENDED,
        Cause.DROPPED: Stage.NONE,
    },
    Stage.INSTALLING: {Cause.ENDED: Stage.ENDED, Cause.DROPPED: Stage.NONE},
    Stage.ENDED: {Cause.ACKNOWLEDGED: Stage.NONE, Cause.DROPPED: Stage.NONE},
}


def report(state: State, outcome: Outcome | None) -> Report:
    """What the device tells of its engine."""
    return REPORTS[state, outcome]
