"""What the OMA-DM server decides, as literal tables; the machines that obey them are `DmSession`
and `UpdateJob`.

Theory of operation
-------------------
A *session* (`SESSION_TABLE`) is the server's half of OMA DM Protocol 1.2, section 8. The device
posts a message and gets one back; each pair is one step::

    NEW        nothing was received
    SETUP      the device was challenged, and is to send package 1 again
    RECEIVING  part of a client package has arrived, and we asked for more of it
    MANAGING   our package is out, whole; its answer is awaited
    SENDING    part of our package is out, and the device asks for the rest
    OVER       somebody has had the last word

A *job* (`JOB_TABLE`) is what the server wants of the device in this session. It looks at the device
first (version, state of the FUMO object, whose place the vendor chose), and then, if there is an
order, does what `ACTIONS` says for the position of the attempt and what the device shows. Two cells
matter most: with EXECUTE durable and a device that shows no trace of it, the Exec was never
processed and is sent (again); with EXECUTE confirmed nothing is sent any more, and only a result
ends the attempt.

A *job of a component* (`COMPONENT_TABLE`) brings a file by SCOMO, in two orders of which each ends
with a generic alert: Download, and when the engine gives leave Install. What the inventory shows
decides, not the alerts: the content is known by its digest (PkgID).

The end comes by the generic alert of a later session: `RESULTS` maps its code to an ending. 405 and
409 stand for several causes; the one named here is the most likely one.
"""

from __future__ import annotations

import enum

from tools.backend.faces.base import Ending, Position


class Phase(enum.Enum):
    """Where a session stands."""

    NEW = "new"
    SETUP = "setup"
    RECEIVING = "receiving"
    MANAGING = "managing"
    SENDING = "sending"
    OVER = "over"


class Step(enum.Enum):
    """What a message of the device and our answer to it mean; the value is the journal's cause."""

    CHALLENGE = "credentials wanted"
    REFUSE = "refused"
    PART = "part of a package"
    WORK = "commands"
    WORK_PARTLY = "commands in part"
    END = "nothing left"
    ABORTED = "aborted by the device"
    GIVE_UP = "aborted by the server"
    SILENT = "silence"


_BUSY: dict[Step, Phase] = {
    # The MAC is judged message by message, so a challenge may come at any time; what it does not
    # do is begin anew.
    Step.CHALLENGE: Phase.MANAGING,
    Step.REFUSE: Phase.OVER,
    Step.PART: Phase.RECEIVING,
    Step.WORK: Phase.MANAGING,
    Step.WORK_PARTLY: Phase.SENDING,
    Step.END: Phase.OVER,
    Step.ABORTED: Phase.OVER,
    Step.GIVE_UP: Phase.OVER,
    Step.SILENT: Phase.OVER,
}

SESSION_TABLE: dict[Phase, dict[Step, Phase]] = {
    Phase.NEW: {**_BUSY, Step.CHALLENGE: Phase.SETUP},
    Phase.SETUP: {**_BUSY, Step.CHALLENGE: Phase.SETUP},
    Phase.RECEIVING: {**_BUSY, Step.CHALLENGE: Phase.RECEIVING},
    Phase.MANAGING: dict(_BUSY),
    Phase.SENDING: {**_BUSY, Step.CHALLENGE: Phase.SENDING},
    Phase.OVER: {},
}


class Stage(enum.Enum):
    """What a job is at."""

    IDLE = "idle"
    """Nothing is wanted of the device."""
    LOOK = "look"
    """Its version is asked for, and the state or the place of its FUMO object."""
    SEARCH = "search"
    """The children of the nodes below the root are asked for, to find that object."""
    DEEPER = "search below"
    STATE = "state"
    """The object was found, and its state is asked for."""
    DELIVER = "deliver"
    """The URL or the package itself is written."""
    LEAVE = "leave"
    """The device is ready; the engine is asked whether it may install."""
    EXECUTE = "execute"
    NODE = "node"
    """Of a component: its node is made."""
    FETCH = "fetch"
    """Of a component: the device is told to fetch it."""


