"""One registered device and the update that the server drives on it.

Theory of operation
-------------------
A session has at most one request under way. Its `stage` says which::

    IDLE -> INSPECTING -> RESETTING -> PUSHING ------> WATCHING -> EXECUTING -> WATCHING -> IDLE
              ^    `-------------------> POINTING --^      |
              `---------------- poll, notification, contact'

INSPECTING reads 5/0/3 and 5/0/5 (by Observe, when they are not observed yet) and asks
`lwm2m_tables.ACTIONS` what to do. Everything that can go missing ends in another inspection: a lost
notification by the poll timer, a restart of the device by its registration, a restart of the server
by `resume`. So an attempt advances as long as the device answers at all.

`position` is the engine's durable position of the attempt, mirrored here: it is what survives a
restart, and with a fresh reading of the device it is enough to go on.

No Task and no Future: each step runs in the callback of the response before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.runtime.wheel import Timer
from protocols.coap import Code, Message, RequestFailed, code_text, make_options
from protocols.coap.udp_peer import UdpPeer
from protocols.lwm2m import codecs
from protocols.lwm2m.records import Value
from tools.backend.campaigns.states import next_state
from tools.backend.faces.base import (
    Ending,
    FaceBelief,
    FaceEvent,
    FaceKind,
    Order,
    Position,
    same_version,
)
from tools.backend.faces.lwm2m_link import (
    PACKAGE,
    PACKAGE_URI,
    RESULT,
    STATE,
    UPDATE,
    VERSION,
    DeviceLink,
    OnResult,
    OnText,
    OnValue,
    Path,
    path_text,
)
from tools.backend.faces.lwm2m_tables import (
    ACTIONS,
    REPORTS,
    RESULTS,
    STAGES,
    Action,
    Stage,
)
from tools.backend.store.rows import Registration

if TYPE_CHECKING:
    from tools.backend.faces.lwm2m import Lwm2mFace

AWAKE = 93.0
"""Seconds after its last message that a queue-mode device listens: MAX_TRANSMIT_WAIT."""

MAX_REREADS = 5
"""Inspections in a row that find a pair which no table knows: then it was not torn but nonsense."""

MAX_DELIVERIES = 3
"""Deliveries within one attempt, to a device that goes back to Idle without a Result each time."""

DOWNLOADED_STATE = 2

_PUSH = make_options(path=PACKAGE, content_format=codecs.OPAQUE)
_WRITE_URI = make_options(path=PACKAGE_URI, content_format=codecs.TEXT)
_EXECUTE = make_options(path=UPDATE)


class Session:
    """A registered device."""

    __slots__ = (
        "_delivered",
        "_deliveries",
        "_execute_refused",
        "_face",
        "_link",
        "_poll",
        "_rereads",
        "_restarted",
        "_stage",
        "_version_known",
        "expiry",
        "last_contact",
        "order",
        "position",
        "registration",
        "result",
        "source",
        "state",
        "version",
    )

    def __init__(self, face: Lwm2mFace, registration: Registration, peer: UdpPeer) -> None:
        self._face = face
        self._link = DeviceLink(peer)
        self._poll: Timer | None = None
        self._rereads = 0
        self._stage = Stage.IDLE
        self._version_known = False
        self._execute_refused = ""
        self._deliveries = 0
        self._delivered = False
        self._restarted = False
        self.registration = registration
        self.order: Order | None = None
        self.position = Position.WAITING
        self.expiry: Timer | None = None
        self.last_contact = float("-inf")
        self.state: int | None = None
        self.result: int | None = None
        self.version = ""
        self.source = ""

    @property
    def peer(self) -> UdpPeer:
        return self._link.peer

    @peer.setter
    def peer(self, peer: UdpPeer) -> None:
        self._link.peer = peer

    @property
    def name(self) -> str:
        return self.registration.name

    @property
    def asleep(self) -> bool:
        """Whether it does not listen now: in queue mode, and not heard for a while."""
        return self.registration.queue and self._face.now() - self.last_contact > AWAKE

    def __repr__(self) -> str:
        where = f"{self._stage.name} {self.position.name} {self.state}/{self.result}"
        return f"<Session {self.name} {where}>"

    def believed(self) -> FaceBelief:
        return FaceBelief(
            "" if self.state is None else str(self.state),
            "" if self.result is None else str(self.result),
            self.version,
            self.source,
        )

    # -- what happens to the device ---

    def registered(self) -> None:
        """A new registration: the device has restarted, and knows no observation of ours."""
        self._link.forget()
        self._version_known = self._delivered = False
        self._restarted = True
        version = self._registered_version
        unknown = self._registered_without_version
        self._read_version(version, unknown, unknown)

    def _registered_version(self, value: Value) -> None:
        self._take_version(value)
        self._go_on()

    def _registered_without_version(self, _text: str) -> None:
        self._go_on()

    def _go_on(self) -> None:
        self._face.emit(FaceEvent(self.name, FaceKind.REGISTERED, version=self.version))
        if self.order is not None:
            self._arm_poll()
            if not self._link.busy:
                self.inspect()

    def contact(self, moved: bool) -> None:
        """A message of the device: it is awake, maybe at another address."""
        if moved:
            self._link.forget()
        if self.order is not None and (moved or self._stage is Stage.ASLEEP):
            self.inspect()

    def close(self) -> None:
        """The session is over."""
        self._link.forget()
        for timer in (self._poll, self.expiry):
            if timer is not None:
                self._face.wheel.disarm(timer)

    # -- what the engine wants ---

    def begin(self, order: Order) -> None:
        """Take an order, at whatever position it is."""
        self.order = order
        self.position = order.position
        self._rereads = self._deliveries = 0
        self._delivered = self._restarted = False
        self._execute_refused = ""
        self._arm_poll()
        self.inspect()

    def install(self) -> None:
        """The intent is durable: send Execute."""
        if self.order is None or self.position >= Position.EXECUTE:
            return
        self.position = Position.EXECUTE
        if self._stage is Stage.WATCHING:
            self._execute()
        elif self._stage is not Stage.INSPECTING:
            self.inspect()

    def withdraw(self) -> None:
        """Drop the order."""
        self.order = None
        self.position = Position.WAITING
        self._link.cancel()
        self._move("end")
        if self._poll is not None:
            self._face.wheel.disarm(self._poll)

    # -- inspection ---

    def inspect(self) -> None:
        """Read State and Result, then act on what they say."""
        self._link.cancel()
        if self.asleep:
            self._move("sleep")
            return
        self._move("inspect")
        self._watch_value(STATE, self._inspected_state)

    def _inspected_state(self, value: Value) -> None:
        if self._take(STATE, value):
            self._watch_value(RESULT, self._inspected_result)

    def _inspected_result(self, value: Value) -> None:
        if self._take(RESULT, value):
            self._judge()

    def _judge(self) -> None:
        order, state, result = self.order, self.state, self.result
        if order is None or state is None or result is None:
            self._move("end")
            return
        report = REPORTS.get((state, result))
        if report is None:
            self._rereads += 1
            if self._rereads > MAX_REREADS:
                self._finish(Ending.NONSENSE, f"State {state} with Result {result}")
            else:
                self.inspect()
            return
        self._rereads = 0
        action = ACTIONS[self.position][report]
        if action is Action.BY_VERSION and not self._version_known:
            self._read_version(self._judge_version, self._judge_without_version, self._unanswered)
            return
        _ACTIONS[action](self)

    def _judge_version(self, value: Value) -> None:
        self._take_version(value)
        self._judge()

    def _judge_without_version(self, text: str) -> None:
        self._finish(Ending.NONSENSE, f"the running version cannot be read: {text}")

    # -- actions: one for each member of Action ---

    def _do_deliver(self) -> None:
        order = self.order
        assert order is not None
        if self.state != 0 and (order.delivery == "pull" or self._delivered):
            self._move("watch")  # it fetches by itself, or is still busy with what it got
            return
        self._deliveries += 1
        if self._deliveries > MAX_DELIVERIES:
            self._finish(Ending.CONNECTION_LOST, f"still State {self.state} after the delivery")
            return
        if order.delivery == "push":
            self._move("push")
            self._link.push(
                self._face.endpoint,
                Message(Code.PUT, options=_PUSH),
                order.package.body,
                self._pushed_some,
                self._pushed,
            )
            return
        self._move("point")
        uri = self._face.package_uri(self.peer, order.package)
        message = Message(Code.PUT, options=_WRITE_URI, payload=uri.encode())
        self._send(message, self._pointed)

    def _do_reset(self) -> None:
        self._move("reset")
        self._send(Message(Code.PUT, options=_WRITE_URI), self._was_reset)

    def _do_wait(self) -> None:
        self._move("watch")

    def _do_install(self) -> None:
        self._move("watch")
        self.position = Position.DOWNLOADED
        self._tell(FaceKind.DOWNLOADED)

    def _do_execute(self) -> None:
        if self._execute_refused:
            self._finish(Ending.REFUSED, self._execute_refused)
        else:
            self._execute()

    def _do_installing(self) -> None:
        self._move("watch")
        self.position = Position.INSTALLING
        self._tell(FaceKind.INSTALLING)

    def _do_by_version(self) -> None:
        order = self.order
        assert order is not None
        arrived = same_version(self.version, order.package.version)
        said = f"State {self.state}, Result {self.result}, version {self.version}"
        if arrived:
            self._finish(Ending.SUCCESS, said)
        elif self.result == 1:
            self._finish(Ending.WRONG_VERSION, said)
        else:
            self._finish(Ending.REVERTED, said)

    def _do_fail(self) -> None:
        assert self.result is not None
        self._finish(RESULTS[self.result], f"State {self.state}, Result {self.result}")

    def _do_lost(self) -> None:
        self._finish(Ending.CONNECTION_LOST, f"State {self.state} after the package had arrived")

    def _do_returned(self) -> None:
        if not self._restarted:
            self._move("watch")  # it may take its time; only a restart ends the doubt
            return
        self._finish(Ending.INSTALL_FAILED, "back at State 2 after it had accepted Execute")

    # -- delivery ---

    def _was_reset(self, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            self._unanswered(str(result))
            return
        # A refusal is no end: some clients know no reset, and a new package replaces the old one.
        self.state, self.result = 0, 0
        self._do_deliver()

    def _pushed_some(self, _sent: int) -> None:
        self._progress()

    def _pushed(self, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            self._unanswered(str(result))
        elif result.code < 128:
            self._progress()
            self._delivered = True
            self._move("watch")
            if self.state == DOWNLOADED_STATE:
                self.inspect()  # the notification overtook the response
        else:
            # The Result says why; when it does not, the response code has to do.
            self._progress()
            self._delivery_refused(result)

    def _pointed(self, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            self._unanswered(str(result))
        elif result.code < 128:
            self._progress()
            self._move("watch")
            if self.state == DOWNLOADED_STATE:
                self.inspect()
        else:
            self._progress()
            self._delivery_refused(result)

    def _delivery_refused(self, result: Message) -> None:
        text = code_text(result.code)
        self._move("inspect")

        def judge(value: Value) -> None:
            if not self._take(RESULT, value):
                return
            ending = RESULTS.get(self.result if self.result is not None else 0, Ending.REFUSED)
            self._finish(ending, f"{text}, Result {self.result}")

        def refuse(_text: str) -> None:
            self._finish(Ending.REFUSED, text)

        self._link.read(self._face.endpoint, RESULT, judge, refuse, self._unanswered)

    def _progress(self) -> None:
        if self.position == Position.OFFERED:
            self.position = Position.DOWNLOADING
            self._tell(FaceKind.PROGRESS)

    def _execute(self) -> None:
        self._move("execute")
        self._version_known = self._restarted = False
        self._send(Message(Code.POST, options=_EXECUTE), self._executed)

    def _executed(self, result: Message | RequestFailed) -> None:
        if isinstance(result, RequestFailed):
            # It may have been processed, or not: the device itself will say.
            self._move("watch")
        elif result.code < 128:
            self._move("watch")
            if self.position == Position.EXECUTE:
                self.position = Position.INSTALLING
                self._tell(FaceKind.INSTALLING)
        else:
            # Perhaps the refusal of a repetition: believe the state and not this code.
            self._execute_refused = f"Execute was answered with {code_text(result.code)}"
            self.inspect()

    # -- notifications, polling ---

    def _notified(self, path: Path, value: Value) -> None:
        """A fresh value of an observed resource."""
        if not self._take(path, value) or self.order is None:
            return
        if path == STATE and self.state and self.position < Position.EXECUTE:
            if self.state == 1:
                if self._stage in (Stage.PUSHING, Stage.POINTING, Stage.WATCHING):
                    self._progress()
                return
            if self.state == DOWNLOADED_STATE and self.position == Position.DOWNLOADING:
                if self._stage is Stage.WATCHING:
                    self._do_install()
                return  # otherwise the response of the push is still to come, and inspects
        if self._stage is Stage.WATCHING:
            if path == STATE and self.state == 3 and self.position >= Position.EXECUTE:
                if self.position == Position.EXECUTE:
                    self._do_installing()
                return
            self.inspect()

    def _arm_poll(self) -> None:
        if self._poll is None:
            self._poll = Timer(self._poll_due)
        self._face.arm(self._poll, self._face.poll)

    def _poll_due(self, _now: float) -> None:
        if self.order is None:
            return
        self._arm_poll()
        if not self._link.busy and self._stage is Stage.WATCHING:
            self.inspect()

    # -- readings ---

    def _read_version(self, on_value: OnValue, on_refused: OnText, on_silence: OnText) -> None:
        self._link.read(self._face.endpoint, VERSION, on_value, on_refused, on_silence)

    def _watch_value(self, path: Path, on_value: OnValue) -> None:
        self._link.watch(
            self._face.endpoint,
            path,
            on_value,
            self._refused,
            self._unanswered,
            lambda value: self._notified(path, value),
        )

    def _send(self, message: Message, on_result: OnResult) -> None:
        self._link.send(self._face.endpoint, message, on_result)

    def _refused(self, text: str) -> None:
        """Object 5 cannot be read, or says nonsense."""
        if self.order is None:
            self._move("end")
        elif self.position >= Position.EXECUTE:
            self._move("watch")  # what it does now is decided by a later reading
        else:
            self._finish(Ending.NONSENSE, text)

    def _unanswered(self, text: str) -> None:
        """The device does not answer."""
        if self.order is None:
            self._move("end")
        elif self.position >= Position.EXECUTE:
            # It is on its way through a reboot, or gone: its registration or the poll will tell.
            self._move("watch")
        elif self.position == Position.DOWNLOADING:
            self._finish(Ending.CONNECTION_LOST, text)
        else:
            self._finish(Ending.UNREACHABLE, text)

    # -- bookkeeping ---

    def _take(self, path: Path, value: Value) -> bool:
        """Remember a State or Result; False when it is none."""
        if not isinstance(value, int) or isinstance(value, bool):
            self._refused(f"{path_text(path)} is {value!r}")
            return False
        if path == STATE:
            self.state = value
        else:
            self.result = value
        self.source = "object 5"
        return True

    def _take_version(self, value: Value) -> None:
        self.version = str(value)
        self._version_known = True
        self.source = self.source or "object 3"
        self._face.emit(FaceEvent(self.name, FaceKind.VERSION, version=self.version))

    def _tell(self, kind: FaceKind) -> None:
        said = f"State {self.state}, Result {self.result}"
        self._face.emit(FaceEvent(self.name, kind, said=said))

    def _finish(self, ending: Ending, said: str) -> None:
        if self.order is None:
            return
        self.withdraw()
        self._face.emit(FaceEvent(self.name, FaceKind.FINAL, ending=ending, said=said[:255]))

    def _move(self, event: str) -> None:
        self._stage = next_state(STAGES, self._stage, event)


_ACTIONS: dict[Action, Callable[[Session], None]] = {
    Action.DELIVER: Session._do_deliver,
    Action.RESET: Session._do_reset,
    Action.WAIT: Session._do_wait,
    Action.INSTALL: Session._do_install,
    Action.EXECUTE: Session._do_execute,
    Action.INSTALLING: Session._do_installing,
    Action.BY_VERSION: Session._do_by_version,
    Action.FAIL: Session._do_fail,
    Action.LOST: Session._do_lost,
    Action.RETURNED: Session._do_returned,
}
