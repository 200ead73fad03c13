"""The attempts: how one begins, what faces tell of it, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tools.backend.campaigns import pull, queue, scheduling, states
from tools.backend.faces.base import (
    Ending,
    FaceEvent,
    FaceKind,
    FaceRefused,
    Order,
    Package,
    Position,
    Terms,
    same_version,
)
from tools.backend.store import rows as store
from tools.backend.timing import next_opening

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine
    from tools.backend.campaigns.records import Member


# -- begin ---


def begin(engine: CampaignEngine, member: Member, now: float) -> None:
    """Begin an attempt: durable first, then the face has the order."""
    former = member.recent
    _open(engine, member, now)
    watch(engine, member)
    scheduling.arm(engine, member.campaign, now)
    engine.save(member, lambda: offer(engine, member, former))


def absent(engine: CampaignEngine, member: Member, now: float) -> None:
    """An attempt whose device was not there, for plans that count that."""
    _open(engine, member, now)
    finish(engine, member, Ending.UNREACHABLE, "")


def _open(engine: CampaignEngine, member: Member, now: float) -> None:
    for event in ("reachable", "plan", "start"):
        if event in member.cells:
            engine.move(member, event)
    engine.step(member, "offer")
    member.attempts += 1
    member.ending, member.said, member.ran = None, "", ""
    member.recent, member.next, member.heard = now, None, 0.0
    member.reason = member.campaign.kind.wording.begun(now, now + engine.timing.slot)
    member.campaign.active += 1
    engine.note_attempt(member, None)


def watch(engine: CampaignEngine, member: Member) -> None:
    """Look at an attempt again when its time is over."""
    if member.recent is None:
        member.recent = engine.now()
    engine.later(member, member.campaign.schedule.limit(member, engine.timing))


def offer(engine: CampaignEngine, member: Member, former: float | None = None) -> None:
    """Hand an attempt to its face: a new one, or one that a former run began. `former` is when the
    device was asked before."""
    if not member.active:
        return
    campaign = member.campaign
    body = engine.bodies.get(campaign.digest)
    if body is None and not member.executed:
        # Lost from the store while the campaign ran: a fault of ours.
        _fault(engine, member, "the package of the campaign is missing", former)
        return
    package = Package(campaign.package, campaign.version_to, campaign.digest, body or b"")
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
        engine.faces[campaign.protocol].offer(
            Order(member.device, package, member.delivery, member.position, terms)
        )
    except FaceRefused as error:
        _fault(engine, member, str(error), former)


def _fault(engine: CampaignEngine, member: Member, text: str, former: float | None) -> None:
    now = engine.now()
    if member.executed or "fault" not in member.cells:
        return
    campaign = member.campaign
    again = next_opening(campaign.windows, now + engine.timing.retry_delay)
    engine.move(member, "fault")
    engine.step(member, "retry")
    member.attempts -= 1  # the device has not been asked
    member.recent = former
    campaign.active -= 1
    member.said, member.next = text, again
    member.reason = campaign.kind.wording.fault(again)
    engine.save(member)
    engine.later(member, again)
    scheduling.free_place(engine, member)
    scheduling.next_action(engine, member)
    scheduling.arm(engine, campaign, now)


# -- what faces tell ---


def face_event(engine: CampaignEngine, event: FaceEvent) -> None:
    """Take an event of a face."""
    if event.version:
        _version(engine, event.device, event.version)
    member = _addressed(engine, event)
    if member is not None:
        handlers = _DEVICE_DRIVEN if member.campaign.kind.device_driven else _SERVER_DRIVEN
        handlers[event.kind](engine, member, event)
    # What waits in the network begins at any contact, or after whatever else was under way.
    if event.kind is FaceKind.REGISTERED or (event.kind is FaceKind.FINAL and member is not None):
        device = engine.inventory.devices.get(event.device)
        waiting = engine.book.queued.get(event.device)
        if device is not None and waiting is not None and waiting is not member:
            queue.power_up(engine, device)


def _addressed(engine: CampaignEngine, event: FaceEvent) -> Member | None:
    """The device in the campaign that the event is about."""
    if not event.campaign:
        return engine.book.open_member(event.device)
    found = engine.book.open_members(event.device)
    return next((item for item in found if item.campaign.id == event.campaign), None)


def _version(engine: CampaignEngine, name: str, version: str) -> None:
    device = engine.inventory.devices.get(name)
    if device is None or device.firmware == version:
        return
    device.firmware, device.updated = version, engine.now()
    engine.writer.submit_row(store.PUT_DEVICE, store.row_of(device))
    waiting = engine.book.queued.get(name)
    if waiting is not None and same_version(version, waiting.campaign.version_to):
        queue.leave(engine, name, "target version reported")
    engine.consider([device])


def _on_registered(engine: CampaignEngine, member: Member, _event: FaceEvent) -> None:
    scheduling.seen(engine, member.device)


def _on_gone(engine: CampaignEngine, member: Member, _event: FaceEvent) -> None:
    scheduling.lost(engine, member.device)


def _on_ignored(engine: CampaignEngine, member: Member, _event: FaceEvent) -> None:
    """Nothing follows."""


def _on_progress(engine: CampaignEngine, member: Member, _event: FaceEvent) -> None:
    if member.position == Position.OFFERED:
        engine.step(member, "progress")
        engine.save(member)


def _on_downloaded(engine: CampaignEngine, member: Member, event: FaceEvent) -> None:
    if member.position in (Position.OFFERED, Position.DOWNLOADING):
        engine.step(member, "downloaded")
    elif member.position != Position.DOWNLOADED:
        return  # a repeated notification must not execute twice
    member.said = event.said
    try_execute(engine, member, engine.now())


def try_execute(engine: CampaignEngine, member: Member, now: float) -> None:
    """Tell the device to install, if its window is open or its slot still runs."""
    campaign = member.campaign
    opening = campaign.schedule.install_from(member, now, engine.timing)
    if opening > now:
        engine.save(member)
        engine.later(member, opening)
        scheduling.arm(engine, campaign, now)
        return
    engine.step(member, "execute")
    member.executed = True
    # The intent first; the message only after the commit.
    engine.save(member, lambda: _install(engine, member))


def _install(engine: CampaignEngine, member: Member) -> None:
    if member.position == Position.EXECUTE:
        engine.faces[member.campaign.protocol].install(member.device)


def _on_installing(engine: CampaignEngine, member: Member, event: FaceEvent) -> None:
    if member.position == Position.EXECUTE:
        engine.step(member, "installing")
        member.said = event.said
        engine.save(member)


def _on_final(engine: CampaignEngine, member: Member, event: FaceEvent) -> None:
    if member.active and event.ending is not None:
        finish(engine, member, event.ending, event.said)


# -- end ---


def finish(engine: CampaignEngine, member: Member, ending: Ending, said: str) -> None:
    """The end of an attempt: success, another attempt, or failure."""
    campaign = member.campaign
    now = engine.now()
    aborted = member.status == states.ABORTED
    counted = not (aborted or member.queued)
    member.ending, member.said = ending, said
    member.reason = campaign.kind.reasons[ending]
    if ending is Ending.SUCCESS:
        engine.move(member, "succeed")
        if member.queued:
            queue.leave(engine, member.device, "updated")
        _upgraded(engine, member, now)
    else:
        again = None
        if not aborted:
            again = campaign.schedule.again(member, ending, now, engine.timing)
        if again is not None:
            _retry(engine, member, again, now)
            return
        engine.move(member, "fail")
        if campaign.schedule.requeues and not aborted:
            queue.enter(engine, member)
    if counted:
        campaign.unfinished -= 1
    engine.note_attempt(member, now)
    engine.drop(member)
    if campaign.ready and not campaign.final:
        engine.tick(campaign)
    engine.settle(campaign)


def _retry(engine: CampaignEngine, member: Member, again: float, now: float) -> None:
    campaign = member.campaign
    engine.move(member, "retry")
    engine.note_attempt(member, now)
    engine.step(member, "retry")
    campaign.active -= 1
    member.next = again
    engine.faces[campaign.protocol].withdraw(member.device)
    engine.save(member)
    scheduling.free_place(engine, member)
    scheduling.next_action(engine, member)
    if not campaign.kind.device_driven:
        engine.later(member, again)
        scheduling.arm(engine, campaign, now)


def _upgraded(engine: CampaignEngine, member: Member, now: float) -> None:
    device = engine.inventory.devices.get(member.device)
    if device is not None:
        device.upgraded = now
        engine.writer.submit_row(store.PUT_DEVICE, store.row_of(device))


Handlers = Mapping[FaceKind, Callable[["CampaignEngine", "Member", FaceEvent], None]]

_SERVER_DRIVEN: Handlers = {
    FaceKind.REGISTERED: _on_registered,
    FaceKind.GONE: _on_gone,
    FaceKind.VERSION: _on_ignored,
    FaceKind.PROGRESS: _on_progress,
    FaceKind.DOWNLOADED: _on_downloaded,
    FaceKind.INSTALLING: _on_installing,
    FaceKind.FINAL: _on_final,
}

_DEVICE_DRIVEN: Handlers = {
    FaceKind.REGISTERED: pull.on_asked,
    FaceKind.GONE: _on_ignored,
    FaceKind.VERSION: _on_ignored,
    FaceKind.PROGRESS: pull.on_progress,
    FaceKind.DOWNLOADED: pull.on_downloaded,
    FaceKind.INSTALLING: pull.on_installing,
    FaceKind.FINAL: _on_final,
}
