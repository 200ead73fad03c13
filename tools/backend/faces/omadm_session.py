"""The server's half of a device-management session: messages in, messages out.

Sans-IO. `received` takes a message that was decoded and tells what happened; whoever drives it
acts on that, makes it durable, and only then asks for `reply`. So a nonce is stored before the
message that brings it leaves, and EXECUTE before the Exec. The machine is
`omadm_tables.SESSION_TABLE`; what is wanted of the device is a `DeviceJob`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from protocols.omadm.auth import AuthType
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Alert,
    Command,
    Header,
    Item,
    Message,
    MgmtTree,
    Replace,
    Results,
    Status,
)
from protocols.omadm.peer_auth import Account, ClientAuth, ServerAuth, Verdict
from protocols.omadm.status import StatusCode
from tools.backend.campaigns.states import next_state
from tools.backend.faces.omadm_accounts import DmAccount
from tools.backend.faces.omadm_commands import command_of
from tools.backend.faces.omadm_envelope import (
    MAX_OBJECT,
    Envelope,
    NoRoom,
    numbered,
    refusal,
    room_of,
)
from tools.backend.faces.omadm_large import QUANTUM, Incoming, Outgoing
from tools.backend.faces.omadm_tables import SESSION_TABLE, Phase, Step
from tools.backend.faces.omadm_work import DeviceJob, Request

MAX_MESSAGES = 20_000
"""Messages of one session; a package of 64 MiB in chunks of 4 KiB takes 16,384."""

MAX_LATE = 4_000
"""Statuses that wait for a device which takes few of them at a time; a message of 64 KiB holds
some 1,000 commands."""

MAX_TYPE = 128
"""Characters of an alert's type."""

MARGIN = 24
"""Octets that the length fields and end tags of a chunk may add to its frame."""

PACKAGE_1 = frozenset({1200, 1201})
"""Alerts that begin a session."""

TAKEN_ALERTS = PACKAGE_1 | {1222, 1224}
"""Alerts that a device may send and that ask for nothing but a status."""

REQUESTS = (".devicerequest", ".userrequest")
"""Types of alerts that ask for an update: 200 when it happens in this session, else 202 [FUMO]."""

VERSIONS = ("1.2", "DM/1.2")


class Happened(enum.Enum):
    """What a message of the device brought, apart from answers to the job."""

    BEGUN = "begun"
    """The device has shown who it is."""
    RESULT = "result"
    """A generic alert: `type`, `text`, `source`, `correlator`."""


@dataclass(frozen=True, slots=True)
class Happening:
    what: Happened
    type: str = ""
    text: str = ""
    correlator: str = ""
    source: str = ""


Record = Callable[[str, str, str], None]
"""(old, new, cause): one line of the journal."""


