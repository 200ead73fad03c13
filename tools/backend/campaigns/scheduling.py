"""What time brings: preparation, the start, whose turn it is, retries, the end.

Everything here is bounded by what is due: a pass over a campaign of a hundred thousand devices in
which a thousand change costs as much as those thousand. What cannot be bounded so (the first plan,
the checks, the end) is done `AT_ONCE` devices at a time, with a turn of the loop in between.

*Turns.* `ready` holds the devices whose turn may come now, `later` a heap of instants at which to
look at a device again; a device without a place in its cell waits in that cell (`CellPlaces`) and
comes back to `ready` when a place is free.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from tools.backend.campaigns import checks, queue, rules, states, turns
from tools.backend.faces.base import Ending, Position
from tools.backend.timing import DAY, day_start

if TYPE_CHECKING:
    from tools.backend.campaigns.engine import CampaignEngine
    from tools.backend.campaigns.records import Campaign, Member

AT_ONCE = 250
"""Devices that change between two turns of the loop: some ten milliseconds, of which a request of
somebody else waits for two or three."""


def resume(engine: CampaignEngine, campaign: Campaign) -> None:
    """Go on with a campaign after a start."""
    if campaign.status == states.NOT_SCHEDULED and campaign.unfinished:
        engine.tick(campaign)
        return
    if campaign.final and not campaign.active:
        return
    if campaign.unchecked:
        engine.tick(campaign)
        return
    for member in list(campaign.members.values()):
        if member.active:
            if campaign.kind.device_driven:
                member.heard = engine.now()  # it may have tried while we were down
            if campaign.schedule.cells:
                engine.cells.hold(member)
            turns.watch(engine, member)
            turns.offer(engine, member)
        elif member.final or campaign.kind.device_driven:
            continue
        elif _not_before(member) > engine.now():
            engine.later(member, _not_before(member))
        else:
            # A place that waited for its start is given anew, in the order of the campaign.
            if member.status == states.STARTED:
                engine.cells.take(member)
            campaign.ready.append(member)
    advance(engine, campaign)


def advance(engine: CampaignEngine, campaign: Campaign) -> None:
    """Do what is due in a campaign, and arm its timer for what comes next."""
    if campaign.unchecked:
        checks.check_some(engine, campaign)
        if not campaign.final:
            engine.tick(campaign)
        return
    now = engine.now()
    prepare(engine, campaign)
    if campaign.unplanned:
        _plan_some(engine, campaign, now)
        engine.tick(campaign)
        return
    if "start" in campaign.cells and now >= _begins(campaign):
        # Without its package nobody can be asked.
        engine.move_campaign(campaign, "start" if campaign.digest in engine.bodies else "fail")
    if campaign.status == states.NOT_SCHEDULED:
        if _expire_some(engine, campaign):
            engine.tick(campaign)
        else:
            engine.settle(campaign)
        return
    if campaign.status == states.SCHEDULED and now >= campaign.schedule.closes(campaign):
        if _expire_some(engine, campaign):
            engine.tick(campaign)
            return
    elif campaign.status == states.ABORTED and now >= campaign.schedule.closes(campaign):
        _let_go(engine, campaign, now)
    elif campaign.status == states.SCHEDULED or campaign.active:
        _look_again(engine, campaign, now)
        if campaign.status == states.SCHEDULED:
            _start_some(engine, campaign, now)
    if campaign.status == states.SCHEDULED:
        engine.settle(campaign)
    arm(engine, campaign, now)


def _begins(campaign: Campaign) -> float:
    """When it has its start; on demand, shortly before its last midnight, with that: then it is
    over before anybody could be asked."""
    return min(campaign.starts, campaign.ends)


def prepare(engine: CampaignEngine, campaign: Campaign) -> None:
    """The events between the request and the start."""
    today = day_start(campaign.start_date) <= campaign.created
    if not (campaign.kind.queued_today or not today):
        return
    for event in campaign.kind.preparation:
        if event in campaign.cells:
            engine.move_campaign(campaign, event)
            if event == campaign.kind.preparation[-1]:
                plan_again(campaign)


def arm(engine: CampaignEngine, campaign: Campaign, now: float) -> None:
    """Look at the campaign again when something is due in it."""
    if campaign.final and not campaign.active:
        return
    if campaign.unchecked or campaign.unplanned:
        engine.tick(campaign)
        return
    if "start" in campaign.cells:
        engine.tick(campaign, _begins(campaign))
        return
    plan = campaign.schedule
    instants = [] if campaign.status == states.ENDED else [plan.closes(campaign)]
    if rules.adds_devices(campaign, now):
        instants.append(campaign.ends - DAY)
    if campaign.later:
        instants.append(campaign.later[0][0])
    if not campaign.final:
        opening = plan.opening(campaign, now)
        if (
            campaign.ready
            and campaign.active < campaign.concurrency
            or campaign.cells_waited
            and opening > now
        ):
            instants.append(opening)
    if instants:
        engine.tick(campaign, min(instants))


# -- the plan: when is whose turn expected ---


def plan_again(campaign: Campaign) -> None:
    """Tell the devices that wait when their turn is expected."""
    if campaign.schedule.cells:
        campaign.unplanned.extend(campaign.ready)


def _plan_some(engine: CampaignEngine, campaign: Campaign, now: float) -> None:
    """Each device that is there learns when its turn is expected; the first ones of each cell get
    a place when that is within a slot."""
    kind, first = campaign.kind, campaign.schedule.first(campaign, now)
    at_once = first <= now
    soon = first <= now + engine.timing.slot
    for _ in range(min(AT_ONCE, len(campaign.unplanned))):
        member = campaign.unplanned.popleft()
        order = campaign.planned
        campaign.planned += 1
        if member.status != states.DATA or (at_once and order < campaign.concurrency):
            continue
        engine.move(member, "plan")
        rounds = _rounds(engine, member)
        if soon and order < campaign.concurrency and engine.cells.take(member):
            engine.move(member, "start")
            member.next = first
            member.reason = kind.wording.scheduled(first, first + engine.timing.slot)
        else:
            _estimate(engine, member, first, rounds)
        engine.save(member)


def _rounds(engine: CampaignEngine, member: Member) -> int:
    """Count a device as planned in its cell; how many slots the ones before it take."""
    campaign = member.campaign
    cell = engine.cell_of(member.device_id)
    before = campaign.planned_in.get(cell, 0)
    campaign.planned_in[cell] = before + 1
    return before // max(1, engine.cell_limit(cell) if cell else campaign.concurrency)


def _estimate(engine: CampaignEngine, member: Member, first: float, rounds: int) -> None:
    """Say when a device's turn is expected, `rounds` slots after the first one."""
    campaign = member.campaign
    slots = campaign.slots
    if not slots or slots[0] != first:
        slots[:] = [first]
    while len(slots) <= rounds and slots[-1] < campaign.ends:
        slots.append(campaign.schedule.opening(campaign, slots[-1] + engine.timing.slot))
    wording = campaign.kind.wording
    if rounds < len(slots) and slots[rounds] < campaign.ends:
        member.next = slots[rounds]
        member.reason = wording.planned(slots[rounds])
    else:
        member.next, member.reason = None, wording.crowded


