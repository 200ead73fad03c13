"""What firmware does a device run? Asking it, over LwM2M, while somebody waits or later.

Theory of operation
-------------------
`read` asks a list of devices for 3/0/3 at once and gives up on whoever has not answered within
READ_LIMIT; a device that is not registered or sleeps is not even asked.

`request` is the same for one device, and patient::

    Pending --read--> Success
       `-----expire--> Failed

It is durable before it is acknowledged. A device is asked at once if it is there, else at its next
contact, until the request is a day old. A newer request for the same device replaces the older one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from agent.runtime.wheel import Timer, TimerWheel
from protocols.lwm2m.records import Value
from tools.backend.campaigns.reasons import REASONS
from tools.backend.campaigns.states import next_state
from tools.backend.faces.base import Ending, FaceEvent, FaceKind
from tools.backend.faces.lwm2m_link import VERSION, DeviceLink
from tools.backend.inventory import Device, Inventory
from tools.backend.store import tables
from tools.backend.store.rows import upsert
from tools.backend.store.writer import Writer
from tools.backend.timing import DAY, BackendTime

if TYPE_CHECKING:
    from tools.backend.faces.lwm2m import Lwm2mFace

__all__ = ["SYNC_TABLE", "FirmwareReading", "FirmwareSync", "SyncRequest"]

READ_LIMIT = 30.0
"""Seconds for all devices of one call; ours."""

REQUEST_LIFE = DAY
"""How long a device that is not there is waited for; ours."""

MAX_VERSION = 255
"""Characters of a version that the store takes."""

UPDATED = "FirmwareVersionUpdateSuccess"
NOT_UPDATED = "FirmwareVersionUpdateFailed"
"""The status of an item: the first is the SDK's example, the second ours."""

PENDING, SUCCESS, FAILED = "Pending", "Success", "Failed"
SYNC_TABLE: dict[str, dict[str, str]] = {
    PENDING: {"read": SUCCESS, "expire": FAILED},
    SUCCESS: {},
    FAILED: {},
}
"""Ours: the public pages name no value of `requestStatus`."""

UNREACHABLE = REASONS[Ending.UNREACHABLE].v3
ASKED = "The firmware version of the device is being read."
READ = "The device reports its firmware version."
NOT_LWM2M = "Only LwM2M devices can be asked for their firmware version."
TOO_LONG = "The device reports a firmware version that is too long."

PUT_SYNC = upsert(tables.firmware_syncs, "device_id")

Done = Callable[[str, str], None]
"""(version, problem): one of the two is empty."""