JOB_TABLE: dict[Stage, dict[str, Stage]] = {
    Stage.IDLE: {"look": Stage.LOOK},
    Stage.LOOK: {
        "search": Stage.SEARCH,
        "deliver": Stage.DELIVER,
        "ready": Stage.LEAVE,
        "end": Stage.IDLE,
    },
    Stage.SEARCH: {"found": Stage.STATE, "deeper": Stage.DEEPER, "end": Stage.IDLE},
    Stage.DEEPER: {"found": Stage.STATE, "end": Stage.IDLE},
    Stage.STATE: {"deliver": Stage.DELIVER, "ready": Stage.LEAVE, "end": Stage.IDLE},
    Stage.DELIVER: {"ready": Stage.LEAVE, "end": Stage.IDLE},
    Stage.LEAVE: {"granted": Stage.EXECUTE, "end": Stage.IDLE},
    Stage.EXECUTE: {"end": Stage.IDLE},
}


COMPONENT_TABLE: dict[Stage, dict[str, Stage]] = {
    Stage.IDLE: {"look": Stage.LOOK},
    Stage.LOOK: {
        "missing": Stage.NODE,
        "deliver": Stage.DELIVER,
        "ready": Stage.LEAVE,
        "end": Stage.IDLE,
    },
    Stage.NODE: {"deliver": Stage.DELIVER, "end": Stage.IDLE},
    Stage.DELIVER: {"written": Stage.FETCH, "end": Stage.IDLE},
    Stage.FETCH: {"end": Stage.IDLE},
    Stage.LEAVE: {"granted": Stage.EXECUTE, "end": Stage.IDLE},
    Stage.EXECUTE: {"end": Stage.IDLE},
}


class Shows(enum.Enum):
    """What node State of the FUMO object says (FUMO 1.0, section 5.3.2)."""

    NOTHING = "nothing"
    DATA = "data"
    FETCHING = "fetching"
    """Or so it says: after a download that broke off, or a loss of power, State may stay."""
    BUSY = "busy"
    FAILED = "failed"
    DONE = "done"


STATES: dict[int, Shows] = {
    10: Shows.NOTHING,
    20: Shows.FAILED,
    30: Shows.FETCHING,
    40: Shows.DATA,
    50: Shows.DATA,
    60: Shows.BUSY,
    70: Shows.FAILED,
    80: Shows.FAILED,
    90: Shows.DONE,
    100: Shows.DONE,
}
"""A number that is not here is a vendor's own, and shows nothing that we could go by."""


class Action(enum.Enum):
    """What the server does next."""

    DELIVER = "deliver"
    LEAVE = "ask for leave"
    WAIT = "wait"
    UNDER_WAY = "it installs"
    BY_VERSION = "by version"
    """The result that would tell has been lost; the version that runs tells as well."""
    LOST = "failed without a result"


_BEFORE = {
    # Whatever the device shows is from before this attempt, unless it is at work.
    Shows.NOTHING: Action.DELIVER,
    Shows.DATA: Action.DELIVER,
    # No download of this attempt, and perhaps none at all. The device itself knows: one that is
    # busy answers the Exec with 405.
    Shows.FETCHING: Action.DELIVER,
    Shows.BUSY: Action.WAIT,
    Shows.FAILED: Action.DELIVER,
    Shows.DONE: Action.DELIVER,
}

PULL_ACTIONS: dict[Position, dict[Shows, Action]] = {
    Position.OFFERED: _BEFORE,
    Position.DOWNLOADING: _BEFORE,
    # The URL was written and leave to install did not come before the session ended.
    Position.DOWNLOADED: _BEFORE,
    Position.EXECUTE: {
        Shows.NOTHING: Action.DELIVER,
        # A device that was told answers a second Exec with 405, and one that was not obeys.
        Shows.DATA: Action.DELIVER,
        Shows.FETCHING: Action.UNDER_WAY,
        Shows.BUSY: Action.UNDER_WAY,
        Shows.FAILED: Action.LOST,
        Shows.DONE: Action.BY_VERSION,
    },
    Position.INSTALLING: {
        Shows.NOTHING: Action.WAIT,
        Shows.DATA: Action.WAIT,
        Shows.FETCHING: Action.WAIT,
        Shows.BUSY: Action.WAIT,
        Shows.FAILED: Action.LOST,
        Shows.DONE: Action.BY_VERSION,
    },
}
"""For delivery by URL, where the Exec downloads and installs."""

