"""Firmware updates by FUMO 1.0: the sub-tree's hooks, and what an order needs done next.

The update engine holds the state and the tables (`fumo_tables`) translate it; nothing here
remembers how far an update is. An accepted Exec becomes an order in `nvm` (`order`). `step` tells
what it needs now, after any boot just as before it; the client does that and asks again. When the
work is over the generic alert of `alert` goes into package 1 of a session, and `reported` closes
the order.

A package that comes by Replace goes to the engine as it arrives and leaves no order: the Status of
the Replace is the whole answer.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable

from agent.device import Device
from agent.misbehaviour import Misbehaviour
from agent.outcome import Outcome
from agent.update import State
from protocols.omadm.fumo_tables import (
    ALERT_TYPES,
    DOWNLOADED,
    OPERATIONS,
    RESULTS,
    STATES,
    UNDER_WAY,
    Action,
    Answer,
    FumoState,
    Operation,
    result_code,
)
from protocols.omadm.model import Alert, Item, Meta
from protocols.omadm.order import Order, OrderBook
from protocols.omadm.personas.profile import Fumo as Persona
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Execution, Hooks

__all__ = ["FumoClient", "PackageSink", "Step"]


class Step(enum.Enum):
    """What the order needs now."""

    NOTHING = "nothing"
    """There is none, or the device is about to reboot."""
    FETCH = "fetch the package"
    INSTALL = "install"
    WAIT = "wait for the time of the install"
    REPORT = "report"


class FumoClient:
    """FUMO of one device, for one uptime."""

    __slots__ = ("_leaf", "_misbehave", "_persona", "book", "device")

    def __init__(
        self, device: Device, persona: Persona, misbehave: frozenset[Misbehaviour]
    ) -> None:
        self.device = device
        self._persona = persona
        self._misbehave = misbehave
        self.book = OrderBook(device.nvm)
        self._leaf: Callable[[str], str] = _nothing
        if self.book.order is None:
            device.engine.reported()  # nobody asked, so nobody is told

    # -- what the server sees -------------------------------------------------------------------

    def hooks(self) -> Hooks:
        """What stands behind the nodes of the management object."""
        root = self._persona.root
        execute = {}
        for operation in ALERT_TYPES:
            execute[f"{root}/{operation.value}"] = functools.partial(self._execute, operation)
        return Hooks(
            on_execute=execute,
            on_replace={f"{root}/{Operation.PKG_DATA.value}": PackageSink(self)},
            computed={f"{root}/State": lambda: str(int(self.state))},
        )

    def begin(self, leaf: Callable[[str], str]) -> None:
        """A session begins: how its tree is read."""
        self._leaf = leaf

    def end(self) -> None:
        """It is over: an idle device keeps nothing of it."""
        self._leaf = _nothing

    @property
    def state(self) -> FumoState:
        """Node `State`."""
        engine = self.device.engine
        state = STATES[engine.state, engine.outcome]
        if state is FumoState.DOWNLOAD_COMPLETE and not engine.uri:
            return FumoState.READY_TO_UPDATE  # it came by Replace
        if state is FumoState.UPDATE_SUCCESSFUL_NO_DATA:
            return FumoState(self._persona.success_state)
        return state

    def answer(self, operation: Operation) -> Answer:
        """To an operation, as things stand."""
        if self.book.order is not None:
            return UNDER_WAY[operation]
        return OPERATIONS[self.device.engine.state][operation]

    def _execute(self, operation: Operation, execution: Execution) -> StatusCode:
        status, action = self.answer(operation)
        if action is Action.NONE:
            return StatusCode(status)
        engine = self.device.engine
        url = ""
        if operation is not Operation.UPDATE:
            url = self._leaf(f"{self._persona.root}/{operation.value}/PkgURL")
            if not url:
                raise TreeError(StatusCode.NOT_ALLOWED, "no PkgURL")
        order = Order(operation, execution.uri, execution.correlator, url)
        if action is Action.REPLACE:
            # The old package goes first: an order beside it would look like one that is done.
            engine.cancel()
        engine.reported()
        self.book.take(order)
        return StatusCode(status)

    # -- what the client does -------------------------------------------------------------------

    def step(self) -> Step:
        """What the order needs now."""
        order, engine = self.book.order, self.device.engine
        if order is None:
            return Step.NOTHING
        if engine.report_pending and engine.outcome is not Outcome.DEFERRED:
            return Step.REPORT
        if engine.state is State.INSTALLING or engine.state is State.TRIAL:
            return Step.NOTHING
        if engine.state is not State.DOWNLOADED:
            if order.operation is Operation.UPDATE:
                # Its package is gone: somebody at the device cancelled it.
                return Step.REPORT
            return Step.FETCH
        if order.operation is Operation.DOWNLOAD:
            return Step.REPORT
        if order.install_at is not None and self._utc() < order.install_at:
            return Step.WAIT
        return Step.INSTALL

    def downloaded(self, *, urgent: bool) -> None:
        """The package is there: put the install off if this persona does."""
        order = self.book.order
        if (
            order is not None
            and order.operation is Operation.DOWNLOAD_AND_UPDATE
            and self._persona.install_delay
            and not urgent
            and self.device.engine.state is State.DOWNLOADED
        ):
            self.book.note(install_at=self._utc() + self._persona.install_delay)
            self.device.engine.defer()

    def wait(self) -> float:
        """Seconds until the time of the install."""
        order = self.book.order
        if order is None or order.install_at is None:
            return 0.0
        return max(0.0, order.install_at - self._utc())

    def install(self) -> None:
        self.device.engine.install()

    def result(self) -> int:
        """The result code that the generic alert carries."""
        order, engine = self.book.order, self.device.engine
        assert order is not None
        code: int | None
        if engine.outcome is None or engine.outcome is Outcome.DEFERRED:
            downloaded = engine.state is State.DOWNLOADED
            code = DOWNLOADED if downloaded else RESULTS[Outcome.CANCELLED]
        else:
            code = result_code(engine.outcome, order.trouble)
        assert code is not None
        if Misbehaviour.FALSE_SUCCESS in self._misbehave:
            return 200
        if Misbehaviour.FALSE_FAILURE in self._misbehave and code == 200:
            return 410
        return code

    def alert(self, cmd_id: str = "") -> Alert | None:
        """The generic alert that ends the order, once there is one to tell of."""
        order = self.book.order
        if order is None or self.step() is not Step.REPORT:
            return None
        code = self.result()
        persona = self._persona
        source = order.uri if persona.alert_from_operation else persona.root
        mark = None if code < 300 else "critical"
        meta = Meta(format=persona.alert_format, type=ALERT_TYPES[order.operation], mark=mark)
        item = Item(source=source, meta=meta, data=str(code))
        return Alert(cmd_id, 1226, (item,), order.correlator)

    def reported(self) -> None:
        """The server has the alert: nothing is told a second time."""
        # In this order: an outcome without an order is told to nobody, see `__init__`.
        self.book.drop()
        self.device.engine.reported()

    def _utc(self) -> float:
        return self.device.runtime.clock.utc().timestamp()


class PackageSink:
    """PkgData: a package on its way from a session straight into the update engine."""

    __slots__ = ("_fumo",)

    def __init__(self, fumo: FumoClient) -> None:
        self._fumo = fumo

    def begin(self, uri: str, size: int | None) -> None:
        status, action = self._fumo.answer(Operation.PKG_DATA)
        if action is Action.NONE:
            raise TreeError(StatusCode(status), "an update is under way")
        engine = self._fumo.device.engine
        if action is Action.RECEIVE_ANEW:
            engine.cancel()
        if not engine.begin(total_size=size):
            raise self._refused()

    def data(self, chunk: bytes) -> None:
        engine = self._fumo.device.engine
        if engine.state is not State.DOWNLOADING or not engine.receive(chunk):
            raise self._refused()

    def end(self) -> StatusCode:
        engine = self._fumo.device.engine
        if engine.state is not State.DOWNLOADING or not engine.complete():
            raise self._refused()
        # A slot store that is a real board answers in its own time.
        return StatusCode.ACCEPTED if engine.pending else StatusCode.OK

    def abort(self) -> None:
        engine = self._fumo.device.engine
        if engine.state is State.DOWNLOADING:
            engine.fail(Outcome.CONNECTION_LOST, "the session broke off")
            engine.reported()

    def undo(self) -> bool:
        engine = self._fumo.device.engine
        if engine.state is not State.DOWNLOADED:
            return False
        engine.cancel()
        return True

    def _refused(self) -> TreeError:
        """What the engine made of it, as the answer to the Replace."""
        engine = self._fumo.device.engine
        engine.reported()
        outcome = engine.outcome
        if outcome in (Outcome.NO_SPACE, Outcome.OUT_OF_MEMORY):
            return TreeError(StatusCode.DEVICE_FULL, "the package does not fit")
        name = "no outcome" if outcome is None else outcome.name.lower()
        return TreeError(StatusCode.COMMAND_FAILED, f"the package was refused: {name}")


def _nothing(uri: str) -> str:
    """What is read outside of a session."""
    return ""