@dataclass(frozen=True, slots=True)
class FirmwareReading:
    """What became of reading one device's firmware version."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """The newest request of somebody who does not wait; mirrors `firmware_syncs`."""

    device_id: str
    account: str
    request: str
    status: str
    reason: str
    requested: float
    finished: float | None


class FirmwareSync:
    """Reads firmware versions, and keeps the requests of those who do not wait."""

    def __init__(
        self,
        writer: Writer,
        inventory: Inventory,
        time: BackendTime,
        wheel: TimerWheel,
        sink: Callable[[FaceEvent], None],
        record: Callable[[str, str, str, str, str], None],
    ) -> None:
        self._writer = writer
        self._inventory = inventory
        self._time = time
        self._wheel = wheel
        self._sink = sink
        self._record = record
        self._face: Lwm2mFace | None = None
        self._requests: dict[str, SyncRequest] = {}
        self._pending: dict[str, str] = {}
        """The identities of devices that are waited for, and their ids; oldest request first."""
        self._links: dict[str, DeviceLink] = {}
        self._timer = Timer(lambda _now: self._expire())

    # -- life ---

    def load(self, connection: Connection) -> None:
        """Read back the requests of a former run."""
        query = select(tables.firmware_syncs).order_by(tables.firmware_syncs.c.requested)
        for row in connection.execute(query).mappings():
            self._requests[row["device_id"]] = SyncRequest(**row)

    def start(self, face: Lwm2mFace) -> None:
        """Ask, through `face`, whoever was not asked yet."""
        self._face = face
        face.on_contact = self.contact
        for request in self._requests.values():
            device = self._inventory.by_id(request.account, request.device_id)
            if request.status == PENDING and device is not None:
                self._pending[device.name] = device.device_id
        self._expire()
        for name in list(self._pending):
            self.contact(name)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._wheel.disarm(self._timer)
        for link in self._links.values():
            link.cancel()
        self._links.clear()

    # -- asking devices ---

    def _ask(self, device: Device, done: Done) -> DeviceLink | None:
        """Read 3/0/3; `done` is called once, at once for a device that is not there."""
        face = self._face
        peer = face.peer_of(device.name) if face is not None else None
        if device.protocol != "LWM2M":
            done("", NOT_LWM2M)
        elif face is None or peer is None or not face.awake(device.name):
            done("", UNREACHABLE)
        else:
            link = DeviceLink(peer)

            def read(value: Value) -> None:
                version = str(value)
                if len(version) > MAX_VERSION:
                    done("", TOO_LONG)
                    return
                self._sink(FaceEvent(device.name, FaceKind.VERSION, version=version))
                done(version, "")

            def refused(_text: str) -> None:
                done("", REASONS[Ending.REFUSED].v3)

            def silent(_text: str) -> None:
                done("", UNREACHABLE)

            link.read(face.endpoint, VERSION, read, refused, silent)
            return link
        return None

    async def read(self, devices: Iterable[Device]) -> Mapping[str, FirmwareReading]:
        """The reading of each device by name, within READ_LIMIT seconds."""
        found: dict[str, FirmwareReading] = {}
        links: dict[str, DeviceLink] = {}
        waiting = {device.name: device for device in devices}
        all_done = asyncio.Event()

        def done_of(name: str) -> Done:
            def done(_version: str, problem: str) -> None:
                status, reason = (NOT_UPDATED, problem) if problem else (UPDATED, READ)
                found[name] = FirmwareReading(status, reason)
                if len(found) == len(waiting):
                    all_done.set()

            return done

        timer = Timer(lambda _now: all_done.set())
        self._wheel.arm(timer, self._time.on_wheel(self._time.after(READ_LIMIT)))
        try:
            for name, device in waiting.items():
                link = self._ask(device, done_of(name))
                if link is not None:
                    links[name] = link
            if waiting:
                await all_done.wait()
        finally:
            self._wheel.disarm(timer)
            for link in links.values():
                link.cancel()
        silent = FirmwareReading(NOT_UPDATED, UNREACHABLE)
        # What was read is in the inventory by now; the caller's answer comes after the commit.
        await self._writer.submit(lambda _connection: None)
        return {name: found.get(name, silent) for name in waiting}

    # -- requests of those who do not wait ---

    def latest(self, device: Device) -> SyncRequest | None:
        """The newest request for a device."""
        return self._requests.get(device.device_id)

    async def request(self, device: Device, request_id: str) -> None:
        """Have the firmware version of a device read when it can be; durable on return."""
        former = self._requests.get(device.device_id)
        now = self._time.now()
        request = SyncRequest(
            device.device_id, device.account, request_id, PENDING, ASKED, now, None
        )
        self._requests[device.device_id] = request
        self._drop_link(device.name)
        self._pending.pop(device.name, None)
        self._pending[device.name] = device.device_id
        row = asdict(request)
        try:
            await self._writer.submit(lambda connection: connection.execute(PUT_SYNC, row))
        except Exception:
            if self._requests.get(device.device_id) is request:
                self._forget(device, former)
            raise
        self._record(device.name, "firmware sync", "", PENDING, "request")
        self._arm()
        if self._requests.get(device.device_id) is request:
            self.contact(device.name)

    def _forget(self, device: Device, former: SyncRequest | None) -> None:
        """Undo a request that could not be stored."""
        del self._requests[device.device_id]
        if former is not None:
            self._requests[device.device_id] = former
        if former is None or former.status != PENDING:
            self._pending.pop(device.name, None)

    def forget(self, device: Device) -> None:
        """The device is gone, from the store too."""
        self._drop_link(device.name)
        self._pending.pop(device.name, None)
        self._requests.pop(device.device_id, None)
        self._arm()

    def contact(self, name: str) -> None:
        """A device is there."""
        device = self._inventory.devices.get(name)
        if name not in self._pending or name in self._links or device is None:
            return

        def done(version: str, _problem: str) -> None:
            self._links.pop(name, None)
            if version:
                self._finish(name, "read", READ)

        link = self._ask(device, done)
        if link is not None:
            self._links[name] = link

    def _drop_link(self, name: str) -> None:
        link = self._links.pop(name, None)
        if link is not None:
            link.cancel()

    def _arm(self) -> None:
        oldest = next(iter(self._pending.values()), None)
        if oldest is None:
            self._wheel.disarm(self._timer)
        else:
            end = self._requests[oldest].requested + REQUEST_LIFE
            self._time.arm(self._wheel, self._timer, end)

    def _expire(self) -> None:
        limit = self._time.now() - REQUEST_LIFE
        for name, device_id in list(self._pending.items()):
            if self._requests[device_id].requested > limit:
                break
            self._drop_link(name)
            self._finish(name, "expire", UNREACHABLE)
        self._arm()

    def _finish(self, name: str, event: str, reason: str) -> None:
        """The only place where the status of a request changes."""
        request = self._requests[self._pending.pop(name)]
        status = next_state(SYNC_TABLE, request.status, event)
        self._record(name, "firmware sync", request.status, status, event)
        ended = replace(request, status=status, reason=reason, finished=self._time.now())
        self._requests[request.device_id] = ended
        self._writer.submit_row(PUT_SYNC, asdict(ended))
