"""The sessions of all devices: which one a message belongs to, its answer, and when it is over.

What a message says is for the owner, the face: `Sessions` sees that it is said once, that a message
which changes something is answered after the commit that made it durable, and that an answer which
got lost is given again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Protocol

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
from tools.backend.faces.base import FaceContext, Order
from tools.backend.faces.http_wire import Refused, not_now
from tools.backend.faces.omadm_accounts import DmAccount
from tools.backend.faces.omadm_download import path_of
from tools.backend.faces.omadm_envelope import MAX_MESSAGE, refusal, room_of
from tools.backend.faces.omadm_job import UpdateJob
from tools.backend.faces.omadm_session import DmSession, Happening
from tools.backend.faces.omadm_tables import MAX_SAID, Phase
from tools.backend.inventory import Device

RANDOM_GROUP = 0xFFFF_FFFD
"""Nonces in virtual time are drawn apart from every device, and anew for every start."""

LINGER = 30.0
"""Seconds that the answer of a session which has ended is kept, in case it got lost; ours."""

SESSION_IDLE = 180.0
"""Seconds after which a device that does not go on with its session has lost it; ours, the protocol
names no time. A slow device has taken the longest answer by then."""

MAX_UNKNOWN = 10_000
"""Identities without an account that are remembered for the administrator."""

LIMITS = CodecLimits(size=MAX_MESSAGE)

STORE_WAIT = 5.0
"""Seconds of Retry-After when the store fails."""

NO_MARK = (0, b"")


@dataclass(slots=True)
class Live:
    """A session under way."""

    session: DmSession
    device: Device
    timer: Timer
    busy: bool = False
    last: tuple[int, bytes] = NO_MARK
    """Number and digest of the message that was answered last."""
    answer: tuple[bytes, str | None] | None = None
    """That answer, for a device that did not get it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A message to a device, with its MAC header."""

    body: bytes
    content_type: str
    mac: str | None


class Owner(Protocol):
    """What sessions ask of the face."""

    def known(self, source: str) -> tuple[Device, DmAccount] | None:
        """The device behind the LocURI of a message's source, if it has an account."""

    def store(self, account: DmAccount) -> None:
        """Queue what an account has come to."""

    def happened(self, live: Live, happening: Happening) -> None:
        """A message said this."""

    def tell(self, live: Live) -> bool:
        """Take what the job of a session has to say; whether there was anything."""

    def session_over(self, name: str, session: DmSession) -> None:
        """A session has ended, well or not."""


