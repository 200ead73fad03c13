"""The timeline of one device: what campaigns, servers and the operator's network know of it, as one
list of entries. Pure functions over what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.backend.campaigns.records import Attempt, Campaign, Member
from tools.backend.campaigns.trail import Step
from tools.backend.faces.http import CheckInFailure, CheckInResult
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

Trails = Mapping[str, Sequence[Step]]
"""What the device went through in each campaign, by id."""

LONGEST = 200
"""Characters of a log entry that are shown."""


def in_order(entries: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """Newest first; of one instant, what was listed later came later."""
    return sorted(reversed(list(entries)), key=lambda entry: -entry.time)


def of_members(members: Iterable[Member], trails: Trails) -> list[TimelineEntry]:
    """How the device stands in its campaigns and came there, and what is planned with it."""
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
        entries += [
            TimelineEntry(
                # A step is cut to the millisecond; it is not before what it comes from.
                time=max(time, campaign.created),
                kind="status",
                title=f"In {about}",
                status=status,
                campaign=campaign.id,
            )
            for time, status in _before(member, trails.get(campaign.id, ()))
        ]
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


def _before(member: Member, steps: Sequence[Step]) -> Sequence[Step]:
    """The steps before the status that the device has now, which its own record tells with its
    reason."""
    return steps[:-1] if steps and steps[-1][1] == member.status else steps


def of_attempts(
    attempts: Iterable[Attempt], members: Iterable[Member], trails: Trails
) -> list[TimelineEntry]:
    """The attempts to update the device. An end that `of_members` tells as a status in that
    campaign is not told twice."""
    told = [(member.campaign.id, member.status, member.updated) for member in members]
    told += [(name, status, time) for name, steps in trails.items() for time, status in steps]
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
        if ended is None or any(
            (name, status) == (campaign.id, attempt.status) and abs(ended - time) < SAME
            for name, status, time in told
        ):
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


CHECK_INS = {
    CheckInResult.NO_UPDATE: "nothing to update",
    CheckInResult.OFFERED: "an update was offered",
    CheckInResult.IN_PROGRESS: "an update is in progress",
    CheckInResult.CANCELLED: "its update was cancelled",
    CheckInResult.DEFERRED: "its update was put off",
    CheckInFailure.NOT_YET: "not in the window yet",
    CheckInFailure.NO_PLACE: "as many as may are updating",
    CheckInFailure.NONE: "",
}
"""The words of the check-in history, for people."""


def _check_in(row: Mapping[Any, Any]) -> TimelineEntry:
    words = (CHECK_INS.get(row[name], row[name]) for name in ("result", "failure"))
    detail = ": ".join(filter(None, words))
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
