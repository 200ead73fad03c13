"""The client against the reference backend, in virtual time; the audit compares both sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.faults import FaultPlan
from agent.flash import CutMode
from agent.misbehaviour import Misbehaviour
from agent.runtime.random import DeviceRandom
from agent.update import Outcome, State
from protocols.http.checkin.wire import Installed
from tests.protocols.http.checkin.reference import reference_world
from tests.protocols.http.checkin.world import DAY, SERVER, client, version, virtual
from tools.backend.backend import BackendConfig

ROOT = Path(__file__).parents[4]


@virtual
async def test_a_fleet_is_updated_and_the_audit_agrees():
    async with reference_world() as w:
        devices = await w.fleet(10)
        await w.sleep(3)
        await w.campaign(devices)
        await w.until(w.settled)
        assert {version(device) for device in devices} == {"2.0.0"}
        result = w.audit()
        assert (result.agree, result.differ) == (10, 0)
        assert {verdict for _, verdict, _, _ in w.told} == {"updated"}
        belief = w.reference.belief("dev-1")
        assert (belief.verdict, belief.version) == ("updated", "2.0.0")


@virtual
async def test_failures_are_believed_with_their_reason():
    async with reference_world() as w:
        (damaged,) = await w.fleet(1, faults=FaultPlan(corrupt_page=2))
        (reverted,) = await w.fleet(1, faults=FaultPlan(bad_boots=1))
        (bumped,) = await w.fleet(1, faults=FaultPlan(counter_bump=9))
        await w.sleep(3)
        await w.campaign([damaged, reverted, bumped])
        await w.until(w.settled)
        assert [device.engine.outcome for device in (damaged, reverted, bumped)] == [
            Outcome.INTEGRITY,
            Outcome.REVERTED,
            Outcome.DOWNGRADE,
        ]
        assert "integrity" in w.reference.belief(damaged.name).detail
        assert "reverted" in w.reference.belief(reverted.name).detail
        assert "downgrade" in w.reference.belief(bumped.name).detail
        assert w.audit().agree == 3


@virtual
async def test_a_cut_download_is_resumed_by_range():
    async with reference_world() as w:
        (device,) = await w.fleet(1, faults=FaultPlan(cut_downloads=(5000, 9000)))
        await w.sleep(3)
        await w.campaign([device])
        await w.until(w.settled)
        assert version(device) == "2.0.0"
        assert [line for line in w.trace if "GET" in line and line.startswith(">")] == [
            line for line in w.trace if line.endswith(("from 0", "from 5000", "from 9000"))
        ]
        assert sum(" 206 GET" in line for line in w.trace) == 2
        assert w.audit().agree == 1


@virtual
async def test_windows_of_the_backend_are_kept_by_the_device():
    async with reference_world(config=BackendConfig(timing="documented", pilot_waived=True)) as w:
        devices = await w.fleet(5)
        await w.sleep(3)
        await w.campaign(devices, days=(1, 3), download=((2, 4),), install=((22, 24), (0, 1)))
        began: dict[str, float] = {}

        def all_done() -> bool:
            for one in devices:
                for state in (State.DOWNLOADING, State.INSTALLING):
                    key = f"{one.name} {state.name}"
                    if one.engine.state is state and key not in began:
                        began[key] = w.runtime.clock.now() / 3600 % 24
            return w.settled()

        await w.until(all_done, 5 * DAY)
        assert {version(device) for device in devices} == {"2.0.0"}
        downloads = [hour for key, hour in began.items() if key.endswith("DOWNLOADING")]
        installs = [hour for key, hour in began.items() if key.endswith("INSTALLING")]
        assert all(2 <= hour < 4 for hour in downloads)
        assert all(22 <= hour < 24 or hour < 1 for hour in installs)
        assert w.audit().agree == 5


@virtual
async def test_a_campaign_of_thirty_days():
    config = BackendConfig(timing="documented", pilot_waived=True)
    async with reference_world(config=config) as w:
        devices = await w.fleet(20)
        await w.sleep(60)
        await w.campaign(devices, days=(29, 30), download=((1, 5),), install=((1, 5),))
        await w.until(w.settled, 32 * DAY)
        assert {version(device) for device in devices} == {"2.0.0"}
        assert w.runtime.clock.now() > 29 * DAY
        assert w.audit().agree == 20


@virtual
async def test_an_abort_reaches_a_device_that_waits():
    async with reference_world() as w:
        (device,) = await w.fleet(1)
        await w.sleep(3)
        hour = w.runtime.clock.utc().hour
        campaign = await w.campaign([device], install=(((hour + 5) % 24, (hour + 5) % 24 + 1),))
        await w.until(lambda: device.engine.state is State.DOWNLOADED)
        await w.reference.engine.cancel(campaign)
        await w.until(lambda: device.engine.state is State.IDLE)
        await w.sleep(600)
        assert device.engine.outcome is Outcome.CANCELLED
        assert version(device) == "1.0.0"
        assert w.told == []


@virtual
async def test_a_file_and_the_log():
    async with reference_world() as w:
        devices = await w.fleet(3)
        await w.sleep(3)
        known = [w.reference.inventory.devices[device.name] for device in devices]
        await w.reference.logs.enable(known[0].account, known[:1])
        campaign = await w.file_campaign(devices, b'{"apn": "internet"}')
        await w.until(w.settled)
        await w.sleep(10)
        assert {one.status for one in campaign.members.values()} == {"UpgradeSuccess"}
        for device in devices:
            files = client(device)._campaign.files.installed()
            assert files == [Installed("configfile-fotilla_virtual_apn.json", "3")]
        logs = await w.reference.logs.logs(known[0].name)
        text = "".join(row["event"] for row in logs)
        assert "campaign DOWNLOADED -> INSTALLING: leave to install" in text
        assert not await w.reference.logs.logs(known[1].name)


# -- power cuts ---------------------------------------------------------------------------------


async def ended_with(plan: FaultPlan | None) -> tuple[int, Outcome | None]:
    """One update under a fault plan: the flash operations that it took, and its outcome."""
    async with reference_world() as w:
        (device,) = await w.fleet(1, faults=plan)
        await w.campaign([device])
        await w.until(w.settled)
        await w.sleep(10)
        outcome = device.engine.outcome
        assert version(device) == ("2.0.0" if outcome is Outcome.SUCCESS else "1.0.0")
        result = w.audit()
        assert (result.agree, result.differ) == (1, 0), [d.sentence() for d in result.differences]
        return device.flash.operations, outcome


@pytest.mark.parametrize("mode", CutMode)
def test_a_power_cut_at_any_flash_operation_ends_in_agreement(mode):
    @virtual
    async def run():
        operations, outcome = await ended_with(None)
        assert outcome is Outcome.SUCCESS
        ends = []
        # Every third operation, and another third in each mode.
        for at in range(1 + list(CutMode).index(mode), operations + 1, 3):
            plan = FaultPlan(cut_power_at=at, cut_mode=mode, outage_seconds=3.0)
            ends.append((await ended_with(plan))[1])
        # A boot while the image is on trial reverts it, and one before it was marked leaves it
        # uninstalled; every other cut costs nothing but time.
        assert set(ends) <= {Outcome.SUCCESS, Outcome.REVERTED, Outcome.INSTALL_FAILED}
        assert ends.count(Outcome.SUCCESS) > 0.8 * len(ends)

    run()


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_network_and_bad_devices_end_in_agreement(seed):
    """A fifth of all answers is lost after the backend has obeyed, and devices have every fault."""

    @virtual
    async def run():
        async with reference_world(seed=seed) as w:
            chaos = DeviceRandom(seed, 5)
            app = w.reference.device_app

            async def lossy(scope, receive, send):
                lose = chaos.below(5) == 0

                async def sent(message):
                    if lose:
                        raise OSError("the answer is lost")
                    await send(message)

                await app(scope, receive, sent)

            w.http.serve(SERVER, lossy)
            devices = []
            for number in range(20):
                plan = FaultPlan(
                    bad_boots=int(chaos.below(5) == 0),
                    cut_power_at=1 + chaos.below(140) if chaos.below(3) == 0 else None,
                    cut_mode=tuple(CutMode)[chaos.below(3)],
                    corrupt_page=chaos.below(12) if chaos.below(6) == 0 else None,
                    cut_downloads=(chaos.below(13_000),),
                    seed=number,
                )
                devices += await w.fleet(1, faults=plan)
            await w.campaign(devices)
            await w.until(w.settled, 2 * 3600)
            await w.sleep(10)
            result = w.audit()
            found = [one.sentence() for one in result.differences]
            assert (result.agree, result.differ) == (20, 0), found
            assert sum(version(one) == "2.0.0" for one in devices) >= 8

    run()


# -- repetition ---------------------------------------------------------------------------------


PROGRAM = """
from agent.faults import FaultPlan
from agent.misbehaviour import Misbehaviour
from tests.protocols.http.checkin.reference import reference_world
from tests.protocols.http.checkin.world import virtual


