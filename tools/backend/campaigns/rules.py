"""What a campaign request must fulfil before anything is written. Pure checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.backend.campaigns.records import Campaign, CampaignDates, CampaignRequest
from tools.backend.campaigns.states import DEVICE_FINAL, FAILED, REJECTED, SUCCESS
from tools.backend.refusals import Refusal
from tools.backend.timing import DAY, PILOT_SIZE, CampaignTiming, Windows, date_text, day_start

PILOT_MIN = 5
"""Devices with a result that a pilot needs to count [documented]."""

HOURS = 24


def check_windows(windows: Sequence[tuple[int, int]]) -> Windows:
    """Hours from 0 to 24, each ending after it begins; a night is two windows."""
    for start, end in windows:
        if not 0 <= start < end <= HOURS:
            raise Refusal.WINDOW(start=start, end=end)
    return tuple(windows)


def check_dates(
    request: CampaignRequest | CampaignDates, now: float, *, started: bool = False
) -> tuple[float, float]:
    """The first and the last instant of the campaign's days. One that has `started` may have begun
    on an earlier day."""
    try:
        start = day_start(request.start_date)
    except ValueError:
        raise Refusal.DATE(field="startDate", value=request.start_date) from None
    try:
        end = day_start(request.end_date) + DAY
    except ValueError:
        raise Refusal.DATE(field="endDate", value=request.end_date) from None
    if not started and request.start_date < date_text(now):
        raise Refusal.START_IN_PAST()
    if end <= start:
        raise Refusal.END_BEFORE_START()
    check_after("downloadAfterDate", request.download_after, request)
    check_after("installAfterDate", request.install_after, request)
    return start, end


def check_after(name: str, text: str, request: CampaignRequest | CampaignDates) -> None:
    """A date within the campaign, or none. The public pages do not bound it; ours."""
    if not text:
        return
    try:
        day_start(text)
    except ValueError:
        raise Refusal.DATE(field=name, value=text) from None
    if not request.start_date <= text <= request.end_date:
        raise Refusal.DATE_OUTSIDE(field=name)


def lead(request: CampaignRequest, timing: CampaignTiming) -> float:
    """Seconds from a request to the start, when that is today."""
    return lead_of(request.kind.version, len(frozenset(request.devices)), timing)


def lead_of(version: int, devices: int, timing: CampaignTiming) -> float:
    """The same for a campaign of so many devices. v1 knows no pilots."""
    pilot = version > 1 and devices <= PILOT_SIZE
    return timing.pilot_lead if pilot else timing.on_demand_lead


def first_start(start: float, now: float, lead_time: float) -> float:
    """When the campaign begins: its day, or a lead time from now when that day is today."""
    return start if start > now else now + lead_time


def check_devices(devices: Sequence[str]) -> tuple[str, ...]:
    """The device ids, each once, as they were sent."""
    once = tuple(dict.fromkeys(devices))
    if not once:
        raise Refusal.NO_DEVICES()
    return once


def _is_good_pilot(campaign: Campaign) -> bool:
    """Whether it had enough devices with a result, at least half of them good. Rejected,
    cancelled and never-tried devices do not count; ours."""
    results = [
        member.status
        for member in campaign.members.values()
        if member.status in DEVICE_FINAL and member.attempts and member.status in (SUCCESS, FAILED)
    ]
    good = sum(status == SUCCESS for status in results)
    return PILOT_MIN <= len(results) <= PILOT_SIZE and 2 * good >= len(results)


def needs_pilot(
    wanted: CampaignRequest | Campaign, waived: bool, earlier: Iterable[Campaign]
) -> bool:
    """Whether a campaign may not be large yet. v1 knows no pilots."""
    return not (waived or wanted.kind.version == 1 or _is_proven(wanted, earlier))


def check_pilot(accepted: int) -> None:
    """Refuse a large campaign of a firmware that no pilot has proven yet."""
    if accepted <= PILOT_SIZE:
        return
    raise Refusal.PILOT_FIRST(least=PILOT_MIN, most=PILOT_SIZE)


def has_room(campaign: Campaign, waived: bool, earlier: Iterable[Campaign]) -> bool:
    """Whether a campaign may take one more device without a pilot, or has one."""
    taken = sum(member.status != REJECTED for member in campaign.members.values())
    return taken < PILOT_SIZE or not needs_pilot(campaign, waived, earlier)


def adds_devices(campaign: Campaign, now: float) -> bool:
    """Whether a campaign takes in matching devices by itself; until a day before its end, ours."""
    return campaign.auto_add and not campaign.final and now < campaign.ends - DAY


def _is_proven(wanted: CampaignRequest | Campaign, earlier: Iterable[Campaign]) -> bool:
    """Whether a pilot of this firmware has succeeded."""
    # One key over all versions of the API; a file and a firmware of one name are two things.
    key = (
        wanted.kind.lock,
        wanted.account,
        wanted.package,
        wanted.version_from,
        wanted.version_to,
    )
    for campaign in earlier:
        same = (
            campaign.kind.lock,
            campaign.account,
            campaign.package,
            campaign.version_from,
            campaign.version_to,
        )
        if same == key and _is_good_pilot(campaign):
            return True
    return False
