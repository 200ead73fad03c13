"""A session from its plan to its end: accounts, nonces, the tree, and message after message.

What a session is made of is read at its beginning and kept nowhere, so that an idle device owns
none of it: the account may have been changed by the session before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from agent.device import Device
from agent.protocol import ClientSettings
from agent.runtime.http import HttpClient, HttpIdentity
from protocols.http.transport import transport_of
from protocols.http.urls import parse_server
from protocols.omadm import encoding as syncml
from protocols.omadm.auth import AuthType
from protocols.omadm.exchange import DmPost, SessionLost
from protocols.omadm.fumo import FumoClient
from protocols.omadm.model import Alert, Message
from protocols.omadm.nonces import SPECIAL_NONCE, NonceBook, Side
from protocols.omadm.options import ACCOUNT, Options, factory_tree
from protocols.omadm.peer_auth import Account, ClientAuth, ServerAuth
from protocols.omadm.scomo import ScomoClient
from protocols.omadm.session import DevInfo, DmSession, SessionSetup
from protocols.omadm.session_tables import Phase
from protocols.omadm.standard_objects import DmAccount, read_account, read_accounts
from protocols.omadm.status import StatusCode
from protocols.omadm.tree import Tree
from protocols.omadm.tree_hooks import Hooks

__all__ = ["Ended", "Plan", "Talker"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session is to be."""

    session_id: str
    server_id: str | None = None
    """Of the account to use; None: the first."""
    by_server: bool = False
    resynchronise: bool = False
    """Begin with the special nonce."""
    alerts: tuple[Alert, ...] = ()
    heard: tuple[Callable[[int], None], ...] = ()
    """For the first alerts, in order: told as soon as it comes what the server answers."""
    device_id: str | None = None
    """Instead of the device's own: misbehaviour."""
    password: str | None = None
    """Likewise."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended."""

    phase: Phase
    header_status: int = 0
    """The last Status of our header; 0: there was none."""
    alert_status: tuple[int | None, ...] = ()
    retry_after: float | None = None
    http_status: int | None = None
    """Of the answer that ended it, where that was no message."""
    detail: str = ""
    """Why it ended, where the phase does not say; holds no secret."""


class _Hooks(NamedTuple):
    """What stands behind the nodes of a tree."""

    hooks: Hooks
    computed: dict[str, Callable[[], str]]
    """The same as in `hooks`; what a session's commands change shows in its tree at once."""


class _Encoder:
    """Messages of one session as octets. The one that was measured last is mostly the one that is
    sent, and is not encoded twice."""

    __slots__ = ("_body", "_encoding", "_message")

    def __init__(self, encoding: syncml.Encoding) -> None:
        self._encoding = encoding
        self._message: Message | None = None
        self._body = b""

    def encode(self, message: Message) -> bytes:
        if message is not self._message:
            self._body = syncml.encode(message, self._encoding)
            self._message = message
        return self._body


