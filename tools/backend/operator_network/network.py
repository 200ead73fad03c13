"""The operator network, first floor: who is attached where, and the short-message centre.

Theory of operation
-------------------
A device attaches when it powers up: a serving cell, and an address and port that take datagrams
pushed to it. The **short-message centre** stores and forwards: a message is a PDU that nobody here
looks into, and has a time of validity.

    accepted --> sent       at once when the device is attached, else when it attaches
             `-> expired    nobody attached in time

A message is *accepted* once it is durable; `kill -9` loses none, and none is sent that would be
forgotten. It is *sent* when its datagram has left; the row goes after that, so a restart in between
sends it once more. Datagrams are not acknowledged: what is lost on the way is lost, and who sent
the message must be able to send another one.

Messages to one device leave in the order of their acceptance. There is one socket for each family
of addresses, one timer for all validities, and no Task.

Every attachment is known, but a device's coming and going is *reported* (`on_reachable`,
`on_unreachable`) only while it is monitored: `monitor` and `in_campaign` say of whom. Who asks for
the cell of a device has it in a campaign.

Cells are names, with a capacity each (`cells`): a scheduler asks `cell_of` and `cells.limit`.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agent.runtime.journal import Ring
from agent.runtime.network import Address, DatagramSocket
from agent.runtime.runtime import Runtime
from agent.runtime.wheel import Timer
from tools.backend.errors import BackendError, RequestRefused, StoreError
from tools.backend.inventory import Inventory
from tools.backend.operator_network import rows
from tools.backend.operator_network.cells import CellCapacities, check_cell
from tools.backend.operator_network.rows import Attachment, ShortMessage
from tools.backend.store.writer import Writer
from tools.backend.timing import BackendTime

MAX_PDU = 1_024
"""Bytes of a PDU: what a push over short messages can reach with the 7 segments that centres
usually grant, and well within a datagram that no network cuts."""

MAX_WAITING = 32
"""Messages that wait for one device; ours, a centre has such a limit for each subscriber."""

MAX_VALIDITY = 7 * 24 * 3600.0
"""Seconds; usual centres keep a message for a week."""

NOWHERE: Address = ("", 0)
"""The address of an attached device that takes no datagrams; its messages wait until they
expire."""

REMEMBERED = 4_096
"""Reports of messages that are done, kept for whoever asks; in memory, the newest."""

MACHINE = "short message"
ACCEPTED, SENT, EXPIRED = "accepted", "sent", "expired"

SHORT_MESSAGE_TABLE: dict[str, dict[str, str]] = {
    ACCEPTED: {"send": SENT, "expire": EXPIRED},
    SENT: {},
    EXPIRED: {},
}


class MessageRefused(BackendError):
    """The short-message centre does not take a message; the text says why."""


@dataclass(frozen=True, slots=True)
class MessageReport:
    """What became of a message: `state` is `sent` or `expired`, at the instant `when`."""

    number: int
    device_id: str
    state: str
    when: float


class OperatorNetwork:
    """Attachments and the short-message centre of one backend."""

    def __init__(
        self, runtime: Runtime, writer: Writer, time: BackendTime, inventory: Inventory
    ) -> None:
        self._inventory = inventory
        self._runtime = runtime
        self._writer = writer
        self._time = time
        self._ring = Ring()
        self._attached: dict[str, Attachment] = {}
        self._waiting: dict[str, deque[ShortMessage]] = {}
        self._held: dict[int, ShortMessage] = {}
        """The same messages by number."""
        self._expiries: list[tuple[float, int]] = []
        """A heap of (instant, number); a number that is held no more was sent."""
        self._reports: dict[int, MessageReport] = {}
        self._sockets: dict[bool, DatagramSocket] = {}
        self._timer = Timer(self._expire)
        self._number = 0
        self._stopped = False
        self.cells = CellCapacities(writer)
        self._monitored: set[str] = set()
        self.in_campaign: Callable[[str], bool] = lambda _device_id: False
        """Whether a device is monitored although nobody has asked for it with `monitor`."""
        self.on_reachable: list[Callable[[Attachment], None]] = []
        """Called when an attachment of a monitored device is durable."""
        self.on_present: list[Callable[[Attachment], None]] = []
        """Called when `monitor` is asked for a device that is attached already."""
        self.on_unreachable: list[Callable[[str], None]] = []
        """Called with the device id when a detachment of a monitored device is durable."""
        self.on_attach: list[Callable[[Attachment], None]] = []
        """Called when an attachment of any device is durable: of the network itself, not a
        report."""
        self.on_detach: list[Callable[[str], None]] = []
        """The same for a detachment, with the device id."""
        self.on_report: list[Callable[[MessageReport], None]] = []
        """Called when a message has left or has expired."""

    # -- life ---

    def load(self, connection: Connection, starts: int) -> None:
        """Read back what a former run left. `starts` is how often the backend has started."""
        self.cells.load(connection)
        for attachment in rows.load_attachments(connection):
            self._attached[attachment.device_id] = attachment
        for message in rows.load_messages(connection):
            self._keep(message)
        # Never given out twice, and known before the commit: reports go by number.
        self._number = starts << 32

    def start(self) -> None:
        """Send what waits for devices that are attached, and watch the validities."""
        for device_id in list(self._waiting):
            self._forward(device_id)
        self._arm()

    def stop(self) -> None:
        """Send nothing any more; what waits stays in the store."""
        self._stopped = True
        self._runtime.wheel.disarm(self._timer)
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()

    def id_of(self, device: str) -> str:
        """The device id that is meant: a device of the inventory goes by its identity too."""
        found = self._inventory.identified(device)
        return device if found is None else found.device_id

    # -- attachments ---

    async def attach(self, device: str, cell: str, push: Address | None) -> Attachment:
        """A device is served by `cell` and takes datagrams at `push`, or none; returns when it is
        durable. A device that is attached moves. Raises RequestRefused for a bad cell or
        address."""
        check_cell(cell)
        device_id = self.id_of(device)
        where = NOWHERE if push is None else check_push(push)
        attachment = Attachment(device_id, cell, *where, self._time.now())
        former = self._attached.get(device_id)
        # At once, so that of two requests the later one holds; it is answered after the commit.
        self._attached[device_id] = attachment
        try:
            await self._commit(rows.PUT_ATTACHMENT, rows.row_of(attachment))
        except StoreError:
            if self._attached.get(device_id) is attachment:
                self._restore(device_id, former)
            raise
        if self._attached.get(device_id) is attachment and not self._stopped:
            self._record(device_id, "attachment", "", cell, "attach")
            self._forward(device_id)
            if self.monitored(device_id):
                for hook in self.on_reachable:
                    hook(attachment)
            for hook in self.on_attach:
                hook(attachment)
        return attachment

    def _restore(self, device_id: str, former: Attachment | None) -> None:
        if former is None:
            self._attached.pop(device_id, None)
        else:
            self._attached[device_id] = former

    async def detach(self, device: str) -> bool:
        """The device is gone; returns, when that is durable, whether it was there."""
        device_id = self.id_of(device)
        former = self._attached.pop(device_id, None)
        if former is None:
            return False
        try:
            await self._commit(rows.DROP_ATTACHMENT, {"b_device_id": device_id})
        except StoreError:
            self._attached.setdefault(device_id, former)
            raise
        self._record(device_id, "attachment", former.cell, "", "detach")
        if not self._stopped:
            if self.monitored(device_id):
                for hook in self.on_unreachable:
                    hook(device_id)
            for hook in self.on_detach:
                hook(device_id)
        return True

    def forget(self, device_id: str) -> None:
        """The device is gone, from the store too: nothing waits for it any more."""
        self._monitored.discard(device_id)
        former = self._attached.pop(device_id, None)
        if former is not None:
            self._record(device_id, "attachment", former.cell, "", "removed")
        for message in self._waiting.pop(device_id, ()):
            del self._held[message.number]

    def attachment(self, device: str) -> Attachment | None:
        """Where a device is attached; None for one that is not."""
        return self._attached.get(self.id_of(device))

    def cell_of(self, device: str) -> str:
        """The serving cell, empty for a device that is not attached."""
        found = self.attachment(device)
        return "" if found is None else found.cell

    def serving(self) -> Counter[str]:
        """How many devices each cell serves."""
        return Counter(attachment.cell for attachment in self._attached.values())

    # -- monitoring ---

    def monitored(self, device_id: str) -> bool:
        """Whether it is reported when the device comes, moves and goes."""
        return device_id in self._monitored or self.in_campaign(device_id)

    def monitor(self, device_id: str) -> None:
        """Report on a device from now on; and where it is, when it is attached."""
        self._monitored.add(device_id)
        attachment = self._attached.get(device_id)
        if attachment is not None and not self._stopped:
            for hook in self.on_present:
                hook(attachment)

    def unmonitor(self, device_id: str) -> None:
        """Report on it no more, but for what a campaign wants to know."""
        self._monitored.discard(device_id)

    # -- short messages ---

    async def submit(self, device: str, pdu: bytes, validity: float) -> int:
        """Take a message, valid for so many seconds; returns its number when it is durable. Raises
        MessageRefused."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def accepted(error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        number = self.submit_nowait(device, pdu, validity, accepted)
        await done
        return number

    def submit_nowait(
        self,
        device: str,
        pdu: bytes,
        validity: float,
        on_accepted: Callable[[Exception | None], None] | None = None,
    ) -> int:
        """The same without waiting: the number, before the message is durable. `on_accepted` is
        called then, with the store's error when it failed. Raises MessageRefused."""
        message = self._take(self.id_of(device), pdu, validity)

        def committed(_result: Any, error: Exception | None) -> None:
            if error is None:
                self._accepted(message)
            if on_accepted is not None:
                on_accepted(error)

        self._writer.submit_row(rows.ADD_MESSAGE, rows.row_of(message), committed)
        return message.number

    def state_of(self, number: int) -> str:
        """`accepted`, `sent` or `expired`; empty for a number that is unknown or long done."""
        report = self._reports.get(number)
        if report is not None:
            return report.state
        return ACCEPTED if number in self._held else ""

    def messages(self, device: str) -> list[ShortMessage]:
        """What waits for a device, in the order of acceptance."""
        return list(self._waiting.get(self.id_of(device), ()))

    def reports(self, device: str) -> list[MessageReport]:
        """What became of messages to a device, as far as it is remembered, oldest first."""
        device_id = self.id_of(device)
        return [report for report in self._reports.values() if report.device_id == device_id]

    def waiting(self, device: str) -> int:
        """How many messages wait for a device."""
        return len(self._waiting.get(self.id_of(device), ()))

    def _take(self, device_id: str, pdu: bytes, validity: float) -> ShortMessage:
        if not 0 < len(pdu) <= MAX_PDU:
            raise MessageRefused(f"a PDU has 1 to {MAX_PDU} bytes, not {len(pdu)}")
        if not 0 < validity <= MAX_VALIDITY:
            raise MessageRefused(f"a validity is above 0 and at most {MAX_VALIDITY:.0f} seconds")
        if self.waiting(device_id) >= MAX_WAITING:
            raise MessageRefused(f"{MAX_WAITING} messages wait for {device_id} already")
        self._number += 1
        now = self._time.now()
        return ShortMessage(self._number, device_id, pdu, now, now + validity)

    def _accepted(self, message: ShortMessage) -> None:
        if self._stopped:
            return
        self._record(message.device_id, MACHINE, "", ACCEPTED, "submit")
        self._keep(message)
        self._forward(message.device_id)
        self._arm()

    def _keep(self, message: ShortMessage) -> None:
        self._waiting.setdefault(message.device_id, deque()).append(message)
        self._held[message.number] = message
        heapq.heappush(self._expiries, (message.expires, message.number))

    def _forward(self, device_id: str) -> None:
        """Send everything that waits for a device, if it is attached."""
        attachment = self._attached.get(device_id)
        if attachment is None or self._stopped or attachment.push == NOWHERE:
            return
        now = self._time.now()
        for message in self._waiting.pop(device_id, ()):
            if message.expires <= now:
                self._done(message, "expire", now)
                continue
            socket = self._socket(attachment.host)
            socket.send(message.pdu, attachment.push)
            self._done(message, "send", now)

    def _done(self, message: ShortMessage, event: str, now: float) -> None:
        state = SHORT_MESSAGE_TABLE[ACCEPTED][event]
        del self._held[message.number]
        self._record(message.device_id, MACHINE, ACCEPTED, state, event)
        self._writer.submit_row(rows.DROP_MESSAGE, {"b_number": message.number})
        report = MessageReport(message.number, message.device_id, state, now)
        self._reports[message.number] = report
        if len(self._reports) > REMEMBERED:
            del self._reports[next(iter(self._reports))]
        for hook in self.on_report:
            hook(report)

    def _expire(self, _now: float) -> None:
        now = self._time.now()
        while self._expiries and self._expiries[0][0] <= now:
            message = self._held.get(heapq.heappop(self._expiries)[1])
            if message is None:
                continue
            queue = self._waiting[message.device_id]
            queue.remove(message)
            if not queue:
                del self._waiting[message.device_id]
            self._done(message, "expire", now)
        self._arm()

    def _arm(self) -> None:
        if self._expiries and not self._stopped:
            self._time.arm(self._runtime.wheel, self._timer, self._expiries[0][0])

    # -- the rest ---

    def _socket(self, host: str) -> DatagramSocket:
        v6 = ":" in host
        found = self._sockets.get(v6)
        if found is None:
            bind = ("::" if v6 else "0.0.0.0", 0)
            found = self._sockets[v6] = self._runtime.network.open(bind, _nothing)
        return found

    def _record(self, device: str, machine: str, old: str, new: str, cause: str) -> None:
        self._runtime.journal.record(self._ring, device, machine, old, new, cause)

    async def _commit(self, statement: Any, row: dict[str, Any]) -> None:
        """Queue one row and return when it is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def committed(_result: Any, error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self._writer.submit_row(statement, row, committed)
        await done


def check_push(push: Address) -> Address:
    """An address and port that datagrams can be pushed to. Raises RequestRefused. Numbers only: to
    look up a name would hold up every other device."""
    host, port = push
    try:
        text = str(ipaddress.ip_address(host))
    except ValueError:
        raise RequestRefused(f"push: {host[:64]!r} is not an IP address") from None
    if not 0 < port <= 65535:
        raise RequestRefused(f"push: {port} is not a port")
    return (text, port)


def _nothing(_data: bytes, _source: Address) -> None:
    """Nobody answers the short-message centre."""
