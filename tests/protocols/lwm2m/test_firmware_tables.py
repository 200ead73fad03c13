"""Every cell of the two tables of Object 5, against the rules they are made of."""

from __future__ import annotations

from itertools import product

import pytest

from agent.update import TRANSITIONS, Event, Outcome, State
from protocols.coap.numbers import Code
from protocols.lwm2m.firmware_tables import (
    OPERATIONS,
    PUSH_ENDED,
    REPORTS,
    Action,
    Operation,
    answer,
    report,
)

# outcome-by-outcome, as (State, Result) of LwM2M 1.1 core appendix E.6.
EXPECTED = {
    State.IDLE: {
        None: (0, 0),
        Outcome.SUCCESS: (0, 1),
        Outcome.CANCELLED: (0, 0),
        Outcome.NO_SPACE: (0, 2),
        Outcome.OUT_OF_MEMORY: (0, 3),
        Outcome.CONNECTION_LOST: (0, 4),
        Outcome.INTEGRITY: (0, 5),
        Outcome.SIGNATURE: (0, 5),
        Outcome.WRONG_DEVICE: (0, 5),
        Outcome.DOWNGRADE: (0, 5),
        Outcome.DEPENDENCY: (0, 5),
        Outcome.UNSUPPORTED_PACKAGE: (0, 6),
        Outcome.BAD_URI: (0, 7),
        Outcome.UNSUPPORTED_PROTOCOL: (0, 9),
        Outcome.INSTALL_FAILED: (0, 8),
        Outcome.REVERTED: (0, 8),
    },
    State.DOWNLOADING: {None: (1, 0)},
    State.DOWNLOADED: {
        None: (2, 0),
        Outcome.DEFERRED: (2, 0),
        Outcome.INSTALL_FAILED: (2, 8),
        Outcome.REVERTED: (2, 8),
    },
    State.INSTALLING: {None: (3, 0)},
    State.TRIAL: {None: (3, 0)},
}


@pytest.mark.parametrize(("state", "outcome"), [*product(State, [None, *Outcome])])
def test_every_cell_of_the_reports(state: State, outcome: Outcome | None) -> None:
    expected = EXPECTED[state].get(outcome)
    if expected is None:
        assert (state, outcome) not in REPORTS
    else:
        assert report(state, outcome) == expected


WRITES = [operation for operation in Operation if operation is not Operation.EXECUTE]
RESETS = {Operation.PACKAGE_NUL, Operation.URI_EMPTY}
URIS = {Operation.URI, Operation.URI_MALFORMED, Operation.URI_SCHEME}

# The engine event that an action begins with: it must exist in the state of its cell.
FIRST_EVENT = {
    Action.START: Event.BEGIN,
    Action.WHOLE: Event.BEGIN,
    Action.FETCH: Event.BEGIN,
    Action.APPEND: Event.BLOCK,
    Action.FINISH: Event.BLOCK,
    Action.FAIL_URI: Event.FAIL,
    Action.FAIL_SCHEME: Event.FAIL,
    Action.RESET: Event.CANCEL,
    Action.INSTALL: Event.INSTALL,
}


@pytest.mark.parametrize(("state", "operation"), [*product(State, Operation)])
def test_every_cell_of_the_operations(state: State, operation: Operation) -> None:
    code, action = answer(state, operation)
    if action is Action.NOTHING:
        assert code >> 5 == 4, "what does nothing says so"
    else:
        assert FIRST_EVENT[action] in TRANSITIONS[state]
        assert code >> 5 == 2 or action is Action.FAIL_SCHEME

    if operation is Operation.EXECUTE:
        expected = (
            (Code.CHANGED, Action.INSTALL)
            if state is State.DOWNLOADED
            else (Code.METHOD_NOT_ALLOWED, Action.NOTHING)
        )
        assert (code, action) == expected
    elif state in (State.INSTALLING, State.TRIAL):
        assert (code, action) == (Code.METHOD_NOT_ALLOWED, Action.NOTHING)
    elif operation in RESETS:
        assert (code, action) == (Code.CHANGED, Action.RESET)
    elif state is State.DOWNLOADED or (state is State.DOWNLOADING and operation in URIS):
        assert (code, action) == (Code.BAD_REQUEST, Action.NOTHING)
    else:
        assert (code, action) == IN_TRANSFER[state][operation]


CONTINUE, CHANGED = Code.CONTINUE, Code.CHANGED
IN_TRANSFER = {
    State.IDLE: {
        Operation.PACKAGE_FIRST: (CONTINUE, Action.START),
        Operation.PACKAGE_NEXT: (Code.REQUEST_ENTITY_INCOMPLETE, Action.NOTHING),
        Operation.PACKAGE_LAST: (Code.REQUEST_ENTITY_INCOMPLETE, Action.NOTHING),
        Operation.PACKAGE_WHOLE: (CHANGED, Action.WHOLE),
        Operation.URI: (CHANGED, Action.FETCH),
        Operation.URI_MALFORMED: (CHANGED, Action.FAIL_URI),
        Operation.URI_SCHEME: (Code.BAD_REQUEST, Action.FAIL_SCHEME),
    },
    State.DOWNLOADING: {
        Operation.PACKAGE_FIRST: (CONTINUE, Action.START),
        Operation.PACKAGE_NEXT: (CONTINUE, Action.APPEND),
        Operation.PACKAGE_LAST: (CHANGED, Action.FINISH),
        Operation.PACKAGE_WHOLE: (CHANGED, Action.WHOLE),
    },
}


def test_the_tables_have_no_other_cells() -> None:
    assert {state: set(row) for state, row in OPERATIONS.items()} == {
        state: set(Operation) for state in State
    }
    assert len(REPORTS) == sum(len(row) for row in EXPECTED.values())


def test_a_push_that_ended_has_a_code_for_each_end_it_can_have() -> None:
    never_by_push = {
        Outcome.SUCCESS,
        Outcome.CANCELLED,
        Outcome.DEFERRED,
        Outcome.CONNECTION_LOST,
        Outcome.BAD_URI,
        Outcome.UNSUPPORTED_PROTOCOL,
        Outcome.REVERTED,
    }
    assert set(PUSH_ENDED) == set(Outcome) - never_by_push
    assert PUSH_ENDED[Outcome.NO_SPACE] == Code.REQUEST_ENTITY_TOO_LARGE
    assert PUSH_ENDED[Outcome.INTEGRITY] == Code.CHANGED
