"""A strict DM server in memory: it says what its script says and notes each MUST that is broken.

Written from the protocol's text and not from the client: it parses with the codecs and computes
credentials with hashlib itself. A script is a list of packages; each session sends the packages
that are left, one after the other, and ends when there are none.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.runtime.runtime import Runtime
from protocols.omadm import encoding as syncml
from protocols.omadm.encoding import Encoding
from protocols.omadm.model import (
    Add,
    Alert,
    Atomic,
    Chal,
    Command,
    Cred,
    Header,
    Item,
    Message,
    Meta,
    Replace,
    Results,
    Sequence,
    Status,
)

MD5 = "syncml:auth-md5"
BASIC = "syncml:auth-basic"
MAC = "syncml:auth-MAC"


def h(data: bytes) -> bytes:
    return hashlib.md5(data).digest()


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def md5_digest(user: str, password: str, nonce: bytes) -> str:
    return b64(h(b64(h(f"{user}:{password}".encode())) + b":" + nonce)).decode()


def mac_digest(user: str, password: str, nonce: bytes, body: bytes) -> str:
    inner = b64(h(f"{user}:{password}".encode()))
    return b64(h(inner + b":" + nonce + b":" + b64(h(body)))).decode()


@dataclass
class Parts:
    """A package in several messages: all but the last without Final."""

    messages: list[list[Command]]


@dataclass
class Large:
    """A large object in chunks."""

    uri: str
    data: str | bytes
    chunk: int
    format: str = "bin"
    add: bool = False
    size: int | None = None
    """Told instead of the right one."""
    meta_type: str | None = None
    broken_after: int | None = None
    """So many chunks are sent, then another command."""


Package = list[Command] | Parts | Large


@dataclass
class Session:
    """What the server saw of one session."""

    id: str
    device: str
    codes: list[int] = field(default_factory=list)
    """Of the alerts of package 1."""
    generic: list[Alert] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    results: list[Results] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    alerts: list[int] = field(default_factory=list)
    """Codes of alerts after package 1."""
    devinfo: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    over: bool = False
    # What the server remembers between messages.
    last_id: int = 0
    trusted: bool = False
    known: bool = False
    """The device accepts our credentials for the session."""
    expected: list[tuple[str, str]] = field(default_factory=list)
    """(CmdID, name) of what was sent last and wants a Status, in order."""
    queue: list[list[Command]] = field(default_factory=list)
    open: bool = False
    """Our package goes on."""
    sending: bool = False
    """The device's package goes on."""
    nonce: bytes = b""
    challenges: int = 0

    def code(self, name: str, ref: str | None = None) -> list[int]:
        """Of the statuses of a command, in order."""
        return [
            status.code
            for status in self.statuses
            if status.cmd == name and (ref is None or ref in status.target_refs)
        ]


