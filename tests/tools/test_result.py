from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from agent.misbehaviour import Judgement
from tools.fleet.audit import AuditResult, DeviceTruth, Target
from tools.fleet.result import (
    EXIT_CODES,
    Counts,
    RunResult,
    count_devices,
    count_failures,
    exit_code,
    failure_object,
    json_object,
    verdict_text,
)

TARGET = Target("2.0.0", b"new", b"old")
GOOD = RunResult("run", TARGET, {"lwm2m": Counts(3)}, 12.3456, AuditResult(agree=3))
BAD = RunResult(
    "run",
    TARGET,
    {"lwm2m": Counts(1, 1, 1)},
    1.0,
    AuditResult(2, 1),
    invalid="lag",
    interrupted=True,
    thresholds_missed=("p(95)<1s",),
    findings=("3 counted, 2 listed",),
    left=("target a",),
    misbehaviours={
        ("http", "late-report"): Judgement(2, 1, ("d: 204",)),
        ("hawkbit", "late-report"): Judgement(3),
    },
)


def test_exit_codes_are_decided_in_order() -> None:
    steps = [BAD]
    steps.append(replace(steps[-1], interrupted=False))
    steps.append(replace(steps[-1], invalid=None))
    steps.append(replace(steps[-1], audit=AuditResult(3)))
    steps.append(replace(steps[-1], findings=()))
    steps.append(replace(steps[-1], misbehaviours={}))
    steps.append(replace(steps[-1], thresholds_missed=()))
    steps.append(replace(steps[-1], by_protocol={"lwm2m": Counts(3)}))
    assert [exit_code(step) for step in steps] == [130, 4, 1, 1, 1, 99, 3, 0]
    assert [code for code, _, _ in EXIT_CODES] == [130, 4, 1, 1, 1, 99, 3, 0]


@pytest.mark.parametrize(
    ("result", "code", "text"),
    [
        (GOOD, 0, "all updated and the audit agrees"),
        (replace(GOOD, error="no answer"), 4, "the run is invalid: no answer"),
        (replace(GOOD, invalid="lag"), 4, "the run is invalid: lag"),
        (replace(GOOD, thresholds_missed=("a", "b")), 99, "threshold missed: a, b"),
        (replace(GOOD, audit=AuditResult(unknown=3)), 0, "all updated and the audit agrees"),
        (replace(GOOD, by_protocol={"p": Counts(0, 0, 1)}), 3, "failed or unfinished devices"),
    ],
)
def test_verdicts_in_words(result: RunResult, code: int, text: str) -> None:
    assert exit_code(result) == code
    assert verdict_text(result) == text


def test_the_json_object() -> None:
    result = replace(GOOD, by_protocol={"a": Counts(1, 2, 3), "b": Counts(4)}, report="report")
    assert json_object(result) == {
        "devices": 10,
        "updated": 5,
        "failed": 2,
        "unfinished": 3,
        "seconds": 12.346,
        "by_protocol": {
            "a": {"devices": 6, "updated": 1, "failed": 2, "unfinished": 3},
            "b": {"devices": 4, "updated": 4, "failed": 0, "unfinished": 0},
        },
        "audit": {"agree": 3, "differ": 0, "unknown": 0},
        "report": "report",
    }
    failed = replace(result, error="went wrong")
    assert json_object(failed)["error"] == "went wrong"
    assert set(failure_object("x")) == set(json_object(failed))
    json.dumps(failure_object("x"))
    assert pickle.loads(pickle.dumps(result)) == result


def test_counts_come_from_truth() -> None:
    truths = [
        DeviceTruth("a", "p", "idle", "success", "2.0.0", b"new"),
        DeviceTruth("b", "p", "idle", "integrity", "1.0.0", b"old"),
        DeviceTruth("c", "q", "downloading", None, "1.0.0", b"old"),
        DeviceTruth("d", "q", "idle", "success", "9.0.0", b"odd"),
        DeviceTruth("e", "q", "idle", "integrity", "1.0.0", b"old"),
    ]
    assert count_devices(truths, TARGET) == {"p": Counts(1, 1), "q": Counts(0, 2, 1)}
    assert list(count_failures(truths, TARGET).items()) == [
        ("integrity", 2),
        ("runs another image", 1),
    ]


def test_answers_to_misbehaviour_are_in_the_object() -> None:
    assert json_object(BAD)["misbehaviours"] == {
        "http": {"late-report": {"kept": 2, "broken": 1}},
        "hawkbit": {"late-report": {"kept": 3, "broken": 0}},
    }
    assert json_object(BAD)["findings"] == ["3 counted, 2 listed"]
    assert json_object(BAD)["left_on_server"] == ["target a"]
    assert json_object(GOOD).keys().isdisjoint({"misbehaviours", "findings", "left_on_server"})
    wrong = replace(GOOD, misbehaviours=BAD.misbehaviours)
    assert exit_code(wrong) == 1
    assert verdict_text(wrong) == "the server answered misbehaviour wrongly"
