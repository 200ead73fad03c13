"""The OMA-DM server: sessions with devices, firmware campaigns by FUMO, notifications, downloads.

A device begins every session; the server can only ask it to, by a notification (`Notifier`). An
order therefore waits for the device's next session. There it is worked off by an `UpdateJob`: in
delivery `pull` the device is given a URL and told to download and update; in `push` the package is
written into its tree and then it is told to update. The result comes as a generic alert, usually
in a session of its own.

The engine's words for it: a device that is ready to be told is `downloaded`, because from then on
only the durable EXECUTE is missing; with delivery `pull` the download itself is part of what it is
told to do, so an attempt that was told is not begun again by this campaign.

Decisions come from memory. A message that changes something is answered after the commit that made
it durable; the engine's rows and ours are queued in one turn of the loop and share a transaction.
An idle device has one account in memory, and no Task and no timer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from agent.credentials import Credential
from agent.runtime.journal import Ring
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer
from protocols.omadm import encoding as encodings
from protocols.omadm.auth import AuthType
from protocols.omadm.encoding import Encoding
from protocols.omadm.errors import CodecLimits, SyncmlError
from protocols.omadm.model import Header, Message, Status
from protocols.omadm.peer_auth import Account as PeerAccount
from protocols.omadm.peer_auth import ServerAuth
from tools.backend.faces import omadm_accounts as accounts
from tools.backend.faces.base import (
    Ending,
    FaceBelief,
    FaceContext,
    FaceEvent,
    FaceKind,
    Order,
    Position,
    device_faces,
    same_version,
)
from tools.backend.faces.http_wire import Refused, not_now
from tools.backend.faces.omadm_accounts import DmAccount
from tools.backend.faces.omadm_download import path_of
from tools.backend.faces.omadm_job import JobEvent, Said, UpdateJob, correlator_of
from tools.backend.faces.omadm_notify import Notifier
from tools.backend.faces.omadm_session import (
    MAX_MESSAGE,
    REQUESTS,
    DmSession,
    Happened,
    Happening,
)
from tools.backend.faces.omadm_tables import MAX_SAID, Phase, ending_of, result_code
from tools.backend.inventory import Device

RANDOM_GROUP = 0xFFFF_FFFD
"""Nonces in virtual time are drawn apart from every device, and anew for every start."""

LINGER = 30.0
"""Seconds that the answer of a session which has ended is kept, in case it got lost; ours."""

SESSION_IDLE = 180.0
"""Seconds after which a device that does not go on with its session has lost it; ours, the protocol
names no time. A slow device has taken the longest answer by then."""

WATCH = 3600.0
"""Seconds after which a device that was told to install and says nothing is asked; ours."""

MAX_UNKNOWN = 10_000
"""Identities without an account that are remembered for the administrator."""

RESULT_TYPES = tuple(
    f"org.openmobilealliance.dm.firmwareupdate.{operation}"
    for operation in ("download", "update", "downloadandupdate")
)
"""Of generic alerts that end an operation (FUMO 1.0, section 5.4)."""

LIMITS = CodecLimits(size=MAX_MESSAGE)

STORE_WAIT = 5.0
"""Seconds of Retry-After when the store fails."""


NO_MARK = (0, b"")


@dataclass(slots=True)
class _Live:
    """A session under way."""

    session: DmSession
    device: Device
    timer: Timer
    busy: bool = False
    last: tuple[int, bytes] = NO_MARK
    """Number and digest of the message that was answered last."""
    answer: tuple[bytes, str | None] | None = None
    """That answer, for a device that did not get it."""


@dataclass(slots=True)
class _Seen:
    """What a device said last."""

    state: str = ""
    result: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A message to a device, with its MAC header."""

    body: bytes
    content_type: str
    mac: str | None


