"""The diagrams in docs/ are those of the code."""

from __future__ import annotations

from pathlib import Path

from tools.docs.__main__ import document

PAGE = Path(__file__).parents[2] / "docs" / "state-machines.md"


def test_the_state_machines_page_is_made_from_the_tables_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == document()