PUSH_ACTIONS: dict[Position, dict[Shows, Action]] = {
    **PULL_ACTIONS,
    Position.DOWNLOADED: {**_BEFORE, Shows.DATA: Action.LEAVE},
    Position.EXECUTE: {**PULL_ACTIONS[Position.EXECUTE], Shows.DATA: Action.LEAVE},
}
"""For a package that was written into PkgData: it lies there, and only the Exec is missing."""

RESULTS: dict[int, Ending] = {
    200: Ending.SUCCESS,
    400: Ending.REFUSED,
    401: Ending.CANCELLED,
    402: Ending.INTEGRITY,
    403: Ending.WRONG_DEVICE,
    404: Ending.SIGNATURE,
    405: Ending.UNSUPPORTED_PACKAGE,
    406: Ending.REFUSED,
    407: Ending.TIMEOUT,
    408: Ending.UNSUPPORTED_PROTOCOL,
    409: Ending.INSTALL_FAILED,
    410: Ending.INSTALL_FAILED,
    411: Ending.BAD_URI,
    412: Ending.CONNECTION_LOST,
    500: Ending.CONNECTION_LOST,
    501: Ending.NO_SPACE,
    502: Ending.OUT_OF_MEMORY,
    503: Ending.CONNECTION_LOST,
}
"""Result codes of FUMO 1.0, with 412 and 500 as two clients have them."""

VENDOR_RESULTS: tuple[tuple[range, Ending], ...] = (
    (range(250, 300), Ending.SUCCESS),
    (range(450, 500), Ending.INSTALL_FAILED),
    (range(550, 600), Ending.REFUSED),
)
"""Ranges that vendors fill."""

COMPONENT_RESULTS: dict[int, Ending] = {
    1200: Ending.SUCCESS,
    1401: Ending.CANCELLED,
    1402: Ending.CONNECTION_LOST,
    1403: Ending.REFUSED,
    1404: Ending.NO_SPACE,
    1405: Ending.INSTALL_FAILED,
    1406: Ending.OUT_OF_MEMORY,
    1407: Ending.INTEGRITY,
}
"""Result codes of SCOMO. Only 1200 and 1405 are sure, the others are a secondary source's
[unverified]. 1407 is every verification failure, and the likeliest one is named."""

DELIVERY: dict[int, Ending] = {
    401: Ending.REFUSED,
    404: Ending.UNSUPPORTED_PROTOCOL,
    405: Ending.REFUSED,
    406: Ending.UNSUPPORTED_PROTOCOL,
    407: Ending.REFUSED,
    408: Ending.TIMEOUT,
    413: Ending.NO_SPACE,
    414: Ending.BAD_URI,
    415: Ending.UNSUPPORTED_PACKAGE,
    416: Ending.NO_SPACE,
    420: Ending.NO_SPACE,
    424: Ending.CONNECTION_LOST,
    425: Ending.REFUSED,
    500: Ending.REFUSED,
    510: Ending.OUT_OF_MEMORY,
}
"""Statuses of the Replace of PkgURL or PkgData; every other one is REFUSED. 403 is none of them:
the node is in use, so the device is at work, and is asked again later."""

IN_USE = 403

MAX_SAID = 255
"""Characters of a device's own words that are kept."""


def ending_of(code: int) -> Ending:
    """The ending that a result code stands for."""
    found = RESULTS.get(code)
    if found is not None:
        return found
    return next((ending for codes, ending in VENDOR_RESULTS if code in codes), Ending.NONSENSE)


def result_code(text: str) -> int | None:
    """The code in an alert's data: an integer, whatever its Format says; None for anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else None
