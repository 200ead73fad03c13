"""The backend as one object: store, campaign engine, faces and REST, on a runtime handed in."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from agent.credentials import Credential
from agent.runtime.journal import Ring
from agent.runtime.runtime import Runtime
from tools.backend.campaigns import states
from tools.backend.campaigns.engine import CampaignEngine
from tools.backend.campaigns.kinds import FIRMWARE_V1, FIRMWARE_V3, SOFTWARE_V2
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.device_logs import DeviceLogs
from tools.backend.errors import RequestRefused, StoreError
from tools.backend.faces.base import (
    Delivery,
    DeviceFace,
    FaceBelief,
    FaceContext,
    TlsFiles,
    device_faces,
)
from tools.backend.faces.http import HttpFace
from tools.backend.faces.http_app import DeviceApp
from tools.backend.faces.lwm2m import Lwm2mFace
from tools.backend.faces.omadm import OmadmFace
from tools.backend.faces.omadm_accounts import AUTH_TYPES
from tools.backend.faces.omadm_app import SESSION_PATH, OmadmApp
from tools.backend.inventory import (
    Account,
    ConfigFile,
    Device,
    Firmware,
    Inventory,
    check_token,
    hash_token,
)
from tools.backend.listener import AsgiListener
from tools.backend.operator_network.network import OperatorNetwork
from tools.backend.rest.app import build_app
from tools.backend.store import rows as store
from tools.backend.store.writer import MEMORY, SyncRunner, ThreadRunner, Writer
from tools.backend.timing import DAY, BackendTime, date_text, timing
from tools.fleet.audit import UNKNOWN, Belief

DEFAULT_ACCOUNT = "0000000000-00001"

MAX_PACKAGE = 64 << 20
"""Bytes of one firmware package; the limit of the files API, taken over."""

MAX_NAME = 128
"""Characters of a firmware name; likewise."""

MAX_VERSION = 255
"""Characters of a version, as the object model of LwM2M and the device wire have them."""

DAYS = 7
"""How long a campaign made by `create_campaign` may run."""

DEFAULT_MAKE = "fotilla"
DEFAULT_MODEL = "virtual"

PROTOCOLS = ("LWM2M", "HTTP", "OMADM")
"""What devices of this backend can speak."""

# The campaigns that `create_campaign` makes; v3's where the protocol has them.
KIND_OF = {"LWM2M": FIRMWARE_V3, "HTTP": SOFTWARE_V2, "OMADM": FIRMWARE_V1}

# How a campaign device's status is believed to have ended; every other status is unfinished.
VERDICTS = {states.SUCCESS: "updated", states.FAILED: "failed"}


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """How a backend is set up."""

    db: str = MEMORY
    coap: tuple[str, int] = ("127.0.0.1", 0)
    http: tuple[str, int] | None = ("127.0.0.1", 0)
    """Where HTTP devices come; None serves them in-process only, as virtual time always does."""
    http_tls: TlsFiles | None = None
    omadm: tuple[str, int] | None = ("127.0.0.1", 0)
    """Where OMA-DM devices come; None as for `http`."""
    omadm_tls: TlsFiles | None = None
    contact: float | None = None
    """Seconds between two check-ins of an HTTP device; None takes the timing profile's."""
    rest: tuple[str, int] | None = None
    """None serves no REST listener; `Backend.app` can be called in-process all the same."""
    timing: str = "documented"
    account: str = DEFAULT_ACCOUNT
    pilot_waived: bool = False
    """Spare the account's campaigns the pilot that the API demands (demo, bench)."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    last_committed: float
    starts: int


class Backend:
    """The reference backend. `await start()`, use it, `await stop()`."""

    def __init__(self, runtime: Runtime, config: BackendConfig | None = None) -> None:
        self.config = config or BackendConfig()
        self.runtime = runtime
        self.timing = timing(self.config.timing)
        self.inventory = Inventory()
        self.time = BackendTime(runtime.clock)
        self.finished = asyncio.Event()
        """Set while there is at least one campaign and all of them have ended."""
        self._ring = Ring()
        self._writer: Writer | None = None
        self._engine: CampaignEngine | None = None
        self.faces: dict[str, DeviceFace] = {}
        self._logs: DeviceLogs | None = None
        self._operator: OperatorNetwork | None = None
        self._listeners: dict[str, AsgiListener] = {}
        self.app = build_app(self)
        self.device_app = DeviceApp(lambda: self.http)
        """The device wire as an ASGI application, whether or not a listener serves it."""
        self.omadm_app = OmadmApp(lambda: self.omadm)
        """Likewise for OMA-DM."""

    # -- life ---

    async def start(self) -> None:
        """Open the store and the listeners. Raises StoreError or ListenerRefused."""
        inline = self.runtime.clock.virtual
        runner = SyncRunner(self.config.db) if inline else ThreadRunner(self.config.db)
        writer = self._writer = Writer(runner, before_commit=self._stamp)
        writer.start()
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
        operator = self._operator = OperatorNetwork(self.runtime, writer, self.time, self.inventory)
        try:
            loaded = await writer.submit(self._load)
        except StoreError as error:
            raise StoreError(f"cannot use {self.config.db}: {error}") from error
        self.time.resume(loaded.last_committed)
        logs.start()
        operator.start()
        http = self.config.http or ("", 0)
        omadm = self.config.omadm or ("", 0)
        # LwM2M last: it listens as soon as it has started, and nothing may come between that and
        # `resume`. A device that goes on with its download would be told that there is no package.
        for name, bind in (("http", http), ("omadm", omadm), ("lwm2m", self.config.coap)):
            face = device_faces.get(name)(
                FaceContext(
                    runtime=self.runtime,
                    writer=writer,
                    time=self.time,
                    bind=bind,
                    sink=engine.face_event,
                    concerns=lambda device: engine.book.open_member(device) is not None,
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
            engine.attach(face.protocol, face)
            self.faces[name] = face
            await face.start()
        engine.resume()
        for face in self.faces.values():
            face.resume()
        self._campaigns_changed()
        if self.config.http is not None and not self.runtime.clock.virtual:
            tls = self.config.http_tls
            await self._listen("http", AsgiListener(self.device_app, http, "HTTP", tls))
        if self.config.omadm is not None and not self.runtime.clock.virtual:
            tls = self.config.omadm_tls
            await self._listen("omadm", AsgiListener(self.omadm_app, omadm, "OMA-DM", tls))
        if self.config.rest is not None:
            await self._listen("rest", AsgiListener(self.app, self.config.rest))

    async def _listen(self, name: str, listener: AsgiListener) -> None:
        await listener.start()
        self._listeners[name] = listener

    async def stop(self) -> None:
        """Close the listeners, commit what is queued, close the store."""
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()
        if self._logs is not None:
            self._logs.stop()
        if self._operator is not None:
            self._operator.stop()
        if self._engine is not None:
            self._engine.stop()
        for face in self.faces.values():
            await face.stop()
        if self._writer is not None:
            await self._writer.stop()
            self._writer = None

    def _load(self, connection: Connection) -> _Loaded:
        store.open_schema(connection)
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
        self.operator.load(connection, starts)
        self._open_account(connection)
        self.engine.load(connection)
        return _Loaded(last, starts)

    def _open_account(self, connection: Connection) -> None:
        """The account of the config; a new one gets a secret."""
        name = self.config.account
        known = self.inventory.accounts.get(name)
        waived = self.config.pilot_waived
        account = replace(
            known or Account(name, secrets.token_urlsafe(24), False), pilot_waived=waived
        )
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
    def lwm2m(self) -> Lwm2mFace:
        """The LwM2M server itself, for device management beside the campaigns."""
        face = self.faces["lwm2m"]
        assert isinstance(face, Lwm2mFace)
        return face

    @property
    def http(self) -> HttpFace:
        """The server of HTTP devices."""
        face = self.faces["http"]
        assert isinstance(face, HttpFace)
        return face

    @property
    def omadm(self) -> OmadmFace:
        """The server of OMA-DM devices."""
        face = self.faces["omadm"]
        assert isinstance(face, OmadmFace)
        return face

    @property
    def logs(self) -> DeviceLogs:
        """Verbose logging and check-in history."""
        assert self._logs is not None, "the backend is not started"
        return self._logs

    @property
    def operator(self) -> OperatorNetwork:
        """The operator network: attachments and short messages."""
        assert self._operator is not None, "the backend is not started"
        return self._operator

    @property
    def account(self) -> Account:
        """The account of the config."""
        return self.inventory.accounts[self.config.account]

    @property
    def coap_address(self) -> tuple[str, int]:
        return self.faces["lwm2m"].local

    @property
    def rest_address(self) -> tuple[str, int] | None:
        listener = self._listeners.get("rest")
        return None if listener is None else listener.local

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Where the device wire is served; None without a listener, as in virtual time."""
        listener = self._listeners.get("http")
        return None if listener is None else listener.local

    @property
    def http_url(self) -> str:
        """The base of the device wire's URLs, of the listener or of the in-process application."""
        address = self.http_address
        scheme = "http" if self.config.http_tls is None else "https"
        if address is None:
            return f"{scheme}://backend.invalid"
        return f"{scheme}://{authority(address)}"

    @property
    def omadm_address(self) -> tuple[str, int] | None:
        """Where OMA-DM is served; None without a listener, as in virtual time."""
        listener = self._listeners.get("omadm")
        return None if listener is None else listener.local

    @property
    def omadm_url(self) -> str:
        """The address of OMA-DM sessions, of the listener or of the in-process application."""
        address = self.omadm_address
        scheme = "http" if self.config.omadm_tls is None else "https"
        host = "dm.invalid" if address is None else authority(address)
        return f"{scheme}://{host}{SESSION_PATH}"

    # -- administration ---

    async def add_package(
        self,
        content: bytes,
        *,
        name: str,
        version: str,
        version_from: str = "",
        account: str | None = None,
        make: str = DEFAULT_MAKE,
        model: str = DEFAULT_MODEL,
        protocol: str = "LWM2M",
        release_note: str = "",
    ) -> Firmware:
        """Put a firmware package into the catalogue, durably. Raises RequestRefused."""
        if not content:
            raise RequestRefused("The firmware is empty")
        if len(content) > MAX_PACKAGE:
            raise RequestRefused(f"The firmware is larger than {MAX_PACKAGE} bytes", status=413)
        if not 0 < len(name) <= MAX_NAME:
            raise RequestRefused(f"A firmware name has 1 to {MAX_NAME} characters")
        if not 0 < len(version) <= MAX_VERSION or len(version_from) > MAX_VERSION:
            raise RequestRefused(f"A firmware version has 1 to {MAX_VERSION} characters")
        firmware = Firmware(
            account=account or self.config.account,
            name=name,
            version_from=version_from,
            version_to=version,
            make=make,
            model=model,
            protocol=protocol,
            release_note=release_note,
            launched=self.time.now(),
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )

        def write(connection: Connection) -> None:
            row = {"digest": firmware.digest, "body": content}
            connection.execute(store.PUT_CONTENT, row)
            connection.execute(store.PUT_PACKAGE, store.row_of(firmware))

        await self.writer.submit(write)
        self.inventory.packages[firmware.account, firmware.name] = firmware
        return firmware

    async def add_file(
        self,
        content: bytes,
        *,
        filename: str,
        version: str,
        account: str | None = None,
        make: str = DEFAULT_MAKE,
        model: str = DEFAULT_MODEL,
        path: str = "",
        name: str | None = None,
    ) -> ConfigFile:
        """Take in a configuration file, durably. `name` identifies it, and is made from make, model
        and `filename` for a new one; the same name again replaces content and version. Raises
        RequestRefused."""
        if len(content) > MAX_PACKAGE:
            raise RequestRefused(f"The file is larger than {MAX_PACKAGE} bytes", status=413)
        if not 0 < len(filename) <= MAX_NAME:
            raise RequestRefused(f"A file name has 1 to {MAX_NAME} characters")
        file = ConfigFile(
            account=account or self.config.account,
            name=name or f"configfile-{make}_{model}_{filename}",
            version_to=version,
            make=make,
            model=model,
            protocol="HTTP",
            path=path,
            launched=self.time.now(),
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )

        def write(connection: Connection) -> None:
            connection.execute(store.PUT_CONTENT, {"digest": file.digest, "body": content})
            connection.execute(store.PUT_FILE, store.row_of(file))

        await self.writer.submit(write)
        self.inventory.files[file.account, file.name] = file
        return file

    async def mint_tokens(self, names: Iterable[str]) -> dict[str, str]:
        """A fresh bearer token for each of these devices, which speak HTTP from now on. Only a hash
        is kept, so this is the one time that a token can be read. Raises RequestRefused."""
        tokens = {name: secrets.token_urlsafe(24) for name in dict.fromkeys(names)}
        for name in tokens:
            if name not in self.inventory.devices:
                raise RequestRefused(f"Device {name[:64]!r} does not exist.")
        await self.load_devices(
            {**self._record_of(name), "token": token} for name, token in tokens.items()
        )
        return tokens

    async def mint_dm_accounts(
        self, names: Iterable[str], auth: str = "md5"
    ) -> dict[str, Credential]:
        """A fresh DM account for each of these devices, which speak OMA-DM from now on: what a
        bootstrap would bring them, with the server's password as `token`. The server's id is
        `fotilla`; `auth` is how both sides show who they are: none, basic, md5 or hmac. This is the
        one time that the secrets can be read. Raises RequestRefused."""
        wanted = list(dict.fromkeys(names))
        if auth not in AUTH_TYPES:
            raise RequestRefused(f"auth is one of {', '.join(AUTH_TYPES)}, not {auth[:64]!r}")
        for name in wanted:
            if name not in self.inventory.devices:
                raise RequestRefused(f"Device {name[:64]!r} does not exist.")
        await self.load_devices({**self._record_of(name), "protocol": "OMADM"} for name in wanted)
        return await self.omadm.mint(wanted, auth)

    def _record_of(self, name: str) -> dict[str, Any]:
        """A device as `load_devices` takes it."""
        device = self.inventory.devices[name]
        return {
            "name": name,
            "deviceId": device.device_id,
            "account": device.account,
            "make": device.make,
            "model": device.model,
            "delivery": device.delivery,
        }

    async def load_devices(self, records: Iterable[Mapping[str, Any]]) -> list[Device]:
        """Load the inventory, durably: mappings with `name`, `deviceId` or both, and optionally
        `make`, `model`, `firmware`, `delivery`, `account`, `protocol` (one of PROTOCOLS), `token`
        (the bearer token of an HTTP device, kept as a hash). Raises RequestRefused."""
        now = self.time.now()
        devices = []
        for record in records:
            name = str(record.get("name") or f"urn:imei:{record.get('deviceId')}")
            known = self.inventory.devices.get(name)
            former = known.device_id if known is not None else None
            token = known.token if known is not None else ""
            if record.get("token") is not None:
                token = hash_token(check_token(record["token"]))
            device = Device(
                name=name,
                account=str(record.get("account") or self.config.account),
                device_id=str(record.get("deviceId") or former or self.inventory.id_for(name)),
                make=str(record.get("make") or DEFAULT_MAKE),
                model=str(record.get("model") or DEFAULT_MODEL),
                firmware=str(record.get("firmware") or (known.firmware if known else "")),
                delivery=_delivery(record.get("delivery")),
                created=known.created if known is not None else now,
                updated=now,
                upgraded=known.upgraded if known is not None else None,
                protocol=_protocol(record, known),
                token=token,
            )
            self.inventory.add_device(device)
            devices.append(device)
        if devices:
            rows = [store.row_of(device) for device in devices]
            await self.writer.submit(lambda connection: connection.execute(store.PUT_DEVICE, rows))
            self.engine.consider(devices)
        return devices

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
            kind=KIND_OF[package.protocol],
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
        member = self.engine.book.latest(name)
        if member is None:
            return UNKNOWN
        detail = f"{member.status}: {member.reason}"
        if member.said:
            detail += f" ({member.said})"
        verdict = VERDICTS.get(member.status)
        if verdict == "updated":
            return Belief("updated", detail, self.inventory.devices[name].firmware or None)
        return Belief("failed" if verdict == "failed" else "unfinished", detail)


def authority(address: tuple[str, int]) -> str:
    """An address as a URL writes it (RFC 3986 section 3.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _delivery(value: object) -> Delivery:
    if value is None or value == "push":
        return "push"
    if value == "pull":
        return "pull"
    raise RequestRefused(f"delivery is push or pull, not {value!r}")


def _protocol(record: Mapping[str, Any], known: Device | None) -> str:
    """What a device speaks: as said, or HTTP for one that gets a token, or what it spoke before."""
    value = record.get("protocol")
    if value is None:
        if record.get("token") is not None:
            return "HTTP"
        return known.protocol if known is not None else "LWM2M"
    if value not in PROTOCOLS:
        raise RequestRefused(f"protocol is one of {', '.join(PROTOCOLS)}, not {value!r}")
    return str(value)
