"""Every rule of docs/omadm-musts.md has its test, and every number in a test is a rule's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "omadm-musts.md"
FOLDERS = {"c/": "protocols/omadm/", "s/": "tools/backend/faces/"}
TESTS = (
    ("tests/protocols/omadm", "test_*.py"),
    ("tests/tools/backend", "test_omadm*.py"),
    ("tests/tools/backend", "test_operator*.py"),
)


class Rule(NamedTuple):
    id: str
    section: str
    who: str
    what: str
    where: str


def rules() -> list[Rule]:
    return [
        Rule(*(cell.strip() for cell in line.strip("|").split("|")))
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| DM-")
    ]


def marks(path: Path) -> Iterator[tuple[str, str]]:
    """(rule, test) of a file, without running it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "musts":
                assert node.name.startswith("test_"), f"{path.name}: {node.name} is no test"
                for argument in decorator.args:
                    assert isinstance(argument, ast.Constant), f"{path.name}: {node.name}"
                    yield str(argument.value), f"{path.name}::{node.name}"


def marked() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for folder, pattern in TESTS:
        for path in sorted((ROOT / folder).glob(pattern)):
            for rule, test in marks(path):
                found.setdefault(rule, []).append(test)
    return found


def test_the_rules_are_numbered_without_a_gap() -> None:
    found = [rule.id for rule in rules()]
    assert found == [f"DM-{number:03}" for number in range(1, len(found) + 1)]
    assert len(found) > 100
    for rule in rules():
        assert rule.who in ("client", "server", "both"), rule
        assert rule.section and rule.what.endswith("."), rule


def test_every_rule_has_a_test() -> None:
    tested = marked()
    assert [rule.id for rule in rules() if rule.id not in tested] == []


def test_no_test_names_a_rule_that_is_not_there() -> None:
    known = {rule.id for rule in rules()}
    unknown = {rule: tests for rule, tests in marked().items() if rule not in known}
    assert unknown == {}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_where_it_is_kept_exists(rule: Rule) -> None:
    places = re.findall(r"`([^`]+)`", rule.where)
    assert places
    for place in places:
        path, _, name = place.partition(" ")
        file = ROOT / (FOLDERS[path[:2]] + path[2:])
        assert file.is_file(), place
        assert re.search(rf"\b{re.escape(name)}\b", file.read_text()), place
