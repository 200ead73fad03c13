"""The timeline of one device: what campaigns, servers and the operator's network know of it, as one
list of entries. Pure functions over what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.backend.campaigns.records import Attempt, Campaign, Member
from tools.backend.operator_network.network import EXPIRED, SENT, MessageReport
from tools.backend.operator_network.rows import Attachment, ShortMessage
from tools.backend.page.models import TimelineEntry
from tools.backend.timing import rfc3339

__all__ = [
    "in_order",
    "of_attachment",
    "of_attempts",
    "of_check_ins",
    "of_logs",
    "of_members",
    "of_messages",
]

REPEATED = 3
"""Equal check-ins in a row that are listed one by one; more become one entry. A device of the
immediate timing comes every five seconds."""

ENDED = {SENT: "sent", EXPIRED: "given up: its validity was over"}

SAME = 1.0
"""Seconds between the end of an attempt and the change of the status that comes of it; the clock is
read for each."""

LONGEST = 200
"""Characters of a log entry that are shown."""


def in_order(entries: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """Newest first; of one instant, what was listed later came later."""
    return sorted(reversed(list(entries)), key=lambda entry: -entry.time)


def of_members(members: Iterable[Member]) -> list[TimelineEntry]:
    """How the device stands in its campaigns, and what is planned with it."""
    entries = []
    for member in members:
        campaign = member.campaign
        about = _about(campaign)
        entries.append(
            TimelineEntry(
                time=campaign.created,
                kind="campaign",
                title=f"Asked for in {about}",
                detail=f"{campaign.kind.name}, to version {campaign.version_to}",
                campaign=campaign.id,
            )
        )
        entries.append(
            TimelineEntry(
                time=member.updated,
                kind="status",
                title=f"In {about}",
                detail=member.reason,
                status=member.status,
                campaign=campaign.id,
            )
        )
        if member.next is not None and not member.final:
            entries.append(
                TimelineEntry(
                    time=member.next,
                    kind="planned",
                    title=f"Next attempt of {about} is planned",
                    campaign=campaign.id,
                )
            )
    return entries


def of_attempts(attempts: Iterable[Attempt], members: Iterable[Member]) -> list[TimelineEntry]:
    """The attempts to update the device. The end of the last one is what `of_members` tells as the
    status in that campaign, so it is not told twice."""
    told = {(member.campaign.id, member.status): member.updated for member in members}
    entries = []
    for attempt in attempts:
        campaign = attempt.campaign
        about = f"Attempt {attempt.number} of {_about(campaign)}"
        entries.append(
            TimelineEntry(
                time=attempt.started,
                kind="attempt",
                title=f"{about} began",
                detail=f"from version {attempt.version_from}" if attempt.version_from else "",
                campaign=campaign.id,
            )
        )
        ended = attempt.finished
        if ended is None or abs(ended - told.get((campaign.id, attempt.status), 0.0)) < SAME:
            continue
        entries.append(
            TimelineEntry(
                time=ended,
                kind="attempt",
                title=f"{about} ended",
                detail="" if attempt.ending is None else attempt.ending.value,
                status=attempt.status,
                campaign=campaign.id,
            )
        )
    return entries


def _about(campaign: Campaign) -> str:
    return f"campaign {campaign.title or campaign.package}"


def of_check_ins(rows: Sequence[Mapping[Any, Any]]) -> list[TimelineEntry]:
    """The check-ins of an HTTP device, given newest first; equal ones in a row as one entry."""
    runs: list[list[Mapping[Any, Any]]] = []
    for row in reversed(rows):
        if runs and _outcome(runs[-1][-1]) == _outcome(row):
            runs[-1].append(row)
        else:
            runs.append([row])
    entries = []
    for run in runs:
        if len(run) <= REPEATED:
            entries += [_check_in(row) for row in run]
        else:
            entry = _check_in(run[-1])
            entry.title = f"Checked in {len(run)} times"
            entry.since = run[0]["time"]
            entries.append(entry)
    return entries


def _outcome(row: Mapping[Any, Any]) -> tuple[str, str]:
    return (row["result"], row["failure"])


def _check_in(row: Mapping[Any, Any]) -> TimelineEntry:
    detail = row["result"] + (f": {row['failure']}" if row["failure"] else "")
    return TimelineEntry(time=row["time"], kind="check-in", title="Checked in", detail=detail)


def of_logs(rows: Iterable[Mapping[Any, Any]]) -> list[TimelineEntry]:
    """Log entries that the device has uploaded; their texts are the device's own."""
    return [
        TimelineEntry(
            time=row["stored"],
            kind="log",
            title=f"Log entry: {row['log_type']}",
            detail=(row["event"] or row["filename"])[:LONGEST],
        )
        for row in rows
    ]


def of_attachment(attachment: Attachment | None) -> list[TimelineEntry]:
    """Where the device is in the operator's network."""
    if attachment is None:
        return []
    return [
        TimelineEntry(
            time=attachment.since,
            kind="network",
            title=f"Attached to cell {attachment.cell}",
        )
    ]


def of_messages(
    waiting: Iterable[ShortMessage], reports: Iterable[MessageReport]
) -> list[TimelineEntry]:
    """Short messages to the device: those that wait, and what became of the others."""
    entries = [
        TimelineEntry(
            time=message.accepted,
            kind="message",
            title=f"A short message waits, {len(message.pdu)} bytes",
            detail=f"valid until {rfc3339(message.expires)}",
        )
        for message in waiting
    ]
    entries += [
        TimelineEntry(
            time=report.when, kind="message", title=f"A short message was {ENDED[report.state]}"
        )
        for report in reports
    ]
    return entries
