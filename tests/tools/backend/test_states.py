"""Every cell of the tables: walked, and every missing cell an error that leaves the state alone."""

from __future__ import annotations

import itertools

import pytest

from agent.outcome import Outcome
from tests.tools.backend.rules_marker import rules
from tools.backend.campaigns import states
from tools.backend.campaigns.kinds import KINDS, CampaignKind
from tools.backend.campaigns.reasons import REASONS, V1_FAILED
from tools.backend.campaigns.states import IllegalTransition, next_state
from tools.backend.faces.base import Ending, Position
from tools.backend.faces.lwm2m_tables import ACTIONS, REPORTS, STAGES, Report, Stage

TABLES = [
    states.CAMPAIGN_TABLE,
    states.DEVICE_TABLE,
    states.CAMPAIGN_TABLE_V1,
    states.DEVICE_TABLE_V1,
    states.CAMPAIGN_TABLE_V2,
    states.DEVICE_TABLE_V2,
    states.POSITION_TABLE,
    STAGES,
]


@rules("BR-026", "BR-027")
@pytest.mark.parametrize("table", TABLES)
def test_each_cell(table: dict) -> None:
    events = {event for cells in table.values() for event in cells}
    for state, event in itertools.product(table, events):
        if event in table[state]:
            assert next_state(table, state, event) in table
        else:
            with pytest.raises(IllegalTransition, match=event):
                next_state(table, state, event)


def test_final_states_have_no_way_out() -> None:
    for state in states.DEVICE_FINAL - {states.ABORTED}:
        assert states.DEVICE_TABLE[state] == {}
    # An aborted device that was installing still gets its real result.
    assert set(states.DEVICE_TABLE[states.ABORTED]) == {"succeed", "fail"}


def test_a_device_that_may_have_been_executed_never_starts_again() -> None:
    reachable = {Position.EXECUTE}
    for _ in states.POSITION_TABLE:
        reachable |= {
            target
            for state in reachable
            for event, target in states.POSITION_TABLE[state].items()
            if event != "requeue"  # only after the device itself has told how it ended
        }
    assert reachable == {Position.EXECUTE, Position.INSTALLING, Position.DONE}


@rules("BR-033")
def test_every_outcome_of_the_engine_has_an_ending_and_a_reason() -> None:
    assert {outcome.name for outcome in Outcome} <= {ending.name for ending in Ending}
    assert set(REASONS) == set(Ending)


@rules("BR-033", "BR-034")
def test_every_ending_has_a_text_in_every_version() -> None:
    for ending, reasons in REASONS.items():
        assert all(reasons), ending
        # v1 says the same of every failure; v2 says which step it was.
        success = ending is Ending.SUCCESS
        assert (reasons.v1 == V1_FAILED) is not success
        assert (reasons.v2 == "DownloadInstallSucceeded") is success
    words = {reasons.v2 for reasons in REASONS.values()}
    assert words == {
        "DownloadInstallSucceeded",
        "RovaClientDidNotReportStatus",
        "RovaClientDownloadFailed",
        "RovaClientDownloadNotInstalledYet",
        "RovaClientDownloadedInstallFailed",
        "unknown device error",
    }
    assert len({reasons.v3 for reasons in REASONS.values()}) == len(Ending)


@pytest.mark.parametrize("ending", ["CONNECTION_LOST", "BAD_URI", "NO_SPACE", "OUT_OF_MEMORY"])
def test_v2_faults_of_the_transfer(ending: str) -> None:
    assert REASONS[Ending[ending]].v2 == "RovaClientDownloadFailed"


@pytest.mark.parametrize(
    "ending", ["INTEGRITY", "SIGNATURE", "WRONG_DEVICE", "DOWNGRADE", "INSTALL_FAILED", "REVERTED"]
)
def test_v2_faults_after_the_transfer(ending: str) -> None:
    assert REASONS[Ending[ending]].v2 == "RovaClientDownloadedInstallFailed"


@rules("BR-025")
@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_what_the_engine_sends_has_a_cell_in_every_kind(kind: CampaignKind) -> None:
    for state, cells in kind.device_table.items():
        if state in states.DEVICE_FINAL:
            continue
        assert {"abort", "end"} <= set(cells), (kind, state)
        assert {"start", "plan", "reachable", "succeed"} & set(cells), (kind, state)
    assert kind.accepted in kind.device_table
    assert set(kind.reasons) == set(Ending)
    for table in (kind.device_table, kind.campaign_table):
        assert all(state in table for cells in table.values() for state in cells.values())


def test_every_report_has_an_action_at_every_position() -> None:
    for position in Position:
        if position in (Position.WAITING, Position.DONE):
            assert position not in ACTIONS
        else:
            assert set(ACTIONS[position]) == set(Report)
    assert set(STAGES) == set(Stage)
    assert set(REPORTS.values()) == set(Report)
