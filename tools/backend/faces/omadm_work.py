"""What every job of a session with an OMA-DM device is made of.

A job is what the server wants of the device in one session. Sans-IO: requests out, statuses and
results in, and what became of it as events. The session carries them; it knows no order, and the
job knows no message.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tools.backend.campaigns.states import next_state
from tools.backend.faces.base import Ending, Order, Position
from tools.backend.faces.omadm_tables import Stage

FIRMWARE_VERSION = "./DevDetail/FwV"

Kind = Literal["Get", "Add", "Replace", "Exec"]


@dataclass(frozen=True, slots=True)
class Request:
    """One command to the device. With `body` it is a large object."""

    kind: Kind
    uri: str
    text: str = field(default="", repr=False)
    body: bytes | None = field(default=None, repr=False)
    correlator: str = ""
    interior: bool = False
    """Of an Add: a node that holds others."""


class Said(enum.Enum):
    """What a job has to tell."""

    VERSION = "version"
    """`text` is the version that the device runs."""
    ROOT = "root"
    """`text` is where the FUMO object was found."""
    DELIVERED = "delivered"
    """The device is ready to be told to install."""
    STARTED = "started"
    """The package itself is on its way."""
    FETCHING = "fetching"
    """The device was told to fetch it, and has taken that."""
    EXECUTED = "executed"
    """It was told, and has taken it."""
    FAILED = "failed"
    """The attempt is over: `ending`, and `text` in the device's words."""
    SUCCEEDED = "succeeded"
    """What was ordered is there, whether or not a result came."""
    BUSY = "busy"
    """The device is at work with something else; to be asked again later."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    said: Said
    text: str = ""
    ending: Ending | None = None


class DeviceJob:
    """The job of one session. `url` makes the address of a package for this device."""

    table: ClassVar[Mapping[Stage, Mapping[str, Stage]]]

    def __init__(self, url: Callable[[Order], str]) -> None:
        self.url = url
        self.order: Order | None = None
        self.leave = False
        """Whether the device may be told to install."""
        self.stage = Stage.IDLE
        self.version = ""
        self.events: list[JobEvent] = []
        self._looked = False
        self._again = False
        """Whether an Exec of this attempt may have left before."""
        self._asked: set[str] = set()
        self._requests: list[Request] = []
        self._open = 0

    # -- what the session asks ---

    @property
    def waiting(self) -> bool:
        """Whether requests are out that have no status yet."""
        return self._open > 0

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted of the device and nothing awaited."""
        return self.stage is Stage.IDLE and not (self._open or self._requests)

    def look(self) -> None:
        """Ask the device about itself, unless that is under way or was done for this order."""
        raise NotImplementedError

    def take(self, order: Order) -> None:
        """An order for this device. One that is known is not begun anew."""
        if self.order is None or self.order.terms.campaign != order.terms.campaign:
            self._looked = False
        self.order = order
        self.leave = order.position >= Position.EXECUTE
        self._again = self.leave
        self.look()

    def grant(self, order: Order) -> None:
        """The engine's leave to install; durable by now, as the position of `order` says."""
        self.order = order
        self.leave = True
        if self.stage is Stage.IDLE:
            # It comes when the device was ready no more: look at it again, then go on.
            self._looked = False
            self.look()

    def drop(self) -> None:
        """The order was withdrawn. What is out is out."""
        self.order = None
        self.leave = False

    def requests(self) -> list[Request]:
        """What to send now; whoever takes them answers each with `status`."""
        if self.stage is Stage.LEAVE and not self._open and not self._requests:
            if self.order is not None and self.leave:
                self._execute(self.order)
            else:
                self._move("end")
        taken, self._requests = self._requests, []
        self._open += len(taken)
        return taken

    # -- what the device answers ---

    def result(self, uri: str, text: str) -> None:
        """A value; one that was not asked for is nothing to us."""
        uri = plain(uri)
        if uri not in self._asked:
            return
        if uri == FIRMWARE_VERSION:
            self.version = text.strip()
            self._say(Said.VERSION, self.version)
        else:
            self._shown(uri, text)

    def status(self, request: Request, code: int) -> None:
        """The status of a request."""
        self._open -= 1
        if self.order is not None:
            self._answered(self.order, request, code)
        elif not self._open and self.stage is not Stage.IDLE:
            self._requests.clear()
            self._move("end")

    def round_over(self) -> None:
        """The device has answered everything: go on from what it said."""
        if self._open or self._requests:
            return
        if self.order is not None:
            self._go_on(self.order)
        elif self.stage is not Stage.IDLE:
            self._move("end")

    def too_large(self, limit: int) -> None:
        """The package is larger than what the device takes in one object."""
        self._open -= 1
        self._move("end")
        self._fail(Ending.NO_SPACE, f"MaxObjSize {limit}")

    def too_small(self, limit: int) -> None:
        """The device takes no message that a command of ours fits into. One that may have been
        told to install is left to say how that ended."""
        if self.order is not None and not self.leave and self.stage is not Stage.IDLE:
            self._requests.clear()
            self._open = 0
            self._move("end")
            self._fail(Ending.REFUSED, f"MaxMsgSize {limit}")

    # -- what each kind of job does ---

    def _shown(self, uri: str, text: str) -> None:
        """A value that was asked for."""
        raise NotImplementedError

    def _answered(self, order: Order, request: Request, code: int) -> None:
        """The status of a request, while there is an order."""
        raise NotImplementedError

    def _go_on(self, order: Order) -> None:
        """Everything was answered, and nothing is left to be sent."""
        raise NotImplementedError

    def _execute(self, order: Order) -> None:
        """Tell the device to install."""
        raise NotImplementedError

    # -- for them ---

    def _executed(self, code: int, *, busy: bool = False) -> None:
        """The status of an Exec that installs. `busy`: the device seemed to be at work before."""
        self._move("end")
        # 202 is a must; a 200 says no less. A device that was told before may be busy with it.
        if 200 <= code < 300 or ((self._again or busy) and code in (403, 405)):
            self._say(Said.EXECUTED, f"Exec: {code}")
        else:
            self._fail(Ending.REFUSED, f"Exec: {code}")

    def _ask(self, kind: Kind, uri: str, text: str = "") -> None:
        self._asked.add(uri)
        self._requests.append(Request(kind, uri, text))

    def _say(self, said: Said, text: str = "") -> None:
        self.events.append(JobEvent(said, text))

    def _fail(self, ending: Ending, text: str) -> None:
        self.events.append(JobEvent(Said.FAILED, text, ending))

    def _move(self, event: str) -> None:
        self.stage = next_state(self.table, self.stage, event)


def plain(uri: str) -> str:
    """A URI as we write it: `DevInfo/Man` and `./DevInfo/Man` are the same (OMA-TS-DM_TND 5)."""
    path = uri.removeprefix("./").strip("/")
    return "." if path in ("", ".") else f"./{path}"


def correlator_of(order: Order) -> str:
    """What the Exec carries and the result brings back: the campaign."""
    return order.terms.campaign
