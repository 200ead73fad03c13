"""hawkBit's DDI as tables over the update engine, without state of their own.

`FEEDBACK` says what is reported of an action for (engine state, outcome), in that order and each
report once. A report is final when it closes the action: its landing ends the attempt. `CANCEL`
says how a cancelAction is answered in an engine state, `STEPS` what an offered action makes of the
engine.

Three facts behind them, as hawkBit 1.0.4 answers (recorded exchanges):

- on cancelAction only `closed` with `success` (or `none`) accepts. `canceled` is a warning there
  and leaves the cancel open; `rejected`, and `closed` with `failure`, let the update go on;
- `rejected` on deploymentBase is stored as a warning and ends nothing;
- `downloaded` ends an action that is download only, and no other.

An attempt that the server cancelled needs no report on deploymentBase: the answer to cancelAction
was it. Such a cell is an empty tuple.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.update import Outcome, State
from protocols.http.hawkbit.resources import Deployment, Handling

__all__ = [
    "CANCEL",
    "FEEDBACK",
    "STEPS",
    "CancelAnswer",
    "Directive",
    "Execution",
    "Finished",
    "Report",
    "Step",
    "directive",
]


class Execution(enum.Enum):
    """`status.execution` of a feedback."""

    PROCEEDING = "proceeding"
    DOWNLOAD = "download"
    DOWNLOADED = "downloaded"
    SCHEDULED = "scheduled"
    RESUMED = "resumed"
    CLOSED = "closed"
    CANCELED = "canceled"
    REJECTED = "rejected"


class Finished(enum.Enum):
    """`status.result.finished` of a feedback."""

    NONE = "none"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Report:
    """One feedback, without its details."""

    execution: Execution
    finished: Finished = Finished.NONE


ACCEPTED = Report(Execution.PROCEEDING)
DOWNLOADING = Report(Execution.DOWNLOAD)
DOWNLOADED = Report(Execution.DOWNLOADED)
ONLY_DOWNLOADED = Report(Execution.DOWNLOADED, Finished.SUCCESS)
"""As hawkBit's own clients close a download-only action (recorded exchange)."""
SCHEDULED = Report(Execution.SCHEDULED)
RESUMED = Report(Execution.RESUMED)
SUCCEEDED = Report(Execution.CLOSED, Finished.SUCCESS)
FAILED = Report(Execution.CLOSED, Finished.FAILURE)

FEEDBACK: dict[tuple[State, Outcome | None], tuple[Report, ...]] = {
    (State.IDLE, None): (),
    (State.DOWNLOADING, None): (ACCEPTED, DOWNLOADING),
    (State.DOWNLOADED, None): (DOWNLOADED,),
    (State.INSTALLING, None): (ACCEPTED,),
    (State.TRIAL, None): (ACCEPTED,),
    (State.IDLE, Outcome.SUCCESS): (SUCCEEDED,),
    (State.IDLE, Outcome.CANCELLED): (),
    (State.IDLE, Outcome.NO_SPACE): (FAILED,),
    (State.IDLE, Outcome.OUT_OF_MEMORY): (FAILED,),
    (State.IDLE, Outcome.CONNECTION_LOST): (FAILED,),
    (State.IDLE, Outcome.INTEGRITY): (FAILED,),
    (State.IDLE, Outcome.SIGNATURE): (FAILED,),
    (State.IDLE, Outcome.WRONG_DEVICE): (FAILED,),
    (State.IDLE, Outcome.DOWNGRADE): (FAILED,),
    (State.IDLE, Outcome.DEPENDENCY): (FAILED,),
    (State.IDLE, Outcome.UNSUPPORTED_PACKAGE): (FAILED,),
    (State.IDLE, Outcome.BAD_URI): (FAILED,),
    (State.IDLE, Outcome.UNSUPPORTED_PROTOCOL): (FAILED,),
    (State.IDLE, Outcome.INSTALL_FAILED): (FAILED,),
    (State.IDLE, Outcome.REVERTED): (FAILED,),
    (State.DOWNLOADED, Outcome.DEFERRED): (SCHEDULED,),
    (State.DOWNLOADED, Outcome.INSTALL_FAILED): (FAILED,),
    (State.DOWNLOADED, Outcome.REVERTED): (FAILED,),
}


