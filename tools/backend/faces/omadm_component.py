"""The job of a configuration file: one component, brought by SCOMO 1.0.

Two orders, so that download and installation have windows of their own: Exec of
`Download/<x>/Operations/Download`, and later of `Inventory/Delivered/<x>/Operations/Install`. The
machine is `omadm_tables.COMPONENT_TABLE`. A component is named after its file, so that a newer
version takes the place of the older one, and its PkgID is the digest of the content: what is in the
inventory is what was ordered, or it is not, and after a restart that is looked up and not believed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from tools.backend.faces.base import Ending, Order, Position
from tools.backend.faces.omadm_tables import (
    COMPONENT_RESULTS,
    COMPONENT_TABLE,
    DELIVERY,
    Stage,
    result_code,
)
from tools.backend.faces.omadm_work import (
    FIRMWARE_VERSION,
    DeviceJob,
    Request,
    Said,
    correlator_of,
)

__all__ = ["COMPLETE", "ComponentJob", "component_ending", "is_download", "is_file"]

COMPLETE = "urn:oma:at:scomo:1.0:OperationComplete"
"""Type of the generic alert that ends an operation."""

ROOT = "./SCOMO"
"""Where the object is looked for; a device that has it elsewhere refuses the Add."""

NAME_DIGITS = 16
"""Hex digits of a component's node."""

MAX_TEXT = 128
"""Octets of Name that every device is expected to keep; ours, SCOMO has no limit."""

RETRY = frozenset({403, 405})
"""Statuses of the Exec that downloads, of a device that is at work with something else."""

EXISTS = 418

RESULT = re.compile(r"<ResultCode>\s*(\d{1,5})\s*</ResultCode>")


class Value:
    """What leaves of the two nodes say."""

    PROGRESSING = "30"
    DOWNLOAD_FAILED = "20"
    INSTALLING = "40"
    INSTALL_FAILED = ("50", "60")
    INSTALLED = "20"


