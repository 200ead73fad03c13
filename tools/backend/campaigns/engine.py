"""The campaign engine: who is updated when, whatever the devices speak.

It holds every unfinished campaign in memory, rebuilt from the store at the start, and decides from
there. Whatever must survive is submitted to the writer; what reaches a device is sent from the
commit's callback, so that a restart never knows less than a device does. Above all: the position
`EXECUTE` is durable before a device is told to install.

A campaign is driven by one timer and by the events of its faces; there is no Task per campaign and
none per device. This file has the life, what is asked from outside, and the only places where a
state changes; `scheduling` has what time brings, `turns` the attempts and what faces tell, `pull`
the same for devices that drive themselves, `edits` what a customer changes, `checks` the checks of
a new campaign, `queue` the devices that wait in the network.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Executable

from agent.runtime.wheel import Timer, TimerWheel
from tools.backend.campaigns import (
    checks,
    edits,
    pull,
    queue,
    rules,
    scheduling,
    states,
    trail,
    turns,
)
from tools.backend.campaigns.book import CampaignBook, addition
from tools.backend.campaigns.cells import CellPlaces
from tools.backend.campaigns.publication import set_aside
from tools.backend.campaigns.records import (
    NOTHING_MORE,
    Attempt,
    Campaign,
    CampaignDates,
    CampaignRequest,
    EditResult,
    Member,
    Rider,
    member_change,
    member_row,
)
from tools.backend.faces.base import DeviceFace, Ending, FaceEvent, Position, Standing
from tools.backend.inventory import Device, Inventory
from tools.backend.store import rows as store
from tools.backend.store.writer import Writer
from tools.backend.timing import CELL_LIMIT, BackendTime, CampaignTiming

Record = Callable[[str, str, str, str, str], None]
"""(subject, machine, old, new, cause): one line of the journal."""


OnCreate = Callable[[Campaign, Sequence[Member]], Rider]


class Observer(Protocol):
    """Who wants to know of changes. What it submits to the writer comes before the change."""

    def campaign_changed(self, campaign: Campaign, old: str) -> None:
        """A campaign has another status."""

    def member_changed(self, member: Member, old: str) -> None:
        """A device in a campaign has another status or reason; it is about to be written."""


class CampaignEngine:
    """All campaigns of the backend."""

    def __init__(
        self,
        writer: Writer,
        inventory: Inventory,
        wheel: TimerWheel,
        time: BackendTime,
        timing: CampaignTiming,
        record: Record,
    ) -> None:
        self.writer = writer
        self.inventory = inventory
        self.timing = timing
        self._wheel = wheel
        self._time = time
        self.record = record
        self.faces: dict[str, DeviceFace] = {}
        self.bodies: dict[str, bytes] = {}
        self._sequence = 0
        self.book = CampaignBook(inventory, timing)
        self.cells = CellPlaces(self._cell_of, self._cell_limit)
        self.on_change: Callable[[], None] = lambda: None
        """Called when a campaign begins or ends."""
        self.observers: list[Observer] = []
        """Told of every change of a status, before it is written."""
        self.cell_of: Callable[[str], str] = lambda _device_id: ""
        """The serving cell of an attached device, empty for any other."""
        self.cell_limit: Callable[[str], int] = lambda _cell: CELL_LIMIT
        self.keep: Callable[[], None] = lambda: None
        """Called between the parts of a large campaign, whose devices live as long as the backend.
        A process that is nothing else keeps them from the garbage collector, which would look at
        all of them again and again and hold up everybody meanwhile."""
        self.auto_assign: Callable[[str, Sequence[Device]], Rider | None] = (
            lambda _account, _devices: NOTHING_MORE
        )
        """Assign licences to all of these devices, to be stored with what needs them, or to
        none."""
        self.on_create: OnCreate = lambda _campaign, _members: NOTHING_MORE
        """Told of a new campaign that is about to be written with these devices, checked, some of
        which it may have rejected; observers are told of what changes from then on."""

    def _cell_of(self, device_id: str) -> str:
        return self.cell_of(device_id)

    def _cell_limit(self, cell: str) -> int:
        return self.cell_limit(cell)

    # -- life ---

    def now(self) -> float:
        """This instant, by the backend's time."""
        return self._time.now()

    def attach(self, protocol: str, face: DeviceFace) -> None:
        """Let `face` serve the campaigns of `protocol`."""
        self.faces[protocol] = face

    def load(self, connection: Connection) -> None:
        """Rebuild the campaigns from the store, with the contents that are still needed."""
        self.bodies = self.book.load(connection)
        for campaign in self.book.campaigns.values():
            self.give_timer(campaign)

    def give_timer(self, campaign: Campaign) -> None:
        """Let a campaign be looked at when something is due in it."""
        campaign.timer = Timer(lambda _now: scheduling.advance(self, campaign))

    def resume(self) -> None:
        """Go on after a start: orders under way first, then everything that is due."""
        for campaign in list(self.book.campaigns.values()):
            scheduling.resume(self, campaign)

    def stop(self) -> None:
        """Let no timer fire any more."""
        for campaign in self.book.campaigns.values():
            if campaign.timer is not None:
                self._wheel.disarm(campaign.timer)

    # -- what is asked from outside ---

    async def create(self, request: CampaignRequest) -> Campaign:
        """Check a request and make the campaign durable. Raises RequestRefused."""
        return await checks.create(self, request)

    async def cancel(self, campaign: Campaign, *, customer: bool = True) -> None:
        """Cancel before the start, abort after it. Raises RequestRefused after the end and, for a
        customer, after the start where the API's version or the account does not allow that."""
        await edits.cancel(self, campaign, customer=customer)

    async def append(self, campaign: Campaign, device_ids: Sequence[str]) -> list[EditResult]:
        """Add devices to a campaign that has not started. Raises RequestRefused."""
        return await edits.append(self, campaign, device_ids)

    async def remove(self, campaign: Campaign, device_ids: Sequence[str]) -> list[EditResult]:
        """Take devices out of a campaign that has not started; without any it is cancelled. Raises
        RequestRefused."""
        return await edits.remove(self, campaign, device_ids)

    async def redate(self, campaign: Campaign, dates: CampaignDates) -> None:
        """Change dates and windows. Raises RequestRefused."""
        await edits.redate(self, campaign, dates)

    def release(self, names: Iterable[str]) -> None:
        """The licences of these devices are gone: upgrades that have not begun are cancelled for
        them, others finish."""
        edits.release(self, names)

    async def unqueue(self, name: str) -> bool:
        """Let a device wait for its next power-up no more; whether it did. An attempt that is under
        way finishes."""
        if name not in self.book.queued:
            return False
        queue.leave(self, name, queue.BY_ADMINISTRATOR)
        await self.writer.submit(lambda _connection: None)
        return True

    def in_progress(self, name: str) -> bool:
        """Whether an attempt with the device is under way."""
        return any(member.active for member in self.book.open_members(name))

    async def attempts(self, name: str) -> list[Attempt]:
        """Every attempt to update a device, oldest first."""
        found = await self.writer.read(lambda connection: store.load_attempts(connection, name))
        return [
            Attempt(
                campaign=self.book.campaigns[row["campaign"]],
                number=row["number"],
                started=row["started"],
                finished=row["finished"],
                status=row["status"],
                ending=Ending(row["outcome"]) if row["outcome"] else None,
                version_from=row["version_from"],
            )
            for row in found
        ]

    async def trails(self, name: str) -> dict[str, list[trail.Step]]:
        """What a device went through in each of its campaigns, by id; nothing where that is not
        known."""
        campaigns = [member.campaign.id for member in self.book.members_of(name)]
        found = await self.writer.read(
            lambda connection: store.load_trails(connection, name, campaigns)
        )
        return {campaign: trail.steps(text) for campaign, text in found.items()}

    def consider(self, devices: Iterable[Device]) -> None:
        """Devices were loaded, attached or run another version: campaigns that add devices by
        themselves take those that match."""
        now = self.now()
        for device in devices:
            adopted = self.book.adopt(device, now, self.auto_assign)
            if adopted is None:
                continue
            member, licence = adopted
            campaign = member.campaign
            if "reachable" in member.cells and self.reachable(member):
                self.move(member, "reachable")
                member.reason = campaign.kind.wording.reachable
            self.join(store.ADD_MEMBER, [member], licence)
            queue.supersede(self, member)
            if not campaign.kind.device_driven:
                campaign.ready.append(member)
            self.tick(campaign)

    def attached(self, device_id: str) -> None:
        """The network reports that a device has attached, or has moved to another cell."""
        device = self.inventory.identified(device_id)
        if device is None:
            return
        scheduling.seen(self, device.name)
        queue.power_up(self, device)
        self.consider([device])

    def present(self, device_id: str) -> None:
        """The network reports a device that it monitors from now on, and that is attached already.
        That is no power-up, and campaigns that have the device have asked where it is."""
        device = self.inventory.identified(device_id)
        if device is not None:
            self.consider([device])

    def detached(self, device_id: str) -> None:
        """The network reports that a device is gone."""
        device = self.inventory.identified(device_id)
        if device is not None:
            scheduling.lost(self, device.name)

    def watches(self, device_id: str) -> bool:
        """Whether a campaign wants to know when the device comes and goes."""
        device = self.inventory.identified(device_id)
        return device is not None and self.book.watches(device, self.now())

    def cell_changed(self, cell: str) -> None:
        """A cell has another limit."""
        scheduling.give_places(self, cell)

    def reachable(self, member: Member) -> bool:
        """Whether the network or the device's own server knows where it is."""
        face = self.faces[member.campaign.protocol]
        return face.reachable(member.device) or bool(self.cell_of(member.device_id))

    def concerns(self, device: str) -> bool:
        """Whether a campaign wants something of the device now, or at its next power-up."""
        return self.book.open_member(device) is not None or device in self.book.queued

    def standing(self, device: str, campaign_id: str) -> Standing:
        """How a device stands to a campaign that it speaks of."""
        campaign = self.book.campaigns.get(campaign_id)
        member = None if campaign is None else campaign.members.get(device)
        if member is None or member.status == states.REJECTED:
            return Standing.UNKNOWN
        if member.active:
            return Standing.OPEN
        if member.status == states.ABORTED:
            return Standing.ABORTED
        return Standing.CLOSED if member.final else Standing.WAITING

    def under_way(self, device: str) -> str:
        """The campaign that a device has an attempt under way in, empty without one."""
        member = self.book.open_member(device)
        return member.campaign.id if member is not None and member.active else ""

    def due(self, device: str) -> float | None:
        """When the next attempt of a device that drives itself may begin."""
        waiting = [pull.due(member) for member in self.book.open_members(device)]
        return min((instant for instant in waiting if instant is not None), default=None)

    def face_event(self, event: FaceEvent) -> None:
        """Take an event of a face."""
        turns.face_event(self, event)

    # -- when to look again ---

    def tick(self, campaign: Campaign, instant: float = 0.0) -> None:
        """Look at the campaign at `instant`, or at once."""
        if campaign.timer is not None:
            self._time.arm(self._wheel, campaign.timer, instant)

    def rest(self, campaign: Campaign) -> None:
        """Do not look at the campaign again."""
        if campaign.timer is not None:
            self._wheel.disarm(campaign.timer)

    def later(self, member: Member, instant: float) -> None:
        """Look at a device again at `instant`."""
        self._sequence += 1
        heapq.heappush(member.campaign.later, (instant, self._sequence, member))

    # -- the only places where a state changes ---

    def move_campaign(self, campaign: Campaign, event: str) -> None:
        """Change the status of a campaign."""
        old = campaign.status
        campaign.status = states.next_state(campaign.kind.campaign_table, old, event)
        self.record(campaign.id, "campaign", old, campaign.status, event)
        campaign.trail += trail.step(campaign.status, self.now())
        for observer in self.observers:
            observer.campaign_changed(campaign, old)
        self.writer.submit_row(
            store.SET_CAMPAIGN_STATUS,
            {"b_id": campaign.id, "b_status": campaign.status, "b_trail": campaign.trail},
        )

    def move(self, member: Member, event: str) -> None:
        """Change the status of a device in its campaign."""
        old = member.status
        now = self.now()
        status = states.next_state(member.campaign.kind.device_table, old, event)
        set_aside(member, now, self.timing)
        member.status, member.updated = status, now
        self.record(member.device, "campaign device", old, status, event)

    def step(self, member: Member, event: str) -> None:
        """Change how far the attempt has come."""
        old = member.position
        member.position = states.next_state(states.POSITION_TABLE, old, event)
        self.record(member.device, "attempt", old.name, member.position.name, event)

    def save(self, member: Member, then: Callable[[], None] | None = None) -> None:
        """Submit a member's row; `then` runs after the commit, and not when that failed."""

        def committed(_result: Any, error: Exception | None) -> None:
            if error is None and then is not None:
                then()

        statement, row = store.SET_MEMBER, member_change(member)
        if member.status != member.told:
            for observer in self.observers:
                observer.member_changed(member, member.told)
            member.told = member.status
            statement = store.MOVE_MEMBER
            row["b_step"] = trail.step(member.status, member.updated)
        callback = None if then is None else committed
        # Kept: the change is in force here already, and nobody would repeat it.
        self.writer.submit_row(statement, row, callback, keep=True)

    def join(self, statement: Executable, members: Sequence[Member], licences: Rider) -> None:
        """Submit the rows of devices that join a campaign, with `statement`."""
        if licences is NOTHING_MORE:
            for member in members:
                self.writer.submit_row(statement, member_row(member))
            return
        self.writer.submit_nowait(
            addition(statement, members, licences),
            lambda _result, error: licences.settled(error),
            keep=True,  # they are in the campaign already
        )

    def note_attempt(self, member: Member, finished: float | None) -> None:
        """Write down an attempt that begins, or the same one when it is over."""
        device = self.inventory.devices.get(member.device)
        if not member.ran:
            member.ran = member.campaign.version_from or (device.firmware if device else "")
        self.writer.submit_row(
            store.PUT_ATTEMPT,
            {
                "campaign": member.campaign.id,
                "device": member.device,
                "number": member.attempts,
                "started": member.recent if member.recent is not None else self.now(),
                "finished": finished,
                "status": "" if finished is None else _result(member),
                "outcome": "" if member.ending is None else member.ending.value,
                "version_from": member.ran,
            },
        )

    # -- ends ---

    def drop(self, member: Member) -> None:
        """Take a member with a final status off the schedule."""
        if member.active:
            member.campaign.active -= 1
            self.faces[member.campaign.protocol].withdraw(member.device)
        if member.position != Position.DONE:
            self.step(member, "finish")
        member.next, member.waits = None, ""
        self.book.close(member)
        self.save(member)
        scheduling.free_place(self, member)
        scheduling.next_action(self, member)

    def settle(self, campaign: Campaign) -> None:
        """End a campaign that has nothing left to do, and let go of what it held. One that adds
        devices by itself has, as long as it does."""
        idle = campaign.status == states.SCHEDULED and not campaign.unfinished
        if idle and not rules.adds_devices(campaign, self.now()):
            self.move_campaign(campaign, "end")
        if campaign.final and not campaign.active:
            self.rest(campaign)
            campaign.ready.clear()
            campaign.later.clear()
            campaign.unplanned.clear()
            if not self.book.needs(campaign.digest):
                self.bodies.pop(campaign.digest, None)
            self.on_change()


def _result(member: Member) -> str:
    return states.SUCCESS if member.ending is Ending.SUCCESS else states.FAILED