class CancelAnswer(enum.Enum):
    """How a device answers cancelAction; the value is what a person writes."""

    ACCEPT = "accept"
    FAIL = "fail"
    """closed/failure: the cancel did not work, the update goes on."""
    REJECT = "reject"
    CANCELED = "canceled"
    """The obvious word, and the wrong one: hawkBit keeps the cancel open."""

    @property
    def report(self) -> Report:
        return _CANCEL_REPORTS[self]


_CANCEL_REPORTS = {
    CancelAnswer.ACCEPT: Report(Execution.CLOSED, Finished.SUCCESS),
    CancelAnswer.FAIL: Report(Execution.CLOSED, Finished.FAILURE),
    CancelAnswer.REJECT: Report(Execution.REJECTED, Finished.FAILURE),
    CancelAnswer.CANCELED: Report(Execution.CANCELED, Finished.SUCCESS),
}

CANCEL: dict[State, CancelAnswer] = {
    State.IDLE: CancelAnswer.ACCEPT,
    State.DOWNLOADING: CancelAnswer.ACCEPT,
    State.DOWNLOADED: CancelAnswer.ACCEPT,
    # The mark for test is written: what follows is the bootloader's.
    State.INSTALLING: CancelAnswer.REJECT,
    State.TRIAL: CancelAnswer.REJECT,
}


class Directive(enum.Enum):
    """What an action's `download`, `update` and window ask for, taken together."""

    INSTALL = "download and install"
    KEEP = "download, and keep it"
    WAIT = "do nothing yet"


DIRECTIVES: dict[tuple[Handling, Handling], Directive] = {
    (Handling.SKIP, Handling.SKIP): Directive.WAIT,
    (Handling.SKIP, Handling.ATTEMPT): Directive.WAIT,
    (Handling.SKIP, Handling.FORCED): Directive.WAIT,
    (Handling.ATTEMPT, Handling.SKIP): Directive.KEEP,
    (Handling.ATTEMPT, Handling.ATTEMPT): Directive.INSTALL,
    (Handling.ATTEMPT, Handling.FORCED): Directive.INSTALL,
    (Handling.FORCED, Handling.SKIP): Directive.KEEP,
    (Handling.FORCED, Handling.ATTEMPT): Directive.INSTALL,
    (Handling.FORCED, Handling.FORCED): Directive.INSTALL,
}
"""By (download, update)."""


def directive(action: Deployment, *, patient: bool) -> Directive:
    """What `action` asks for; a `patient` device leaves what is soft until it is forced."""
    download, update = action.download, action.update
    if patient:
        download, update = (
            Handling.SKIP if one is Handling.ATTEMPT else one for one in (download, update)
        )
    return DIRECTIVES[download, update]


class Step(enum.Enum):
    """What is done about an action that the server offers."""

    NOTHING = ""
    HOLD = "report scheduled, wait"
    BEGIN = "remember the action, download"
    RESUME = "go on with the download"
    REPLACE = "delete what is there of another action, then begin"
    KEEP = "report downloaded, wait"
    INSTALL = "report downloaded, install"
    CLOSE = "report the end"


_RUNNING = dict.fromkeys(Directive, Step.NOTHING)

STEPS: dict[tuple[State, bool], dict[Directive, Step]] = {
    (State.IDLE, False): {
        Directive.INSTALL: Step.BEGIN,
        Directive.KEEP: Step.BEGIN,
        Directive.WAIT: Step.HOLD,
    },
    (State.IDLE, True): dict.fromkeys(Directive, Step.CLOSE),
    (State.DOWNLOADING, False): {
        Directive.INSTALL: Step.REPLACE,
        Directive.KEEP: Step.REPLACE,
        Directive.WAIT: Step.HOLD,
    },
    (State.DOWNLOADING, True): {
        Directive.INSTALL: Step.RESUME,
        Directive.KEEP: Step.RESUME,
        # What is begun is finished: a soft action that was withdrawn shows as a cancel.
        Directive.WAIT: Step.RESUME,
    },
    (State.DOWNLOADED, False): {
        Directive.INSTALL: Step.REPLACE,
        Directive.KEEP: Step.REPLACE,
        Directive.WAIT: Step.HOLD,
    },
    (State.DOWNLOADED, True): {
        Directive.INSTALL: Step.INSTALL,
        Directive.KEEP: Step.KEEP,
        Directive.WAIT: Step.KEEP,
    },
    (State.INSTALLING, False): _RUNNING,
    (State.INSTALLING, True): _RUNNING,
    (State.TRIAL, False): _RUNNING,
    (State.TRIAL, True): _RUNNING,
}
"""By (engine state, the engine's attempt is this action's)."""