# -- turns ---


def _look_again(engine: CampaignEngine, campaign: Campaign, now: float) -> None:
    """Members whose instant has come: a retry, a delayed install, an attempt out of time."""
    while campaign.later and campaign.later[0][0] <= now:
        member = heapq.heappop(campaign.later)[2]
        if member.final and not member.active:
            continue
        if member.position == Position.DOWNLOADED:
            if not campaign.kind.device_driven:
                turns.try_execute(engine, member, now)
        elif member.active:
            # An entry of an earlier attempt finds this one younger and is dropped.
            if member.executed and not (member.queued or campaign.status == states.ENDED):
                continue
            limit = campaign.schedule.limit(member, engine.timing)
            if now >= limit and member.executed:
                _give_up(engine, member, now)
            elif now >= limit:
                turns.finish(engine, member, Ending.TIMEOUT, "")
            elif member.heard or campaign.schedule.requeues or member.position > Position.OFFERED:
                engine.later(member, limit)
        elif member.status in (states.PENDING, states.FAULT) and now >= (member.next or 0.0):
            campaign.ready.append(member)


def _not_before(member: Member) -> float:
    """When its next attempt may begin; before its first one `next` is an estimate and binds
    nobody."""
    binding = member.attempts or member.status == states.FAULT
    return member.next or 0.0 if binding else 0.0