@virtual
async def main():
    async with reference_world(seed=5, journal=print) as w:
        devices = await w.fleet(8)
        devices += await w.fleet(2, faults=FaultPlan(bad_boots=1, cut_downloads=(3000,)))
        devices += await w.fleet(2, misbehave=frozenset(Misbehaviour) - {
            Misbehaviour.NEVER_REPORT, Misbehaviour.FALSE_FAILURE, Misbehaviour.HERD
        })
        await w.campaign(devices)
        await w.until(w.settled)


main()
"""


def test_two_processes_write_the_same_journal():
    """Under different hash seeds: nothing takes its order from a set."""
    runs = []
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        runs.append(run.stdout.splitlines())
    assert len(runs[0]) > 200
    assert runs[0] == runs[1]


# -- misbehaviour -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        (Misbehaviour.LATE_REPORT, 1),
        (Misbehaviour.DUPLICATE_REPORT, 4),
        (Misbehaviour.OUT_OF_ORDER, 2),
        (Misbehaviour.FOREIGN_REPORT, 1),
        (Misbehaviour.OVERSIZED_REPORT, 1),
        (Misbehaviour.STALE_CREDENTIAL, 2),
        (Misbehaviour.CLONED_IDENTITY, 2),
    ],
)
def test_a_right_server_answers_misbehaviour(name, at_least):
    @virtual
    async def run():
        async with reference_world() as w:
            devices = await w.fleet(2)
            (wrong,) = await w.fleet(1, misbehave=frozenset({name}))
            await w.campaign([*devices, wrong])
            await w.until(w.settled)
            await w.sleep(20)
            kept, broken = w.judgement(name)
            ledger = w.runtime.misbehaviours.judgements
            assert broken == 0, ledger
            assert kept >= at_least
            assert {version(device) for device in w.devices} == {"2.0.0"}
            assert w.audit().agree == 3

    run()


@virtual
async def test_an_ignored_cancel_meets_the_same_answer_again():
    async with reference_world() as w:
        (device,) = await w.fleet(1, misbehave=frozenset({Misbehaviour.IGNORE_CANCEL}))
        await w.sleep(3)
        hour = w.runtime.clock.utc().hour
        campaign = await w.campaign([device], install=((hour + 2, hour + 3),))
        await w.until(lambda: device.engine.state is State.DOWNLOADED)
        await w.reference.engine.cancel(campaign)
        await w.until(lambda: version(device) == "2.0.0", 4 * 3600)
        await w.sleep(600)
        kept, broken = w.judgement(Misbehaviour.IGNORE_CANCEL)
        assert broken == 0 and kept >= 2
        # It runs what nobody wanted any more, and the audit says so.
        assert w.audit().differ == 1


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        (Misbehaviour.FALSE_SUCCESS, FaultPlan(bad_boots=1)),
        (Misbehaviour.FALSE_SUCCESS, FaultPlan(corrupt_page=2)),
        (Misbehaviour.FALSE_FAILURE, None),
    ],
)
def test_a_lie_is_found_by_the_audit(name, faults):
    @virtual
    async def run():
        async with reference_world() as w:
            (liar,) = await w.fleet(1, misbehave=frozenset({name}), faults=faults)
            await w.campaign([liar])
            await w.until(w.settled)
            await w.sleep(1)
            result = w.audit()
            assert result.differ == 1
            assert result.differences[0].kind.value == name.value.replace("-", " ")

    run()


@virtual
async def test_a_device_that_never_reports_is_updated_once():
    async with reference_world() as w:
        (silent,) = await w.fleet(1, misbehave=frozenset({Misbehaviour.NEVER_REPORT}))
        await w.campaign([silent])
        await w.until(lambda: version(silent) == "2.0.0")
        boots = silent.boots
        await w.sleep(3600)
        assert silent.boots == boots
        assert not [line for line in w.trace if "/status" in line]


@virtual
async def test_a_herd_comes_at_one_instant():
    async with reference_world() as w:
        await w.fleet(5, misbehave=frozenset({Misbehaviour.HERD}))
        await w.sleep(30)
        lines = [line for line in w.trace if line.startswith("> POST")]
        # Every round is complete before the next one begins.
        assert len(lines) % 5 == 0 and len(lines) >= 20
