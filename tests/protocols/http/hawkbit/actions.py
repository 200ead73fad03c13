"""What the tests of the client have in common."""

from __future__ import annotations

from tests.agent.parts import new_image
from tests.protocols.http.hawkbit.world import Sim, World


async def deploy(built: World, sim: Sim, package: bytes | None = None, **more: object) -> str:
    number = len(built.made)
    ds = await built.publish(f"fw{number}", {"app.bin": package or new_image()})
    return await built.assign(ds, sim, **more)


async def ends(built: World, sim: Sim, action: str) -> str:
    found = await built.until_closed(sim, action)
    await built.until(lambda: bool(sim.told))
    return str(found["status"])


def feedback(sim: Sim) -> list[str]:
    return [line for line in sim.lines if "feedback" in line and line.startswith("<")]
