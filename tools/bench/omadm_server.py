"""The reference backend for OMA-DM devices, alone in its process.

usage: python -m tools.bench.omadm_server OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.runtime.runtime import Runtime
from tools.backend.backend import Backend, BackendConfig
from tools.backend.campaigns import states
from tools.backend.config import Listen
from tools.bench.control import answer_commands

__all__ = ["account_file"]

CELL = "bench"
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Options:
    folder: str
    """Holds `target`, the image of the campaigns; gets the database and the files of accounts."""


def account_file(folder: Path, group: str) -> Path:
    """Where the credentials of a group's devices are, in the order of their numbers."""
    return folder / f"accounts-{group}.json"


class Server:
    """The backend, and what the driver may ask of it."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.backend = backend
        self.folder = folder
        self.groups: dict[str, list[str]] = {}

    async def accounts(self, group: str, devices: int) -> Mapping[str, object]:
        """Introduce devices; their credentials go to a file for nobody else."""
        names = self.groups[group] = [f"{group}-{number:05d}" for number in range(devices)]
        await self.backend.load_devices({"name": name, "protocol": "OMADM"} for name in names)
        minted = await self.backend.mint_dm_accounts(names)
        known = [
            [minted[name].username, minted[name].password, minted[name].token] for name in names
        ]
        path = account_file(self.folder, group)
        path.touch(mode=0o600)
        path.write_text(json.dumps(known))
        return {"url": self.backend.omadm_url}

    async def attach(self, group: str, at: list[tuple[str, int]]) -> Mapping[str, object]:
        """Let the operator network know where a group's devices listen for WAP push."""
        for name, (host, port) in zip(self.groups[group], at, strict=True):
            known = self.backend.inventory.devices[name]
            await self.backend.operator.attach(known.device_id, CELL, (host, port))
        return {}

    async def campaign(self, group: str) -> Mapping[str, object]:
        """Offer the target image to the devices of a group, by its URL."""
        names = self.groups[group]
        package = await self.backend.add_package(
            (self.folder / "target").read_bytes(), name=group, version="1.1.0", protocol="OMADM"
        )
        await self.backend.create_campaign(
            names, package, delivery_of=lambda _name: "pull", concurrency=len(names), title=group
        )
        return {}

    async def ended(self) -> Mapping[str, object]:
        """Wait for the campaigns; how many of their devices have the image."""
        with contextlib.suppress(TimeoutError):  # the count says it
            await asyncio.wait_for(self.backend.finished.wait(), PATIENCE_SECONDS)
        members = [
            member
            for campaign in self.backend.engine.book.campaigns.values()
            for member in campaign.members.values()
        ]
        return {
            "updated": sum(member.status == states.SUCCESS for member in members),
            "attempts": sum(member.attempts for member in members),
        }

    async def cpu(self) -> Mapping[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"user": usage.ru_utime, "sys": usage.ru_stime}


async def main(options: Options) -> None:
    folder = Path(options.folder)
    async with Runtime.real() as runtime:
        config = BackendConfig(
            db=str(folder / f"omadm-{os.getpid()}.db"),
            listen={"http": Listen(None)},
            timing="immediate",
            pilot_waived=True,
        )
        backend = Backend(runtime, config)
        await backend.start()
        try:
            server = Server(backend, folder)
            await answer_commands(
                {
                    "accounts": server.accounts,
                    "attach": server.attach,
                    "campaign": server.campaign,
                    "ended": server.ended,
                    "cpu": server.cpu,
                }
            )
        finally:
            await backend.stop()


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