def _start_some(engine: CampaignEngine, campaign: Campaign, now: float) -> None:
    plan = campaign.schedule
    if plan.opening(campaign, now) > now:
        campaign.was_open = False
        return
    if not campaign.was_open:
        campaign.was_open = True
        for cell in sorted(campaign.cells_waited):
            give_places(engine, cell)
    for _ in range(min(AT_ONCE, len(campaign.ready))):
        if campaign.active >= campaign.concurrency:
            break
        member = campaign.ready.popleft()
        if member.final or member.active or member.campaign.members.get(member.device) is None:
            continue  # a stale entry: its turn came or comes another way
        if _not_before(member) > now:
            continue
        if engine.book.occupied(member):
            continue  # the end of that attempt brings it back
        if not engine.reachable(member):
            _not_there(engine, member, now)
        elif plan.cells and not engine.cells.take(member):
            _wait_for_place(engine, member, now)
        else:
            turns.begin(engine, member, now)


def _not_there(engine: CampaignEngine, member: Member, now: float) -> None:
    campaign = member.campaign
    if campaign.schedule.counts_absence:
        turns.absent(engine, member, now)
        return
    _unreachable(engine, member)
    if member.status == states.FAULT:
        engine.later(member, now + engine.timing.retry_delay)
    # Else its registration, or its attachment, brings it back.


def _unreachable(engine: CampaignEngine, member: Member) -> None:
    if "unreachable" not in member.cells:
        return
    engine.move(member, "unreachable")
    member.reason, member.next = member.campaign.kind.wording.unreachable, None
    member.waits = ""
    engine.save(member)
    free_place(engine, member)


def _wait_for_place(engine: CampaignEngine, member: Member, now: float) -> None:
    campaign = member.campaign
    if member.status == states.STARTED:
        engine.move(member, "unplace")
    for event in ("reachable", "plan"):
        if event in member.cells:
            engine.move(member, event)
    before = engine.cells.wait(member)
    campaign.cells_waited.add(member.waits)
    first = campaign.schedule.first(campaign, now)
    _estimate(engine, member, first, engine.cells.rounds(member.waits, before))
    engine.save(member)


def free_place(engine: CampaignEngine, member: Member) -> None:
    """An attempt is over: somebody else in the cell may begin."""
    cell = engine.cells.release(member)
    if cell:
        give_places(engine, cell)


def next_action(engine: CampaignEngine, member: Member) -> None:
    """An attempt is over: another campaign of the device may begin with it. One action at a time on
    a device, whatever the number of its campaigns."""
    for other in engine.book.open_members(member.device):
        if other is not member and not (
            other.active or other.final or other.campaign.kind.device_driven
        ):
            _come_back(engine, other.campaign, other)


def give_places(engine: CampaignEngine, cell: str) -> None:
    """Let those begin for whom there are places now."""
    now = engine.now()

    def may_begin(member: Member) -> bool:
        campaign = member.campaign
        return (
            campaign.status == states.SCHEDULED
            and campaign.active < campaign.concurrency
            and campaign.schedule.opening(campaign, now) <= now
        )

    for member in engine.cells.next(cell, may_begin):
        member.campaign.ready.appendleft(member)
        engine.tick(member.campaign)


# -- who is there ---


