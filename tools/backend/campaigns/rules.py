"""What a campaign request must fulfil before anything is written. Pure checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.campaigns.states import DEVICE_FINAL, FAILED, REJECTED, SUCCESS
from tools.backend.errors import RequestRefused
from tools.backend.timing import DAY, PILOT_SIZE, CampaignTiming, Windows, date_text, day_start

PILOT_MIN = 5
"""Devices with a result that a pilot needs to count [documented]."""

HOURS = 24


def check_windows(windows: Sequence[tuple[int, int]]) -> Windows:
    """Hours from 0 to 24, each ending after it begins; a night is two windows."""
    for start, end in windows:
        if not 0 <= start < end <= HOURS:
            raise RequestRefused(
                f"Invalid time window {start} to {end}: startTime 0 to 23, endTime above it, to 24"
            )
    return tuple(windows)


def check_dates(request: CampaignRequest, now: float) -> tuple[float, float]:
    """The first and the last instant of the campaign's days."""
    try:
        start = day_start(request.start_date)
    except ValueError:
        raise RequestRefused(f"Invalid startDate {request.start_date!r}") from None
    try:
        end = day_start(request.end_date) + DAY
    except ValueError:
        raise RequestRefused(f"Invalid endDate {request.end_date!r}") from None
    if request.start_date < date_text(now):
        raise RequestRefused("startDate is in the past")
    if end <= start:
        raise RequestRefused("endDate is before startDate")
    check_after("downloadAfterDate", request.download_after, request)
    check_after("installAfterDate", request.install_after, request)
    return start, end


def check_after(name: str, text: str, request: CampaignRequest) -> None:
    """A date within the campaign, or none. The public pages do not bound it; ours."""
    if not text:
        return
    try:
        day_start(text)
    except ValueError:
        raise RequestRefused(f"Invalid {name} {text[:64]!r}") from None
    if not request.start_date <= text <= request.end_date:
        raise RequestRefused(f"{name} is not between startDate and endDate")


def first_start(start: float, now: float, devices: int, timing: CampaignTiming) -> float:
    """When the campaign begins: its day, or a lead time from now when that day is today."""
    if start > now:
        return start
    return now + (timing.pilot_lead if devices <= PILOT_SIZE else timing.on_demand_lead)


def check_devices(request: CampaignRequest) -> tuple[str, ...]:
    """The device ids, each once."""
    devices = tuple(dict.fromkeys(request.devices))
    if not devices:
        raise RequestRefused("Device list is empty")
    return devices


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


def check_pilot(
    request: CampaignRequest, accepted: int, waived: bool, earlier: Iterable[Campaign]
) -> None:
    """Refuse a large campaign of a firmware that no pilot has proven yet."""
    if waived or accepted <= PILOT_SIZE or _is_proven(request, earlier):
        return
    raise RequestRefused(
        f"A campaign of this firmware may hold at most {PILOT_SIZE} devices until a pilot of "
        f"{PILOT_MIN} to {PILOT_SIZE} devices has succeeded"
    )


def has_room(campaign: Campaign, waived: bool, earlier: Iterable[Campaign]) -> bool:
    """Whether a campaign may take one more device without a pilot, or has one."""
    taken = sum(member.status != REJECTED for member in campaign.members.values())
    return waived or taken < PILOT_SIZE or _is_proven(campaign, earlier)


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