class Talker:
    """Has the sessions of one device, one at a time."""

    __slots__ = ("device", "fumo", "http", "options", "scomo", "settings")

    def __init__(
        self,
        device: Device,
        settings: ClientSettings,
        options: Options,
        fumo: FumoClient,
        scomo: ScomoClient,
        source: str | None,
    ) -> None:
        self.device = device
        self.settings = settings
        self.options = options
        self.fumo = fumo
        self.scomo = scomo
        self.http: HttpClient = transport_of(device.runtime).client(
            HttpIdentity(device.name, source, settings.credential(device))
        )

    async def talk(self, plan: Plan) -> Ended:
        """A whole session. Raises PowerLoss."""
        hooks = self._hooks()
        account = self.account(plan.server_id, hooks)
        device, options = self.device, self.options
        if account is None:
            device.record("session", Phase.NEW.value, Phase.NEW.value, "no account")
            return Ended(Phase.FAILED, detail="no account")
        told = Account(
            account.server_id,
            account.user,
            account.password if plan.password is None else plan.password,
            account.server_user,
            account.server_password,
            account.auth,
            account.server_auth,
        )
        nonces = NonceBook(device.nvm, lambda side, server: _first_nonce(account, side))
        mine = nonces.get(Side.CLIENT, account.server_id)
        theirs = nonces.get(Side.SERVER, account.server_id)
        if plan.resynchronise:
            mine = theirs = SPECIAL_NONCE
        client = ClientAuth(told, mine, nonce_as_text=options.profile.quirks.nonce_as_text)
        server = ServerAuth(told, theirs, device.random.bytes)
        tree = self.tree(account.server_id, hooks)
        encoder = _Encoder(options.encoding)
        session = DmSession(
            SessionSetup(
                plan.session_id,
                plan.device_id or self.device_id(),
                account.address,
                account.user,
                self._devinfo(),
                by_server=plan.by_server,
                alerts=plan.alerts,
            ),
            options.profile,
            tree,
            client,
            server,
            lambda message: len(encoder.encode(message)),
            self._stepped,
            lambda item: syncml.carried(item, options.encoding),
        )
        self.fumo.begin(lambda uri: _as_text(tree.value(uri)))
        self.scomo.begin(lambda uri: _as_text(tree.value(uri)), hooks.computed)
        try:
            ended = await self._exchange(session, plan, encoder)
        finally:
            self.fumo.end()
            self.scomo.end()
        for side, nonce in ((Side.CLIENT, client.to_store), (Side.SERVER, server.to_store)):
            if nonce is not None:
                nonces.set(side, account.server_id, nonce)
        return ended

    # -- what a session is made of --------------------------------------------------------------

    def account(self, server_id: str | None, hooks: _Hooks | None = None) -> DmAccount | None:
        """The account of a server, or without a name the first one that is complete."""
        tree = self.tree(None, hooks)
        if server_id is None:
            factory = read_account(tree, ACCOUNT) if ACCOUNT in tree.names("./DMAcc") else None
            return factory or next(iter(read_accounts(tree)), None)
        return next((one for one in read_accounts(tree) if one.server_id == server_id), None)

    def tree(self, server_id: str | None, hooks: _Hooks | None = None) -> Tree:
        """The device's tree, as `server_id` may use it; None is the device itself."""
        options, device = self.options, self.device
        known = self.settings.credential(device)
        auth = options.auth
        if auth is None:
            auth = AuthType.MD5 if known.password else AuthType.NONE
        server_auth = options.server_auth
        if server_auth is None:
            server_auth = AuthType.MD5 if known.token else AuthType.NONE
        address = parse_server(self.settings.server).base
        return Tree(
            factory_tree(options, address, auth, server_auth),
            device.nvm,
            server_id=server_id,
            hooks=(hooks or self._hooks()).hooks,
            encoding=options.encoding,
        )

    def device_id(self) -> str:
        """DevInfo/DevId: 15 digits are an IMEI, anything else stands for itself."""
        name = self.device.name.removeprefix("urn:imei:")
        return f"IMEI:{name}" if len(name) == 15 and name.isdigit() else self.device.name

    def _hooks(self) -> _Hooks:
        fumo, scomo = self.fumo.hooks(), self.scomo.hooks()
        account = f"./DMAcc/{ACCOUNT}/AppAuth"
        known = self.settings.credential(self.device)
        own: dict[str, Callable[[], str]] = {
            "./DevInfo/DevId": self.device_id,
            "./DevDetail/FwV": self._version,
            "./DevDetail/SwV": self._version,
            f"{account}/client/AAuthName": lambda: known.username or self.device_id(),
            f"{account}/client/AAuthSecret": lambda: known.password,
            f"{account}/server/AAuthName": lambda: self.options.server_id,
            f"{account}/server/AAuthSecret": lambda: known.token,
        }
        computed = {**fumo.computed, **own}
        self.scomo.show(computed)
        execute = {**fumo.on_execute, **scomo.on_execute}
        return _Hooks(Hooks(execute, fumo.on_replace, computed), computed)

    def _devinfo(self) -> DevInfo:
        profile = self.options.profile
        return DevInfo(
            (
                ("DevId", self.device_id()),
                ("Man", profile.man),
                ("Mod", profile.mod),
                ("DmV", "1.2"),
                ("Lang", profile.lang),
            )
        )

    def _version(self) -> str:
        running = self.device.running
        return "unknown" if running is None else str(running.version)

    # -- message after message ------------------------------------------------------------------

    async def _exchange(self, session: DmSession, plan: Plan, encoder: _Encoder) -> Ended:
        device, options = self.device, self.options
        encoding = options.encoding
        waiting = dict(enumerate(plan.heard))
        post = DmPost(device, self.http, self.settings, encoding, options.profile, session.post_to)
        message = session.start()
        healthy = False
        while True:
            body = encoder.encode(message)
            try:
                answer = await post.send(session.post_to, message, body, session.mac(body))
            except SessionLost as lost:
                if not session.over:
                    session.lost(str(lost))
                return _ended(session, lost)
            if session.over:
                return _ended(session)  # the device has aborted it
            reply = session.received(answer.message, answer.body, answer.mac)
            if session.accepted and not healthy:
                healthy = True
                device.healthy()
            for place in list(waiting):
                if (status := session.alert_status[place]) is not None:
                    waiting.pop(place)(status)
            if reply is None:
                if session.phase is Phase.DONE:
                    # The server took package 1 and says nothing of an alert: told once is told.
                    for heard in waiting.values():
                        heard(StatusCode.OK)
                return _ended(session)
            message = reply
            wait = session.take_wait()
            if wait:
                await device.runtime.clock.sleep(wait)

    def _stepped(self, old: Phase, new: Phase, cause: str) -> None:
        self.device.record("session", old.value, new.value, cause)


def _ended(session: DmSession, lost: SessionLost | None = None) -> Ended:
    return Ended(
        session.phase,
        session.header_status,
        tuple(session.alert_status),
        None if lost is None else lost.retry_after,
        None if lost is None else lost.status,
        session.detail,
    )


def _first_nonce(account: DmAccount, side: Side) -> bytes:
    return account.nonce if side is Side.CLIENT else account.server_nonce


def _as_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
