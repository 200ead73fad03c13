"""Every cell of the two tables."""

from __future__ import annotations

import itertools

import pytest

from agent.misbehaviour import Misbehaviour
from agent.update import Outcome, State
from protocols.http.checkin.misbehaviour import AUDITED, RIGHT_ANSWERS, another_name
from protocols.http.checkin.tables import (
    REPORTS,
    TRANSITIONS,
    Cause,
    Report,
    Stage,
    Word,
    reason_of,
    report,
)

RUNNING = {
    State.IDLE: Word.WAITING,
    State.DOWNLOADING: Word.DOWNLOADING,
    State.DOWNLOADED: Word.DOWNLOADED,
    State.INSTALLING: Word.INSTALLING,
    State.TRIAL: Word.INSTALLING,
}
KEPT = {Outcome.INSTALL_FAILED, Outcome.REVERTED}
"""Ends that leave the image in the slot."""


@pytest.mark.parametrize(
    ("state", "outcome"), list(itertools.product(State, (None, *Outcome))), ids=str
)
def test_every_cell(state, outcome):
    cell = REPORTS.get((state, outcome))
    if outcome is None:
        assert cell == Report(RUNNING[state])
        assert not cell.final
    elif state is State.IDLE and outcome is Outcome.SUCCESS:
        assert cell == Report(Word.SUCCESS) and cell.final
    elif (state is State.IDLE and outcome is not Outcome.DEFERRED) or (
        state is State.DOWNLOADED and outcome in KEPT
    ):
        assert cell == Report(Word.FAILED, reason_of(outcome)) and cell.final
    elif state is State.DOWNLOADED and outcome is Outcome.DEFERRED:
        assert cell == Report(Word.DOWNLOADED) and not cell.final
    else:
        assert cell is None
    if cell is not None:
        assert report(state, outcome) == cell


def test_reasons_are_the_words_of_the_wire():
    assert {reason_of(outcome) for outcome in Outcome} - {"success"} == {
        "cancelled",
        "deferred",
        "no-space",
        "out-of-memory",
        "connection-lost",
        "integrity",
        "signature",
        "wrong-device",
        "downgrade",
        "dependency",
        "unsupported-package",
        "bad-uri",
        "unsupported-protocol",
        "install-failed",
        "reverted",
    }


@pytest.mark.parametrize(("stage", "cause"), list(itertools.product(Stage, Cause)))
def test_every_transition(stage, cause):
    new = TRANSITIONS[stage].get(cause)
    forward = {
        (Stage.NONE, Cause.ORDERED): Stage.WAITING,
        (Stage.WAITING, Cause.OPENED): Stage.DOWNLOADING,
        (Stage.DOWNLOADING, Cause.COMPLETE): Stage.DOWNLOADED,
        (Stage.DOWNLOADED, Cause.LEAVE): Stage.INSTALLING,
        (Stage.ENDED, Cause.ACKNOWLEDGED): Stage.NONE,
    }
    if (stage, cause) in forward:
        assert new is forward[stage, cause]
    elif cause is Cause.DROPPED and stage is not Stage.NONE:
        assert new is Stage.NONE
    elif cause is Cause.ENDED and stage not in (Stage.NONE, Stage.ENDED):
        assert new is Stage.ENDED
    else:
        assert new is None


def test_every_misbehaviour_has_its_expectation():
    known = set(RIGHT_ANSWERS) | AUDITED | {Misbehaviour.HERD}
    assert known == set(Misbehaviour)
    assert not set(RIGHT_ANSWERS) & AUDITED


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("urn:imei:350000000000001", "urn:imei:350000000000002"),
        ("meter-9", "meter-0"),
        ("x", "x-2"),
    ],
)
def test_a_clone_takes_a_neighbour_s_name(name, other):
    assert another_name(name) == other
