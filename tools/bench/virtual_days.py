"""The measured process: a month of a network-aware OMA-DM campaign, in virtual time.

usage: python -m tools.bench.virtual_days OPTIONS   (OPTIONS: a JSON object, see :class:`Options`)

Every device powers up once a day at an hour of its own, attaches to the operator network, stays for
half an hour and is gone again. A tenth of them is off for the first ten days, another tenth comes
back with its old firmware from the first two attempts. Backend and devices share one process, one
loop, one clock and an in-memory network; nothing waits for the wall clock. Prints one JSON object:
what became of the campaign, CPU seconds, and the SHA-256 of the whole journal, which is the same in
every run of the same options.
"""

from __future__ import annotations

import gc
import hashlib
import json
import resource
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import Device
from agent.credentials import Credential
from agent.faults import FaultPlan
from agent.protocol import ClientSettings
from agent.runtime.clock import run_virtual
from agent.runtime.runtime import Runtime
from firmware_images.keys import TrustedKeys
from protocols.http.memory_transport import MemoryHttp
from protocols.omadm.client import OmadmClient
from tools.backend.backend import Backend
from tools.backend.campaigns.kinds import FIRMWARE_V1
from tools.backend.campaigns.records import Campaign, CampaignRequest
from tools.backend.config import BackendConfig
from tools.backend.timing import DAY, date_text

UP_SECONDS = 30 * 60.0
"""How long a device stays after it has powered up."""

ABSENT_DAYS = 10
FAILURES = 2
SHARE = 10
"""One device in so many is off for long, and one in so many fails."""


@dataclass(frozen=True, slots=True)
class Options:
    folder: str
    """Holds `factory`, `target` and `key.pem`."""
    devices: int = 1_000
    days: int = 30
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Habit:
    """When a device is up."""

    hour: float
    """Seconds after midnight."""
    first_day: int
    faults: FaultPlan | None


def habit_of(index: int, days: int) -> Habit:
    """Spread over the day without chance: a stride that has no factor in common with it."""
    absent = index % SHARE == 3
    failing = index % SHARE == 7
    return Habit(
        hour=(index * 7919) % (24 * 3600 - UP_SECONDS),
        first_day=min(ABSENT_DAYS, days - 1) if absent else 0,
        faults=FaultPlan(bad_boots=FAILURES, seed=index) if failing else None,
    )


class Month:
    """One campaign and everybody in it."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        self._runtime = runtime
        self._options = options
        folder = Path(options.folder)
        self._factory = (folder / "factory").read_bytes()
        self._target = (folder / "target").read_bytes()
        self._trusted = TrustedKeys.from_pem((folder / "key.pem").read_bytes())
        self._backend = Backend(runtime, BackendConfig(timing="documented", pilot_waived=True))
        self._devices: list[Device] = []
        self.power_ups = 0

    async def run(self) -> Mapping[str, object]:
        backend = self._backend
        await backend.start()
        try:
            campaign = await self._prepare()
            gc.collect()
            gc.freeze()  # as a fleet does: what lives as long as the run is not looked at again
            await self._live()
            return self._results(campaign)
        finally:
            await backend.stop()

    async def _prepare(self) -> Campaign:
        backend, options = self._backend, self._options
        origin = backend.omadm_url.removesuffix("/dm")
        self._runtime.http = MemoryHttp(self._runtime, {origin: backend.omadm_app})
        names = [f"IMEI:{350000000000000 + number}" for number in range(options.devices)]
        await backend.load_devices(
            {"name": name, "deviceId": name.removeprefix("IMEI:"), "protocol": "OMADM"}
            for name in names
        )
        accounts = await backend.mint_dm_accounts(names)
        for index, name in enumerate(names):
            self._devices.append(self._device(index, name, accounts[name]))
        await backend.add_package(
            self._target, name="app", version="1.1.0", version_from="1.0.0", protocol="OMADM"
        )
        now = backend.time.now()
        return await backend.engine.create(
            CampaignRequest(
                account=backend.account.name,
                title="a month",
                package="app",
                version_from="1.0.0",
                version_to="1.1.0",
                start_date=date_text(now + DAY),
                end_date=date_text(now + 2 * DAY),
                devices=tuple(name.removeprefix("IMEI:") for name in names),
                kind=FIRMWARE_V1,
                protocol="OMADM",
            )
        )

    def _device(self, index: int, name: str, credential: Credential) -> Device:
        device = Device(
            self._runtime,
            name,
            image=self._factory,
            trusted=self._trusted,
            index=index,
            faults=habit_of(index, self._options.days).faults,
        )
        settings = ClientSettings(
            server=self._backend.omadm_url,
            credential=lambda _device: credential,
            options={"push": "0"},
            bind=f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}",
        )
        device.attach(lambda one: OmadmClient(one, settings))
        return device

    async def _live(self) -> None:
        """All days of all devices, in one story: who is up next is known from the start."""
        options, clock = self._options, self._runtime.clock
        midnight = clock.now()
        moments: list[tuple[float, int, int, bool]] = []
        for index in range(options.devices):
            habit = habit_of(index, options.days)
            for day in range(habit.first_day, options.days):
                up = midnight + day * DAY + habit.hour
                moments.append((up, index, day, True))
                moments.append((up + UP_SECONDS, index, day, False))
        moments.sort()
        for instant, index, _day, up in moments:
            if instant > clock.now():
                await clock.sleep(instant - clock.now())
            device = self._devices[index]
            if up:
                self.power_ups += 1
                device.power_on()
                await self._attach(device)
            else:
                await self._backend.operator.detach(device.name)
                device.power_off()
        await clock.sleep(60.0)

    async def _attach(self, device: Device) -> None:
        client = device.client
        assert isinstance(client, OmadmClient) and client.push_address is not None
        await self._backend.operator.attach(device.name, "cell", client.push_address)

    def _results(self, campaign: Campaign) -> Mapping[str, object]:
        versions = Counter(
            "none" if device.running is None else str(device.running.version)
            for device in self._devices
        )
        statuses = Counter(member.status for member in campaign.members.values())
        return {
            "statuses": dict(sorted(statuses.items())),
            "versions": dict(sorted(versions.items())),
            "queued": sum(member.queued for member in campaign.members.values()),
            "attempts": dict(
                sorted(Counter(str(item.attempts) for item in campaign.members.values()).items())
            ),
            "power_ups": self.power_ups,
        }


async def simulate(options: Options) -> Mapping[str, object]:
    """Run it, and say what it cost. Call it by `run_virtual`."""
    journal = hashlib.sha256()
    lines = 0

    def note(line: str) -> None:
        nonlocal lines
        lines += 1
        journal.update(line.encode() + b"\n")

    async with Runtime.in_memory(seed=options.seed, journal=note) as runtime:
        month = Month(runtime, options)
        before = resource.getrusage(resource.RUSAGE_SELF)
        result = await month.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**result, "cpu": cpu, "lines": lines, "journal": journal.hexdigest()}


if __name__ == "__main__":
    print(json.dumps(run_virtual(simulate(Options(**json.loads(sys.argv[1]))))))
