"""Every rule of docs/backend-rules.md has its test, and every number in a test is a rule's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[4]
DOCUMENT = ROOT / "docs" / "backend-rules.md"
TESTS = ROOT / "tests" / "tools" / "backend"

MARKERS = ("rules", "not_met")


class Rule(NamedTuple):
    id: str
    mark: str
    what: str


def listed() -> list[Rule]:
    return [
        Rule(*(cell.strip() for cell in line.strip("|").split("|")))
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| BR-")
    ]


def excused() -> dict[str, str]:
    """The rules that the document lists as not met, and why."""
    section = DOCUMENT.read_text().partition("## Not met\n")[2]
    return dict(re.findall(r"^- (BR-\d+): (.+)$", section, re.MULTILINE))


def marks(path: Path) -> Iterator[tuple[str, str, str]]:
    """(marker, rule, test) of a file, without running it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in MARKERS:
                assert node.name.startswith("test_"), f"{path.name}: {node.name} is no test"
                for argument in decorator.args:
                    assert isinstance(argument, ast.Constant), f"{path.name}: {node.name}"
                    marker = ast.unparse(decorator.func)
                    yield marker, str(argument.value), f"{path.name}::{node.name}"


def marked(marker: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for kind, rule, test in marks(path):
            if kind == marker:
                found.setdefault(rule, []).append(test)
    return found


def test_the_rules_are_numbered_without_a_gap() -> None:
    found = [rule.id for rule in listed()]
    assert found == [f"BR-{number:03}" for number in range(1, len(found) + 1)]
    assert len(found) > 100
    for rule in listed():
        assert rule.mark in ("documented", "ours"), rule
        assert rule.what, rule


def test_every_rule_has_a_test_or_a_reason() -> None:
    tested = marked("rules")
    missing = [rule.id for rule in listed() if rule.id not in tested and rule.id not in excused()]
    assert missing == []


def test_no_test_names_a_rule_that_is_not_there() -> None:
    known = {rule.id for rule in listed()}
    for marker in MARKERS:
        unknown = {rule: tests for rule, tests in marked(marker).items() if rule not in known}
        assert unknown == {}


def test_what_is_not_met_is_said_and_shown() -> None:
    assert set(excused()) == set(marked("not_met"))
    assert set(excused()).isdisjoint(marked("rules")), "a rule that is met: take it off the list"
    flagged = {rule.id for rule in listed() if rule.what.endswith("*Not met.*")}
    assert flagged == set(excused())
    assert all(len(reason) > 20 for reason in excused().values())