def seen(engine: CampaignEngine, device: str) -> None:
    """A device can be reached, or has moved to another cell."""
    for member in engine.book.open_members(device):
        campaign = member.campaign
        if member.active or campaign.kind.device_driven:
            continue
        if member.waits:
            if member.waits != engine.cell_of(member.device_id):
                member.waits = ""
                _come_back(engine, campaign, member)
        elif "reachable" in member.cells:
            engine.move(member, "reachable")
            engine.move(member, "plan")
            now = engine.now()
            earliest = now
            if member.attempts and member.recent is not None:
                earliest = max(now, member.recent + engine.timing.retry_delay)
            start = campaign.schedule.first(campaign, earliest)
            member.next = start
            member.reason = campaign.kind.wording.planned(start)
            engine.save(member)
            if start > now and member.attempts:
                engine.later(member, start)
                arm(engine, campaign, now)
            else:
                _come_back(engine, campaign, member)
        elif not _is_looked_for(campaign) and _not_before(member) <= engine.now():
            # Nobody knew where it was when its turn came; a second entry does no harm.
            _come_back(engine, campaign, member)


def _is_looked_for(campaign: Campaign) -> bool:
    """Whether the statuses tell of reachability, or a device that is not there uses up its try."""
    return campaign.kind.accepted == states.NO_DATA or campaign.schedule.counts_absence


def _come_back(engine: CampaignEngine, campaign: Campaign, member: Member) -> None:
    campaign.ready.append(member)
    if campaign.status == states.SCHEDULED and campaign.active < campaign.concurrency:
        engine.tick(campaign)


def lost(engine: CampaignEngine, device: str) -> None:
    """A device has said goodbye, or its registration has run out, or it is detached."""
    for member in engine.book.open_members(device):
        if not (member.active or member.campaign.kind.device_driven or engine.reachable(member)):
            _unreachable(engine, member)


# -- the end ---


def _expire_some(engine: CampaignEngine, campaign: Campaign) -> bool:
    """The end: whoever has no result by now has failed, but for those that began again out of the
    network queue, which asks for no campaign. Returns whether there are more."""
    if not campaign.expiring:
        campaign.expiring.extend(campaign.members.values())
    wording = campaign.kind.wording
    begun = campaign.status != states.NOT_SCHEDULED
    left = AT_ONCE
    while campaign.expiring and left:
        member = campaign.expiring.popleft()
        if member.final or member.queued:
            continue
        left -= 1
        tried = member.active
        reason = wording.expired(member) if begun else wording.no_package
        engine.move(member, "end")
        member.reason = reason
        reported = member.ending is not None or not member.executed
        if begun:
            member.ending = member.ending or Ending.TIMEOUT
        campaign.unfinished -= 1
        if tried:
            engine.note_attempt(member, engine.now())
        if begun and campaign.schedule.requeues and reported:
            queue.enter(engine, member)
        engine.drop(member)
    return bool(campaign.expiring)


def _let_go(engine: CampaignEngine, campaign: Campaign, now: float) -> None:
    """Devices that were installing when their campaign was aborted and have not reported until its
    end date are free for another one. They stay `CampaignAborted`."""
    for member in list(campaign.members.values()):
        if member.active:
            member.ending = member.ending or Ending.TIMEOUT
            engine.note_attempt(member, now)
            engine.drop(member)
    engine.settle(campaign)


def _give_up(engine: CampaignEngine, member: Member, now: float) -> None:
    """A device that began again out of the network queue, was told to install and never said how
    that ended. It may still be installing, so it is not asked once more."""
    reason = member.campaign.kind.wording.expired(member)
    if not member.queued:
        member.campaign.unfinished -= 1
    engine.move(member, "end")
    member.reason, member.ending = reason, Ending.TIMEOUT
    engine.note_attempt(member, now)
    queue.leave(engine, member.device, "no result")
    engine.drop(member)
    engine.settle(member.campaign)


def replan(engine: CampaignEngine, campaign: Campaign) -> None:
    """Dates or windows have changed: so has when each turn is expected."""
    now = engine.now()
    campaign.was_open = False
    campaign.planned_in.clear()
    first = campaign.schedule.first(campaign, now)
    if campaign.schedule.cells:
        for member in campaign.members.values():
            if member.active or member.final or member.attempts:
                continue
            if member.status == states.STARTED:
                engine.move(member, "unplace")
                engine.cells.release(member)
            if member.status == states.PENDING:
                # While others hold the places of its cell, its turn is a slot away at least.
                _estimate(engine, member, first, _rounds(engine, member) + bool(member.waits))
                engine.save(member)
    engine.tick(campaign)