class DmSession:
    """One session with one device that has an account."""

    def __init__(
        self,
        account: DmAccount,
        first: Header,
        job: DeviceJob,
        encoding: Encoding,
        random: Callable[[int], bytes],
        record: Record,
    ) -> None:
        self.account = account
        self.id = first.session_id
        self.job = job
        self.phase = Phase.NEW
        self._record = record
        self._envelope = Envelope(
            first.session_id, first.source, first.target, account.server_id, encoding
        )
        self._first = first
        self._received = 0
        self._max_object: int | None = None
        mirror = Account(
            account.server_id,
            user=account.server_id,
            password=account.server_password,
            server_user=account.username,
            server_password=account.password,
            auth=account.scheme,
            server_auth=account.scheme,
        )
        # The same rules on both sides: to the device we are the one who logs in, and it is the
        # one whose credentials we judge.
        self.ours = ClientAuth(mirror, account.server_nonce)
        self._theirs = ServerAuth(mirror, account.client_nonce, random)
        self._header_status: Status | None = None
        self._statuses: list[Status] = []
        self._late: list[Command] = []
        self._alerts: list[Alert] = []
        self._step: Step | None = None
        self._opened = False
        self._final = False
        self._no_response = False
        self._stuck = False
        """Our last message brought nothing but statuses, for want of room."""
        self._incoming: Incoming | None = None
        self._outgoing: Outgoing | None = None
        self._queue: list[Request] = []
        self._open: dict[tuple[int, str], Request] = {}
        self._requesting: set[str] = set()
        self.dirty = False
        """Whether the account has changed and must be stored before the reply leaves."""

    @property
    def encoding(self) -> Encoding:
        """Of every answer."""
        return self._envelope.encoding

    # -- receiving ---

    def received(self, message: Message, mac: str | None, body: bytes) -> list[Happening]:
        """Take a message of the device; `reply` is the answer to it. `mac` is its header
        x-syncml-hmac, `body` the octets that the message was decoded from."""
        header = message.header
        self._requesting.clear()
        self._statuses.clear()
        self._alerts.clear()
        self._step = None
        self._no_response = header.no_resp
        self._received = header.msg_id
        self._final = message.final
        if header.max_msg_size is not None:
            self._first = replace(self._first, max_msg_size=header.max_msg_size)
            self._envelope.room = room_of(header)
        if header.max_obj_size is not None:
            self._max_object = header.max_obj_size
        refusal = self._refusal(header)
        if refusal is not None:
            self._refuse(message, refusal)
            return []
        welcome = self._theirs.judge(header.cred, mac, body)
        code = welcome.code
        if code == StatusCode.OK and self._for_good:
            # A 200 would ask for credentials in every message.
            code = StatusCode.AUTHENTICATED
        self._header_status = self._status_of_header(code)
        if welcome.chal is not None and not welcome.hopeless:
            self._header_status = replace(self._header_status, chal=welcome.chal)
        if not welcome.trusted:
            # An authentication failure is told of every command, and nothing else is done.
            self._refuse_commands(message, welcome.code)
            self._step = Step.REFUSE if welcome.hopeless else Step.CHALLENGE
            return []
        if self._theirs.to_store is not None:
            self._keep(client_nonce=self._theirs.to_store)
        happened = [] if self._opened else [Happening(Happened.BEGUN)]
        if not self._opened:
            if not any(
                isinstance(one, Alert) and one.code in PACKAGE_1 for one in message.commands
            ):
                # Of a session that we know nothing of, perhaps since before a restart.
                self._give_up(message, StatusCode.PROCESSING_ERROR)
                return []
            self._opened = True
        for command in message.commands:
            # First of all: the statuses of commands that were refused with our header say nothing.
            if isinstance(command, Status) and command.cmd_ref == "0" and not self._decided:
                self._judged(command)
        for command in message.commands:
            if self._decided:
                break
            self._take(command, happened)
        if message.final and not self._decided:
            self.job.round_over()
        return happened

    @property
    def _for_good(self) -> bool:
        """Whether the device's credentials are taken for the whole session."""
        return self.account.scheme in (AuthType.BASIC, AuthType.MD5)

    @property
    def _decided(self) -> bool:
        """Whether it is clear already that nothing but statuses is answered."""
        return self._step is not None

    def _refusal(self, header: Header) -> StatusCode | None:
        if header.ver_dtd != VERSIONS[0]:
            return StatusCode.DTD_VERSION
        if header.ver_proto != VERSIONS[1]:
            return StatusCode.PROTOCOL_VERSION
        return None

    def _refuse(self, message: Message, code: StatusCode) -> None:
        """End the session with an error of the header."""
        self._header_status = self._status_of_header(code)
        if code is StatusCode.PROTOCOL_VERSION:
            supported = (Item(data=VERSIONS[1]),)
            self._header_status = replace(self._header_status, items=supported)
        self._refuse_commands(message, code)
        self._step = Step.REFUSE

    def _refuse_commands(self, message: Message, code: int) -> None:
        for command in message.commands:
            if not isinstance(command, Status | Results):
                self._owe(command, code)

    def _give_up(self, message: Message, code: StatusCode) -> None:
        self._header_status = self._status_of_header(StatusCode.OK)
        self._refuse_commands(message, code)
        self._abort()

    def _abort(self) -> None:
        self._alerts = [Alert("", 1223)]
        self._step = Step.GIVE_UP

    def _take(self, command: Command, happened: list[Happening]) -> None:
        if isinstance(command, Status):
            self._take_status(command)
            return
        if self._incoming is not None and not (
            isinstance(command, Results | Replace) or self._is_next(command)
        ):
            self._broken_off()
        if isinstance(command, Alert):
            self._take_alert(command, happened)
        elif isinstance(command, Results):
            self._take_results(command)
        elif isinstance(command, Replace):
            self._take_replace(command)
        else:
            # A device may only send Alert, Replace, Results and Status (section 6).
            self._owe(command, StatusCode.NOT_ALLOWED)

    @staticmethod
    def _is_next(command: Command) -> bool:
        return isinstance(command, Alert) and command.code == 1222

    def _take_alert(self, alert: Alert, happened: list[Happening]) -> None:
        code = StatusCode.OK
        if alert.code == 1223:
            self._step = Step.ABORTED
        elif alert.code == 1225:
            # It has dropped what we sent: nothing more of it is wanted.
            self._outgoing = None
        elif alert.code == 1226:
            code = self._take_results_alert(alert, happened)
        elif alert.code not in TAKEN_ALERTS:
            code = StatusCode.NOT_SUPPORTED
        self._owe(alert, code)

    def _take_results_alert(self, alert: Alert, happened: list[Happening]) -> StatusCode:
        found = []
        for item in alert.items:
            kind = item.meta.type if item.meta is not None else None
            if not kind or isinstance(item.data, MgmtTree):
                return StatusCode.INCOMPLETE
            data = item.data if item.data is not None else ""
            text = data if isinstance(data, str) else data.decode("utf-8", "replace")
            # With the prefix that the protocol's text demands, or bare, as everybody sends it.
            bare = kind.rpartition(":")[2].strip() if "urn:" not in kind else kind
            if bare.endswith(REQUESTS):
                self._requesting.add(alert.cmd_id)
            correlator, source = alert.correlator or "", item.source or ""
            found.append(Happening(Happened.RESULT, bare[:MAX_TYPE], text, correlator, source))
        if not found:
            return StatusCode.INCOMPLETE
        happened.extend(found)
        return StatusCode.OK

    def _take_results(self, results: Results) -> None:
        for item in results.items:
            uri = item.source or item.target or next(iter(results.source_refs), "")
            if not uri:
                asked = self._open.get((results.msg_ref, results.cmd_ref))
                uri = asked.uri if asked is not None else ""
            if isinstance(item.data, MgmtTree):
                continue
            text, code = self._assemble(uri, item)
            if code is not None:
                self._owe(results, code)
            if text is not None:
                self.job.result(uri, text)

    def _take_replace(self, command: Replace) -> None:
        """DevInfo is all that a device may write; it is not kept."""
        code = StatusCode.OK
        for item in command.items:
            uri = (item.source or item.target or "").removeprefix("./")
            if uri != "DevInfo" and not uri.startswith("DevInfo/"):
                code = StatusCode.NOT_ALLOWED
                continue
            if isinstance(item.data, MgmtTree):
                continue
            _, chunk = self._assemble(uri, item)
            if chunk is not None:
                code = chunk
        self._owe(command, code if command.items else StatusCode.INCOMPLETE)

    def _assemble(self, uri: str, item: Item) -> tuple[str | None, StatusCode | None]:
        """The whole of a value, when it is here, and the status of a chunk."""
        data = item.data if item.data is not None else ""
        assert not isinstance(data, MgmtTree)
        incoming = self._incoming
        if incoming is not None and incoming.uri != uri:
            self._broken_off()
            incoming = None
        if incoming is None:
            if not item.more_data:
                text = data if isinstance(data, str) else data.decode("utf-8", "replace")
                return text, None
            size = item.meta.size if item.meta is not None else None
            incoming = Incoming(uri, MAX_OBJECT, size)
            if size is not None and size > MAX_OBJECT:
                return None, StatusCode.TOO_LARGE
            self._incoming = incoming
        if not incoming.add(data):
            self._incoming = None
            return None, StatusCode.TOO_LARGE
        if item.more_data:
            return None, StatusCode.CHUNK_BUFFERED
        self._incoming = None
        if not incoming.right_size:
            return None, StatusCode.SIZE_MISMATCH
        return incoming.text(), StatusCode.OK

    def _broken_off(self) -> None:
        """A new command before the end of a large object: what came of it is dropped."""
        assert self._incoming is not None
        self._alerts.append(Alert("", 1225, (Item(source=self._incoming.uri),)))
        self._incoming = None

    def _take_status(self, status: Status) -> None:
        request = self._open.pop((status.msg_ref, status.cmd_ref), None)
        if request is None or status.cmd_ref == "0":
            return
        if request.body is not None and 200 <= status.code < 300:
            outgoing = self._outgoing
            if outgoing is not None and outgoing.left:
                return  # a chunk: 213, or a 200 of those who make no difference
            if status.code == StatusCode.CHUNK_BUFFERED:
                # The last chunk as well, and so there is more to come from the device.
                self._open[status.msg_ref, status.cmd_ref] = request
                return
        elif request.body is not None:
            self._outgoing = None
        self.job.status(request, status.code)

    def _judged(self, status: Status) -> None:
        """What the device says of our header, and so of our credentials."""
        verdict = self.ours.answered(status.code, status.chal)
        if self.ours.to_store is not None:
            self._keep(server_nonce=self.ours.to_store)
        if verdict is Verdict.REFUSED:
            self._abort()
        elif verdict is Verdict.AGAIN:
            # Our last message was not obeyed: the same commands again, with what is asked for.
            self._queue[:0] = self._open.values()
            self._outgoing = None
            self._open.clear()

    def _keep(
        self, *, client_nonce: bytes | None = None, server_nonce: bytes | None = None
    ) -> None:
        account = self.account
        if client_nonce is not None and client_nonce != account.client_nonce:
            account.client_nonce = client_nonce
            self.dirty = True
        if server_nonce is not None and server_nonce != account.server_nonce:
            account.server_nonce = server_nonce
            self.dirty = True

    # -- replying ---

    def reply(self) -> Message | None:
        """The answer to what was received last; None, and the session is over, when the device
        takes no message at all that says anything."""
        envelope = self._envelope
        envelope.sent += 1
        envelope.cred = self.ours.cred()
        if self._step is None and envelope.sent > MAX_MESSAGES:
            self._abort()
        try:
            if self._step is not None:
                return self._last_word(self._step)
            if not self._final and self.phase is not Phase.SENDING:
                # The device's package is not complete: ask for the rest. (While ours is not, the
                # device must not say Final; then it asks for the rest of ours.)
                self._alerts.append(Alert("", 1222))
                answers = self._answers()
                self._move(Step.PART)
                return envelope.message(answers, final=False)
            return self._work()
        except NoRoom:
            self.job.too_small(envelope.room)
            self._move(Step.REFUSE)
            first = replace(self._first, msg_id=self._received)
            return refusal(first, envelope.sent, StatusCode.TOO_LARGE, envelope.encoding)

    def _last_word(self, step: Step) -> Message:
        """The device sends the package again, or nothing more: it can do without what does not
        fit. Raises NoRoom."""
        owed = self._owed()
        for commands in (owed, [*owed[:1], *self._alerts], owed[:1]):
            if self._envelope.fits(numbered(commands)):
                self._late = []
                self._move(step)
                return self._envelope.message(numbered(commands), final=True)
        raise NoRoom

    def _work(self) -> Message:
        """As many of our commands as fit. Raises NoRoom."""
        self._queue += self.job.requests()
        commands = self._answers()
        if self._late:
            self._move(Step.WORK_PARTLY)
            return self._envelope.message(commands, final=False)
        answers = len(commands)
        while self._outgoing is not None or self._queue:
            if self._outgoing is None and self._queue[0].body is not None:
                self._open_large(self._queue.pop(0))
            elif self._outgoing is not None:
                if not self._chunk(self._outgoing, commands) or self._outgoing.left:
                    break
                self._outgoing = None
            elif not self._put(self._queue[0], commands):
                break
            else:
                self._queue.pop(0)
        sent = len(commands) - answers
        if self._outgoing is None and (sent or not self._queue):
            # Final whenever it can be said: what is left of the queue is a package of its own.
            self._stuck = False
            self._move(Step.WORK if sent else Step.END)
            return self._envelope.message(commands, final=True)
        if not sent and (answers <= 1 or self._stuck):
            # Not even one command fits, and the next message would have no more room.
            self.job.too_small(self._envelope.room)
            self._abort()
            return self._last_word(Step.GIVE_UP)
        self._stuck = not sent
        self._move(Step.WORK_PARTLY)
        return self._envelope.message(commands, final=False)

    def _put(self, request: Request, commands: list[Command]) -> bool:
        """Add a command, if there is room for it."""
        command = command_of(request, str(len(commands) + 1))
        if not self._envelope.fits([*commands, command]):
            return False
        self._open[self._envelope.sent, command.cmd_id] = request
        commands.append(command)
        return True

    def _open_large(self, request: Request) -> None:
        assert request.body is not None
        outgoing = Outgoing(request, request.body, self.encoding)
        if self._max_object is not None and outgoing.size > self._max_object:
            self.job.too_large(self._max_object)
        else:
            self._outgoing = outgoing

    def _chunk(self, outgoing: Outgoing, commands: list[Command]) -> bool:
        """Add the next chunk, if there is room for one."""
        number = str(len(commands) + 1)
        frame = Replace(number, (outgoing.frame(),))
        room = self._envelope.room - self._envelope.size([*commands, frame]) - MARGIN
        if room < (QUANTUM if outgoing.left else 0):
            return False
        self._open[self._envelope.sent, number] = outgoing.request
        commands.append(Replace(number, (outgoing.chunk(room),)))
        return True

    def _answers(self) -> list[Command]:
        """What is owed to the device, as far as it fits; the rest is left for the next message
        (`_late`). Raises NoRoom when that would never come to an end."""
        owed, late = self._owed(), len(self._late)
        count = self._envelope.fitting(numbered(owed))
        if count < min(len(owed), 1 if self._no_response else 2):
            raise NoRoom
        self._late = owed[count:]
        if self.phase is Phase.SENDING and 0 < late <= len(self._late):
            raise NoRoom  # each Alert by which it asks for more adds a status to what it waits for
        if len(self._late) > MAX_LATE:
            raise NoRoom
        if self._late and self._late[-1] == Alert("", 1222):
            self._late.pop()  # a message that goes on asks for the next one by itself
        return numbered(owed[:count])

    def _owed(self) -> list[Command]:
        """The status of the header, what was late, the statuses of the commands, and alerts."""
        assert self._header_status is not None
        if self._no_response:
            return [*self._late, *self._alerts]
        owed: list[Command] = [self._header_status, *self._late]
        for status in self._statuses:
            if status.cmd_ref in self._requesting and self.job.order is None:
                status = replace(status, code=StatusCode.ACCEPTED)
            owed.append(status)
        return [*owed, *self._alerts]

    def _status_of_header(self, code: int) -> Status:
        refs = (self._envelope.server,), (self._envelope.device,)
        return Status("", self._received, "0", "SyncHdr", code, *refs)

    def _owe(self, command: Command, code: int) -> None:
        """A status of a command; none for one that wants none, nor for Results that are right."""
        if isinstance(command, Status) or getattr(command, "no_resp", False):
            return
        self._statuses.append(Status("", self._received, command.cmd_id, command.name, code))

    def silent(self) -> None:
        """The device has not been heard of for too long."""
        if self.phase is not Phase.OVER:
            self._move(Step.SILENT)

    def _move(self, step: Step) -> None:
        old = self.phase
        self.phase = next_state(SESSION_TABLE, old, step)
        self._record(old.value, self.phase.value, step.value)
