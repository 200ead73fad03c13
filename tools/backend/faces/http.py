"""The server for HTTP devices: check-in, reports, logs and packages (docs/device-checkin.md).

A pull protocol: nothing can be sent to a device, so an order stands until the device comes for it,
and is given again at each check-in until the device has reported the end. Decisions come from
memory. Every request that changes something is answered after the commit that made it durable:
the engine's rows and ours are queued in one turn of the loop and share a transaction.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Executable, func, select

from agent.credentials import Credential
from tools.backend.campaigns.kinds import SOFTWARE_V2
from tools.backend.errors import BackendError
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
    Standing,
    device_faces,
    same_version,
)
from tools.backend.faces.http_app import DeviceApp
from tools.backend.faces.http_wire import (
    PROGRESS,
    CheckIn,
    Current,
    DeviceLog,
    Refused,
    Report,
    campaign_answer,
    check_base64,
    ending_of,
    not_now,
    unauthorized,
)
from tools.backend.inventory import Device
from tools.backend.store import rows as store
from tools.backend.store import tables
from tools.backend.timing import Shift, day_start, in_window, next_opening, rfc3339

if TYPE_CHECKING:
    from tools.backend.administration import Administration

MISSED = 2
"""Check-ins that a device may miss before it is no longer held to be reachable; ours."""

CROWDED = 60.0
"""Seconds after which a device whose campaign has no free place is asked to come again; ours."""

LONGEST_WAIT = 3600.0
"""Seconds of the longest Retry-After: a device must not sleep over an edit of its campaign."""

WATCHED_INTERVAL = 2.0
"""Seconds between the check-ins of devices that somebody watches: nobody wants to see them wait."""

STORE_WAIT = 5.0
"""Seconds of Retry-After when the store fails."""

LOGS_WAIT = 3600.0
"""Seconds of Retry-After when a device has sent as many logs as are kept."""

REMEMBERED = 4
"""Campaigns whose last sequence number is kept in memory for a device; the store has them all."""


class CheckInResult(enum.StrEnum):
    """`result` of the check-in history. The API's values are unknown; these are ours."""

    NO_UPDATE = "NoUpdate"
    OFFERED = "UpdateOffered"
    IN_PROGRESS = "UpdateInProgress"
    CANCELLED = "UpdateCancelled"
    DEFERRED = "UpdateDeferred"


class CheckInFailure(enum.StrEnum):
    """`failureType` of the check-in history; ours as well."""

    NONE = "None"
    NOT_YET = "NotYet"
    """Before the start or outside of a download window."""
    NO_PLACE = "NoPlace"
    """Enough devices of the campaign are at work."""


@dataclass(slots=True)
class Contact:
    """What is remembered of a device that came."""

    seen: float = 0.0
    state: str = ""
    reason: str = ""
    version: str = ""
    cancels: frozenset[str] = frozenset()
    """Orders that were withdrawn and that it has not been told of."""
    seqs: dict[str, int] = field(default_factory=dict)
    """The last report by campaign."""


