"""`fotilla run --drive` as a person calls it, over sockets, against stubs that know both sides of a
server: devices made known, an image published, a campaign, the audit, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent.parts import image, trusted
from tests.stubs.hawkbit.listener import listening
from tests.stubs.joined import MenderServer, ThingsBoardServer

DEVICES = 50
PATIENCE = 120.0
Server = MenderServer | ThingsBoardServer


async def run_driven(server: Server, folder: Path, driver: str, *more: str) -> dict[str, Any]:
    """The object that the run prints, with its exit code as `exit`."""
    target, key = folder / "new.img", folder / "key.pem"
    target.write_bytes(image(2, 60_000, 2))
    key.write_bytes(trusted().keys[0].to_pem())
    async with listening(server.app, "127.0.0.1") as port:
        base = f"http://127.0.0.1:{port}"
        if isinstance(server, MenderServer):
            server.base = base
        prefix = f"FOTILLA_{driver.upper()}"
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("fotilla"),
            *("run", "--drive", driver, "--server", base),
            *("--image", str(target), "--key", str(key), "--devices", str(DEVICES)),
            *("--ramp", "200", "--option", "interval=0.5", "--json"),
            *("--report", str(folder / "report"), *more),
            env={
                **os.environ,
                f"{prefix}_USER": server.user,
                f"{prefix}_PASSWORD": server.password,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
    assert server.device_side.violations == []
    assert server.password not in err.decode()
    assert out, err.decode()
    return {**json.loads(out), "exit": process.returncode}


@pytest.mark.parametrize("kind", [MenderServer, ThingsBoardServer])
async def test_fifty_devices_from_nothing_to_nothing(tmp_path: Path, kind: type[Server]) -> None:
    server = kind()
    driver = "mender" if kind is MenderServer else "thingsboard"
    result = await run_driven(server, tmp_path, driver)
    assert result["exit"] == 0, result
    assert result["by_protocol"][driver]["updated"] == DEVICES
    assert result["audit"]["agree"] == DEVICES
    assert server.devices == {}


@pytest.mark.parametrize("kind", [MenderServer, ThingsBoardServer])
async def test_both_sides_agree_on_failures(tmp_path: Path, kind: type[Server]) -> None:
    driver = "mender" if kind is MenderServer else "thingsboard"
    result = await run_driven(kind(), tmp_path, driver, "--fault", "bad-boot=20%")
    counts = result["by_protocol"][driver]
    assert 0 < counts["failed"] < DEVICES
    assert counts["failed"] + counts["updated"] == DEVICES
    assert result["audit"] == {**result["audit"], "agree": DEVICES, "differ": 0}