class DmServer:
    """One server. `users` maps device ids to (user, password)."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        server_id: str = "fotilla",
        uri: str = "http://dm.test/dm",
        auth: str | None = MD5,
        server_auth: str | None = None,
        server_password: str = "server secret",
        max_msg_size: int | None = None,
        max_obj_size: int | None = None,
        resp_uri: str | None = None,
    ) -> None:
        self.runtime = runtime
        self.server_id = server_id
        self.uri = uri
        self.auth = auth
        self.server_auth = server_auth
        self.server_password = server_password
        self.max_msg_size = max_msg_size
        self.max_obj_size = max_obj_size
        self.resp_uri = resp_uri
        self.users: dict[str, tuple[str, str]] = {}
        self.packages: list[Package] = []
        self.sessions: list[Session] = []
        self.violations: list[str] = []
        self.nonces: dict[str, bytes] = {}
        """Of each device's next credentials."""
        self.server_nonces: dict[str, bytes] = {}
        """That devices gave us."""
        self.new_nonce: Callable[[], bytes] = self._nonce
        self.alert_code = 200
        self.intervene: Callable[[Session, Message], tuple[int, dict[str, str], bytes] | None] = (
            lambda session, message: None
        )
        """May answer in the server's place: (status, headers, body)."""
        self.change: Callable[[Session, Message], Message] = lambda session, message: message
        """The last word on what is sent."""
        self.on_request: Callable[[int], None] = lambda count: None
        self.requests = 0
        self.bodies: list[tuple[str, bytes]] = []
        self._nonces_made = 0

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    def _nonce(self) -> bytes:
        self._nonces_made += 1
        return hashlib.sha256(f"nonce {self._nonces_made}".encode()).digest()[:16]

    def _wrong(self, text: str) -> None:
        self.violations.append(text)

    # -- HTTP -----------------------------------------------------------------------------------

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        self.requests += 1
        self.on_request(self.requests)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        status, fields, answer = self._answer(scope["method"], headers, body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-length", str(len(answer)).encode()),
                    *((name.encode(), value.encode()) for name, value in fields.items()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    def _answer(
        self, method: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if method != "POST":
            self._wrong(f"method {method}")
        encoding = syncml.of(headers.get("content-type", ""))
        self.bodies.append((headers.get("content-type", ""), body))
        message = syncml.decode(body, encoding)
        header = message.header
        session = self._session(header, message)
        other = self.intervene(session, message)
        if other is not None:
            session.last_id = min(session.last_id, header.msg_id - 1)
            return other
        reply = self._reply(session, message, headers, body, encoding)
        sent = syncml.encode(self.change(session, reply), encoding)
        fields = {"content-type": encoding.content_type}
        if self.server_auth == MAC:
            nonce = self.server_nonces.get(header.source, b"")
            digest = mac_digest(self.server_id, self.server_password, nonce, sent)
            fields["x-syncml-hmac"] = f'algorithm=MD5, username="{self.server_id}", mac={digest}'
        return 200, fields, sent

    def _session(self, header: Header, message: Message) -> Session:
        if header.msg_id == 1 and not (
            self.sessions
            and self.sessions[-1].id == header.session_id
            and self.sessions[-1].last_id < 1
        ):
            self.sessions.append(Session(header.session_id, header.source))
        session = self.sessions[-1]
        if session.id != header.session_id:
            self._wrong(f"session {header.session_id} while {session.id} runs")
        return session

    # -- one message ----------------------------------------------------------------------------

    def _reply(
        self,
        session: Session,
        message: Message,
        headers: dict[str, str],
        body: bytes,
        encoding: Encoding,
    ) -> Message:
        header = message.header
        session.messages.append(message)
        self._check_header(session, message, encoding, len(body))
        self._check_statuses(session, message)
        code, chal = self._judge(session, header, headers, body)
        answers: list[Command] = [
            Status(
                "",
                header.msg_id,
                "0",
                "SyncHdr",
                code,
                target_refs=(header.target,),
                source_refs=(header.source,),
                chal=chal,
            )
        ]
        refused = code in (401, 407)
        first = header.msg_id == 1 or any(
            isinstance(one, Alert) and one.code in (1200, 1201) for one in message.commands
        )
        for command in message.commands:
            if isinstance(command, Status):
                if not refused:
                    self._heard_status(session, command)
                continue
            if isinstance(command, Results):
                if not refused:
                    session.results.append(command)
                continue
            said = code if refused else self._heard(session, command, first)
            answers.append(Status("", header.msg_id, command.cmd_id, command.name, said))
        final = True
        if refused:
            pass
        elif any(isinstance(one, Alert) and one.code == 1223 for one in message.commands):
            session.over = True
        elif not message.final and not session.open:
            answers.append(Alert("", 1222))
            session.sending = True
            final = False
        else:
            session.sending = False
            more, final = self._next(session)
            answers += more
        return self._written(session, header, answers, final)

    def _written(
        self, session: Session, header: Header, answers: list[Command], final: bool
    ) -> Message:
        counter = 0

        def number(command: Command) -> Command:
            nonlocal counter
            counter += 1
            numbered = replace(command, cmd_id=str(counter))
            if isinstance(numbered, Sequence | Atomic):
                numbered = replace(
                    numbered, commands=tuple(number(one) for one in numbered.commands)
                )
            return numbered

        commands = tuple(number(one) for one in answers)
        session.expected = [("0", "SyncHdr"), *_wanting(commands)]
        session.sent += 1
        return Message(
            Header(
                session.id,
                session.sent,
                header.source,
                self.uri,
                resp_uri=self.resp_uri,
                cred=self._cred(session, header.source),
                max_msg_size=self.max_msg_size,
                max_obj_size=self.max_obj_size,
            ),
            commands,
            final,
        )

    def _next(self, session: Session) -> tuple[list[Command], bool]:
        """The next message of the script, and whether it ends a package."""
        if not session.queue:
            if not self.packages:
                session.over = True
                return [], True
            session.queue = list(_messages(self.packages.pop(0)))
        commands = session.queue.pop(0)
        session.open = bool(session.queue)
        return commands, not session.open

    # -- credentials ----------------------------------------------------------------------------

    def _judge(
        self, session: Session, header: Header, headers: dict[str, str], body: bytes
    ) -> tuple[int, Chal | None]:
        if self.auth is None:
            return 200, None
        if session.trusted and self.auth != MAC:
            if header.cred is not None:
                self._wrong("credentials after 212")
            return 200, None
        user, password = self.users.get(header.source, ("", ""))
        nonce = session.nonce or self.nonces.get(header.source, b"")
        cred = header.cred
        given = cred is not None
        right = False
        if self.auth == MAC:
            field_value = headers.get("x-syncml-hmac")
            given = field_value is not None
            if field_value is not None:
                digest = mac_digest(user, password, nonce, body)
                right = f'username="{user}"' in field_value and f"mac={digest}" in field_value
        elif cred is not None and cred.type == self.auth:
            if self.auth == MD5:
                right = cred.format == "b64" and cred.data == md5_digest(user, password, nonce)
            else:
                right = cred.data == b64(f"{user}:{password}".encode()).decode()
        fresh = self.new_nonce()
        chal = Chal(self.auth, "b64", None if self.auth == BASIC else b64(fresh).decode())
        if right and user:
            session.trusted = True
            session.nonce = fresh if self.auth == MAC else b""
            self.nonces[header.source] = fresh
            if self.auth == MAC:
                return 200, chal
            return 212, chal if self.auth == MD5 else None
        session.nonce = fresh
        session.challenges += 1
        return (401 if given else 407), chal

    def _cred(self, session: Session, device: str) -> Cred | None:
        if self.server_auth in (None, MAC) or session.known:
            return None
        if self.server_auth == BASIC:
            pair = f"{self.server_id}:{self.server_password}".encode()
            return Cred(BASIC, "b64", b64(pair).decode())
        nonce = self.server_nonces.get(device, b"")
        digest = md5_digest(self.server_id, self.server_password, nonce)
        return Cred(MD5, "b64", digest)

    # -- what the device says -------------------------------------------------------------------

    def _heard(self, session: Session, command: Command, first: bool) -> int:
        if isinstance(command, Alert):
            if command.code == 1226:
                session.generic.append(command)
                return self.alert_code
            (session.codes if first and command.code in (1200, 1201) else session.alerts).append(
                command.code
            )
            return 200
        if isinstance(command, Replace):
            for item in command.items:
                if not (item.source or "").startswith("./DevInfo/"):
                    self._wrong(f"Replace of {item.source}")
                session.devinfo[(item.source or "").rsplit("/", 1)[-1]] = str(item.data)
            return 200
        self._wrong(f"a client sends {command.name}")
        return 405

    def _heard_status(self, session: Session, status: Status) -> None:
        session.statuses.append(status)
        if status.cmd == "SyncHdr":
            if status.chal is not None and status.chal.next_nonce is not None:
                self.server_nonces[session.device] = base64.b64decode(status.chal.next_nonce)
            if status.code == 212:
                session.known = True

    # -- what the device must keep --------------------------------------------------------------

    def _check_header(
        self, session: Session, message: Message, encoding: Encoding, size: int
    ) -> None:
        header = message.header
        if header.msg_id != session.last_id + 1:
            self._wrong(f"MsgID {header.msg_id} after {session.last_id}")
        session.last_id = header.msg_id
        if (header.ver_dtd, header.ver_proto) != ("1.2", "DM/1.2"):
            self._wrong(f"versions {header.ver_dtd} {header.ver_proto}")
        if header.target not in (self.uri, self.resp_uri):
            self._wrong(f"target {header.target}")
        if self.max_msg_size and size > self.max_msg_size and header.msg_id > 1:
            self._wrong(f"{size} octets, {self.max_msg_size} are taken")
        if self.auth is not None and not header.source_name:
            self._wrong("no LocName")
        ids = [one.cmd_id for one in message.commands]
        if len(set(ids)) != len(ids) or "0" in ids:
            self._wrong(f"CmdIDs {ids}")
        if session.open and message.final:
            self._wrong("Final before the server's")
        if header.msg_id == 1:
            kinds = [(one.name, getattr(one, "code", 0)) for one in message.commands[:2]]
            if kinds[0] not in (("Alert", 1200), ("Alert", 1201)) or kinds[1][0] != "Replace":
                self._wrong(f"package 1 begins with {kinds}")
            if not message.final:
                self._wrong("package 1 without Final")

    def _check_statuses(self, session: Session, message: Message) -> None:
        """Statuses in the order of the commands, one for each and none for others."""
        if not session.expected or session.sending:
            if session.sending and session.expected:
                session.expected = []
            return
        got: list[tuple[str, str]] = []
        for command in message.commands:
            if isinstance(command, Status):
                if command.msg_ref != session.sent:
                    continue
                pair = (command.cmd_ref, command.cmd)
                if not got or got[-1] != pair:
                    got.append(pair)
        wanted = session.expected
        if message.final or not session.messages:
            if got != wanted:
                self._wrong(f"statuses {got} for {wanted}")
        elif got != wanted[: len(got)]:
            self._wrong(f"statuses {got} out of order for {wanted}")
        session.expected = []


def _wanting(commands: tuple[Command, ...]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for command in commands:
        if isinstance(command, Status | Results) or command.no_resp:
            continue
        found.append((command.cmd_id, command.name))
        if isinstance(command, Sequence | Atomic):
            found += _wanting(command.commands)
    return found


def _messages(package: Package) -> list[list[Command]]:
    if isinstance(package, Parts):
        return package.messages
    if isinstance(package, Large):
        return chunks(package)
    return [package]


def chunks(large: Large) -> list[list[Command]]:
    kind = Add if large.add else Replace
    data = large.data
    pieces = [data[at : at + large.chunk] for at in range(0, len(data), large.chunk)]
    messages: list[list[Command]] = []
    for at, piece in enumerate(pieces):
        size = (large.size if large.size is not None else len(data)) if at == 0 else None
        meta = Meta(format=large.format, type=large.meta_type, size=size)
        item = Item(target=large.uri, meta=meta, data=piece, more_data=at < len(pieces) - 1)
        messages.append([kind("", (item,))])
        if large.broken_after is not None and at + 1 == large.broken_after:
            break
    return messages
