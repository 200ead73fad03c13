"""`--example`: what is in it, that it is whole, and that a restart changes nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from agent.runtime.runtime import Runtime
from firmware_images import as_source
from firmware_images.keys import TrustedKeys
from firmware_images.mcuboot import verify_image
from tests.tools.backend.http_device import HttpDevice, in_process
from tests.tools.backend.virtual import CONFIG, started, virtual
from tools.backend.admin.example import (
    CELLS,
    FOLDER,
    GROUPS,
    LICENSED,
    PUBLIC_KEY,
    READY,
    SECOND,
    credentials_file,
    load_example,
)
from tools.fleet.credential_file import credentials

WITHIN = 60.0
"""Seconds until a backend has failed to serve."""


@virtual
async def test_it_is_whole_and_put_in_once(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    folder = tmp_path / "files"
    async with Runtime.in_memory() as runtime:
        async with started(runtime, config) as backend:
            told = await load_example(backend, folder, None)
            inventory = backend.inventory
            assert set(inventory.accounts) == {backend.account.name, SECOND}
            protocols = Counter(device.protocol for device in inventory.devices.values())
            assert protocols == {"LWM2M": 100, "HTTP": 60, "OMADM": 40}
            assert len({device.device_id for device in inventory.devices.values()}) == 200
            assert len(inventory.packages) == 3
            assert backend.operator.cells.own() == CELLS
            assert set(backend.operator.serving()) == set(CELLS)
            assert backend.licences.used(SECOND) == LICENSED
            trusted = TrustedKeys.from_pem((folder / PUBLIC_KEY).read_bytes())
            for group in GROUPS:
                image = (folder / f"{group.firmware}.bin").read_bytes()
                verify_image(as_source(image), trusted, 1 << 20)
            secrets = [account.secret for account in inventory.accounts.values()]
            assert not [line for line in told for secret in secrets if secret in line]
            runs = [line for line in told if "fotilla run" in line]
            assert [line.split("--protocol ")[1].split()[0] for line in runs] == [
                "lwm2m",
                "http",
                "omadm",
            ]
            # What stands in the files lets devices in.
            group = GROUPS[1]
            path = credentials_file(folder, group)
            assert path.stat().st_mode & 0o777 == 0o600
            names = [name for name, one in inventory.devices.items() if one.protocol == "HTTP"]
            [first, *_] = credentials(path, names, None, {})
            async with in_process(backend) as client:
                await HttpDevice(client, names[0], first.token).check_in()
            assert inventory.devices[names[0]].firmware == "1.0.0"
            before = (
                dict(inventory.accounts),
                dict(inventory.devices),
                dict(inventory.packages),
                {path.name: path.read_bytes() for path in folder.iterdir()},
            )
            account = inventory.accounts[SECOND]
            await backend.operator.cells.set("north", 1)
        async with started(runtime, config) as backend:
            await load_example(backend, folder, None)
            inventory = backend.inventory
            assert before == (
                dict(inventory.accounts),
                dict(inventory.devices),
                dict(inventory.packages),
                {path.name: path.read_bytes() for path in folder.iterdir()},
            )
            assert inventory.accounts[SECOND] == account
            # What somebody has changed stays changed.
            assert backend.operator.cells.own()["north"] == 1
            assert backend.licences.used(SECOND) == LICENSED


async def test_the_command_serves_it_and_says_how_to_log_in(tmp_path: Path) -> None:
    listeners = [
        argument
        for name in ("coap", "rest", "http", "omadm", "admin")
        for argument in (f"--{name}", "127.0.0.1:0")
    ]
    main = "from tools.cli import main; main()"
    command = [sys.executable, "-c", main, "backend", "--example", *listeners]
    root = Path(__file__).parents[4]
    ready = tmp_path / FOLDER / READY
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=stderr, env={"PYTHONPATH": str(root), "PATH": ""}
        )
    try:
        async with asyncio.timeout(WITHIN):
            while not ready.exists():
                assert process.poll() is None, (tmp_path / "stderr").read_text()
                await asyncio.sleep(0.05)
        content = json.loads(ready.read_text())
        assert [account["name"] for account in content["accounts"]] == [CONFIG.account, SECOND]
    finally:
        process.terminate()
        assert process.wait(timeout=WITHIN) == 0
    said = (tmp_path / "stderr").read_text()
    assert "200 devices" in said
    assert "fotilla admin --ready-file" in said
    assert "fotilla run --protocol lwm2m --server coap://127.0.0.1:" in said
    assert content["admin"]["token"] not in said
    assert not [one for one in content["accounts"] if one["secret"] in said]
    assert "Traceback" not in said
