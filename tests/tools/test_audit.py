"""Every cell of the verdict table, and the differences that need no pair."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import get_args

import pytest

from agent.files import InstalledFile
from tools.fleet.audit import (
    UNKNOWN,
    VERDICTS,
    Belief,
    BeliefVerdict,
    DeviceTruth,
    FileBelief,
    Kind,
    Target,
    TruthVerdict,
    audit,
)

OLD, NEW = b"old", b"new"
TARGET = Target("2.0.0", NEW, OLD)
UPDATED = DeviceTruth("d", "p", "idle", "success", "2.0.0", NEW, boots=2, executes=1)
FAILED = DeviceTruth("d", "p", "idle", "integrity", "1.0.0", OLD)
REVERTED = DeviceTruth("d", "p", "downloaded", "reverted", "1.0.0", OLD, boots=3, executes=1)
WAITING = DeviceTruth("d", "p", "idle", None, "1.0.0", OLD)
TRIAL = DeviceTruth("d", "p", "trial", None, "2.0.0", NEW)
BY_VERDICT: dict[str, tuple[DeviceTruth, ...]] = {
    "updated": (UPDATED,),
    "failed": (FAILED, REVERTED),
    "unfinished": (WAITING, TRIAL),
}


def kinds(truth: DeviceTruth, belief: Belief | None) -> list[Kind]:
    beliefs = {} if belief is None else {truth.name: belief}
    result = audit([truth], beliefs, TARGET)
    assert result.agree + result.differ + result.unknown == 1
    assert bool(result.differences) == bool(result.differ)
    return [difference.kind for difference in result.differences]


def test_the_table_is_total() -> None:
    assert set(VERDICTS) == set(get_args(TruthVerdict)) == set(BY_VERDICT)
    assert all(set(row) == set(get_args(BeliefVerdict)) for row in VERDICTS.values())


@pytest.mark.parametrize("believed", get_args(BeliefVerdict))
@pytest.mark.parametrize("true", get_args(TruthVerdict))
def test_every_cell(true: TruthVerdict, believed: BeliefVerdict) -> None:
    expected = VERDICTS[true][believed]
    for truth in BY_VERDICT[true]:
        assert truth.verdict(TARGET) == true
        assert kinds(truth, Belief(believed)) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("truth", "verdict"),
    [
        # Success once reported may be cleared by the server; the flash still knows.
        (DeviceTruth("d", "p", "idle", None, "2.0.0", NEW), "updated"),
        (DeviceTruth("d", "p", "installing", None, "1.0.0", OLD), "unfinished"),
        (DeviceTruth("d", "p", "downloaded", None, "1.0.0", OLD), "unfinished"),
        (DeviceTruth("d", "p", "idle", "success", "1.0.0", OLD), "failed"),
    ],
)
def test_truth_is_read_from_the_flash(truth: DeviceTruth, verdict: str) -> None:
    assert truth.verdict(TARGET) == verdict


def test_running_the_target_from_the_factory_is_no_update() -> None:
    same = Target("2.0.0", NEW, NEW)
    assert DeviceTruth("d", "p", "idle", None, "2.0.0", NEW).verdict(same) == "unfinished"
    assert DeviceTruth("d", "p", "idle", "integrity", "2.0.0", NEW).verdict(same) == "failed"
    assert UPDATED.verdict(same) == "updated"


def test_unknown_is_neither() -> None:
    result = audit([UPDATED], {"d": UNKNOWN}, TARGET)
    assert (result.agree, result.differ, result.unknown) == (0, 0, 1)


def test_missing_at_the_backend() -> None:
    assert kinds(UPDATED, None) == [Kind.MISSING]


def test_double_execute_counts_even_when_nothing_is_believed() -> None:
    twice = DeviceTruth("d", "p", "idle", "success", "2.0.0", NEW, executes=2)
    assert kinds(twice, UNKNOWN) == [Kind.DOUBLE_EXECUTE]
    assert kinds(twice, Belief("failed")) == [Kind.DOUBLE_EXECUTE, Kind.FALSE_FAILURE]
    retried = DeviceTruth("d", "p", "idle", "success", "2.0.0", NEW, executes=2, deliveries=2)
    assert kinds(retried, Belief("updated")) == []


def test_wrong_versions() -> None:
    assert kinds(UPDATED, Belief("updated", version="2.0.0")) == []
    assert kinds(UPDATED, Belief("updated", version="1.0.0")) == [Kind.WRONG_VERSION]
    elsewhere = DeviceTruth("d", "p", "idle", "success", "3.0.0", b"other", executes=1)
    assert kinds(elsewhere, Belief("updated")) == [Kind.WRONG_VERSION]
    assert kinds(elsewhere, UNKNOWN) == [Kind.WRONG_VERSION]


def test_a_result_pickles_and_speaks() -> None:
    result = audit(
        [UPDATED, FAILED], {"d": Belief("failed", "observed 5/0/5 = 8", "1.0.0")}, TARGET
    )
    assert pickle.loads(pickle.dumps(result)) == result
    assert result.by_kind() == {Kind.FALSE_FAILURE: 1}
    sentence = result.differences[0].sentence()
    assert sentence == (
        "d: false failure: runs 2.0.0, idle, outcome success; "
        "backend: failed, version 1.0.0, observed 5/0/5 = 8"
    )
    (missing,) = audit([UPDATED], {}, TARGET).differences
    assert missing.sentence().endswith("backend: no such device")
    twice = DeviceTruth("d", "p", "idle", "success", "2.0.0", NEW, executes=2)
    (double,) = audit([twice], {"d": UNKNOWN}, TARGET).differences
    assert "2 installs of 1 package(s)" in double.sentence()


@pytest.mark.parametrize(
    ("has", "verdict", "kind"),
    [
        ("new", "updated", None),
        ("new", "failed", Kind.FALSE_FAILURE),
        ("new", "unfinished", Kind.STUCK),
        ("old", "updated", Kind.FALSE_SUCCESS),
        ("old", "failed", None),
        ("old", "unfinished", None),
        ("inactive", "updated", Kind.FALSE_SUCCESS),
        ("", "updated", Kind.FALSE_SUCCESS),
        ("", "failed", None),
    ],
)
def test_a_file_is_there_by_its_digest_or_it_is_not(
    has: str, verdict: BeliefVerdict, kind: Kind | None
) -> None:
    digest = "0a" * 32 if has == "old" else "0b" * 32
    file = InstalledFile("app.cfg", "7", "", 3, digest, has != "inactive")
    truth = replace(WAITING, files=(file,) if has else ())
    belief = replace(UNKNOWN, files=(FileBelief("app.cfg", "0b" * 32, verdict),))
    result = audit([truth], {"d": belief}, TARGET)
    assert [one.kind for one in result.differences] == ([] if kind is None else [kind])
    assert (result.agree, result.unknown) == (int(kind is None), 0)
    if kind is Kind.FALSE_SUCCESS and has == "old":
        sentence = result.differences[0].sentence()
        assert "has app.cfg 7 (0a0a0a0a0a0a)" in sentence
        assert "app.cfg (0b0b0b0b0b0b) updated" in sentence
