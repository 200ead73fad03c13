"""What the tests of `tools` share."""

from __future__ import annotations

import pytest

from tools.fleet import shard


@pytest.fixture(autouse=True)
def no_limit_of_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is invalid when our own scheduler lags; on a machine that is busy with other tests that
    says nothing about the code. The tests of that rule set the limit themselves."""
    monkeypatch.setattr(shard, "MAX_LAG", float("inf"))
