"""FUMO 1.0 as tables over the update engine, without a state of its own.

`STATES` says what node `State` shows for (engine state, outcome), `RESULTS` what the generic alert
carries at the end, `TROUBLES` refines a failed download by what its server did. `OPERATIONS` says
what an Exec, or a Replace of PkgData, is answered with in an engine state, and what it does.

Where the FUMO text is silent the choice is ours:

- An Exec that downloads replaces a package that waits (states 40, 50 and 70): campaigns come again
  after a failed install, and nothing else could take the old package away.
- An Exec of Update without a package is refused like a busy device, with 405.
- Once the install has begun nothing can be taken back; PkgData is "in use" then (403).
- A device whose bootloader keeps the image after a reverted install has data (70), otherwise not
  (80). After a success the old image lies in the slot, which is no data for an update: 100; the
  persona of a client that says 90 maps it itself.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from agent.outcome import Outcome
from agent.update import State

__all__ = [
    "ALERT_TYPES",
    "OPERATIONS",
    "RESULTS",
    "STATES",
    "TROUBLES",
    "Action",
    "Answer",
    "FumoState",
    "Operation",
    "Trouble",
    "result_code",
]


class FumoState(enum.IntEnum):
    """Node `State` (FUMO 1.0, section 5.3.2)."""

    IDLE = 10
    DOWNLOAD_FAILED = 20
    DOWNLOAD_PROGRESSING = 30
    DOWNLOAD_COMPLETE = 40
    READY_TO_UPDATE = 50
    UPDATE_PROGRESSING = 60
    UPDATE_FAILED_HAVE_DATA = 70
    UPDATE_FAILED_NO_DATA = 80
    UPDATE_SUCCESSFUL_HAVE_DATA = 90
    UPDATE_SUCCESSFUL_NO_DATA = 100


_FAILED = FumoState.DOWNLOAD_FAILED

# What is missing does not happen: a running attempt has no outcome, and only an install can fail
# with the image still there. DOWNLOADED shows 40 for a package that was downloaded and 50 for one
# that came by Replace, which is all that the two states tell apart here.
STATES: dict[tuple[State, Outcome | None], FumoState] = {
    (State.IDLE, None): FumoState.IDLE,
    (State.DOWNLOADING, None): FumoState.DOWNLOAD_PROGRESSING,
    (State.DOWNLOADED, None): FumoState.DOWNLOAD_COMPLETE,
    (State.DOWNLOADED, Outcome.DEFERRED): FumoState.DOWNLOAD_COMPLETE,
    (State.INSTALLING, None): FumoState.UPDATE_PROGRESSING,
    (State.TRIAL, None): FumoState.UPDATE_PROGRESSING,
    (State.IDLE, Outcome.SUCCESS): FumoState.UPDATE_SUCCESSFUL_NO_DATA,
    (State.IDLE, Outcome.CANCELLED): _FAILED,
    (State.IDLE, Outcome.NO_SPACE): _FAILED,
    (State.IDLE, Outcome.OUT_OF_MEMORY): _FAILED,
    (State.IDLE, Outcome.CONNECTION_LOST): _FAILED,
    (State.IDLE, Outcome.INTEGRITY): _FAILED,
    (State.IDLE, Outcome.SIGNATURE): _FAILED,
    (State.IDLE, Outcome.WRONG_DEVICE): _FAILED,
    (State.IDLE, Outcome.DOWNGRADE): _FAILED,
    (State.IDLE, Outcome.DEPENDENCY): _FAILED,
    (State.IDLE, Outcome.UNSUPPORTED_PACKAGE): _FAILED,
    (State.IDLE, Outcome.BAD_URI): _FAILED,
    (State.IDLE, Outcome.UNSUPPORTED_PROTOCOL): _FAILED,
    # In IDLE the store failed while the package was written; an install that fails ends in
    # DOWNLOADED, or as REVERTED when its image was deleted.
    (State.IDLE, Outcome.INSTALL_FAILED): _FAILED,
    (State.IDLE, Outcome.REVERTED): FumoState.UPDATE_FAILED_NO_DATA,
    (State.DOWNLOADED, Outcome.INSTALL_FAILED): FumoState.UPDATE_FAILED_HAVE_DATA,
    (State.DOWNLOADED, Outcome.REVERTED): FumoState.UPDATE_FAILED_HAVE_DATA,
}

RESULTS: dict[Outcome, int | None] = {
    Outcome.SUCCESS: 200,
    Outcome.CANCELLED: 401,
    Outcome.DEFERRED: None,  # it is not over
    Outcome.NO_SPACE: 501,
    Outcome.OUT_OF_MEMORY: 502,
    Outcome.CONNECTION_LOST: 503,
    Outcome.INTEGRITY: 402,
    Outcome.SIGNATURE: 404,
    Outcome.WRONG_DEVICE: 403,
    Outcome.DOWNGRADE: 405,
    Outcome.DEPENDENCY: 405,
    Outcome.UNSUPPORTED_PACKAGE: 405,
    Outcome.BAD_URI: 411,
    Outcome.UNSUPPORTED_PROTOCOL: 411,
    Outcome.INSTALL_FAILED: 410,
    Outcome.REVERTED: 410,
}
"""The result code of every outcome; None reports nothing."""

DOWNLOADED = 200
"""Result of a Download that did what it was asked: the package is there."""


class Trouble(enum.Enum):
    """What ended a download, where the outcome alone does not tell."""

    NONE = ""
    AUTHENTICATION = "authentication"
    """The download server answered 401 or 403."""
    TIMEOUT = "timeout"
    REFUSED = "refused"
    """Nobody accepts connections there."""
    SERVER_ERROR = "server error"
    """The download server answered 5xx."""


TROUBLES: dict[Trouble, int | None] = {
    Trouble.NONE: None,
    Trouble.AUTHENTICATION: 406,
    Trouble.TIMEOUT: 407,
    Trouble.REFUSED: 412,
    Trouble.SERVER_ERROR: 500,
}
"""The result code that a trouble stands for; None leaves it to the outcome."""

TRANSFER_OUTCOMES = frozenset({Outcome.CONNECTION_LOST, Outcome.BAD_URI})
"""The outcomes that a trouble says more about: a corrupt package is one, whoever served it."""


def result_code(outcome: Outcome, trouble: Trouble) -> int | None:
    """What the generic alert carries; None: there is nothing to report."""
    finer = TROUBLES[trouble]
    return finer if finer is not None and outcome in TRANSFER_OUTCOMES else RESULTS[outcome]


class Operation(enum.Enum):
    """What a server does to the sub-tree. The value is the node that it does it to."""

    DOWNLOAD = "Download"
    UPDATE = "Update"
    DOWNLOAD_AND_UPDATE = "DownloadAndUpdate"
    PKG_DATA = "Update/PkgData"


ALERT_TYPES: dict[Operation, str] = {
    Operation.DOWNLOAD: "org.openmobilealliance.dm.firmwareupdate.download",
    Operation.UPDATE: "org.openmobilealliance.dm.firmwareupdate.update",
    Operation.DOWNLOAD_AND_UPDATE: "org.openmobilealliance.dm.firmwareupdate.downloadandupdate",
}
"""Of the generic alert that ends an operation. A Replace is answered where it stands."""


class Action(enum.Enum):
    """What happens to the engine."""

    NONE = "nothing"
    FETCH = "begin a download"
    REPLACE = "cancel, then begin a download"
    INSTALL = "install"
    RECEIVE = "begin a push"
    RECEIVE_ANEW = "cancel, then begin a push"


class Answer(NamedTuple):
    """The status of the command and what it does."""

    status: int
    action: Action


_BUSY = Answer(405, Action.NONE)
_IN_USE = Answer(403, Action.NONE)
_FETCH = Answer(202, Action.FETCH)
_REPLACE = Answer(202, Action.REPLACE)

OPERATIONS: dict[State, dict[Operation, Answer]] = {
    State.IDLE: {
        Operation.DOWNLOAD: _FETCH,
        Operation.UPDATE: _BUSY,
        Operation.DOWNLOAD_AND_UPDATE: _FETCH,
        Operation.PKG_DATA: Answer(200, Action.RECEIVE),
    },
    State.DOWNLOADING: {
        Operation.DOWNLOAD: _BUSY,
        Operation.UPDATE: _BUSY,
        Operation.DOWNLOAD_AND_UPDATE: _BUSY,
        # A push that broke off with its session begins again; while a download runs, see below.
        Operation.PKG_DATA: Answer(200, Action.RECEIVE),
    },
    State.DOWNLOADED: {
        Operation.DOWNLOAD: _REPLACE,
        Operation.UPDATE: Answer(202, Action.INSTALL),
        Operation.DOWNLOAD_AND_UPDATE: _REPLACE,
        Operation.PKG_DATA: Answer(200, Action.RECEIVE_ANEW),
    },
    State.INSTALLING: {
        Operation.DOWNLOAD: _BUSY,
        Operation.UPDATE: _BUSY,
        Operation.DOWNLOAD_AND_UPDATE: _BUSY,
        Operation.PKG_DATA: _IN_USE,
    },
    State.TRIAL: {
        Operation.DOWNLOAD: _BUSY,
        Operation.UPDATE: _BUSY,
        Operation.DOWNLOAD_AND_UPDATE: _BUSY,
        Operation.PKG_DATA: _IN_USE,
    },
}
"""For a device with no operation under way that has not been reported: with one, every Exec is
refused with 405 and PkgData with 403, whatever the engine says (`UNDER_WAY`)."""

UNDER_WAY: dict[Operation, Answer] = {
    Operation.DOWNLOAD: _BUSY,
    Operation.UPDATE: _BUSY,
    Operation.DOWNLOAD_AND_UPDATE: _BUSY,
    Operation.PKG_DATA: _IN_USE,
}
