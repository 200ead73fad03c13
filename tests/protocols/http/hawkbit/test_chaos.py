"""People, power, network and server do what they like; afterwards all is well, for any seed."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent.device import Phase
from agent.runtime import run_virtual
from agent.update import Outcome, State
from tests.agent.parts import image
from tests.protocols.http.hawkbit.world import URL, Sim, World, world

SEEDS = range(24)


class Chaos:
    """One device, and everything that can happen to it."""

    def __init__(self, built: World, sim: Sim, dice: random.Random) -> None:
        self.built = built
        self.sim = sim
        self.dice = dice
        self.actions: list[str] = []
        self.version = 1

    async def assign(self) -> None:
        self.version += 1
        files = {"app.bin": image(self.version, 12000, self.version)}
        if self.dice.random() < 0.3:
            files["notes.txt"] = b"n" * self.dice.randrange(1, 3000)
        ds = await self.built.publish(f"v{self.version}", files, version=str(self.version))
        kind = self.dice.choice(["forced", "soft", "downloadonly", "forced"])
        more: dict[str, object] = {}
        if kind == "forced" and self.dice.random() < 0.3:
            schedule = self.built.later(self.dice.randrange(3, 30))
            more["maintenanceWindow"] = {
                "schedule": schedule,
                "duration": "00:30:00",
                "timezone": "+00:00",
            }
        self.actions.append(await self.built.assign(ds, self.sim, type=kind, **more))

    async def cancel(self) -> None:
        if self.actions:
            path = f"/targets/{self.sim.name}/actions/{self.actions[-1]}"
            force = "?force=true" if self.dice.random() < 0.4 else ""
            expect = (200, 204, 405)
            await self.built.management.call("DELETE", path, expect=expect)
            if force:
                await self.built.management.call("DELETE", path + force, expect=expect)

    async def cut_power(self) -> None:
        if self.sim.device.phase in (Phase.RUNNING, Phase.BOOTING):
            self.sim.device.cut_power(back_after=self.dice.uniform(0.5, 5))

    async def trouble(self) -> None:
        method = self.dice.choice(["GET", "POST", "PUT"])
        part = self.dice.choice(["feedback", "deploymentBase", "softwaremodules", self.sim.name])
        how = self.dice.choice([500, 503, 429, 404, 410, 401, b"{}", b"<html>"])
        self.built.bent.bend(method, part, how, self.dice.randrange(1, 4))

    async def outage(self) -> None:
        self.built.network.refuse(URL)
        for client in list(self.built.network.clients):
            client.abort()
        await self.built.sleep(self.dice.uniform(0.5, 10))
        self.built.network.serve(URL, self.built.bent)

    async def happen(self) -> None:
        await self.dice.choice(
            [self.assign, self.assign, self.cancel, self.cut_power, self.trouble, self.outage]
        )()
        await self.built.sleep(self.dice.expovariate(0.3))


async def play(seed: int) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: errors.append(context.get("exception") or context["message"])
    )
    dice = random.Random(seed)
    async with world(poll=1.0, seed=seed) as built:
        options = {"etag": dice.choice(["on", "off"])}
        sim = await built.device("chaos", options=options, bandwidth=dice.choice([None, 4000.0]))
        chaos = Chaos(built, sim, dice)
        for _ in range(14):
            await chaos.happen()
        # And now nobody does anything any more, but for one last update.
        built.bent.rules.clear()
        chaos.version += 1
        last = image(chaos.version, 12000, chaos.version)
        ds = await built.publish("last", {"app.bin": last})
        action = await built.assign(ds, sim)
        end = built.now + 3000
        while (await built.action(sim, action))["active"]:
            assert built.now < end, (seed, sim.lines[-20:], sim.events[-10:])
            await built.sleep(5)
        await built.until(lambda: sim.settled, within=600)
        await built.polls(3)
        status = (await built.action(sim, action))["status"]
        engine = sim.device.engine
        assert (status, engine.state, engine.outcome) == (
            "finished",
            State.IDLE,
            Outcome.SUCCESS,
        ), seed
        assert sim.version == f"{chaos.version}.0.0"
        assert not sim.client.busy and not engine.report_pending
        for one in chaos.actions:
            assert not (await built.action(sim, one))["active"], "nothing is left open"
    assert not errors, errors


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed: int) -> None:
    run_virtual(play(seed))
