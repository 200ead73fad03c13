"""Object 5 (Firmware Update, version 1.0) as two tables over the update engine, without own state.

`REPORTS` says what resources 5/0/3 and 5/0/5 show for (engine state, outcome). `OPERATIONS` says
what an operation on 5/0/0, 5/0/1 or 5/0/2 is answered with in an engine state, and what it does to
the engine. The client carries the actions out and decides nothing.

Three points where the choice is ours, as the specification (LwM2M 1.1 core appendix E.6) is silent:

- The package or a URI written in DOWNLOADED, and a URI written while a download runs, are refused
  with 4.00 and change nothing: a server that wants something else resets first. The first block of
  a package in DOWNLOADING starts again, as RFC 7959 section 2.5 asks of a new block 0.
- From INSTALLING on nothing can be taken back: every write is 4.05, the reset too.
- A scheme that we do not speak is a wrong request (4.00, result 9, state 0). A URI that is no URI
  is a right request whose download fails (2.04, result 7), like a host that does not resolve.

Object version 1.0 knows results 0 to 9: a cancelled attempt shows as a reset one, a deferred one as
still downloaded.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from agent.update import Outcome, State
from protocols.coap.numbers import Code

__all__ = [
    "OPERATIONS",
    "PUSH_ENDED",
    "REPORTS",
    "Action",
    "Answer",
    "FirmwareState",
    "Operation",
    "Report",
    "Result",
    "answer",
    "report",
]


class FirmwareState(enum.IntEnum):
    """Resource 5/0/3."""

    IDLE = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    UPDATING = 3


class Result(enum.IntEnum):
    """Resource 5/0/5."""

    INITIAL = 0
    SUCCESS = 1
    NOT_ENOUGH_FLASH = 2
    OUT_OF_RAM = 3
    CONNECTION_LOST = 4
    INTEGRITY_FAILURE = 5
    UNSUPPORTED_PACKAGE = 6
    INVALID_URI = 7
    UPDATE_FAILED = 8
    UNSUPPORTED_PROTOCOL = 9


class Report(NamedTuple):
    state: FirmwareState
    result: Result


_IDLE = FirmwareState.IDLE
_DOWNLOADED = FirmwareState.DOWNLOADED

# What is missing does not happen: a running attempt has no outcome, and only an install can fail
# with the image still there.
REPORTS: dict[tuple[State, Outcome | None], Report] = {
    (State.IDLE, None): Report(_IDLE, Result.INITIAL),
    (State.DOWNLOADING, None): Report(FirmwareState.DOWNLOADING, Result.INITIAL),
    (State.DOWNLOADED, None): Report(_DOWNLOADED, Result.INITIAL),
    (State.INSTALLING, None): Report(FirmwareState.UPDATING, Result.INITIAL),
    (State.TRIAL, None): Report(FirmwareState.UPDATING, Result.INITIAL),
    (State.IDLE, Outcome.SUCCESS): Report(_IDLE, Result.SUCCESS),
    (State.IDLE, Outcome.CANCELLED): Report(_IDLE, Result.INITIAL),
    (State.IDLE, Outcome.NO_SPACE): Report(_IDLE, Result.NOT_ENOUGH_FLASH),
    (State.IDLE, Outcome.OUT_OF_MEMORY): Report(_IDLE, Result.OUT_OF_RAM),
    (State.IDLE, Outcome.CONNECTION_LOST): Report(_IDLE, Result.CONNECTION_LOST),
    (State.IDLE, Outcome.INTEGRITY): Report(_IDLE, Result.INTEGRITY_FAILURE),
    (State.IDLE, Outcome.SIGNATURE): Report(_IDLE, Result.INTEGRITY_FAILURE),
    (State.IDLE, Outcome.WRONG_DEVICE): Report(_IDLE, Result.INTEGRITY_FAILURE),
    (State.IDLE, Outcome.DOWNGRADE): Report(_IDLE, Result.INTEGRITY_FAILURE),
    (State.IDLE, Outcome.DEPENDENCY): Report(_IDLE, Result.INTEGRITY_FAILURE),
    (State.IDLE, Outcome.UNSUPPORTED_PACKAGE): Report(_IDLE, Result.UNSUPPORTED_PACKAGE),
    (State.IDLE, Outcome.BAD_URI): Report(_IDLE, Result.INVALID_URI),
    (State.IDLE, Outcome.UNSUPPORTED_PROTOCOL): Report(_IDLE, Result.UNSUPPORTED_PROTOCOL),
    (State.IDLE, Outcome.INSTALL_FAILED): Report(_IDLE, Result.UPDATE_FAILED),
    (State.IDLE, Outcome.REVERTED): Report(_IDLE, Result.UPDATE_FAILED),
    (State.DOWNLOADED, Outcome.DEFERRED): Report(_DOWNLOADED, Result.INITIAL),
    (State.DOWNLOADED, Outcome.INSTALL_FAILED): Report(_DOWNLOADED, Result.UPDATE_FAILED),
    (State.DOWNLOADED, Outcome.REVERTED): Report(_DOWNLOADED, Result.UPDATE_FAILED),
}


class Operation(enum.Enum):
    """What a server does to 5/0/0, 5/0/1 and 5/0/2, told apart by what it carries."""

    PACKAGE_FIRST = "first block of the package"
    PACKAGE_NEXT = "next block of the package"
    PACKAGE_LAST = "last block of the package"
    PACKAGE_WHOLE = "package in one message"
    PACKAGE_NUL = "package of the single byte 0"
    URI = "package URI"
    URI_EMPTY = "empty package URI"
    URI_MALFORMED = "package URI that is no URI"
    URI_SCHEME = "package URI of a scheme that is not supported"
    EXECUTE = "execute Update"


class Action(enum.Enum):
    """What happens to the engine; the value names the calls."""

    NOTHING = ""
    START = "begin, receive"
    APPEND = "receive"
    FINISH = "receive, complete"
    WHOLE = "begin, receive, complete"
    FETCH = "begin with the URI, then the download"
    FAIL_URI = "fail BAD_URI"
    FAIL_SCHEME = "fail UNSUPPORTED_PROTOCOL"
    RESET = "cancel"
    INSTALL = "install"


class Answer(NamedTuple):
    code: Code
    action: Action


_CONTINUE = Code.CONTINUE
_CHANGED = Code.CHANGED
_REFUSED = Answer(Code.BAD_REQUEST, Action.NOTHING)
_NOT_NOW = Answer(Code.METHOD_NOT_ALLOWED, Action.NOTHING)
_NO_CONTEXT = Answer(Code.REQUEST_ENTITY_INCOMPLETE, Action.NOTHING)
_RESET = Answer(_CHANGED, Action.RESET)

_BUSY = dict.fromkeys(Operation, _NOT_NOW)

OPERATIONS: dict[State, dict[Operation, Answer]] = {
    State.IDLE: {
        Operation.PACKAGE_FIRST: Answer(_CONTINUE, Action.START),
        # The attempt that this block belonged to has ended: refused, lost, or never begun.
        Operation.PACKAGE_NEXT: _NO_CONTEXT,
        Operation.PACKAGE_LAST: _NO_CONTEXT,
        Operation.PACKAGE_WHOLE: Answer(_CHANGED, Action.WHOLE),
        Operation.PACKAGE_NUL: _RESET,
        Operation.URI: Answer(_CHANGED, Action.FETCH),
        Operation.URI_EMPTY: _RESET,
        Operation.URI_MALFORMED: Answer(_CHANGED, Action.FAIL_URI),
        Operation.URI_SCHEME: Answer(Code.BAD_REQUEST, Action.FAIL_SCHEME),
        Operation.EXECUTE: _NOT_NOW,
    },
    State.DOWNLOADING: {
        Operation.PACKAGE_FIRST: Answer(_CONTINUE, Action.START),
        Operation.PACKAGE_NEXT: Answer(_CONTINUE, Action.APPEND),
        Operation.PACKAGE_LAST: Answer(_CHANGED, Action.FINISH),
        Operation.PACKAGE_WHOLE: Answer(_CHANGED, Action.WHOLE),
        Operation.PACKAGE_NUL: _RESET,
        Operation.URI: _REFUSED,
        Operation.URI_EMPTY: _RESET,
        Operation.URI_MALFORMED: _REFUSED,
        Operation.URI_SCHEME: _REFUSED,
        Operation.EXECUTE: _NOT_NOW,
    },
    State.DOWNLOADED: {
        Operation.PACKAGE_FIRST: _REFUSED,
        Operation.PACKAGE_NEXT: _REFUSED,
        Operation.PACKAGE_LAST: _REFUSED,
        Operation.PACKAGE_WHOLE: _REFUSED,
        Operation.PACKAGE_NUL: _RESET,
        Operation.URI: _REFUSED,
        Operation.URI_EMPTY: _RESET,
        Operation.URI_MALFORMED: _REFUSED,
        Operation.URI_SCHEME: _REFUSED,
        Operation.EXECUTE: Answer(_CHANGED, Action.INSTALL),
    },
    State.INSTALLING: _BUSY,
    State.TRIAL: _BUSY,
}

# A push that ends inside START, APPEND, FINISH or WHOLE is answered by how it ended. A verdict on
# the content is no error of the Write: the bytes arrived, the result tells the rest.
PUSH_ENDED: dict[Outcome, Code] = {
    Outcome.NO_SPACE: Code.REQUEST_ENTITY_TOO_LARGE,
    Outcome.OUT_OF_MEMORY: Code.INTERNAL_SERVER_ERROR,
    Outcome.INSTALL_FAILED: Code.INTERNAL_SERVER_ERROR,
    Outcome.INTEGRITY: _CHANGED,
    Outcome.SIGNATURE: _CHANGED,
    Outcome.WRONG_DEVICE: _CHANGED,
    Outcome.DOWNGRADE: _CHANGED,
    Outcome.DEPENDENCY: _CHANGED,
    Outcome.UNSUPPORTED_PACKAGE: _CHANGED,
}


def report(state: State, outcome: Outcome | None) -> Report:
    """What 5/0/3 and 5/0/5 show."""
    return REPORTS[state, outcome]


def answer(state: State, operation: Operation) -> Answer:
    """The response code of an operation, and what it does to the engine."""
    return OPERATIONS[state][operation]
