"""Every cell of the DDI tables, walked."""

from __future__ import annotations

import itertools

import pytest

from agent.outcome import Outcome
from agent.update import State
from protocols.http.hawkbit.resources import Deployment, Handling, Window
from protocols.http.hawkbit.tables import (
    CANCEL,
    DIRECTIVES,
    FEEDBACK,
    STEPS,
    CancelAnswer,
    Directive,
    Execution,
    Finished,
    Report,
    Step,
    directive,
)
from protocols.lwm2m.firmware_tables import REPORTS


def test_feedback_covers_what_the_engine_can_be() -> None:
    """The same cells as LwM2M's table, which the engine's own tests prove to be all there are."""
    assert set(FEEDBACK) == set(REPORTS)


@pytest.mark.parametrize(("state", "outcome"), FEEDBACK)
def test_feedback(state: State, outcome: Outcome | None) -> None:
    """outcome-tables: a running attempt closes nothing, an ended one closes exactly once, what the
    server cancelled says nothing, and what is deferred only waits."""
    reports = FEEDBACK[state, outcome]
    finals = [one for one in reports if one.execution is Execution.CLOSED]
    if outcome is None or outcome is Outcome.CANCELLED:
        assert not finals
        assert all(one.finished is Finished.NONE for one in reports)
    elif outcome is Outcome.DEFERRED:
        assert reports == (Report(Execution.SCHEDULED),)
    else:
        success = Finished.SUCCESS if outcome is Outcome.SUCCESS else Finished.FAILURE
        assert reports == (Report(Execution.CLOSED, success),)


def test_progress() -> None:
    assert [one.execution.value for one in FEEDBACK[State.DOWNLOADING, None]] == [
        "proceeding",
        "download",
    ]
    assert [one.execution.value for one in FEEDBACK[State.DOWNLOADED, None]] == ["downloaded"]
    for state in (State.INSTALLING, State.TRIAL):
        assert [one.execution.value for one in FEEDBACK[state, None]] == ["proceeding"]


def test_cancel() -> None:
    """Before INSTALLING accepted, from then on rejected; the wire as recorded."""
    for state in State:
        expected = CancelAnswer.ACCEPT if state < State.INSTALLING else CancelAnswer.REJECT
        assert CANCEL[state] is expected
    wire = {
        one.value: (one.report.execution.value, one.report.finished.value) for one in CancelAnswer
    }
    assert wire == {
        "accept": ("closed", "success"),
        "fail": ("closed", "failure"),
        "reject": ("rejected", "failure"),
        "canceled": ("canceled", "success"),
    }


def test_directives() -> None:
    assert set(DIRECTIVES) == set(itertools.product(Handling, Handling))
    for (download, update), found in DIRECTIVES.items():
        if download is Handling.SKIP:
            assert found is Directive.WAIT
        elif update is Handling.SKIP:
            assert found is Directive.KEEP
        else:
            assert found is Directive.INSTALL


def test_patience() -> None:
    def asks(download: Handling, update: Handling) -> Directive:
        return directive(Deployment("1", download, update, Window.AVAILABLE, ()), patient=True)

    assert asks(Handling.ATTEMPT, Handling.ATTEMPT) is Directive.WAIT
    assert asks(Handling.FORCED, Handling.ATTEMPT) is Directive.KEEP
    assert asks(Handling.FORCED, Handling.FORCED) is Directive.INSTALL


def test_steps() -> None:
    assert set(STEPS) == set(itertools.product(State, (False, True)))
    for (state, mine), row in STEPS.items():
        assert set(row) == set(Directive)
        for asked, step in row.items():
            if state in (State.INSTALLING, State.TRIAL):
                assert step is Step.NOTHING
            if not mine and asked is Directive.WAIT and state < State.INSTALLING:
                assert step is Step.HOLD
            if step is Step.INSTALL:
                assert (state, mine, asked) == (State.DOWNLOADED, True, Directive.INSTALL)
            if step in (Step.BEGIN, Step.REPLACE):
                assert not mine
