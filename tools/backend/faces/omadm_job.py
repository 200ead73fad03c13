"""The job of a firmware update: a look at the device, and an order by FUMO.

The machine is `omadm_tables.JOB_TABLE`.
"""

from __future__ import annotations

from collections.abc import Callable

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
from tools.backend.faces.omadm_work import (
    FIRMWARE_VERSION,
    DeviceJob,
    Request,
    Said,
    correlator_of,
)

STANDARD = frozenset({"DevInfo", "DevDetail", "DMAcc", "Inbox", "SCOMO"})
"""Nodes below the root that are no FUMO object and have none below them."""

MAX_CANDIDATES = 16
"""Nodes looked into in one round of a search; a device that has more keeps its object hidden."""


class UpdateJob(DeviceJob):
    """The job of one session. `root` is where the FUMO object was found before, or empty."""

    table = JOB_TABLE

    def __init__(self, root: str, url: Callable[[Order], str]) -> None:
        super().__init__(url)
        self.root = root
        self._shows: str | None = None
        """What State said; None while it was not asked for, or is not there."""
        self._children: dict[str, tuple[str, ...]] = {}

    def look(self) -> None:
        if self.stage is Stage.IDLE and not self._looked:
            self._looked = True
            self._move("look")
            self._shows = None
            self._asked.clear()
            self._ask("Get", FIRMWARE_VERSION)
            if self.order is not None:
                self._ask("Get", f"{self.root}/State" if self.root else ".")

    def _shown(self, uri: str, text: str) -> None:
        if uri.endswith("/State"):
            self._shows = text.strip()
        else:
            self._children[uri] = tuple(name for name in text.split("/") if name)

    def _answered(self, order: Order, request: Request, code: int) -> None:
        if self.stage is Stage.DELIVER:
            self._delivered(code)
        elif self.stage is Stage.EXECUTE:
            self._executed(code, busy=self._shown_state is Shows.FETCHING)

    def _go_on(self, order: Order) -> None:
        if self.stage is Stage.LOOK and self._look_closer():
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

    @property
    def _shown_state(self) -> Shows:
        number = self._shows or ""
        return STATES.get(int(number), Shows.NOTHING) if number.isdecimal() else Shows.NOTHING

    def _decide(self, order: Order) -> None:
        number = self._shows or ""
        table = PUSH_ACTIONS if order.delivery == "push" else PULL_ACTIONS
        action = table[order.position][self._shown_state]
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
            self._ask("Replace", f"{self.root}/DownloadAndUpdate/PkgURL", text=self.url(order))
        else:
            uri = f"{self.root}/Update/PkgData"
            self._requests.append(Request("Replace", uri, body=order.package.body))
            self._say(Said.STARTED)

    def _delivered(self, code: int) -> None:
        if 200 <= code < 300:
            self._move("ready")
            self._say(Said.DELIVERED, f"Replace: {code}")
        elif code == IN_USE:
            self._move("end")
            self._say(Said.BUSY, f"Replace: {code}")
        else:
            self._move("end")
            self._fail(DELIVERY.get(code, Ending.REFUSED), f"Replace: {code}")

    def _execute(self, order: Order) -> None:
        self._move("granted")
        node = "DownloadAndUpdate" if order.delivery == "pull" else "Update"
        self._requests.append(
            Request("Exec", f"{self.root}/{node}", correlator=correlator_of(order))
        )


def _is_fumo(children: tuple[str, ...]) -> bool:
    """Whether a node with these children is a FUMO object: State is mandatory in it, and so is a
    way to update. Its type would say the same, but the property is not supported everywhere."""
    return "State" in children and not {"Update", "DownloadAndUpdate"}.isdisjoint(children)
