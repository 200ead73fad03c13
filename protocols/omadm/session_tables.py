"""The states of a device-management session, as the device sees it.

Theory of operation
===================

A session is a conversation in packages (OMA DM Protocol 1.2, section 8). The device begins with
package 1; the server answers with package 2, its commands; the device answers those with package 3;
the server with package 4, and if that holds commands again, the device answers with another
package 3, as often as the server likes. HTTP gives it a rhythm: the device posts one message and
gets one back, and each is one step of this machine::

    NEW         nothing was sent
    SETUP       package 1 is out, whole; it is sent again when its credentials are refused
    COLLECTING  part of a server package has arrived, and we asked for more of it
    SENDING     part of our answer is out, and the server asks for the rest
    MANAGEMENT  our answer is out, whole
    DONE        the server has nothing more to say: a session ended well
    ABORTED     one side said Alert 1223
    FAILED      credentials were refused for good, the server broke the protocol, or it is gone

`TRANSITIONS` is the whole machine. What a message of the server means is decided in
`DmSession.received`; the last three states have no way out.
"""

from __future__ import annotations

import enum

__all__ = ["ENDED", "TRANSITIONS", "Phase", "Step"]


class Phase(enum.Enum):
    """Where a session stands."""

    NEW = "NEW"
    SETUP = "SETUP"
    COLLECTING = "COLLECTING"
    SENDING = "SENDING"
    MANAGEMENT = "MANAGEMENT"
    DONE = "DONE"
    ABORTED = "ABORTED"
    FAILED = "FAILED"


class Step(enum.Enum):
    """What a message, or its absence, means. The value is the cause in the journal."""

    BEGIN = "package 1"
    CHALLENGED = "challenged"
    """Our credentials were missing, wrong or of the wrong kind, and we try again."""
    PART = "part of a package"
    """The server's package goes on: no Final yet."""
    WORK = "commands"
    """The server's package is whole, and our answer fits one message."""
    WORK_PARTLY = "commands, long answer"
    """Likewise, and our answer takes more messages."""
    END = "nothing left"
    """The server's package is whole and asks for nothing."""
    ABORT = "aborted by the server"
    GIVE_UP = "aborted by the device"
    REFUSED = "refused"
    """The server does not want this device, or the device not this server."""
    VIOLATION = "protocol violation"
    LOST = "server lost"


_AFTER_START: dict[Step, Phase] = {
    Step.PART: Phase.COLLECTING,
    Step.WORK: Phase.MANAGEMENT,
    Step.WORK_PARTLY: Phase.SENDING,
    Step.END: Phase.DONE,
    Step.ABORT: Phase.ABORTED,
    Step.GIVE_UP: Phase.ABORTED,
    Step.REFUSED: Phase.FAILED,
    Step.VIOLATION: Phase.FAILED,
    Step.LOST: Phase.FAILED,
}

TRANSITIONS: dict[Phase, dict[Step, Phase]] = {
    Phase.NEW: {Step.BEGIN: Phase.SETUP, Step.LOST: Phase.FAILED},
    Phase.SETUP: {Step.CHALLENGED: Phase.SETUP, **_AFTER_START},
    # Once the server has taken the device's credentials it may still ask for new ones in a later
    # message (the MAC is judged message by message), and that is answered within the package.
    Phase.COLLECTING: dict(_AFTER_START),
    Phase.SENDING: dict(_AFTER_START),
    Phase.MANAGEMENT: dict(_AFTER_START),
    Phase.DONE: {},
    Phase.ABORTED: {},
    Phase.FAILED: {},
}

ENDED = frozenset({Phase.DONE, Phase.ABORTED, Phase.FAILED})
