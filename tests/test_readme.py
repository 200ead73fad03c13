"""The library example of the README, run as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend

ROOT = Path(__file__).parents[1]
MARK = "# ten lines to a running device\n"
PLACEHOLDER = "coap://127.0.0.1:5683"
ENDPOINT = "meter-1"
LIMIT = 30.0  # seconds; only an example that does not register takes them


def example() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    [found] = [block for block in blocks if MARK in block]
    return str(found)


async def test_the_library_example_registers_a_device() -> None:
    """A real process, a real socket; all that is changed is the port of the server."""
    async with Runtime.real() as runtime:
        backend = Backend(runtime)
        await backend.start()
        try:
            host, port = backend.coap_address
            source = example()
            assert source.count(PLACEHOLDER) == 1
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                source.replace(PLACEHOLDER, f"coap://{host}:{port}"),
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            try:
                async with asyncio.timeout(LIMIT):
                    # `device.on_event = print`: machine, old state, new state, cause.
                    async for line in process.stdout:
                        if line.startswith(b"registration REGISTERING REGISTERED"):
                            break
                assert backend.unknown_identities() == [ENDPOINT]
            finally:
                if process.returncode is None:
                    process.kill()
                _, errors = await process.communicate()
            assert errors == b""
        finally:
            await backend.stop()
