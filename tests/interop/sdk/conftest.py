"""A backend in a process of its own per test, and the SDK logged in to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.environments import environment
from tests.interop.sdk.customer import Customer, running_sdk
from tests.tools.backend.process import BackendProcess


@pytest.fixture(scope="session")
def interpreter() -> Path:
    return environment("sdk", Path(__file__).parent / "requirements.txt")


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[BackendProcess]:
    served = BackendProcess(tmp_path)
    try:
        await served.start()
        yield served
        assert served.interrupt() == 0
        assert "Traceback" not in (tmp_path / "stderr").read_text()
    finally:
        served.kill()


@pytest.fixture
async def customer(backend: BackendProcess, interpreter: Path) -> AsyncIterator[Customer]:
    account, rest = backend.ready["account"], backend.ready["listeners"]["rest"]
    async with running_sdk(interpreter, rest, account["name"], account["secret"]) as sdk:
        await sdk.log_in(account["name"], account["secret"])
        yield sdk
