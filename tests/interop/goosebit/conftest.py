"""One gooseBit for the whole session; each test has devices and a driver of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.goosebit.server import Goosebit, running_server


@pytest.fixture(scope="session")
def goosebit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Goosebit]:
    with running_server(tmp_path_factory.mktemp("goosebit")) as server:
        yield server
