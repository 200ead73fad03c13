"""What the server wants of a device in one session: a look at it, and an order.

Sans-IO: requests out, statuses and results in, and what became of it as events. The session carries
them; it knows no order, and the job knows no message. The machine is `omadm_tables.JOB_TABLE`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tools.backend.campaigns.states import next_state
from tools.backend.faces.base import Ending, Order, Position, same_version
from tools.backend.faces.omadm_tables import (
    DELIVERY,
    IN_USE,
    JOB_TABLE,
    PULL_ACTIONS,
    PUSH_ACTIONS,
    STATES,
    Action,
    Shows,
    Stage,
)

FIRMWARE_VERSION = "./DevDetail/FwV"

STANDARD = frozenset({"DevInfo", "DevDetail", "DMAcc", "Inbox", "SCOMO"})
"""Nodes below the root that are no FUMO object and have none below them."""

MAX_CANDIDATES = 16
"""Nodes looked into in one round of a search; a device that has more keeps its object hidden."""

Kind = Literal["Get", "Replace", "Exec"]


@dataclass(frozen=True, slots=True)
class Request:
    """One command to the device. With `body` it is a large object."""

    kind: Kind
    uri: str
    text: str = field(default="", repr=False)
    body: bytes | None = field(default=None, repr=False)
    correlator: str = ""


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
    EXECUTED = "executed"
    """It was told, and has taken it."""
    FAILED = "failed"
    """The attempt is over: `ending`, and `text` in the device's words."""
    SUCCEEDED = "succeeded"
    """The version that runs is the one that was ordered, though no result came."""
    BUSY = "busy"
    """The device is at work with something else; to be asked again later."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    said: Said
    text: str = ""
    ending: Ending | None = None


class UpdateJob:
    """The job of one session. `url` makes the address of a package for this device."""

    def __init__(self, root: str, url: Callable[[Order], str]) -> None:
        self.root = root
        self.order: Order | None = None
        self.leave = False
        """Whether the device may be told to install."""
        self.stage = Stage.IDLE
        self.version = ""
        self._url = url
        self._looked = False
        self._again = False
        """Whether an Exec of this attempt may have left before."""
        self._shows: str | None = None
        """What State said; None while it was not asked for, or is not there."""
        self._asked: set[str] = set()
        self._children: dict[str, tuple[str, ...]] = {}
        self._requests: list[Request] = []
        self._open = 0
        self.events: list[JobEvent] = []

    # -- what the session asks ---

    @property
    def waiting(self) -> bool:
        """Whether requests are out that have no status yet."""
        return self._open > 0

    def look(self) -> None:
        """Ask the device about itself, unless that is under way or was done for this order."""
        if self.stage is Stage.IDLE and not self._looked:
            self._looked = True
            self._move("look")
            self._shows = None
            self._asked.clear()
            self._ask("Get", FIRMWARE_VERSION)
            if self.order is not None:
                self._ask("Get", f"{self.root}/State" if self.root else ".")

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
        elif uri.endswith("/State"):
            self._shows = text.strip()
        else:
            self._children[uri] = tuple(name for name in text.split("/") if name)

    def status(self, request: Request, code: int) -> None:
        """The status of a request."""
        self._open -= 1
        if self.order is None:
            if not self._open and self.stage is not Stage.IDLE:
                self._requests.clear()
                self._move("end")
        elif self.stage is Stage.DELIVER:
            self._delivered(self.order, code)
        elif self.stage is Stage.EXECUTE:
            self._executed(code)

    def round_over(self) -> None:
        """The device has answered everything: go on from what it said."""
        if self._open or self._requests:
            return
        order = self.order
        if order is None:
            if self.stage is not Stage.IDLE:
                self._move("end")
        elif self.stage is Stage.LOOK and self._look_closer():
            pass
        elif self.stage in (Stage.SEARCH, Stage.DEEPER):
            self._found(order)
        elif self.stage in (Stage.LOOK, Stage.STATE):
            self._decide(order)

    # -- finding the FUMO object ---

    def _look_closer(self) -> bool:
        """Ask for what the first round did not: the order may have come after it, or the object
        may be where it was no more."""
        state = f"{self.root}/State"
        if self.root and self._shows is None and state in self._asked:
            self.root = ""
        if self.root:
            if self._shows is None:
                self._ask("Get", state)
            return self._shows is None
        if "." not in self._asked:
            self._ask("Get", ".")
        else:
            self._search()
        return True

    def _search(self) -> None:
        names = [name for name in self._children.get(".", ()) if name not in STANDARD]
        self._move("search")
        for name in names[:MAX_CANDIDATES]:
            self._ask("Get", f"./{name}")
        if not names:
            self._lost()

    def _found(self, order: Order) -> None:
        for uri, names in self._children.items():
            if uri != "." and _is_fumo(names):
                self.root = uri
                self._say(Said.ROOT, uri)
                self._move("found")
                self._ask("Get", f"{uri}/State")
                return
        below = [
            f"{uri}/{name}"
            for uri, names in self._children.items()
            if uri != "." and uri.count("/") == 1
            for name in names
        ]
        if self.stage is Stage.SEARCH and below:
            self._move("deeper")
            for uri in below[:MAX_CANDIDATES]:
                self._ask("Get", uri)
            return
        self._lost()

    def _lost(self) -> None:
        self._move("end")
        self._fail(Ending.UNSUPPORTED_PROTOCOL, "no firmware update object")

    # -- the order ---

    def _decide(self, order: Order) -> None:
        number = self._shows if self._shows is not None else ""
        shows = STATES.get(int(number), Shows.NOTHING) if number.isdecimal() else Shows.NOTHING
        table = PUSH_ACTIONS if order.delivery == "push" else PULL_ACTIONS
        action = table[order.position][shows]
        if action is Action.BY_VERSION:
            if self.version and same_version(self.version, order.package.version):
                self._move("end")
                self._say(Said.SUCCEEDED, f"State {number}")
                return
            # State is left over from an update before this one, which was never begun; or it has
            # been, and another version runs than was ordered.
            action = Action.LOST if order.position == Position.INSTALLING else Action.DELIVER
        if action is Action.DELIVER:
            self._move("deliver")
            self._deliver(order)
        elif action is Action.LEAVE:
            self._move("ready")
            self._say(Said.DELIVERED, f"State {number}")
        else:
            self._move("end")
            if action is Action.UNDER_WAY:
                self._say(Said.EXECUTED, f"State {number}")
            elif action is Action.LOST:
                self._fail(Ending.INSTALL_FAILED, f"State {number} without a result")
            elif order.position < Position.EXECUTE:
                self._say(Said.BUSY, f"State {number}")

    def _deliver(self, order: Order) -> None:
        if order.delivery == "pull":
            self._ask("Replace", f"{self.root}/DownloadAndUpdate/PkgURL", text=self._url(order))
        else:
            uri = f"{self.root}/Update/PkgData"
            self._requests.append(Request("Replace", uri, body=order.package.body))
            self._say(Said.STARTED)

    def _delivered(self, order: Order, code: int) -> None:
        if 200 <= code < 300:
            self._move("ready")
            self._say(Said.DELIVERED, f"Replace: {code}")
        elif code == IN_USE:
            self._move("end")
            self._say(Said.BUSY, f"Replace: {code}")
        else:
            self._move("end")
            self._fail(DELIVERY.get(code, Ending.REFUSED), f"Replace: {code}")

    def too_large(self, limit: int) -> None:
        """The package is larger than what the device takes in one object."""
        self._open -= 1
        self._move("end")
        self._fail(Ending.NO_SPACE, f"MaxObjSize {limit}")

    def _execute(self, order: Order) -> None:
        self._move("granted")
        node = "DownloadAndUpdate" if order.delivery == "pull" else "Update"
        self._requests.append(
            Request("Exec", f"{self.root}/{node}", correlator=correlator_of(order))
        )

    def _executed(self, code: int) -> None:
        self._move("end")
        # 202 is a must; a 200 says no less. A device that was told before may be busy with it.
        if 200 <= code < 300 or (self._again and code in (403, 405)):
            self._say(Said.EXECUTED, f"Exec: {code}")
        else:
            self._fail(Ending.REFUSED, f"Exec: {code}")

    # -- the rest ---

    def _ask(self, kind: Kind, uri: str, text: str = "") -> None:
        self._asked.add(uri)
        self._requests.append(Request(kind, uri, text))

    def _say(self, said: Said, text: str = "") -> None:
        self.events.append(JobEvent(said, text))

    def _fail(self, ending: Ending, text: str) -> None:
        self.events.append(JobEvent(Said.FAILED, text, ending))

    def _move(self, event: str) -> None:
        self.stage = next_state(JOB_TABLE, self.stage, event)


def plain(uri: str) -> str:
    """A URI as we write it: `DevInfo/Man` and `./DevInfo/Man` are the same (OMA-TS-DM_TND 5)."""
    path = uri.removeprefix("./").strip("/")
    return "." if path in ("", ".") else f"./{path}"


def correlator_of(order: Order) -> str:
    """What the Exec carries and the result brings back: the campaign."""
    return order.terms.campaign


def _is_fumo(children: tuple[str, ...]) -> bool:
    """Whether a node with these children is a FUMO object: State is mandatory in it, and so is a
    way to update. Its type would say the same, but the property is not supported everywhere."""
    return "State" in children and not {"Update", "DownloadAndUpdate"}.isdisjoint(children)
