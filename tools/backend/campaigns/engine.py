"""The campaign engine: who is updated when, whatever the devices speak.

It holds every unfinished campaign in memory, rebuilt from the store at the start, and decides from
there. Whatever must survive is submitted to the writer; what reaches a device is sent from the
commit's callback, so that a restart never knows less than a device does. Above all: the position
`EXECUTE` is durable before a device is told to install.

A campaign is driven by one timer and by the events of its faces; there is no Task per campaign and
none per device.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import Connection

from agent.runtime.wheel import Timer, TimerWheel
from tools.backend.campaigns import pull, states
from tools.backend.campaigns.book import CampaignBook, insertion
from tools.backend.campaigns.reasons import RETRYABLE
from tools.backend.campaigns.records import (
    Campaign,
    CampaignRequest,
    Member,
    member_change,
    member_row,
)
from tools.backend.errors import RequestRefused
from tools.backend.faces.base import (
    DeviceFace,
    Ending,
    FaceEvent,
    FaceKind,
    FaceRefused,
    Order,
    Package,
    Position,
    Standing,
    Terms,
)
from tools.backend.inventory import Device, Inventory
from tools.backend.store import rows as store
from tools.backend.store.writer import Writer
from tools.backend.timing import (
    MAX_ATTEMPTS,
    BackendTime,
    CampaignTiming,
    day_start,
    in_window,
    next_opening,
)

Record = Callable[[str, str, str, str, str], None]
"""(subject, machine, old, new, cause): one line of the journal."""


class Observer(Protocol):
    """Who wants to know of changes. What it submits to the writer comes before the change."""

    def campaign_changed(self, campaign: Campaign, old: str) -> None:
        """A campaign has another status."""

    def member_changed(self, member: Member, old: str) -> None:
        """A device in a campaign has another status or reason."""


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
        self._writer = writer
        self._inventory = inventory
        self._wheel = wheel
        self._time = time
        self._timing = timing
        self._record = record
        self._faces: dict[str, DeviceFace] = {}
        self._bodies: dict[str, bytes] = {}
        self._sequence = 0
        self.book = CampaignBook(inventory, timing)
        self.on_change: Callable[[], None] = lambda: None
        """Called when a campaign begins or ends."""
        self.observers: list[Observer] = []
        """Told of every change of a status, before it is written."""

    # -- life ---

    def now(self) -> float:
        """This instant, by the backend's time."""
        return self._time.now()

    def attach(self, protocol: str, face: DeviceFace) -> None:
        """Let `face` serve the campaigns of `protocol`."""
        self._faces[protocol] = face

    def load(self, connection: Connection) -> None:
        """Rebuild the campaigns from the store, with the contents that are still needed."""
        self._bodies = self.book.load(connection)
        for campaign in self.book.campaigns.values():
            self._give_timer(campaign)

    def _give_timer(self, campaign: Campaign) -> None:
        campaign.timer = Timer(lambda _now: self._advance(campaign))

    def resume(self) -> None:
        """Go on after a start: orders under way first, then everything that is due."""
        for campaign in list(self.book.campaigns.values()):
            if campaign.final and not campaign.active:
                continue
            for member in list(campaign.members.values()):
                if member.active:
                    if campaign.kind.device_driven:
                        member.heard = self.now()  # it may have tried while we were down
                    self._watch(member)
                    self._offer(member)
                elif member.final or campaign.kind.device_driven:
                    continue
                elif member.status == states.PENDING:
                    self._later(member, member.next or 0.0)
                else:
                    campaign.ready.append(member)
            self._advance(campaign)

    def stop(self) -> None:
        """Let no timer fire any more."""
        for campaign in self.book.campaigns.values():
            if campaign.timer is not None:
                self._wheel.disarm(campaign.timer)

    # -- what is asked from outside ---

    async def create(self, request: CampaignRequest) -> Campaign:
        """Check a request and make the campaign durable. Raises RequestRefused."""
        campaign = self.book.draft(request, self._faces, self.now())
        face = self._faces[campaign.protocol]
        for member in campaign.ready:
            if "reachable" in member.cells and face.reachable(member.device):
                self.move(member, "reachable")
                member.reason = campaign.kind.wording.reachable
        self._give_timer(campaign)
        # From here to the await nothing else runs: of two requests with the same device exactly
        # one finds it free.
        self.book.add(campaign)
        try:
            body = await self._writer.submit(insertion(campaign))
        except Exception:
            self.book.remove(campaign)
            raise
        if campaign.unfinished:
            self._bodies[campaign.digest] = body
        self.on_change()
        self._tick(campaign)
        return campaign

    async def cancel(self, campaign: Campaign) -> None:
        """Cancel before the start, abort after it. Raises RequestRefused after the end."""
        if campaign.final:
            raise RequestRefused("The campaign has ended or was cancelled already")
        started = campaign.status == states.SCHEDULED
        for member in list(campaign.members.values()):
            if member.final:
                continue
            installing = member.position in (Position.EXECUTE, Position.INSTALLING)
            self.move(member, "abort" if started else "cancel")
            member.reason, member.next = "by user", None
            campaign.unfinished -= 1
            if installing:
                self.save(member)  # its real result replaces this one
            else:
                self._drop(member)
        self._move_campaign(campaign, "cancel")
        await self._writer.submit(lambda _connection: None)
        self._settle(campaign)

    def consider(self, devices: Iterable[Device]) -> None:
        """Devices were loaded or run another version: campaigns that add devices by themselves
        take those that match."""
        now = self.now()
        for device in devices:
            member = self.book.adopt(device, now)
            if member is None:
                continue
            campaign = member.campaign
            if "reachable" in member.cells and self._faces[campaign.protocol].reachable(
                member.device
            ):
                self.move(member, "reachable")
                member.reason = campaign.kind.wording.reachable
            self._writer.submit_row(store.ADD_MEMBER, member_row(member))
            if not campaign.kind.device_driven:
                campaign.ready.append(member)
            self._tick(campaign)

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

    # -- scheduling ---

    def _tick(self, campaign: Campaign, instant: float = 0.0) -> None:
        """Look at the campaign at `instant`, or at once."""
        if campaign.timer is not None:
            self._time.arm(self._wheel, campaign.timer, instant)

    def _advance(self, campaign: Campaign) -> None:
        """Do what is due in a campaign, and arm its timer for what comes next."""
        now = self.now()
        today = day_start(campaign.start_date) <= campaign.created
        if campaign.kind.queued_today or not today:
            for event in campaign.kind.preparation:
                if event in campaign.cells:
                    self._move_campaign(campaign, event)
        if "start" in campaign.cells and now >= campaign.starts:
            self._move_campaign(campaign, "start")
        if campaign.status == states.SCHEDULED:
            if now >= campaign.ends:
                self._expire(campaign)
            else:
                self._look_again(campaign, now)
                self._start_some(campaign, now)
            self._settle(campaign)
        self.arm(campaign, now)

    def arm(self, campaign: Campaign, now: float) -> None:
        """Look at the campaign again when something is due in it."""
        if campaign.final:
            return
        if "start" in campaign.cells:
            self._tick(campaign, campaign.starts)
            return
        due = campaign.ends
        if campaign.later:
            due = min(due, campaign.later[0][0])
        if campaign.ready and campaign.active < campaign.concurrency:
            due = min(due, next_opening(campaign.windows, now))
        self._tick(campaign, due)

    def _later(self, member: Member, instant: float) -> None:
        self._sequence += 1
        heapq.heappush(member.campaign.later, (instant, self._sequence, member))

    def _watch(self, member: Member) -> None:
        """Look at an attempt again when its time is over."""
        started = member.recent if member.recent is not None else self.now()
        self._later(member, started + self._timing.attempt_limit)

    def _look_again(self, campaign: Campaign, now: float) -> None:
        """Members whose instant has come: a retry, a delayed install, an attempt out of time."""
        while campaign.later and campaign.later[0][0] <= now:
            member = heapq.heappop(campaign.later)[2]
            if member.final:
                continue
            if member.position == Position.DOWNLOADED:
                if not campaign.kind.device_driven:
                    self._try_execute(member, now)
            elif member.active:
                # An entry of an earlier attempt finds this one younger and is dropped.
                limit = pull.given_up(member, self._timing.attempt_limit)
                if member.executed:
                    continue
                if now >= limit:
                    self.finish(member, Ending.TIMEOUT, "")
                elif member.heard:
                    self._later(member, limit)
            elif member.status in (states.PENDING, states.FAULT) and now >= (member.next or 0.0):
                campaign.ready.append(member)

    def _start_some(self, campaign: Campaign, now: float) -> None:
        face = self._faces[campaign.protocol]
        if not in_window(campaign.windows, now):
            return
        waiting = len(campaign.ready)
        while waiting and campaign.active < campaign.concurrency:
            waiting -= 1
            member = campaign.ready.popleft()
            if member.final or member.active or (member.next or 0.0) > now:
                continue  # a stale entry: its turn came or comes another way
            if not face.reachable(member.device):
                if "unreachable" in member.cells:
                    self.move(member, "unreachable")
                    member.reason, member.next = campaign.kind.wording.unreachable, None
                    self.save(member)
                if member.status == states.FAULT:
                    self._later(member, now + self._timing.retry_delay)
                continue  # its registration brings it back
            self.begin(member, now)

    def begin(self, member: Member, now: float) -> None:
        """Begin an attempt: durable first, then the face has the order."""
        for event in ("reachable", "plan", "start"):
            if event in member.cells:
                self.move(member, event)
        self.step(member, "offer")
        member.attempts += 1
        member.ending, member.said = None, ""
        member.recent, member.next = now, None
        member.reason = member.campaign.kind.wording.begun(now, now + self._timing.slot)
        member.campaign.active += 1
        self._watch(member)
        self.save(member, lambda: self._offer(member))

    def _offer(self, member: Member) -> None:
        """Hand an attempt to its face: a new one, or one that a former run began."""
        if not member.active:
            return
        campaign = member.campaign
        package = Package(
            campaign.package, campaign.version_to, campaign.digest, self._bodies[campaign.digest]
        )
        terms = Terms(
            campaign=campaign.id,
            kind=campaign.kind.lock.value,
            path=campaign.path,
            start_date=campaign.start_date,
            end_date=campaign.end_date,
            download_after=campaign.download_after,
            install_after=campaign.install_after,
            download=campaign.windows,
            install=campaign.install_windows,
            began=member.recent or 0.0,
        )
        try:
            self._faces[campaign.protocol].offer(
                Order(member.device, package, member.delivery, member.position, terms)
            )
        except FaceRefused as error:
            self._fault(member, str(error))

    def _fault(self, member: Member, text: str) -> None:
        now = self.now()
        if member.executed or "fault" not in member.cells:
            return
        again = next_opening(member.campaign.windows, now + self._timing.retry_delay)
        self.move(member, "fault")
        self.step(member, "retry")
        member.attempts -= 1  # the device has not been asked
        member.campaign.active -= 1
        member.said, member.next = text, again
        member.reason = member.campaign.kind.wording.fault(again)
        self.save(member)
        self._later(member, again)
        self.arm(member.campaign, now)

    # -- what faces tell ---

    def face_event(self, event: FaceEvent) -> None:
        """Take an event of a face."""
        if event.version:
            self._version(event.device, event.version)
        member = self._addressed(event)
        if member is not None:
            handlers = _DEVICE_DRIVEN if member.campaign.kind.device_driven else _SERVER_DRIVEN
            handlers[event.kind](self, member, event)

    def _addressed(self, event: FaceEvent) -> Member | None:
        """The device in the campaign that the event is about."""
        if not event.campaign:
            return self.book.open_member(event.device)
        found = self.book.open_members(event.device)
        return next((item for item in found if item.campaign.id == event.campaign), None)

    def _version(self, name: str, version: str) -> None:
        device = self._inventory.devices.get(name)
        if device is not None and device.firmware != version:
            device.firmware, device.updated = version, self.now()
            self._writer.submit_row(store.PUT_DEVICE, store.row_of(device))
            self.consider([device])

    def _on_registered(self, member: Member, _event: FaceEvent) -> None:
        if "reachable" not in member.cells:
            return
        self.move(member, "reachable")
        self.move(member, "plan")
        campaign = member.campaign
        now = self.now()
        start = next_opening(campaign.windows, max(now, campaign.starts))
        member.next = start
        member.reason = campaign.kind.wording.planned(start)
        self.save(member)
        campaign.ready.append(member)
        if campaign.status == states.SCHEDULED and campaign.active < campaign.concurrency:
            self._tick(campaign)

    def _on_ignored(self, member: Member, _event: FaceEvent) -> None:
        """Nothing follows: reachability is asked for when the device's turn comes."""

    def _on_progress(self, member: Member, _event: FaceEvent) -> None:
        if member.position == Position.OFFERED:
            self.step(member, "progress")
            self.save(member)

    def _on_downloaded(self, member: Member, event: FaceEvent) -> None:
        if member.position in (Position.OFFERED, Position.DOWNLOADING):
            self.step(member, "downloaded")
        elif member.position != Position.DOWNLOADED:
            return  # a repeated notification must not execute twice
        member.said = event.said
        self._try_execute(member, self.now())

    def _try_execute(self, member: Member, now: float) -> None:
        """Tell the device to install, if its window is open or its slot still runs."""
        campaign = member.campaign
        in_slot = member.recent is not None and now < member.recent + self._timing.slot
        if not (in_window(campaign.windows, now) or in_slot):
            self.save(member)
            opening = next_opening(campaign.windows, now)
            self._later(member, opening)
            self.arm(campaign, now)
            return
        self.step(member, "execute")
        member.executed = True
        # The intent first; the message only after the commit.
        self.save(member, lambda: self._install(member))

    def _install(self, member: Member) -> None:
        if member.position == Position.EXECUTE:
            self._faces[member.campaign.protocol].install(member.device)

    def _on_installing(self, member: Member, event: FaceEvent) -> None:
        if member.position == Position.EXECUTE:
            self.step(member, "installing")
            member.said = event.said
            self.save(member)

    def _on_final(self, member: Member, event: FaceEvent) -> None:
        if member.active and event.ending is not None:
            self.finish(member, event.ending, event.said)

    def finish(self, member: Member, ending: Ending, said: str) -> None:
        """The end of an attempt: success, another attempt, or failure."""
        campaign = member.campaign
        now = self.now()
        aborted = member.status == states.ABORTED
        member.ending, member.said = ending, said
        member.reason = campaign.kind.reasons[ending]
        again = next_opening(campaign.windows, now + self._timing.retry_delay)
        if ending is Ending.SUCCESS:
            self.move(member, "succeed")
            self._upgraded(member, now)
        elif (
            ending in RETRYABLE
            and not (aborted or member.executed)
            and member.attempts < MAX_ATTEMPTS
            and again < campaign.ends
        ):
            self.move(member, "retry")
            self.step(member, "retry")
            campaign.active -= 1
            member.next = again
            self._faces[campaign.protocol].withdraw(member.device)
            self.save(member)
            if not campaign.kind.device_driven:
                self._later(member, again)
                self.arm(campaign, now)
            return
        else:
            self.move(member, "fail")
        if not aborted:
            campaign.unfinished -= 1
        self._drop(member)
        if campaign.ready and not campaign.final:
            self._tick(campaign)
        self._settle(campaign)

    def _upgraded(self, member: Member, now: float) -> None:
        device = self._inventory.devices.get(member.device)
        if device is not None:
            device.upgraded = now
            self._writer.submit_row(store.PUT_DEVICE, store.row_of(device))

    # -- ends ---

    def _expire(self, campaign: Campaign) -> None:
        """The end date: whoever has no result by now has failed."""
        for member in list(campaign.members.values()):
            if member.final:
                continue
            self.move(member, "end")
            member.reason = campaign.kind.wording.expired(
                member.position, member.attempts, member.ending
            )
            member.ending = member.ending or Ending.TIMEOUT
            campaign.unfinished -= 1
            self._drop(member)

    def _drop(self, member: Member) -> None:
        """Take a member with a final status off the schedule."""
        if member.active:
            member.campaign.active -= 1
            self._faces[member.campaign.protocol].withdraw(member.device)
        if member.position != Position.DONE:
            self.step(member, "finish")
        member.next = None
        self.book.close(member)
        self.save(member)

    def _settle(self, campaign: Campaign) -> None:
        """End a campaign that has nothing left to do, and let go of what it held."""
        if campaign.status == states.SCHEDULED and not campaign.unfinished:
            self._move_campaign(campaign, "end")
        if campaign.final and not campaign.active:
            if campaign.timer is not None:
                self._wheel.disarm(campaign.timer)
            campaign.ready.clear()
            campaign.later.clear()
            if not self.book.needs(campaign.digest):
                self._bodies.pop(campaign.digest, None)
            self.on_change()

    # -- the only places where a state changes ---

    def _move_campaign(self, campaign: Campaign, event: str) -> None:
        old = campaign.status
        campaign.status = states.next_state(campaign.kind.campaign_table, old, event)
        self._record(campaign.id, "campaign", old, campaign.status, event)
        for observer in self.observers:
            observer.campaign_changed(campaign, old)
        self._writer.submit_row(
            store.SET_CAMPAIGN_STATUS, {"b_id": campaign.id, "b_status": campaign.status}
        )

    def move(self, member: Member, event: str) -> None:
        """Change the status of a device in its campaign."""
        old = member.status
        member.status = states.next_state(member.campaign.kind.device_table, old, event)
        member.updated = self.now()
        self._record(member.device, "campaign device", old, member.status, event)

    def step(self, member: Member, event: str) -> None:
        """Change how far the attempt has come."""
        old = member.position
        member.position = states.next_state(states.POSITION_TABLE, old, event)
        self._record(member.device, "attempt", old.name, member.position.name, event)

    def save(self, member: Member, then: Callable[[], None] | None = None) -> None:
        """Submit a member's row; `then` runs after the commit, and not when that failed."""

        def committed(_result: Any, error: Exception | None) -> None:
            if error is None and then is not None:
                then()

        callback = None if then is None else committed
        self._writer.submit_row(store.SET_MEMBER, member_change(member), callback)


Handlers = Mapping[FaceKind, Callable[[CampaignEngine, Member, FaceEvent], None]]

_SERVER_DRIVEN: Handlers = {
    FaceKind.REGISTERED: CampaignEngine._on_registered,
    FaceKind.GONE: CampaignEngine._on_ignored,
    FaceKind.VERSION: CampaignEngine._on_ignored,
    FaceKind.PROGRESS: CampaignEngine._on_progress,
    FaceKind.DOWNLOADED: CampaignEngine._on_downloaded,
    FaceKind.INSTALLING: CampaignEngine._on_installing,
    FaceKind.FINAL: CampaignEngine._on_final,
}

_DEVICE_DRIVEN: Handlers = {
    FaceKind.REGISTERED: pull.on_asked,
    FaceKind.GONE: CampaignEngine._on_ignored,
    FaceKind.VERSION: CampaignEngine._on_ignored,
    FaceKind.PROGRESS: pull.on_progress,
    FaceKind.DOWNLOADED: pull.on_downloaded,
    FaceKind.INSTALLING: pull.on_installing,
    FaceKind.FINAL: CampaignEngine._on_final,
}
