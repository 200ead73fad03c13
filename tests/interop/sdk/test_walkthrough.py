"""The SDK example of `docs/backend.md`, run as it stands there."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from tests.interop.sdk.campaigns import IDS, LIMIT, powered, stock, subscribe, versions
from tests.tools.backend.process import BackendProcess

PAGE = Path(__file__).parents[3] / "docs" / "backend.md"
PLACEHOLDER = "http://127.0.0.1:8080"
METERS = IDS[:3]


def example(rest: str) -> str:
    """The page's only block of Python; all that is changed is the address."""
    [found] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found.count(PLACEHOLDER) == 1
    return str(found).replace(PLACEHOLDER, rest)


async def test_the_example_of_the_page(
    backend: BackendProcess, interpreter: Path, tmp_path: Path
) -> None:
    await stock(backend, "LWM2M", METERS, "meter")
    await subscribe(backend, "TS-HFOTA-MRC", len(METERS))
    (tmp_path / "ready.json").write_text(json.dumps({"account": backend.ready["account"]}))
    environment = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
    async with powered(backend.ready["listeners"]["coap"], "lwm2m", METERS) as shard:
        process = await asyncio.create_subprocess_exec(
            interpreter,
            "-I",
            "-c",
            example(backend.ready["listeners"]["rest"]),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environment, "NO_PROXY": "127.0.0.1"},
        )
        try:
            async with asyncio.timeout(2 * LIMIT):
                out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, errors.decode()
        assert out.decode().splitlines() == [f"{one} UpgradeSuccess" for one in METERS]
        assert versions(shard) == {"2.0.0"}
