"""The OMA-DM server: sessions with devices, campaigns of firmware by FUMO and of files by SCOMO,
notifications, downloads.

A device begins every session; the server can only ask it to, by a notification (`Notifier`). An
order therefore waits for the device's next session. There it is worked off by an `UpdateJob`: in
delivery `pull` the device is given a URL and told to download and update; in `push` the package is
written into its tree and then it is told to update. The result comes as a generic alert, usually
in a session of its own. A file is the work of a `ComponentJob`, and is always fetched by URL.

The engine's words for it: a device that is ready to be told is `downloaded`, because from then on
only the durable EXECUTE is missing; with delivery `pull` the download itself is part of what it is
told to do, so an attempt that was told is not begun again by this campaign.

Decisions come from memory. A message that changes something is answered after the commit that made
it durable; the engine's rows and ours are queued in one turn of the loop and share a transaction.
An idle device has one account in memory, and no Task and no timer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from agent.credentials import Credential
from tools.backend.campaigns.kinds import FIRMWARE_V1
from tools.backend.faces import omadm_accounts as accounts
from tools.backend.faces.base import (
    Ending,
    FaceBelief,
    FaceContext,
    FaceEvent,
    FaceKind,
    Introduction,
    ListenerSpec,
    Order,
    Position,
    device_faces,
    same_version,
)
from tools.backend.faces.omadm_accounts import DmAccount
from tools.backend.faces.omadm_app import SESSION_PATH, OmadmApp
from tools.backend.faces.omadm_component import (
    COMPLETE,
    ComponentJob,
    component_ending,
    is_download,
    is_file,
)
from tools.backend.faces.omadm_job import UpdateJob
from tools.backend.faces.omadm_notify import Notifier
from tools.backend.faces.omadm_session import (
    REQUESTS,
    DmSession,
    Happened,
    Happening,
)
from tools.backend.faces.omadm_sessions import Live, Sessions
from tools.backend.faces.omadm_tables import MAX_SAID, ending_of, result_code
from tools.backend.faces.omadm_work import JobEvent, Said, correlator_of
from tools.backend.inventory import Device

if TYPE_CHECKING:
    from tools.backend.administration import Administration

WATCH = 3600.0
"""Seconds after which a device that was told to install and says nothing is asked; ours."""

PATIENCE = 10
"""Polls that a device which fetches a file is left alone for; ours."""

WATCHED_INTERVAL = 10.0
"""Seconds after which a device that somebody watches asks for an update by itself."""

RESULT_TYPES = tuple(
    f"org.openmobilealliance.dm.firmwareupdate.{operation}"
    for operation in ("download", "update", "downloadandupdate")
)
"""Of generic alerts that end an operation (FUMO 1.0, section 5.4)."""


@dataclass(slots=True)
class _Seen:
    """What a device said last."""

    state: str = ""
    result: str = ""
    version: str = ""


@device_faces.register("omadm")
class OmadmFace:
    """The server side of OMA-DM, without its listener."""

    name = "omadm"
    protocol = "OMADM"
    listener = ListenerSpec("omadm", "OMA-DM", "127.0.0.1:8091", "http", SESSION_PATH, tls=True)
    campaigns = FIRMWARE_V1

    def __init__(self, context: FaceContext) -> None:
        self._context = context
        self.app = OmadmApp(self)
        """The server as an ASGI application, whether or not a listener serves it."""
        self._runtime = context.runtime
        self._writer = context.writer
        self._time = context.time
        self._sink = context.sink
        self._inventory = context.inventory
        self._accounts: dict[str, DmAccount] = {}
        self._ordered: dict[str, Order] = {}
        self._seen: dict[str, _Seen] = {}
        self.sessions = Sessions(context, self)
        self._notifier = Notifier(
            context.runtime,
            context.operator,
            self.store,
            pause=context.poll,
            validity=context.slot,
        )

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

    def open(self) -> None:
        """Nothing to open: the application is served."""

    async def introduce(
        self, names: Sequence[str], server: str, office: Administration
    ) -> Introduction:
        """Such devices have a DM account. They are woken by the operator network, as in the field;
        whoever missed that asks by itself."""
        await office.load_devices({"name": name} for name in names)
        minted = await office.mint_dm_accounts(names)
        return Introduction(
            server,
            tuple(minted[name] for name in names),
            (("push", "0"), ("interval", f"{WATCHED_INTERVAL:g}")),
        )

    async def stop(self) -> None:
        """Let no timer fire any more. What is answered now is answered."""
        self._notifier.stop()
        self.sessions.stop()

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
        session = self.sessions.talking(name)
        if session is not None:
            self._give(session, order)
        else:
            self._want(name, WATCH if order.position == Position.INSTALLING else 0.0)

    def _give(self, session: DmSession, order: Order) -> None:
        """An order for a device that is in a session. Of a job of the other kind the rest is waited
        for: then the device is to come again."""
        job = session.job
        if is_file(order) != isinstance(job, ComponentJob):
            if not job.idle:
                self._want(order.device)
                return
            job = session.job = (
                ComponentJob(job.url)
                if is_file(order)
                else UpdateJob(session.account.root, job.url)
            )
        job.take(order)

    def install(self, device: str) -> None:
        order = self._ordered.get(device)
        if order is None:
            return
        order = self._ordered[device] = replace(order, position=Position.EXECUTE)
        session = self.sessions.talking(device)
        if session is not None and is_file(order) == isinstance(session.job, ComponentJob):
            session.job.grant(order)
        else:
            self._want(device)

    def withdraw(self, device: str) -> None:
        self._ordered.pop(device, None)
        self._notifier.drop(device)
        account = self._accounts.get(device)
        if account is not None and account.result:
            account.result = ""
            self.store(account)
        session = self.sessions.talking(device)
        if session is not None:
            session.job.drop()

    def forget(self, device: str) -> None:
        self._accounts.pop(device, None)

    def believed(self, device: str) -> FaceBelief | None:
        seen = self._seen.get(device)
        if seen is None:
            return None
        return FaceBelief(seen.state, seen.result, seen.version, "session")

    def identities(self) -> list[str]:
        """Devices in a session, and those that nobody knows."""
        return sorted({*self.sessions.live, *self.sessions.unknown})

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
            self.sessions.drop(name)
            if name in self._ordered:
                self._want(name)
        return {name: accounts.credential_of(account) for name, account in made.items()}

    def known(self, source: str) -> tuple[Device, DmAccount] | None:
        """The device that a message names as its source, with its account; None for strangers."""
        device = self.device_of(source)
        account = None if device is None else self._accounts.get(device.name)
        if device is None or account is None or device.protocol != self.protocol:
            return None
        return device, account

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

    def store(self, account: DmAccount) -> None:
        """Queue what an account has come to."""
        self._writer.submit_row(accounts.SET_STATE, accounts.state_of(account))

    # -- what happened in sessions ---

    def session_over(self, name: str, session: DmSession) -> None:
        """A session has ended, well or not: see that what is wanted of the device goes on."""
        order = self._ordered.get(name)
        if order is None:
            return
        if session.account.result:
            self._succeeded(name, session.account.result, "")
        elif order.position != Position.DOWNLOADED and not self._notifier.wants(name):
            # In DOWNLOADED the engine's leave is what makes it go on.
            self._want(name, self._pause(order))

    def _pause(self, order: Order) -> float:
        """Seconds after which a device is asked how far it is."""
        if order.position == Position.INSTALLING:
            return WATCH
        if is_file(order) and order.position == Position.DOWNLOADING:
            return PATIENCE * self._context.poll  # it has confirmed that it fetches, and will tell
        return self._context.poll

    def happened(self, live: Live, happening: Happening) -> None:
        """A message of a device said something."""
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
                self._give(session, order)
            elif not live.device.firmware:
                session.job.look()
        elif happening.type in RESULT_TYPES:
            self._result(live, happening)
        elif happening.type == COMPLETE:
            self._component_result(live, happening)
        elif happening.type.endswith(REQUESTS):
            self._sink(FaceEvent(name, FaceKind.REGISTERED))

    def _result(self, live: Live, happening: Happening) -> None:
        """The end of an operation. One that is not about the order under way is history."""
        name = live.device.name
        order = self._ordered.get(name)
        seen = self._seen.setdefault(name, _Seen())
        seen.result = happening.text[:MAX_SAID]
        if order is None or is_file(order) or order.position < Position.EXECUTE:
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

    def _component_result(self, live: Live, happening: Happening) -> None:
        """The end of one of the two operations of a file. The inventory shows what a success came
        to; a failure counts as it is told."""
        name = live.device.name
        order = self._ordered.get(name)
        ending, said = component_ending(happening.text)
        self._seen.setdefault(name, _Seen()).result = said[:MAX_SAID]
        if order is None or not is_file(order):
            return
        if happening.correlator and happening.correlator != correlator_of(order):
            return
        installed = order.position >= Position.EXECUTE
        download = is_download(order, happening.source)
        if download is None or download is installed or order.position < Position.DOWNLOADING:
            return  # of an earlier attempt, or another component
        if ending is not Ending.SUCCESS:
            self._final(name, ending, said)
            return
        if installed:
            live.session.account.result = said
            live.session.dirty = True
        if isinstance(live.session.job, ComponentJob):
            live.session.job.told(said)

    def tell(self, live: Live) -> bool:
        """Pass on what the job has to say."""
        events, live.session.job.events = live.session.job.events, []
        for event in events:
            self._job_event(live, event)
        return bool(events)

    def _job_event(self, live: Live, event: JobEvent) -> None:
        name = live.device.name
        order = self._ordered.get(name)
        seen = self._seen.setdefault(name, _Seen())
        match event.said:
            case Said.VERSION:
                seen.version = event.text[:MAX_SAID]
                if seen.version != live.device.firmware:
                    self._sink(FaceEvent(name, FaceKind.VERSION, version=seen.version))
                if live.session.account.result and not (order is not None and is_file(order)):
                    self._succeeded(name, live.session.account.result, seen.version)
            case Said.ROOT:
                live.session.account.root = event.text[:MAX_SAID]
                live.session.dirty = True
            case Said.STARTED:
                seen.state = "downloading"
                self._sink(FaceEvent(name, FaceKind.PROGRESS))
            case Said.FETCHING:
                seen.state = "downloading"
                if order is not None:
                    if order.position == Position.OFFERED:
                        self._ordered[name] = replace(order, position=Position.DOWNLOADING)
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
        if is_file(order):
            self._final(name, Ending.SUCCESS, said)
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
            self.store(account)
        self._sink(FaceEvent(name, FaceKind.FINAL, ending, said[:MAX_SAID], version=version))

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
