"""The timeline of a device, from what is known of it."""

from __future__ import annotations

from typing import Any

from tests.tools.backend.virtual import package, virtual, world
from tools.backend.campaigns.records import Attempt
from tools.backend.faces.base import Ending
from tools.backend.page import timeline
from tools.backend.page.models import TimelineEntry


def check_in(time: float, result: str = "no update", failure: str = "") -> dict[str, Any]:
    return {"time": time, "result": result, "failure": failure}


def test_equal_check_ins_in_a_row_are_one_entry() -> None:
    rows = [check_in(float(number)) for number in range(100)]
    rows += [check_in(100.0, "offered"), check_in(101.0), check_in(102.0, "refused", "bad token")]
    entries = timeline.in_order(timeline.of_check_ins(rows[::-1]))
    assert [(item.time, item.title, item.detail, item.since) for item in entries] == [
        (102.0, "Checked in", "refused: bad token", None),
        (101.0, "Checked in", "no update", None),
        (100.0, "Checked in", "offered", None),
        (99.0, "Checked in 100 times", "no update", 0.0),
    ]


def test_few_equal_check_ins_stay_apart() -> None:
    rows = [check_in(float(number)) for number in range(timeline.REPEATED)]
    assert len(timeline.of_check_ins(rows)) == timeline.REPEATED
    assert timeline.of_check_ins([]) == []


def test_what_was_listed_later_came_later() -> None:
    entries = [TimelineEntry(time=1.0, kind=kind, title="") for kind in "abc"]
    entries.append(TimelineEntry(time=2.0, kind="d", title=""))
    assert [entry.kind for entry in timeline.in_order(entries)] == ["d", "c", "b", "a"]


def test_texts_of_logs_are_cut() -> None:
    row = {"stored": 5.0, "log_type": "boot", "event": "x" * 5_000, "filename": ""}
    [entry] = timeline.of_logs([row])
    assert entry.title == "Log entry: boot"
    assert entry.detail == "x" * timeline.LONGEST


@virtual
async def test_end_of_an_attempt_and_the_status_it_led_to_are_one_entry() -> None:
    async with world() as backend:
        campaign = await backend.create_campaign(["urn:x:1"], await package(backend), title="T")
        member = campaign.members["urn:x:1"]
        attempts = [
            Attempt(campaign, 1, 10.0, 20.0, "UpgradePending", Ending.CONNECTION_LOST, "1"),
            Attempt(campaign, 2, 30.0, member.updated, member.status, Ending.SUCCESS, "1"),
            Attempt(campaign, 3, 50.0, None, "", None, ""),
        ]
        entries = timeline.of_attempts(attempts, [member], {})
        assert [(entry.title, entry.detail, entry.status) for entry in entries] == [
            ("Attempt 1 of campaign T began", "from version 1", ""),
            ("Attempt 1 of campaign T ended", "connection lost", "UpgradePending"),
            ("Attempt 2 of campaign T began", "from version 1", ""),
            ("Attempt 3 of campaign T began", "", ""),
        ]
        titles = [entry.title for entry in timeline.of_members([member], {})]
        assert titles[:2] == ["Asked for in campaign T", "In campaign T"]
        member.next = member.updated + 60
        planned = timeline.of_members([member], {})[-1]
        assert (planned.kind, planned.time) == ("planned", member.next)


@virtual
async def test_each_status_on_the_way_is_told_once() -> None:
    async with world() as backend:
        campaign = await backend.create_campaign(["urn:x:1"], await package(backend), title="T")
        member = campaign.members["urn:x:1"]
        campaign.created = 10.0
        member.status, member.updated, member.reason = "UpgradeFailed", 40.0, "no result"
        # The first step is cut to the millisecond.
        trail = [(9.999, "Accepted"), (20.0, "UpgradePending"), (40.0, "UpgradeFailed")]
        trails = {campaign.id: trail}
        entries = [item for item in timeline.of_members([member], trails) if item.kind == "status"]
        assert [(item.time, item.status, item.detail) for item in entries] == [
            (10.0, "Accepted", ""),
            (20.0, "UpgradePending", ""),
            (40.0, "UpgradeFailed", "no result"),
        ]
        # The end of a former attempt is in the trail, under the status that it led to.
        attempts = [Attempt(campaign, 1, 10.0, 20.0, "UpgradePending", Ending.REFUSED, "1")]
        told = timeline.of_attempts(attempts, [member], trails)
        assert [entry.title for entry in told] == ["Attempt 1 of campaign T began"]
