"""One chromedriver for all tests of the page, and a fresh browser and backend for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.page.browser import Browser, browser, chromedriver
from tests.interop.page.served import Served


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromedriver(tmp_path) as driver, browser(driver) as session:
        yield session


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    backend = Served(tmp_path / "backend.db")
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()