class Sessions:
    """The sessions of an OMA-DM server, one for each device that is in one."""

    def __init__(self, context: FaceContext, owner: Owner) -> None:
        self._context = context
        self._runtime = context.runtime
        self._owner = owner
        self.live: dict[str, Live] = {}
        """By the name of the device."""
        self.unknown: dict[str, None] = {}
        """Identities without an account, in the order in which they came."""
        self._ring = Ring()
        random = DeviceRandom(context.runtime.seed, RANDOM_GROUP, context.starts)
        # Nobody may guess a nonce, and a run in virtual time must repeat.
        self._octets = random.bytes if context.runtime.clock.virtual else secrets.token_bytes

    def _random(self, count: int) -> bytes:
        """At least so many octets of a nonce. They are text, because there are clients that take a
        nonce for text and fail with octets from 0x80 on."""
        return base64.b64encode(self._octets(count))

    def stop(self) -> None:
        """Let no timer fire any more."""
        for live in self.live.values():
            self._runtime.wheel.disarm(live.timer)
        self.live.clear()

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
        known = self._owner.known(header.source)
        if known is None:
            return self._stranger(message, kind, mac, body)
        device, account = known
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
    ) -> Live:
        """The session that a message belongs to. Another SessionID begins a new one, and so does a
        first message that is not the one we had, for the device has rebooted; and whatever comes
        when the session is over."""
        live = self.live.get(device.name)
        if live is not None and live.session.id == header.session_id:
            over = live.session.phase is Phase.OVER
            if live.last == mark or not (over or (header.msg_id == 1 and live.last != NO_MARK)):
                return live
        if live is not None:
            live.session.silent()
            self.drop(device.name)

        def url(order: Order) -> str:
            return origin + path_of(account, device.device_id, order.package.digest, "dd")

        def record(old: str, new: str, cause: str) -> None:
            self._runtime.journal.record(self._ring, device.name, "dm session", old, new, cause)

        job = UpdateJob(account.root, url)
        session = DmSession(account, header, job, kind, self._random, record)
        live = Live(session, device, Timer(lambda _now: self._silent(device.name, session)))
        self.live[device.name] = live
        return live

    async def _step(
        self, live: Live, message: Message, mac: str | None, body: bytes, mark: tuple[int, bytes]
    ) -> Answer:
        session = live.session
        self._runtime.arm(live.timer, SESSION_IDLE)
        changed = False
        for happening in session.received(message, mac, body):
            changed = True
            self._owner.happened(live, happening)
        changed |= self._owner.tell(live)
        if session.dirty:
            session.dirty = False
            self._owner.store(session.account)
            changed = True
        if changed:
            try:
                await self._commit()
            except Refused:
                # What the session took in is not durable; the device begins another one.
                session.silent()
                self.drop(live.device.name)
                raise
        if self.live.get(live.device.name) is not live:
            # While this one was being stored another one began: a clone, or a device that rebooted.
            raise not_now(1.0, "SUPERSEDED", "another session of the device has begun")
        reply = session.reply()
        # What the reply itself decided is no secret from the engine, but nothing waits for it.
        self._owner.tell(live)
        if reply is None:
            self.drop(live.device.name)
            self._owner.session_over(live.device.name, session)
            raise too_small(message.header)
        data = encodings.encode(reply, session.encoding)
        header = session.ours.mac(data)
        live.last, live.answer = mark, (data, header)
        if session.phase is Phase.OVER and self.live.get(live.device.name) is live:
            self._runtime.arm(live.timer, LINGER)
            self._owner.session_over(live.device.name, session)
        return Answer(data, session.encoding.content_type, header)

    def _silent(self, name: str, session: DmSession) -> None:
        """The timer of a session: nothing was heard for long, or it had ended before."""
        live = self.live.get(name)
        if live is None or live.session is not session:
            return
        over = session.phase is Phase.OVER
        session.silent()
        self.drop(name)
        if not over:
            self._owner.session_over(name, session)

    def talking(self, name: str) -> DmSession | None:
        """The session that a device is in now."""
        live = self.live.get(name)
        if live is None or live.session.phase is Phase.OVER:
            return None
        return live.session

    def drop(self, name: str) -> None:
        """Forget the session of a device."""
        live = self.live.pop(name, None)
        if live is not None:
            self._runtime.wheel.disarm(live.timer)

    # -- strangers ---

    def _stranger(self, message: Message, kind: Encoding, mac: str | None, body: bytes) -> Answer:
        """The answer to a device without an account: what one with wrong credentials gets. Nothing
        is kept of it but its name."""
        header = message.header
        if header.source not in self.unknown and len(self.unknown) < MAX_UNKNOWN:
            self.unknown[header.source[:MAX_SAID]] = None
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
        room = room_of(header)
        for said in (statuses, statuses[:1]):
            data = encodings.encode(Message(reply, tuple(said), True), kind)
            if len(data) <= room:
                return Answer(data, kind.content_type, None)
        refused = refusal(header, header.msg_id, welcome.code, kind)
        if refused is None:
            raise too_small(header)
        return Answer(encodings.encode(refused, kind), kind.content_type, None)

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

        self._context.writer.submit_nowait(lambda _connection: None, committed)
        await done


def too_small(header: Header) -> Refused:
    """A device whose MaxMsgSize no message fits into is told so by HTTP."""
    size = header.max_msg_size
    return Refused(400, message=f"no answer fits into a MaxMsgSize of {size}")
