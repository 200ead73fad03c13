"""The backend as one object: store, campaign engine, faces and REST, on a runtime handed in."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fastapi import FastAPI
from sqlalchemy import Connection

from agent.runtime.journal import Ring
from agent.runtime.runtime import Runtime
from tools.backend.admin.app import build_admin_app
from tools.backend.admin.request_meter import RequestFigures
from tools.backend.admin.token import new_token
from tools.backend.administration import Administration
from tools.backend.callbacks.service import Callbacks
from tools.backend.campaigns import states
from tools.backend.campaigns.engine import CampaignEngine
from tools.backend.campaigns.kinds import Lock
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.config import BackendConfig
from tools.backend.device_logs import DeviceLogs
from tools.backend.errors import StoreError, StoreUnavailable
from tools.backend.faces.base import Delivery, DeviceFace, FaceBelief, FaceContext, Introduction
from tools.backend.faces.known import known_protocols
from tools.backend.firmware_sync import FirmwareSync
from tools.backend.inventory import (
    Account,
    Firmware,
    Inventory,
)
from tools.backend.licences.monitoring import Monitoring
from tools.backend.licences.service import Licences
from tools.backend.listener import AsgiListener
from tools.backend.loading import DeviceLoader
from tools.backend.named_faces import NamedFaces
from tools.backend.operator_network.network import OperatorNetwork
from tools.backend.page.page import Page
from tools.backend.removal import Removal
from tools.backend.rest.app import build_app
from tools.backend.served_faces import ServedFaces, authority
from tools.backend.store import rows as store
from tools.backend.store.database import parse_database
from tools.backend.store.runners import open_runner
from tools.backend.store.schema import open_schema
from tools.backend.store.writer import Writer
from tools.backend.timing import DAY, BackendTime, Origin, date_text, timing
from tools.fleet.audit import UNKNOWN, Belief, BeliefVerdict, FileBelief

__all__ = ["Backend", "BackendConfig", "authority"]

DAYS = 7
"""How long a campaign made by `create_campaign` may run."""

# How a campaign device's status is believed to have ended; every other status is unfinished.
VERDICTS: dict[str, BeliefVerdict] = {states.SUCCESS: "updated", states.FAILED: "failed"}


@dataclass(frozen=True, slots=True)
class _Loaded:
    last_committed: float
    origin: Origin | None
    starts: int


class Backend(NamedFaces, Administration):
    """The reference backend. `await start()`, use it, `await stop()`."""

    def __init__(self, runtime: Runtime, config: BackendConfig | None = None) -> None:
        self.config = config or BackendConfig()
        self.runtime = runtime
        self.timing = timing(self.config.timing)
        self.inventory = Inventory()
        self.time = BackendTime(runtime.clock)
        self.loader = DeviceLoader(self)
        self.removal = Removal(self)
        """Removes devices and accounts."""
        self._serving = False
        self.finished = asyncio.Event()
        """Set while there is at least one campaign and all of them have ended."""
        self._ring = Ring()
        self._database = parse_database(self.config.db)
        self._writer: Writer | None = None
        self._engine: CampaignEngine | None = None
        self._served = ServedFaces(runtime, self.config.listen)
        self._logs: DeviceLogs | None = None
        self._firmware_sync: FirmwareSync | None = None
        self._operator: OperatorNetwork | None = None
        self._licences: Licences | None = None
        self._callbacks: Callbacks | None = None
        self._listeners: dict[str, AsgiListener] = {}
        self.requests: RequestFigures = {}
        """What was asked of `app` and `admin_app`, for the metrics."""
        self.page = Page(self)
        """The web page: what its routes in `admin_app` read."""
        self.admin_token = self.config.admin_token or new_token()

    # Made when somebody asks: hundreds of routes cost more than all the rest of a backend, and one
    # in virtual time often serves neither.

    @cached_property
    def app(self) -> FastAPI:
        """The REST API as an ASGI application, whether or not a listener serves it."""
        return build_app(self)

    @cached_property
    def admin_app(self) -> FastAPI:
        """What `config.admin` serves: administration, with a token of its own."""
        return build_admin_app(self, self.admin_token)

    # -- life ---

    async def start(self) -> None:
        """Open the store and the listeners. Raises StoreError or ListenerRefused."""
        inline = self.runtime.clock.virtual
        runner = open_runner(self._database, virtual=inline, durable=self.config.durable)
        writer = self._writer = Writer(runner, before_commit=self._stamp)
        try:
            await self._start(writer)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, writer: Writer) -> None:
        engine = self._engine = CampaignEngine(
            writer, self.inventory, self.runtime.wheel, self.time, self.timing, self._record
        )
        engine.on_change = self._campaigns_changed
        logs = self._logs = DeviceLogs(
            writer, self.inventory, self.time, self.timing, self.runtime.wheel
        )
        sync = self._firmware_sync = FirmwareSync(
            writer,
            self.inventory,
            self.time,
            self.runtime.wheel,
            engine.face_event,
            self._record,
        )
        operator = self._operator = OperatorNetwork(self.runtime, writer, self.time, self.inventory)
        engine.cell_of, engine.cell_limit = operator.cell_of, operator.cells.limit
        operator.cells.on_change = engine.cell_changed
        operator.in_campaign = engine.watches
        operator.on_unreachable.append(engine.detached)
        licences = self._licences = Licences(writer, self.inventory, self.time, engine)
        monitoring = Monitoring(licences, operator)
        engine.book.barred, engine.auto_assign = licences.barred, licences.auto_assign
        engine.observers.append(licences)
        callbacks = self._callbacks = Callbacks(
            self.runtime,
            writer,
            self.time,
            self.timing,
            engine,
            self._record,
            authorities=self.config.callback_ca,
            transport=self.config.callback_transport,
        )
        try:
            loaded = await writer.open(self._load)
        except StoreUnavailable:
            raise
        except StoreError as error:
            raise StoreError(f"cannot use {self._database}: {error}") from error
        self.time.resume(loaded.last_committed, loaded.origin)
        monitoring.start()
        operator.on_reachable.append(lambda attachment: engine.attached(attachment.device_id))
        operator.on_present.append(lambda attachment: engine.present(attachment.device_id))
        self.page.start()
        logs.start()
        operator.start()
        callbacks.start()
        self._served.make(
            lambda bind: FaceContext(
                runtime=self.runtime,
                writer=writer,
                time=self.time,
                bind=bind,
                sink=engine.face_event,
                concerns=engine.concerns,
                poll=self.timing.poll,
                starts=loaded.starts,
                inventory=self.inventory,
                logs=logs,
                standing=engine.standing,
                under_way=engine.under_way,
                due=engine.due,
                contact=self.config.contact or self.timing.contact,
                slot=self.timing.slot,
                operator=operator,
            )
        )
        for face in self.faces.values():
            engine.attach(face.protocol, face)
        await self._served.start()
        # Nothing may come between `open` and `resume`: a device that goes on with its download
        # would be told that there is no package.
        self._served.open()
        engine.resume()
        licences.resume()
        for face in self.faces.values():
            face.resume()
        sync.start(self.lwm2m)
        self._campaigns_changed()
        await self._served.listen()
        if self.config.rest is not None:
            await self._listen("rest", AsgiListener(self.app, self.config.rest))
        if self.config.admin is not None:
            await self._listen(
                "admin",
                AsgiListener(self.admin_app, self.config.admin, "admin", self.config.admin_tls),
            )
        self._serving = True

    async def _listen(self, name: str, listener: AsgiListener) -> None:
        await listener.start()
        self._listeners[name] = listener

    async def stop(self) -> None:
        """Close the listeners, commit what is queued, close the store."""
        await self._served.close()
        self._serving = False
        self.page.stop()
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()
        if self._logs is not None:
            self._logs.stop()
        if self._firmware_sync is not None:
            self._firmware_sync.stop()
        if self._operator is not None:
            self._operator.stop()
        if self._engine is not None:
            self._engine.stop()
        if self._callbacks is not None:
            await self._callbacks.stop()
        await self._served.stop()
        if self._writer is not None:
            await self._writer.stop()
            self._writer = None

    def _load(self, connection: Connection) -> _Loaded:
        open_schema(connection)
        last = store.counter(connection, "clock") or 0.0
        starts = int(store.counter(connection, "starts") or 0) + 1
        store.put_counter(connection, "starts", starts)
        for account in store.load_accounts(connection):
            self.inventory.accounts[account.name] = account
        for device in store.load_devices(connection):
            self.inventory.add_device(device)
        for firmware in store.load_packages(connection):
            self.inventory.packages[firmware.account, firmware.name] = firmware
        for file in store.load_files(connection):
            self.inventory.files[file.account, file.name] = file
        self.logs.load(connection)
        self.firmware_sync.load(connection)
        self.operator.load(connection, starts)
        self.licences.load(connection)
        self._open_account(connection)
        self.engine.load(connection)
        self.callbacks.load(connection)
        self.page.load(connection)
        return _Loaded(last, store.load_origin(connection), starts)

    def _open_account(self, connection: Connection) -> None:
        """The account of the config; a new one gets a secret."""
        name = self.config.account
        known = self.inventory.accounts.get(name)
        fresh = Account(name, secrets.token_urlsafe(24), False, subscribed=self.time.now())
        account = known or fresh
        if self.config.pilot_waived:  # only ever on: an administrator may have waived it
            account = replace(account, pilot_waived=True)
        if account != known:
            connection.execute(store.PUT_ACCOUNT, store.row_of(account))
        self.inventory.accounts[name] = account

    def _stamp(self, connection: Connection) -> None:
        store.put_counter(connection, "clock", self.time.now())

    def _record(self, subject: str, machine: str, old: str, new: str, cause: str) -> None:
        self.runtime.journal.record(self._ring, subject, machine, old, new, cause)

    def _campaigns_changed(self) -> None:
        campaigns = self.engine.book.campaigns.values()
        if campaigns and all(item.final and not item.active for item in campaigns):
            self.finished.set()
        else:
            self.finished.clear()

    @property
    def serving(self) -> bool:
        """Whether it has started and is not about to stop."""
        return self._serving

    # -- what it is made of ---

    @property
    def writer(self) -> Writer:
        assert self._writer is not None, "the backend is not started"
        return self._writer

    @property
    def engine(self) -> CampaignEngine:
        assert self._engine is not None, "the backend is not started"
        return self._engine

    @property
    def faces(self) -> dict[str, DeviceFace]:
        """The device-facing servers, by name."""
        return self._served.faces

    @property
    def logs(self) -> DeviceLogs:
        """Verbose logging and check-in history."""
        assert self._logs is not None, "the backend is not started"
        return self._logs

    @property
    def firmware_sync(self) -> FirmwareSync:
        """Reading of firmware versions outside of campaigns."""
        assert self._firmware_sync is not None, "the backend is not started"
        return self._firmware_sync

    @property
    def operator(self) -> OperatorNetwork:
        """The operator network: attachments and short messages."""
        assert self._operator is not None, "the backend is not started"
        return self._operator

    @property
    def licences(self) -> Licences:
        """The licences of all accounts."""
        assert self._licences is not None, "the backend is not started"
        return self._licences

    @property
    def callbacks(self) -> Callbacks:
        """Callback listeners and the messages for them."""
        assert self._callbacks is not None, "the backend is not started"
        return self._callbacks

    @property
    def account(self) -> Account:
        """The account of the config."""
        return self.inventory.accounts[self.config.account]

    def address(self, face: str) -> tuple[str, int] | None:
        """Where devices of a face come; None without a listener, as in virtual time."""
        return self._served.address(face)

    def url(self, face: str) -> str:
        """What devices of a face are given as their server."""
        return self._served.url(face)

    async def introduce(self, face: str, names: Sequence[str]) -> Introduction:
        """Take devices in that this program runs itself, and say what they need to come to a face.
        Raises RequestRefused."""
        return await self.faces[face].introduce(names, self.url(face), self)

    @property
    def rest_address(self) -> tuple[str, int] | None:
        listener = self._listeners.get("rest")
        return None if listener is None else listener.local

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """Where administrators come; None without a listener."""
        listener = self._listeners.get("admin")
        return None if listener is None else listener.local

    @property
    def admin_url(self) -> str | None:
        """The same as a URL."""
        if self.admin_address is None:
            return None
        scheme = "http" if self.config.admin_tls is None else "https"
        return f"{scheme}://{authority(self.admin_address)}"

    # -- what it knows ---

    def seen(self, name: str) -> FaceBelief | None:
        """What a device said last, on whatever face it is."""
        found = (face.believed(name) for face in self.faces.values())
        return next((belief for belief in found if belief is not None), None)

    def unknown_identities(self) -> list[str]:
        """Registered endpoint names that no account has."""
        known = self.inventory.devices
        seen = {name for face in self.faces.values() for name in face.identities()}
        return sorted(seen - known.keys())

    # -- for embedding ---

    async def create_campaign(
        self,
        devices: Sequence[str],
        package: Firmware,
        *,
        delivery_of: Callable[[str], Delivery] | None = None,
        concurrency: int | None = None,
        title: str = "",
    ) -> Campaign:
        """Update `devices` (endpoint names; unknown ones are taken into the inventory) to
        `package`, from now on. Raises RequestRefused."""
        fresh = [name for name in dict.fromkeys(devices) if name not in self.inventory.devices]
        await self.load_devices(
            {
                "name": name,
                "make": package.make,
                "model": package.model,
                "protocol": package.protocol,
            }
            for name in fresh
        )
        by_name = self.inventory.devices
        ids = {name: by_name[name].device_id for name in devices}
        deliveries = {ids[name]: delivery_of(name) for name in devices} if delivery_of else None
        now = self.time.now()
        request = CampaignRequest(
            account=package.account,
            title=title,
            package=package.name,
            version_from=package.version_from,
            version_to=package.version_to,
            start_date=date_text(now),
            end_date=date_text(now + DAYS * DAY),
            devices=tuple(ids.values()),
            kind=known_protocols()[package.protocol].campaigns,
            protocol=package.protocol,
            concurrency=concurrency,
            deliveries=deliveries,
        )
        return await self.engine.create(request)

    def beliefs(self) -> dict[str, Belief]:
        """What the backend holds to be so of every device in its inventory, for the audit."""
        return {name: self.belief(name) for name in self.inventory.devices}

    def belief(self, name: str) -> Belief:
        """The same for one device."""
        member, files = self.engine.book.latest(name), self._files(name)
        if member is None:
            return replace(UNKNOWN, files=files)
        detail = f"{member.status}: {member.reason}"
        if member.said:
            detail += f" ({member.said})"
        verdict = VERDICTS.get(member.status, "unfinished")
        firmware = self.inventory.devices[name].firmware or None
        return Belief(verdict, detail, firmware if verdict == "updated" else None, files)

    def _files(self, name: str) -> tuple[FileBelief, ...]:
        """What it holds to be so of the files of a device: the newest campaign of each counts."""
        found: dict[str, FileBelief] = {}
        for campaign in sorted(self.engine.book.campaigns.values(), key=lambda one: one.number):
            member = campaign.members.get(name)
            if campaign.kind.lock is not Lock.FILE or member is None:
                continue
            if member.status != states.REJECTED:
                verdict = VERDICTS.get(member.status, "unfinished")
                found[campaign.package] = FileBelief(campaign.package, campaign.digest, verdict)
        return tuple(found.values())
