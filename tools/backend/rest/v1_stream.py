"""Answers of v1 that hold every device of an upgrade: made piece by piece, so that the largest one
neither fills the memory nor keeps the loop from anybody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator

from fastapi.responses import StreamingResponse

from tools.backend.campaigns.records import Campaign
from tools.backend.rest.v1_words import device_status, upgrade_status
from tools.backend.timing import CampaignTiming

PARTS = 500
"""Devices in one piece: a few milliseconds of work, and some 50 KiB."""


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def upgrade_parts(campaign: Campaign, now: float, timing: CampaignTiming) -> Iterator[str]:
    """A `FirmwareUpgrade`, one part for each device."""
    head = {
        "id": campaign.id,
        "accountName": campaign.account,
        "firmwareName": campaign.package,
        "firmwareTo": campaign.version_to,
        "startDate": campaign.start_date,
        "endDate": campaign.end_date,
        "status": upgrade_status(campaign),
    }
    yield _text(head)[:-1] + ',"deviceList":['
    # The devices of this instant: an edit may come between two pieces.
    comma = ""
    for member in list(campaign.members.values()):
        status, reason = device_status(member, now, timing)
        item = {"deviceId": member.device_id, "status": status, "resultReason": reason}
        yield comma + _text(item)
        comma = ","
    yield "]}"


def report_parts(
    page: Iterable[Campaign], more: bool, following: int, now: float, timing: CampaignTiming
) -> Iterator[str]:
    """An `UpgradeListQueryResult`."""
    head = {"hasMoreFlag": more, "lastSeenUpgradeId": following}
    yield _text(head)[:-1] + ',"reportList":['
    comma = ""
    for campaign in page:
        yield comma
        yield from upgrade_parts(campaign, now, timing)
        comma = ","
    yield "]}"


async def _pieces(parts: Iterator[str]) -> AsyncIterator[bytes]:
    piece: list[str] = []
    for part in parts:
        piece.append(part)
        if len(piece) == PARTS:
            yield "".join(piece).encode()
            piece.clear()
            await asyncio.sleep(0)  # a fast reader never makes us wait, and others have their turn
    yield "".join(piece).encode()


def streamed(parts: Iterator[str]) -> StreamingResponse:
    """The answer made of these parts."""
    return StreamingResponse(_pieces(parts), media_type="application/json")
