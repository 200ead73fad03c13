"""What a campaign request must fulfil before anything is written. Pure checks."""

from __future__ import annotations

from collections.abc import Sequence

from tools.backend.campaigns.records import Campaign, CampaignDates, CampaignRequest
from tools.backend.refusals import Refusal
from tools.backend.timing import DAY, PILOT_SIZE, CampaignTiming, Windows, date_text, day_start

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


def adds_devices(campaign: Campaign, now: float) -> bool:
    """Whether a campaign takes in matching devices by itself; until a day before its end, ours."""
    return campaign.auto_add and not campaign.final and now < campaign.ends - DAY
