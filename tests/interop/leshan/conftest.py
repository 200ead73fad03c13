"""One Leshan server for the whole session; each test talks to it through a client of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.interop.leshan.server import Leshan, LeshanApi, running_server


@pytest.fixture(scope="session")
def leshan(peers: None) -> Iterator[Leshan]:
    with running_server() as server:
        yield server


@pytest.fixture
async def api(leshan: Leshan) -> AsyncIterator[LeshanApi]:
    async with leshan.api() as client:
        yield client