class ComponentJob(DeviceJob):
    """The job of one session."""

    table = COMPONENT_TABLE

    def __init__(self, url: Callable[[Order], str]) -> None:
        super().__init__(url)
        self._shows: dict[str, str] = {}
        self._success = ""
        """A success that the device has reported in this session, in its words."""

    def look(self) -> None:
        if self.stage is not Stage.IDLE or self._looked or self.order is None:
            return
        self._looked = True
        self._move("look")
        self._shows.clear()
        self._asked.clear()
        download, delivered = nodes_of(self.order.package.name)
        self._ask("Get", FIRMWARE_VERSION)
        self._ask("Get", download)
        self._ask("Get", f"{download}/Status")
        for leaf in ("PkgID", "Status", "State"):
            self._ask("Get", f"{delivered}/{leaf}")

    def told(self, said: str) -> None:
        """The device has reported a success: see what came of it."""
        self._success = said
        if self.stage is Stage.IDLE:
            self._looked = False
            self.look()

    def _shown(self, uri: str, text: str) -> None:
        self._shows[uri] = text.strip()

    def _answered(self, order: Order, request: Request, code: int) -> None:
        right = 200 <= code < 300
        if self.stage in (Stage.NODE, Stage.DELIVER):
            if not right and not (code == EXISTS and request.interior):
                self._requests.clear()
                self._refused(request, code)
        elif self.stage is Stage.FETCH:
            if right:
                self._move("end")
                self._say(Said.FETCHING, f"Exec: {code}")
            elif code in RETRY:
                self._move("end")
                self._say(Said.BUSY, f"Exec: {code}")
            else:
                self._refused(request, code)
        elif self.stage is Stage.EXECUTE:
            self._executed(code)

    def _refused(self, request: Request, code: int) -> None:
        self._move("end")
        self._fail(DELIVERY.get(code, Ending.REFUSED), f"{request.kind}: {code}")

    def _go_on(self, order: Order) -> None:
        if self.stage is Stage.LOOK:
            if order.position < Position.EXECUTE:
                self._before(order)
            else:
                self._after(order)
        elif self.stage is Stage.NODE:
            self._move("deliver")
            self._write(order)
        elif self.stage is Stage.DELIVER:
            self._move("written")
            uri = f"{nodes_of(order.package.name)[0]}/Operations/Download"
            self._requests.append(Request("Exec", uri, correlator=correlator_of(order)))

    def _before(self, order: Order) -> None:
        """The device has not been told to install."""
        download, delivered = nodes_of(order.package.name)
        status = self._shows.get(f"{download}/Status", "")
        fetching = order.position == Position.DOWNLOADING
        if self._shows.get(f"{delivered}/PkgID") == order.package.digest:
            self._move("ready")
            self._say(Said.DELIVERED, self._success or "in the inventory")
        elif self._success:
            self._move("end")
            self._fail(Ending.WRONG_VERSION, f"{self._success}, and the component is not there")
        elif fetching and status == Value.PROGRESSING:
            self._move("end")
            self._say(Said.BUSY, f"Status {status}")
        elif fetching and status == Value.DOWNLOAD_FAILED:
            self._move("end")
            self._fail(Ending.CONNECTION_LOST, f"Status {status} without a result")
        elif download in self._shows:
            self._move("deliver")
            self._write(order)
        else:
            self._move("missing")
            self._requests.append(Request("Add", download, interior=True))

    def _after(self, order: Order) -> None:
        """It may have been told."""
        _, delivered = nodes_of(order.package.name)
        status = self._shows.get(f"{delivered}/Status", "")
        state = self._shows.get(f"{delivered}/State", "")
        there = self._shows.get(f"{delivered}/PkgID") == order.package.digest
        told = order.position == Position.EXECUTE
        if there and told and status != Value.INSTALLING and state != Value.INSTALLED:
            self._move("ready")
            return
        self._move("end")
        if there and status == Value.INSTALLING:
            if told:
                self._say(Said.EXECUTED, f"Status {status}")
        elif there and state == Value.INSTALLED:
            self._say(Said.SUCCEEDED, self._success or f"State {state}")
        elif self._success:
            self._fail(Ending.WRONG_VERSION, f"{self._success}, and State {state or 'missing'}")
        elif not there or status in Value.INSTALL_FAILED:
            self._fail(Ending.INSTALL_FAILED, f"Status {status or 'missing'} without a result")

    def _write(self, order: Order) -> None:
        """What the download is: Replace of the leaves that are there, Add of the others."""
        download, _ = nodes_of(order.package.name)
        there = self._shows.get(download, "").split("/")
        leaves = {
            "PkgID": order.package.digest,
            "Name": order.package.name.encode()[:MAX_TEXT].decode(errors="ignore"),
            "Description": order.package.version,
            "InstallParams": order.terms.path,
            "PkgURL": self.url(order),
        }
        for name, text in leaves.items():
            if text or name in there:
                self._ask("Replace" if name in there else "Add", f"{download}/{name}", text)

    def _execute(self, order: Order) -> None:
        self._move("granted")
        uri = f"{nodes_of(order.package.name)[1]}/Operations/Install"
        self._requests.append(Request("Exec", uri, correlator=correlator_of(order)))


def is_file(order: Order) -> bool:
    """Whether an order is for a `ComponentJob`."""
    return order.terms.kind == "file"


def nodes_of(name: str) -> tuple[str, str]:
    """Where a file is ordered, and where it is once it has been delivered."""
    name = hashlib.sha256(name.encode()).hexdigest()[:NAME_DIGITS]
    return f"{ROOT}/Download/{name}", f"{ROOT}/Inventory/Delivered/{name}"


def is_download(order: Order, source: str) -> bool | None:
    """Whether a result comes from the download of an order; False for its installation, None for
    what is not about this order."""
    for node, download in zip(nodes_of(order.package.name), (True, False), strict=True):
        if f"./{source.removeprefix('./')}/".startswith(f"{node}/"):
            return download
    return None


def component_ending(text: str) -> tuple[Ending, str]:
    """What the data of a result means, and in our words what it says."""
    found = RESULT.search(text)
    code = result_code(found[1]) if found else None
    if code is None:
        return Ending.NONSENSE, f"result {text[:32]!r}"
    return COMPONENT_RESULTS.get(code, Ending.NONSENSE), f"result {code}"
