"""One device-management session of a device, without I/O.

`start` gives package 1, `received` takes each message of the server and gives the next one to post,
or None when the session is over; the states are in `session_tables`. Where it goes (`post_to`), its
transport header (`mac`) and how long a user takes to answer (`take_wait`) are asked beside it.

What a server's message means is decided in this order: is it of this session and the next one;
what do its statuses say of our credentials; does its sender show who it is; then its commands, one
after the other. A message that breaks a MUST ends the session: over HTTP there is nobody to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.errors import LocalMisuse
from protocols.omadm.commands import Commands
from protocols.omadm.large import LargeObject
from protocols.omadm.model import (
    Alert,
    Command,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Status,
)
from protocols.omadm.outbox import Draft, Drafts, NoRoom, Outbox, Room, Together
from protocols.omadm.peer_auth import ClientAuth, ServerAuth, Verdict, Welcome
from protocols.omadm.personas.profile import Profile
from protocols.omadm.session_tables import ENDED, TRANSITIONS, Phase, Step
from protocols.omadm.status import StatusCode
from protocols.omadm.tree import Tree

__all__ = ["DevInfo", "DmSession", "SessionSetup"]

SERVER_INITIATED = 1200
CLIENT_INITIATED = 1201
NEXT_MESSAGE = 1222
ABORT = 1223
NO_END_OF_DATA = 1225
GENERIC = 1226

MAX_MESSAGES = 1 << 17
"""Of one side: a package of 64 MiB in chunks of 512 octets."""
MAX_IDLE = 16
"""Messages in a row by which a server only asks for the next: it has lost its way."""
MAX_ANSWERS = 20_000
"""Statuses and results that wait for a server that does not take them."""

VER_PROTO = "DM/1.2"
VER_DTD = "1.2"


@dataclass(frozen=True, slots=True)
class DevInfo:
    """What package 1 tells of the device: nodes of ./DevInfo and their values, in order."""

    values: tuple[tuple[str, str], ...]

    def command(self) -> Replace:
        meta = Meta(format="chr", type="text/plain")
        return Replace(
            "",
            tuple(
                Item(source=f"./DevInfo/{name}", meta=meta, data=value)
                for name, value in self.values
            ),
        )


@dataclass(frozen=True, slots=True)
class SessionSetup:
    """What a session begins with."""

    session_id: str
    device_id: str
    server_uri: str
    user: str
    """Source/LocName: whom the device authenticates as; empty: nobody."""
    devinfo: DevInfo
    by_server: bool = False
    """A package 0 asked for it: Alert 1200 instead of 1201."""
    alerts: tuple[Alert, ...] = ()
    """Generic alerts of package 1."""


class DmSession:
    """The machine. Every call into it may raise PowerLoss, as the tree and the engine do."""

    __slots__ = (
        "_alerts",
        "_commands",
        "_client",
        "_idle",
        "_msg_id",
        "_outbox",
        "_profile",
        "_server",
        "_server_msg_id",
        "_setup",
        "alert_status",
        "detail",
        "header_status",
        "on_step",
        "phase",
        "post_to",
    )

    def __init__(
        self,
        setup: SessionSetup,
        profile: Profile,
        tree: Tree,
        client: ClientAuth,
        server: ServerAuth,
        size_of: Callable[[Message], int],
        on_step: Callable[[Phase, Phase, str], None] | None = None,
        carried: Callable[[Item], Item] = lambda item: item,
    ) -> None:
        """`size_of`: octets of a message as it travels; `on_step` is told of each change;
        `carried`: an item as it travels, where that is not what it says."""
        self._setup = setup
        self._profile = profile
        self._client = client
        self._server = server
        self._commands = Commands(tree, profile, LargeObject(tree, profile.max_obj_size))
        self._outbox = Outbox(size_of, carried)
        self._msg_id = 0
        self._server_msg_id = 0
        self._idle = 0
        self._alerts: dict[tuple[int, str], int] = {}
        """Where our generic alerts went: (MsgID, CmdID) to their place in the setup."""
        self.alert_status: list[int | None] = [None] * len(setup.alerts)
        """What the server answered to each of them; None: nothing yet."""
        self.header_status = 0
        """The last Status of our header."""
        self.phase = Phase.NEW
        self.detail = ""
        """Why it ended, where the phase does not say."""
        self.post_to = setup.server_uri
        self.on_step = on_step

    # -- what the client does -------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.phase in ENDED

    @property
    def accepted(self) -> bool:
        """The server has taken the device in and has shown who it is; one that wants nothing need
        not, as nobody may challenge it."""
        shown = self._server.trusted or (self.phase is Phase.DONE and not self._server.wrong)
        return self._client.accepted and shown

    def start(self) -> Message:
        """Package 1."""
        self._move(Step.BEGIN)
        self._outbox.add(self._package_1())
        return self._pack([], final=True)

    def received(
        self, message: Message, body: bytes = b"", mac: str | None = None
    ) -> Message | None:
        """The server's answer to the message before; `body` is how it travelled and `mac` its
        header `x-syncml-hmac`. Returns the next message, None when there is nothing more to say; a
        message of a session that is `over` is an abort, and its answer does not matter."""
        if self.phase is Phase.NEW or self.over:
            raise LocalMisuse(f"a session that is {self.phase.value} receives nothing")
        problem = self._heard(message.header)
        if problem:
            self._end(Step.VIOLATION, problem)
            return None
        verdict = self._read_statuses(message)
        if verdict is Verdict.REFUSED:
            self._end(Step.REFUSED, self.detail)
            return None
        wanting = [one for one in message.commands if not isinstance(one, Status | Results)]
        if any(isinstance(one, Alert) and one.code == ABORT for one in wanting):
            self._end(Step.ABORT)
            return None
        self._idle = 0 if self._outbox or _work(wanting) else self._idle + 1
        if self._idle > MAX_IDLE or self._msg_id >= MAX_MESSAGES:
            return self.abort("the session makes no progress")
        welcome = Welcome(StatusCode.OK)
        if not wanting:
            self._server.glance(message.header.cred, mac, body)
        else:
            welcome = self._server.judge(message.header.cred, mac, body)
            if welcome.hopeless:
                self._end(Step.REFUSED, "the server's credentials stay wrong")
                return None
        try:
            if verdict is Verdict.AGAIN:
                return self._again(message.header, wanting, welcome)
            return self._answer(message, wanting, welcome)
        except NoRoom as error:
            return self.abort(str(error))

    def lost(self, detail: str) -> None:
        """The server does not answer any more, or not with a message."""
        self._end(Step.LOST, detail)

    def abort(self, detail: str = "") -> Message | None:
        """Alert 1223: the device wants no more. The message is the session's last, and nobody need
        answer it; None where it is larger than what the server takes."""
        self._outbox.clear()
        self._commands.large.break_off()
        self._outbox.add([Alert("", ABORT)])
        try:
            message = self._pack([], final=True)
        except NoRoom:
            message = None
        self._end(Step.GIVE_UP, detail)
        return message

    def mac(self, body: bytes) -> str | None:
        """The header `x-syncml-hmac` of a message that travels as `body`, if it needs one."""
        return self._client.mac(body)

    def take_wait(self) -> float:
        """Seconds that a user took over the last message."""
        seconds, self._commands.waits = self._commands.waits, 0.0
        return seconds

    # -- reading --------------------------------------------------------------------------------

    def _heard(self, header: Header) -> str:
        """What is wrong with a header, or nothing; takes over what it announces."""
        if header.session_id != self._setup.session_id:
            return f"SessionID {header.session_id[:16]!r} is another session's"
        if header.msg_id <= self._server_msg_id:
            return f"MsgID {header.msg_id} behind {self._server_msg_id}"
        self._server_msg_id = header.msg_id
        self._commands.msg_ref = header.msg_id
        if header.resp_uri:
            self.post_to = header.resp_uri
        if header.max_msg_size is not None:
            self._outbox.limit = header.max_msg_size
        if header.max_obj_size:
            self._commands.largest = header.max_obj_size
        return ""

    def _read_statuses(self, message: Message) -> Verdict:
        """What they say of our header, and of our alerts."""
        verdict = Verdict.ACCEPTED
        for status in message.commands:
            if not isinstance(status, Status):
                continue
            if status.cmd_ref == "0" and status.msg_ref == self._msg_id:
                self.header_status = status.code
                verdict = self._client.answered(status.code, status.chal)
                if verdict is Verdict.REFUSED:
                    self.detail = f"SyncHdr {status.code}"
                if verdict is Verdict.AGAIN and self.phase is not Phase.SETUP:
                    # The package before is not sent again: what it told was carried out.
                    self.detail = f"SyncHdr {status.code} in mid-session"
                    verdict = Verdict.REFUSED
            elif status.cmd == "Results" and status.code >= StatusCode.BAD_REQUEST:
                self._outbox.drop_object()  # nobody wants the rest
            elif (alert := self._alerts.get((status.msg_ref, status.cmd_ref))) is not None:
                self.alert_status[alert] = status.code
        if verdict is Verdict.AGAIN:
            self.alert_status = [None] * len(self.alert_status)
        return verdict

    # -- answering ------------------------------------------------------------------------------

    def _again(self, header: Header, wanting: Sequence[Command], welcome: Welcome) -> Message:
        """Package 1 once more, with the credentials that were asked for."""
        self._outbox.clear()
        self._alerts.clear()
        # A server that refuses us has nothing to order.
        self._outbox.add(self._commands.refuse(wanting, StatusCode.INVALID_CREDENTIALS))
        self._outbox.add(self._package_1())
        self._move(Step.CHALLENGED)
        return self._pack([self._header_status(header, welcome)], final=True)

    def _answer(
        self, message: Message, wanting: Sequence[Command], welcome: Welcome
    ) -> Message | None:
        header = message.header
        status = welcome.code
        if header.ver_proto.upper() not in (VER_PROTO, "DM/1.1", "DM/1.3"):
            status = StatusCode.PROTOCOL_VERSION
        elif header.ver_dtd != VER_DTD:
            status = StatusCode.DTD_VERSION
        head = self._header_status(header, replace(welcome, code=status))
        answers: list[Drafts] = []
        if not welcome.trusted or status >= 500:
            answers += self._commands.refuse(
                wanting, StatusCode.INVALID_CREDENTIALS if status < 500 else status
            )
        else:
            self._commands.room = self._room(head)
            answers += self._carry_out(wanting, message.final)
        sending = self.phase is Phase.SENDING or (self.phase is Phase.SETUP and bool(self._outbox))
        whole = message.final or (sending and not _work(wanting))
        if whole and not wanting and not self._outbox and welcome.trusted:
            self._end(Step.END)
            return None
        if header.no_resp:
            answers = [one for one in answers if not isinstance(one, Status | Together)]
        if not whole:
            # May be left out where statuses flow anyway; said always, it can be counted on.
            answers.append(Alert("", NEXT_MESSAGE))
        if self._outbox.waiting + len(answers) > MAX_ANSWERS:
            return self.abort("the server takes no answers")
        first: list[Draft] = [] if header.no_resp else [head]
        if sending and not _work(wanting):
            # Before what waits: with a small MaxMsgSize they would pile up behind it.
            first += [one for one in answers if not isinstance(one, Together)]
        else:
            self._outbox.add(answers)
        reply = self._pack(first, final=whole or self._profile.quirks.wrong_final)
        if not whole:
            self._move(Step.PART)
        else:
            self._move(Step.WORK_PARTLY if self._outbox else Step.WORK)
        return reply

    def _room(self, head: Status) -> Room | None:
        """What the server takes, in a message that answers it and goes on with what waits."""
        if self._outbox.limit is None:
            return None
        next_message = Status("", head.msg_ref, head.cmd_id, "Alert", int(StatusCode.OK))
        return Room(self._outbox, self._header(), (head, next_message))

    def _carry_out(self, wanting: Sequence[Command], final: bool) -> list[Drafts]:
        answers: list[Drafts] = []
        for command in wanting:
            if isinstance(command, Alert) and command.code in (NEXT_MESSAGE, NO_END_OF_DATA):
                if command.code == NO_END_OF_DATA:
                    self._outbox.drop_object()
                answers += self._ok(command)
                continue
            answers += self._commands.run(command)
        if final:
            self._commands.interrupt()
        uris = self._commands.take_broken_off()
        return answers + [Alert("", NO_END_OF_DATA, (Item(target=uri),)) for uri in uris]

    def _ok(self, alert: Alert) -> list[Draft]:
        if alert.no_resp:
            return []
        ref = self._commands.msg_ref
        return [Status("", ref, alert.cmd_id, alert.name, int(StatusCode.OK))]

    # -- writing --------------------------------------------------------------------------------

    def _package_1(self) -> list[Draft]:
        setup = self._setup
        code = SERVER_INITIATED if setup.by_server else CLIENT_INITIATED
        return [Alert("", code), setup.devinfo.command(), *setup.alerts]

    def _header_status(self, header: Header, welcome: Welcome) -> Status:
        items: tuple[Item, ...] = ()
        if welcome.code == StatusCode.PROTOCOL_VERSION:
            items = (Item(data=VER_PROTO),)  # the versions that would do
        elif welcome.code == StatusCode.DTD_VERSION:
            items = (Item(data=VER_DTD),)
        return Status(
            "",
            header.msg_id,
            "0",
            "SyncHdr",
            int(welcome.code),
            target_refs=(header.target,),
            source_refs=(header.source,),
            chal=welcome.chal,
            items=items,
        )

    def _header(self) -> Header:
        """Of the next message."""
        setup, profile = self._setup, self._profile
        return Header(
            setup.session_id,
            self._msg_id + 1,
            self.post_to,
            setup.device_id,
            source_name=setup.user or None,
            cred=self._client.cred(),
            max_msg_size=profile.max_msg_size,
            max_obj_size=profile.max_obj_size,
        )

    def _pack(self, first: list[Draft], *, final: bool) -> Message:
        """Raises NoRoom, and nothing has happened then."""
        message = self._outbox.pack(self._header(), first, final=final)
        self._msg_id = message.header.msg_id
        if self._setup.alerts:
            for command in message.commands:
                # Only package 1 has generic alerts, and they keep their order.
                if isinstance(command, Alert) and command.code == GENERIC:
                    self._alerts[self._msg_id, command.cmd_id] = len(self._alerts)
        return message

    # -- internals ------------------------------------------------------------------------------

    def _end(self, step: Step, detail: str = "") -> None:
        self._commands.large.break_off()
        self._outbox.clear()
        self.detail = detail
        self._move(step)

    def _move(self, step: Step) -> None:
        """The only way to another phase."""
        old = self.phase
        new = TRANSITIONS[old].get(step)
        if new is None:
            raise LocalMisuse(f"session: {step.value!r} while {old.value}")
        self.phase = new
        if self.on_step is not None and (old is not new or step is Step.CHALLENGED):
            cause = f"{step.value}: {self.detail}" if self.detail else step.value
            self.on_step(old, new, cause)


def _work(commands: Sequence[Command]) -> bool:
    """Something to be done, beyond sending the next message."""
    return any(not (isinstance(one, Alert) and one.code == NEXT_MESSAGE) for one in commands)
