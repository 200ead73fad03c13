"""Every cell of the OMA-DM server's tables."""

from __future__ import annotations

import itertools

import pytest

from agent.outcome import Outcome
from protocols.omadm import fumo_tables
from tests.protocols.omadm.musts import musts
from tools.backend.campaigns.states import IllegalTransition, next_state
from tools.backend.faces.base import Ending, Position
from tools.backend.faces.omadm_accounts import AUTH_TYPES, mint
from tools.backend.faces.omadm_tables import (
    COMPONENT_TABLE,
    DELIVERY,
    JOB_TABLE,
    PULL_ACTIONS,
    PUSH_ACTIONS,
    RESULTS,
    SESSION_TABLE,
    STATES,
    Action,
    Phase,
    Shows,
    Stage,
    Step,
    ending_of,
    result_code,
)


@pytest.mark.parametrize(
    "table", [SESSION_TABLE, JOB_TABLE, COMPONENT_TABLE], ids=["session", "job", "component"]
)
def test_each_cell(table: dict) -> None:
    events = {event for cells in table.values() for event in cells}
    for state, event in itertools.product(table, events):
        if event in table[state]:
            assert next_state(table, state, event) in table
        else:
            with pytest.raises(IllegalTransition):
                next_state(table, state, event)


def test_the_tables_are_whole() -> None:
    assert set(SESSION_TABLE) == set(Phase)
    assert set(SESSION_TABLE[Phase.NEW]) == set(Step)
    assert SESSION_TABLE[Phase.OVER] == {}
    assert {*JOB_TABLE, *COMPONENT_TABLE} == set(Stage)
    assert all("end" in cells for stage, cells in JOB_TABLE.items() if stage is not Stage.IDLE)
    working = {item for item in Position if Position.OFFERED <= item <= Position.INSTALLING}
    for actions in (PULL_ACTIONS, PUSH_ACTIONS):
        assert set(actions) == working
        assert all(set(cells) == set(Shows) for cells in actions.values())


def test_a_device_that_confirmed_is_told_nothing_more() -> None:
    for actions in (PULL_ACTIONS, PUSH_ACTIONS):
        told = set(actions[Position.INSTALLING].values())
        assert told == {Action.WAIT, Action.LOST, Action.BY_VERSION}


def test_every_state_of_the_object_shows_something() -> None:
    assert set(STATES) == {int(state) for state in fumo_tables.FumoState}


@musts("DM-149")
@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.DEFERRED])
def test_what_our_devices_report_is_understood(outcome: Outcome) -> None:
    code = fumo_tables.RESULTS[outcome]
    assert code is not None
    found = ending_of(code)
    # Codes that stand for several outcomes name the likeliest.
    shared = {
        Outcome.DOWNGRADE: Ending.UNSUPPORTED_PACKAGE,
        Outcome.DEPENDENCY: Ending.UNSUPPORTED_PACKAGE,
        Outcome.UNSUPPORTED_PROTOCOL: Ending.BAD_URI,
        Outcome.REVERTED: Ending.INSTALL_FAILED,
    }
    assert found is shared.get(outcome, Ending[outcome.name])


@pytest.mark.parametrize("trouble", [one for one in fumo_tables.Trouble if one.value])
def test_troubles_are_understood(trouble: fumo_tables.Trouble) -> None:
    code = fumo_tables.TROUBLES[trouble]
    assert code is not None
    assert ending_of(code) not in (Ending.SUCCESS, Ending.NONSENSE)


@musts("DM-149")
@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (200, Ending.SUCCESS),
        (250, Ending.SUCCESS),
        (299, Ending.SUCCESS),
        (201, Ending.NONSENSE),
        (499, Ending.INSTALL_FAILED),
        (550, Ending.REFUSED),
        (600, Ending.NONSENSE),
    ],
)
def test_ranges(code: int, ending: Ending) -> None:
    assert ending_of(code) is ending


def test_no_failure_is_a_success() -> None:
    assert [code for code, ending in RESULTS.items() if ending is Ending.SUCCESS] == [200]
    assert Ending.SUCCESS not in DELIVERY.values()


@pytest.mark.parametrize(
    ("text", "code"), [("200", 200), (" 200\n", 200), ("", None), ("12345", None), ("²", None)]
)
def test_codes_as_text(text: str, code: int | None) -> None:
    assert result_code(text) == code


def test_secrets_stay_out_of_sight() -> None:
    account = mint("IMEI:350000000000100", "md5")
    assert account.password != account.server_password
    for secret in (account.password, account.server_password):
        assert secret not in repr(account)
    with pytest.raises(ValueError, match="basic, md5, hmac"):
        mint("x", "rot13")
    assert set(AUTH_TYPES) == {"none", "basic", "md5", "hmac"}