@device_faces.register("http")
class HttpFace:
    """The server side of the device wire, without its listener."""

    name = "http"
    protocol = "HTTP"
    listener = ListenerSpec("http", "HTTP", "127.0.0.1:8090", "http", tls=True, client_ca=True)
    campaigns = SOFTWARE_V2

    def __init__(self, context: FaceContext) -> None:
        self._context = context
        self.app = DeviceApp(self)
        """The device wire as an ASGI application, whether or not a listener serves it."""
        self._writer = context.writer
        self._time = context.time
        self._sink = context.sink
        self._inventory = context.inventory
        self._contacts: dict[str, Contact] = {}
        self._ordered: dict[str, Order] = {}
        context.time.on_shift.append(self._shift)

    # -- DeviceFace ---

    @property
    def local(self) -> tuple[str, int]:
        """Where it is to listen; the listener knows where it does."""
        return self._context.bind

    async def start(self) -> None:
        """Read back who came and what was reported last."""
        await self._writer.submit(self._load)

    def _load(self, connection: Connection) -> None:
        columns = tables.check_ins.c
        query = select(columns.device, func.max(columns.time)).group_by(columns.device)
        for device, seen in connection.execute(query):
            self._contact(device).seen = seen
        reports = select(tables.reports).order_by(tables.reports.c.time)
        for row in connection.execute(reports):
            self._remember(self._contact(row.device), row.campaign, row.seq)

    def open(self) -> None:
        """Nothing to open: the application is served."""

    async def introduce(
        self, names: Sequence[str], server: str, office: Administration
    ) -> Introduction:
        """Such devices have a token, and check in as often as somebody who watches them wants."""
        await office.load_devices({"name": name} for name in names)
        tokens = await office.mint_tokens(names)
        return Introduction(
            server,
            tuple(Credential(token=tokens[name]) for name in names),
            (("interval", f"{WATCHED_INTERVAL:g}"),),
        )

    async def stop(self) -> None:
        """Nothing to close: what is answered now is answered."""

    def resume(self) -> None:
        """Nothing to do: devices come by themselves."""

    def reachable(self, device: str) -> bool:
        contact = self._contacts.get(device)
        return contact is not None and self._is_fresh(contact)

    def offer(self, order: Order) -> None:
        self._ordered[order.device] = order

    def install(self, device: str) -> None:
        """Never called: such a device installs by itself, and asks for leave."""

    def withdraw(self, device: str) -> None:
        order = self._ordered.pop(device, None)
        if order is not None:
            self._contact(device).cancels |= {order.terms.campaign}

    def forget(self, device: str) -> None:
        self._contacts.pop(device, None)
        self._ordered.pop(device, None)

    def believed(self, device: str) -> FaceBelief | None:
        contact = self._contacts.get(device)
        if contact is None:
            return None
        return FaceBelief(contact.state, contact.reason, contact.version, "check-in")

    def identities(self) -> list[str]:
        return sorted(name for name, item in self._contacts.items() if self._is_fresh(item))

    def _is_fresh(self, contact: Contact) -> bool:
        return self._time.now() < contact.seen + MISSED * self._context.contact * self._time.rate

    def _shift(self, shift: Shift) -> None:
        """The time was changed: how long ago a device came goes by its own clock."""
        for contact in self._contacts.values():
            contact.seen = shift.moved(contact.seen)

    # -- who is there ---

    def _contact(self, device: str) -> Contact:
        contact = self._contacts.get(device)
        if contact is None:
            contact = self._contacts[device] = Contact()
        return contact

    @staticmethod
    def _remember(contact: Contact, campaign: str, seq: int) -> None:
        contact.seqs.pop(campaign, None)
        contact.seqs[campaign] = seq
        if len(contact.seqs) > REMEMBERED:
            del contact.seqs[next(iter(contact.seqs))]

    def identify(self, token: bytes | None, client_name: str | None) -> Device:
        """The device of a bearer token, a client certificate, or both. Raises Refused."""
        device = None if token is None else self._inventory.by_token(token)
        if client_name is not None:
            certified = self._inventory.identified(client_name)
            if token is not None and certified is not device:
                raise unauthorized()
            device = certified
        if device is None or device.protocol != self.protocol:
            raise unauthorized()
        return device

    @staticmethod
    def _same(device: Device, text: str) -> None:
        if text not in (device.device_id, device.name):
            raise unauthorized()

    # -- check-in ---

    async def check_in(self, device: Device, asked: CheckIn, base: str) -> dict[str, Any]:
        """The answer to a check-in; `base` goes in front of the path of the package."""
        self._same(device, asked.deviceId)
        name, now = device.name, self._time.now()
        contact = self._contact(name)
        contact.seen = now
        contact.state = asked.current.state if asked.current is not None else "idle"
        if asked.software:
            contact.version = asked.software[0].version
            if contact.version != device.firmware:
                self._sink(FaceEvent(name, FaceKind.VERSION, version=contact.version))
        former = self._context.under_way(name)
        if self._context.concerns(name):
            self._sink(FaceEvent(name, FaceKind.REGISTERED))
        stale = asked.current is not None and self._go_on(name, asked.current)
        due = self._context.due(name)
        result, failure = self._judge(former, self._context.under_way(name), due, now)
        cancels = set(contact.cancels)
        if stale and asked.current is not None:
            cancels.add(asked.current.campaignId)
        if cancels and result is CheckInResult.NO_UPDATE:
            result = CheckInResult.CANCELLED
        # The engine has queued what it decided before this row, so its order is here after it.
        await self._commit(
            store.ADD_CHECK_IN,
            {
                "device": name,
                "client_type": asked.clientType,
                "result": result.value,
                "failure": failure.value,
                "time": now,
            },
        )
        order = self._ordered.get(name)
        answer: dict[str, Any] = {
            "serverTime": rfc3339(self._time.now()),
            "nextCheckIn": self._next_contact(due, now),
        }
        if order is not None:
            answer["campaign"] = campaign_answer(order, f"{base}{order.package.digest}")
            # Begun again: what was withdrawn before is not to be stopped any more.
            cancels.discard(order.terms.campaign)
            contact.cancels -= {order.terms.campaign}
        contact.cancels -= cancels
        if cancels:
            answer["cancel"] = sorted(cancels)
        until = self._context.logs.until(name)
        answer["logging"] = (
            {"on": False} if until is None else {"on": True, "until": rfc3339(until)}
        )
        return answer

    def _go_on(self, name: str, current: Current) -> bool:
        """Take what the device says of its update as a report. True when it must stop."""
        standing = self._context.standing(name, current.campaignId)
        if standing is Standing.OPEN:
            kind = PROGRESS.get(current.state)
            if kind is not None:
                said = f"{current.state}, {current.offset} bytes"
                self._sink(FaceEvent(name, kind, said=said, campaign=current.campaignId))
            return False
        return standing is not Standing.WAITING

    @staticmethod
    def _judge(
        former: str, campaign: str, due: float | None, now: float
    ) -> tuple[CheckInResult, CheckInFailure]:
        """What the history says of this check-in."""
        if campaign:
            known = campaign == former
            result = CheckInResult.IN_PROGRESS if known else CheckInResult.OFFERED
            return result, CheckInFailure.NONE
        if due is None:
            return CheckInResult.NO_UPDATE, CheckInFailure.NONE
        failure = CheckInFailure.NOT_YET if due > now else CheckInFailure.NO_PLACE
        return CheckInResult.DEFERRED, failure

    def _next_contact(self, due: float | None, now: float) -> int:
        """Seconds to the next check-in: the usual, or sooner when an order is to come."""
        usual = self._context.contact
        if due is not None:
            usual = min(usual, self._time.until(due) if due > now else CROWDED)
        return max(1, -int(-usual // 1))

    # -- reports ---

    async def report(self, device: Device, campaign: str, report: Report) -> None:
        """Take a report; returns when it is durable. Raises Refused."""
        name = device.name
        contact = self._contact(name)
        standing = self._context.standing(name, campaign)
        if standing is Standing.UNKNOWN:
            raise Refused(404, "CAMPAIGN_NOT_FOUND", "no such campaign for this device")
        last = contact.seqs.get(campaign, -1)
        if report.seq <= last:
            # A repetition: it is accepted once more when the first one is durable.
            await self._commit_report(name, campaign, last)
            return
        ending = ending_of(report) if report.state == "failed" else None
        if standing is Standing.WAITING:
            # Its attempt was given up, and it has gone on: another one, if one may begin.
            self._sink(FaceEvent(name, FaceKind.REGISTERED, campaign=campaign))
            standing = self._context.standing(name, campaign)
        if standing is Standing.ABORTED:
            raise Refused(409, "CAMPAIGN_ABORTED", "the campaign was aborted")
        if standing is not Standing.OPEN:
            raise Refused(410, "CAMPAIGN_CLOSED", "the campaign is closed for this device")
        if report.state == "installing":
            self._leave_to_install(name)
        contact.seen = self._time.now()
        contact.state, contact.reason = report.state, report.reason or ""
        self._remember(contact, campaign, report.seq)
        self._tell(name, campaign, report, ending)
        try:
            await self._commit_report(name, campaign, report.seq)
        except Refused:
            if contact.seqs.get(campaign) == report.seq:
                self._remember(contact, campaign, last)
            raise

    def _leave_to_install(self, name: str) -> None:
        """Raises Refused while the install window is closed."""
        order = self._ordered.get(name)
        if order is None or order.position >= Position.EXECUTE:
            return
        terms, now = order.terms, self._time.now()
        earliest = max(now, day_start(terms.install_after) if terms.install_after else now)
        if earliest > now or not in_window(terms.install, now):
            wait = next_opening(terms.install, earliest) - now
            raise not_now(min(wait, LONGEST_WAIT), "OUTSIDE_WINDOW", "the install window is closed")
        self._ordered[name] = replace(order, position=Position.INSTALLING)

    def _tell(self, name: str, campaign: str, report: Report, ending: Ending | None) -> None:
        said = f"{report.state}: {report.reason}" if ending is not None else report.state
        kind = PROGRESS.get(report.state)
        if kind is not None:
            self._sink(FaceEvent(name, kind, said=said, campaign=campaign))
            return
        version = ""
        order = self._ordered.pop(name, None)  # it knows the end: nothing to withdraw
        if ending is None:
            ending = Ending.SUCCESS
            if order is not None and order.terms.kind == "firmware":
                version = report.version or order.package.version
                if not same_version(version, order.package.version):
                    ending = Ending.WRONG_VERSION
                said = f"{report.state}, version {version}"
        self._sink(
            FaceEvent(name, FaceKind.FINAL, ending, said[:255], version=version, campaign=campaign)
        )

    async def _commit_report(self, name: str, campaign: str, seq: int) -> None:
        row = {"device": name, "campaign": campaign, "seq": seq, "time": self._time.now()}
        await self._commit(store.PUT_REPORT, row)

    # -- packages ---

    def package(self, device: Device, digest: str, *, begins: bool) -> bytes:
        """The bytes that a device may have now. Raises Refused."""
        order = self._ordered.get(device.name)
        if order is None or order.package.digest != digest:
            raise Refused(404, "PACKAGE_NOT_FOUND", "no order for this package")
        terms, now = order.terms, self._time.now()
        if not in_window(terms.download, now) and now >= terms.began + self._context.slot:
            wait = next_opening(terms.download, now) - now
            raise not_now(
                min(wait, LONGEST_WAIT), "OUTSIDE_WINDOW", "the download window is closed"
            )
        if begins and order.position < Position.DOWNLOADED:
            self._sink(FaceEvent(device.name, FaceKind.PROGRESS, campaign=terms.campaign))
        return order.package.body

    # -- logs ---

    async def log(self, device: Device, entry: DeviceLog) -> None:
        """Store a log entry; returns when it is durable. Raises Refused."""
        self._same(device, entry.deviceId)
        logs = self._context.logs
        if logs.until(device.name) is None:
            raise Refused(409, "LOGGING_OFF", "logging is not on for this device")
        check_base64(entry.binaryLogFileBase64)
        if logs.full(device.name):
            raise not_now(LOGS_WAIT, "TOO_MANY_LOGS", "the device has sent too many logs", 429)
        row = {
            "log_time": rfc3339(entry.logTime.timestamp()),
            "log_type": entry.logType,
            "event": entry.eventLog,
            "binary": entry.binaryLogFileBase64,
            "filename": entry.binaryLogFilename,
        }
        try:
            await logs.add(device.name, row)
        except BackendError:
            raise not_now(STORE_WAIT, "STORE_FAILED", "the entry could not be stored") from None

    # -- durability ---

    async def _commit(self, statement: Executable, row: Mapping[str, Any]) -> None:
        """Queue one row and return when it, and all that was queued before it, is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def committed(_result: Any, error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(
                    not_now(STORE_WAIT, "STORE_FAILED", "the report could not be stored")
                )

        self._writer.submit_row(statement, row, committed)
        await done
