"""Object 5 as the server sees it: what (State, Result) means, and what to do about it.

Theory of operation
-------------------
`REPORTS` says what a pair of Object 5 resources means (LwM2M object 5, version 1.0, section 6 of
its definition). State and Result are two resources and are read one after the other, State first;
a pair that is in no cell was either torn by a change in between, and is read again, or nonsense.

`ACTIONS` says what the server does next, given how far the attempt has come (`Position`) and what
the device reports. It is only asked with a pair that was *read*; a notification of State 0 or of a
Result is a reason to read, because the other half may not have arrived yet. Two cells matter most:

- `EXECUTE` and a device that is still in Downloaded: the message that should have made it install
  was never processed (no acknowledgement came, and its state says no), so it is sent (again).
- `INSTALLING` and a device that is back in Downloaded: it had acknowledged the Execute. It is not
  executed twice; the attempt has failed.
"""

from __future__ import annotations

import enum

from tools.backend.faces.base import Ending, Position


class Report(enum.Enum):
    """What a device says with State and Result."""

    IDLE = "idle"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    UPDATING = "updating"
    SUCCESS = "success"
    FAILURE = "failure"


class Action(enum.Enum):
    """What the server does next."""

    DELIVER = "deliver"
    """Begin the delivery, at block 0."""
    RESET = "reset"
    """Write an empty Package URI, which deletes what an earlier attempt left, then deliver."""
    WAIT = "wait"
    INSTALL = "install"
    """Tell the engine that the package has arrived; it decides about the rest."""
    EXECUTE = "execute"
    """Send Execute: the engine has decided so already."""
    INSTALLING = "installing"
    """Tell the engine that the device installs."""
    BY_VERSION = "by version"
    """The device says that it is done, or has forgotten: the running version decides."""
    FAIL = "fail"
    """Report the ending that the Result stands for."""
    LOST = "lost"
    """The device has lost what it had: the attempt ends, another may follow."""
    RETURNED = "returned"
    """Acknowledged Execute, but back where it was."""


RESULTS: dict[int, Ending] = {
    2: Ending.NO_SPACE,
    3: Ending.OUT_OF_MEMORY,
    4: Ending.CONNECTION_LOST,
    5: Ending.INTEGRITY,
    6: Ending.UNSUPPORTED_PACKAGE,
    7: Ending.BAD_URI,
    8: Ending.INSTALL_FAILED,
    9: Ending.UNSUPPORTED_PROTOCOL,
    10: Ending.CANCELLED,
    11: Ending.DEFERRED,
}
"""Results that are failures. 10 and 11 are of object version 1.1."""

REPORTS: dict[tuple[int, int], Report] = {
    (0, 0): Report.IDLE,
    (1, 0): Report.DOWNLOADING,
    (2, 0): Report.DOWNLOADED,
    (3, 0): Report.UPDATING,
    (0, 1): Report.SUCCESS,
    # A failed download or update goes to Idle; after a failed update the image may be kept
    # instead, in Downloaded (object 5, figure of states; ETS 779 wants (2, 8)).
    **{(0, result): Report.FAILURE for result in RESULTS},
    **{(2, result): Report.FAILURE for result in RESULTS},
}

ACTIONS: dict[Position, dict[Report, Action]] = {
    # Nothing has been sent yet: whatever the device reports is from before this attempt.
    Position.OFFERED: {
        Report.IDLE: Action.DELIVER,
        Report.DOWNLOADING: Action.RESET,
        Report.DOWNLOADED: Action.RESET,
        Report.UPDATING: Action.WAIT,
        Report.SUCCESS: Action.RESET,
        Report.FAILURE: Action.RESET,
    },
    Position.DOWNLOADING: {
        Report.IDLE: Action.DELIVER,
        Report.DOWNLOADING: Action.DELIVER,
        Report.DOWNLOADED: Action.INSTALL,
        Report.UPDATING: Action.WAIT,
        Report.SUCCESS: Action.BY_VERSION,
        Report.FAILURE: Action.FAIL,
    },
    Position.DOWNLOADED: {
        Report.IDLE: Action.LOST,
        Report.DOWNLOADING: Action.LOST,
        Report.DOWNLOADED: Action.INSTALL,
        Report.UPDATING: Action.WAIT,
        Report.SUCCESS: Action.BY_VERSION,
        Report.FAILURE: Action.FAIL,
    },
    Position.EXECUTE: {
        Report.IDLE: Action.BY_VERSION,
        Report.DOWNLOADING: Action.WAIT,
        Report.DOWNLOADED: Action.EXECUTE,
        Report.UPDATING: Action.INSTALLING,
        Report.SUCCESS: Action.BY_VERSION,
        Report.FAILURE: Action.FAIL,
    },
    Position.INSTALLING: {
        Report.IDLE: Action.BY_VERSION,
        Report.DOWNLOADING: Action.WAIT,
        Report.DOWNLOADED: Action.RETURNED,
        Report.UPDATING: Action.WAIT,
        Report.SUCCESS: Action.BY_VERSION,
        Report.FAILURE: Action.FAIL,
    },
}


class Stage(enum.Enum):
    """Which request of an update is under way."""

    IDLE = "idle"
    ASLEEP = "asleep"
    INSPECTING = "inspecting"
    RESETTING = "resetting"
    PUSHING = "pushing"
    POINTING = "pointing"
    WATCHING = "watching"
    EXECUTING = "executing"


STAGES: dict[Stage, dict[str, Stage]] = {
    Stage.IDLE: {"inspect": Stage.INSPECTING, "sleep": Stage.ASLEEP, "end": Stage.IDLE},
    Stage.ASLEEP: {"inspect": Stage.INSPECTING, "sleep": Stage.ASLEEP, "end": Stage.IDLE},
    Stage.INSPECTING: {
        "inspect": Stage.INSPECTING,
        "sleep": Stage.ASLEEP,
        "reset": Stage.RESETTING,
        "push": Stage.PUSHING,
        "point": Stage.POINTING,
        "watch": Stage.WATCHING,
        "execute": Stage.EXECUTING,
        "end": Stage.IDLE,
    },
    Stage.RESETTING: {
        "inspect": Stage.INSPECTING,
        "sleep": Stage.ASLEEP,
        "push": Stage.PUSHING,
        "point": Stage.POINTING,
        "watch": Stage.WATCHING,
        "end": Stage.IDLE,
    },
    Stage.PUSHING: {
        "inspect": Stage.INSPECTING,
        "sleep": Stage.ASLEEP,
        "watch": Stage.WATCHING,
        "end": Stage.IDLE,
    },
    Stage.POINTING: {
        "inspect": Stage.INSPECTING,
        "sleep": Stage.ASLEEP,
        "watch": Stage.WATCHING,
        "end": Stage.IDLE,
    },
    Stage.WATCHING: {
        "inspect": Stage.INSPECTING,
        "sleep": Stage.ASLEEP,
        "watch": Stage.WATCHING,
        "execute": Stage.EXECUTING,
        "end": Stage.IDLE,
    },
    Stage.EXECUTING: {
        "inspect": Stage.INSPECTING,
        "sleep": Stage.ASLEEP,
        "watch": Stage.WATCHING,
        "end": Stage.IDLE,
    },
}