@device_faces.register("omadm")
class OmadmFace:
    """The server side of OMA-DM, without its listener."""

    name = "omadm"
    protocol = "OMADM"

    def __init__(self, context: FaceContext) -> None:
        self._context = context
        self._runtime = context.runtime
        self._writer = context.writer
        self._time = context.time
        self._sink = context.sink
        self._inventory = context.inventory
        self._accounts: dict[str, DmAccount] = {}
        self._ordered: dict[str, Order] = {}
        self._live: dict[str, _Live] = {}
        self._seen: dict[str, _Seen] = {}
        self._unknown: dict[str, None] = {}
        self._ring = Ring()
        self._notifier = Notifier(
            context.runtime,
            context.operator,
            self._store,
            pause=context.poll,
            validity=context.slot,
        )
        random = DeviceRandom(context.runtime.seed, RANDOM_GROUP, context.starts)
        # Nobody may guess a nonce, and a run in virtual time must repeat.
        self._octets = random.bytes if context.runtime.clock.virtual else secrets.token_bytes

    def _random(self, count: int) -> bytes:
        """At least so many octets of a nonce. They are text, because there are clients that take a
        nonce for text and fail with octets from 0x80 on."""
        return base64.b64encode(self._octets(count))

    # -- DeviceFace ---

    @property
    def local(self) -> tuple[str, int]:
        """Where it is to listen; the listener knows where it does."""
        return self._context.bind

    async def start(self) -> None:
        """Read back the accounts."""
        await self._writer.submit(self._load)

    def _load(self, connection: Connection) -> None:
        for account in accounts.load(connection):
            self._accounts[account.device] = account

    async def stop(self) -> None:
        """Let no timer fire any more. What is answered now is answered."""
        self._notifier.stop()
        for live in self._live.values():
            self._runtime.wheel.disarm(live.timer)
        self._live.clear()

    def resume(self) -> None:
        """Nothing to do: whoever has an order is notified when it is offered again."""

    def reachable(self, device: str) -> bool:
        """The operator keeps a notification for a device that is not attached."""
        return device in self._accounts

    def offer(self, order: Order) -> None:
        name = order.device
        self._ordered[name] = order
        account = self._accounts.get(name)
        if account is None:
            return  # its first session comes after it got one
        if account.result and order.position >= Position.EXECUTE:
            self._succeeded(name, account.result, "")
            return
        session = self._talking(name)
        if session is not None:
            session.job.take(order)
        else:
            self._want(name, WATCH if order.position == Position.INSTALLING else 0.0)

    def install(self, device: str) -> None:
        order = self._ordered.get(device)
        if order is None:
            return
        order = self._ordered[device] = replace(order, position=Position.EXECUTE)
        session = self._talking(device)
        if session is not None:
            session.job.grant(order)
        else:
            self._want(device)

    def withdraw(self, device: str) -> None:
        self._ordered.pop(device, None)
        self._notifier.drop(device)
        account = self._accounts.get(device)
        if account is not None and account.result:
            account.result = ""
            self._store(account)
        session = self._talking(device)
        if session is not None:
            session.job.drop()

    def believed(self, device: str) -> FaceBelief | None:
        seen = self._seen.get(device)
        if seen is None:
            return None
        return FaceBelief(seen.state, seen.result, seen.version, "session")

    def identities(self) -> list[str]:
        """Devices in a session, and those that nobody knows."""
        return sorted({*self._live, *self._unknown})

    # -- accounts ---

    async def mint(self, names: Iterable[str], auth: str) -> dict[str, Credential]:
        """Fresh accounts, durably; what a device had before is void. ValueError for an unknown
        `auth`."""
        made = {name: accounts.mint(name, auth) for name in names}
        rows = [accounts.row_of(account) for account in made.values()]
        if rows:
            await self._writer.submit(
                lambda connection: connection.execute(accounts.PUT_ACCOUNT, rows)
            )
        for name, account in made.items():
            self._accounts[name] = account
            self._drop_live(name)
            if name in self._ordered:
                self._want(name)
        return {name: accounts.credential_of(account) for name, account in made.items()}

    def account(self, name: str) -> DmAccount | None:
        """The account of a device."""
        return self._accounts.get(name)

    def device_of(self, text: str) -> Device | None:
        """The device that calls itself so: by its name, by its id, or as `IMEI:` and its id."""
        scheme, _, rest = text.partition(":")
        if scheme.upper() == "IMEI":
            found = self._inventory.identified(rest)
            if found is not None:
                return found
        return self._inventory.identified(text)

    def _want(self, name: str, delay: float = 0.0) -> None:
        device = self._inventory.devices.get(name)
        account = self._accounts.get(name)
        if device is not None and account is not None:
            self._notifier.want(account, device.device_id, delay)

    def _store(self, account: DmAccount) -> None:
        self._writer.submit_row(accounts.SET_STATE, accounts.state_of(account))

    # -- sessions ---

    async def message(self, content_type: str, mac: str | None, body: bytes, origin: str) -> Answer:
        """The answer to a message of a device; returns when what it changed is durable. `origin`
        is where the device found us. Raises Refused for what is no message of a session."""
        try:
            kind = encodings.of(content_type)
        except SyncmlError as error:
            raise Refused(415, "UNSUPPORTED_MEDIA_TYPE", str(error)) from None
        try:
            message = encodings.decode(body, kind, LIMITS)
        except SyncmlError as error:
            raise Refused(400, message=str(error)) from None
        header = message.header
        device = self.device_of(header.source)
        account = None if device is None else self._accounts.get(device.name)
        if device is None or account is None or device.protocol != self.protocol:
            return self._stranger(message, kind, mac, body)
        mark = (header.msg_id, hashlib.sha256(body).digest())
        live = self._session(device, account, header, kind, origin, mark)
        if live.last == mark and live.answer is not None:
            # The answer was lost: the same one again, and nothing is done twice.
            return Answer(live.answer[0], live.session.encoding.content_type, live.answer[1])
        if live.busy:
            raise not_now(1.0, "BUSY", "the session has a message under way")
        if header.msg_id <= live.last[0]:
            raise Refused(400, message="MsgID does not go on from the last one")
        live.busy = True
        try:
            return await self._step(live, message, mac, body, mark)
        finally:
            live.busy = False

    def _session(
        self,
        device: Device,
        account: DmAccount,
        header: Header,
        kind: Encoding,
        origin: str,
        mark: tuple[int, bytes],
    ) -> _Live:
        """The session that a message belongs to. Another SessionID begins a new one, and so does a
        first message that is not the one we had, for the device has rebooted; and whatever comes
        when the session is over."""
        live = self._live.get(device.name)
        if live is not None and live.session.id == header.session_id:
            over = live.session.phase is Phase.OVER
            if live.last == mark or not (over or (header.msg_id == 1 and live.last != NO_MARK)):
                return live
        if live is not None:
            live.session.silent()
            self._drop_live(device.name)

        def url(order: Order) -> str:
            return origin + path_of(account, device.device_id, order.package.digest, "dd")

        def record(old: str, new: str, cause: str) -> None:
            self._runtime.journal.record(self._ring, device.name, "dm session", old, new, cause)

        job = UpdateJob(account.root, url)
        session = DmSession(account, header, job, kind, self._random, record)
        live = _Live(session, device, Timer(lambda _now: self._silent(device.name, session)))
        self._live[device.name] = live
        return live

    async def _step(
        self, live: _Live, message: Message, mac: str | None, body: bytes, mark: tuple[int, bytes]
    ) -> Answer:
        session = live.session
        self._runtime.arm(live.timer, SESSION_IDLE)
        changed = False
        for happening in session.received(message, mac, body):
            changed = True
            self._happened(live, happening)
        changed |= self._tell(live)
        if session.dirty:
            session.dirty = False
            self._store(session.account)
            changed = True
        if changed:
            try:
                await self._commit()
            except Refused:
                # What the session took in is not durable; the device begins another one.
                session.silent()
                self._drop_live(live.device.name)
                raise
        if self._live.get(live.device.name) is not live:
            # While this one was being stored another one began: a clone, or a device that rebooted.
            raise not_now(1.0, "SUPERSEDED", "another session of the device has begun")
        reply = session.reply()
        # What the reply itself decided is no secret from the engine, but nothing waits for it.
        self._tell(live)
        data = encodings.encode(reply, session.encoding)
        header = session.ours.mac(data)
        live.last, live.answer = mark, (data, header)
        if session.phase is Phase.OVER and self._live.get(live.device.name) is live:
            self._runtime.arm(live.timer, LINGER)
            self._over(live.device.name, session)
        return Answer(data, session.encoding.content_type, header)

    def _silent(self, name: str, session: DmSession) -> None:
        """The timer of a session: nothing was heard for long, or it had ended before."""
        live = self._live.get(name)
        if live is None or live.session is not session:
            return
        over = session.phase is Phase.OVER
        session.silent()
        self._drop_live(name)
        if not over:
            self._over(name, session)

    def _over(self, name: str, session: DmSession) -> None:
        """A session has ended, well or not: see that what is wanted of the device goes on."""
        order = self._ordered.get(name)
        if order is None:
            return
        if session.account.result:
            self._succeeded(name, session.account.result, "")
        elif order.position != Position.DOWNLOADED and not self._notifier.wants(name):
            # In DOWNLOADED the engine's leave is what makes it go on.
            installing = order.position == Position.INSTALLING
            self._want(name, WATCH if installing else self._context.poll)

    def _talking(self, name: str) -> DmSession | None:
        """The session that a device is in now."""
        live = self._live.get(name)
        if live is None or live.session.phase is Phase.OVER:
            return None
        return live.session

    def _drop_live(self, name: str) -> None:
        live = self._live.pop(name, None)
        if live is not None:
            self._runtime.wheel.disarm(live.timer)

    # -- what happened ---

    def _happened(self, live: _Live, happening: Happening) -> None:
        name = live.device.name
        if happening.what is Happened.BEGUN:
            session = live.session
            session.account.seen = self._time.now()
            session.dirty = True
            self._seen.setdefault(name, _Seen())
            self._notifier.drop(name)
            self._sink(FaceEvent(name, FaceKind.REGISTERED))
            order = self._ordered.get(name)
            if order is not None:
                session.job.take(order)
            elif not live.device.firmware:
                session.job.look()
        elif happening.type in RESULT_TYPES:
            self._result(live, happening)
        elif happening.type.endswith(REQUESTS):
            self._sink(FaceEvent(name, FaceKind.REGISTERED))

    def _result(self, live: _Live, happening: Happening) -> None:
        """The end of an operation. One that is not about the order under way is history."""
        name = live.device.name
        order = self._ordered.get(name)
        seen = self._seen.setdefault(name, _Seen())
        seen.result = happening.text[:MAX_SAID]
        if order is None or order.position < Position.EXECUTE:
            return
        if happening.correlator and happening.correlator != correlator_of(order):
            return
        code = result_code(happening.text)
        if code is None:
            said = f"result {happening.text[:32]!r}"
            self._final(name, Ending.NONSENSE, said)
            return
        ending = ending_of(code)
        said = f"result {code}"
        if ending is not Ending.SUCCESS:
            self._final(name, ending, said)
            return
        # Accepted with this commit; what runs is asked for in this session, and then it is over.
        account = live.session.account
        account.result = said
        live.session.dirty = True
        live.session.job.look()

    def _tell(self, live: _Live) -> bool:
        """Pass on what the job has to say."""
        events, live.session.job.events = live.session.job.events, []
        for event in events:
            self._job_event(live, event)
        return bool(events)

    def _job_event(self, live: _Live, event: JobEvent) -> None:
        name = live.device.name
        order = self._ordered.get(name)
        seen = self._seen.setdefault(name, _Seen())
        match event.said:
            case Said.VERSION:
                seen.version = event.text[:MAX_SAID]
                if seen.version != live.device.firmware:
                    self._sink(FaceEvent(name, FaceKind.VERSION, version=seen.version))
                if live.session.account.result:
                    self._succeeded(name, live.session.account.result, seen.version)
            case Said.ROOT:
                live.session.account.root = event.text[:MAX_SAID]
                live.session.dirty = True
            case Said.STARTED:
                seen.state = "downloading"
                self._sink(FaceEvent(name, FaceKind.PROGRESS))
            case Said.DELIVERED:
                seen.state = "ready"
                if order is not None and order.position < Position.EXECUTE:
                    self._ordered[name] = replace(order, position=Position.DOWNLOADED)
                    self._sink(FaceEvent(name, FaceKind.DOWNLOADED, said=event.text))
            case Said.EXECUTED:
                seen.state = "installing"
                if order is not None:
                    self._ordered[name] = replace(order, position=Position.INSTALLING)
                    self._sink(FaceEvent(name, FaceKind.INSTALLING, said=event.text))
                    self._want(name, WATCH)
            case Said.FAILED:
                assert event.ending is not None
                self._final(name, event.ending, event.text)
            case Said.SUCCEEDED:
                self._succeeded(name, event.text, seen.version)
            case Said.BUSY:
                self._want(name, self._context.poll)

    def _succeeded(self, name: str, said: str, version: str) -> None:
        """A result that says success, and the version that runs, where the device named it."""
        order = self._ordered.get(name)
        if order is None:
            return
        ending = Ending.SUCCESS
        if version and not same_version(version, order.package.version):
            ending = Ending.WRONG_VERSION
        if version:
            said = f"{said}, version {version}"
        self._final(name, ending, said, version or order.package.version)

    def _final(self, name: str, ending: Ending, said: str, version: str = "") -> None:
        seen = self._seen.setdefault(name, _Seen())
        seen.state = "idle"
        account = self._accounts.get(name)
        if account is not None and account.result:
            account.result = ""
            self._store(account)
        self._sink(FaceEvent(name, FaceKind.FINAL, ending, said[:MAX_SAID], version=version))

    # -- strangers ---

    def _stranger(self, message: Message, kind: Encoding, mac: str | None, body: bytes) -> Answer:
        """The answer to a device without an account: what one with wrong credentials gets. Nothing
        is kept of it but its name."""
        header = message.header
        if header.source not in self._unknown and len(self._unknown) < MAX_UNKNOWN:
            self._unknown[header.source[:MAX_SAID]] = None
        password = secrets.token_urlsafe(9)
        nobody = PeerAccount("", server_password=password, server_auth=AuthType.MD5)
        welcome = ServerAuth(nobody, b"", self._random).judge(header.cred, mac, body)
        # A second message of it has seen a challenge: that was its chance.
        chal = welcome.chal if header.msg_id <= 2 else None
        refs = (header.target,), (header.source,)
        statuses = [
            Status("1", header.msg_id, "0", "SyncHdr", welcome.code, *refs, chal=chal),
            *(
                Status(
                    str(number),
                    header.msg_id,
                    command.cmd_id,
                    command.name,
                    welcome.code,
                )
                for number, command in enumerate(
                    (one for one in message.commands if not isinstance(one, Status)), 2
                )
            ),
        ]
        reply = Header(header.session_id, header.msg_id, header.source, header.target)
        data = encodings.encode(Message(reply, tuple(statuses), True), kind)
        return Answer(data, kind.content_type, None)

    # -- downloads ---

    def download(self, device_id: str, digest: str) -> tuple[DmAccount, Order] | None:
        """The order under which a device may fetch a package now."""
        device = self._inventory.identified(device_id)
        if device is None:
            return None
        account = self._accounts.get(device.name)
        order = self._ordered.get(device.name)
        if account is None or order is None or order.package.digest != digest:
            return None
        return account, order

    def fetched(self, order: Order) -> None:
        """A device fetches the package of its order."""
        seen = self._seen.setdefault(order.device, _Seen())
        if seen.state != "downloading":
            seen.state = "downloading"
            self._sink(FaceEvent(order.device, FaceKind.PROGRESS))

    def notified(self, order: Order, line: str) -> None:
        """A device's install-notify. The generic alert is what counts; this is kept to look at."""
        self._seen.setdefault(order.device, _Seen()).result = line[:MAX_SAID]

    # -- durability ---

    async def _commit(self) -> None:
        """Return when all that was queued is durable. Raises Refused."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def committed(_result: Any, error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(not_now(STORE_WAIT, "STORE_FAILED", "nothing could be stored"))

        self._writer.submit_nowait(lambda _connection: None, committed)
        await done
