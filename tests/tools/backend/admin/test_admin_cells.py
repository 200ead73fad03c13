"""Capacities of cells: set, shown, obeyed, kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, package, started, virtual, world
from tools.backend.timing import CELL_LIMIT

NAMES = [f"urn:imei:{350000000000000 + number}" for number in range(6)]


def cell(name: str, **changes: object) -> dict[str, object]:
    return {
        "name": name,
        "capacity": CELL_LIMIT,
        "isDefault": True,
        "attached": 0,
        "active": 0,
        "waiting": 0,
        **changes,
    }


@virtual
async def test_they_are_shown_and_set() -> None:
    async with world() as backend, administrator(backend) as admin:
        assert (await admin.get("/admin/cells")).json() == {"cells": [], "hasMoreData": False}
        await backend.load_devices([{"name": NAMES[0]}])
        await backend.operator.attach(NAMES[0], "c1", ("10.1.0.1", 1))
        busy = cell("c1", attached=1)
        assert (await admin.get("/admin/cells/c1")).json() == busy
        own = cell("north/2", capacity=3, isDefault=False)
        answer = await admin.put("/admin/cells/north%2F2", json={"capacity": 3})
        assert answer.json() == own
        assert (await admin.get("/admin/cells")).json()["cells"] == [busy, own]
        assert (await admin.get("/admin/cells?after=c1")).json()["cells"] == [own]
        assert (await admin.delete("/admin/cells/north%2F2")).json() == cell("north/2")
        assert (await admin.get("/admin/cells")).json()["cells"] == [busy]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("c1", {}),
        ("c1", {"capacity": -1}),
        ("c1", {"capacity": "3"}),
        ("c1", {"capacity": 1.5}),
        ("c1", {"capacity": True}),
        ("c1", {"capacity": 10**7}),
        ("c1", {"capacity": 3, "more": 1}),
        ("x" * 65, {"capacity": 3}),
        ("a%00b", {"capacity": 3}),
        ("%0A", {"capacity": 3}),
    ],
)
@virtual
async def test_what_is_no_capacity(name: str, body: object) -> None:
    async with world() as backend, administrator(backend) as admin:
        assert (await admin.put(f"/admin/cells/{name}", json=body)).status_code == 400
        assert backend.operator.cells.own() == {}


@virtual
async def test_a_capacity_outlives_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory() as runtime:
        async with started(runtime, config) as backend, administrator(backend) as admin:
            await admin.put("/admin/cells/c1", json={"capacity": 0})
            await admin.put("/admin/cells/c2", json={"capacity": 7})
            await admin.delete("/admin/cells/c2")
        async with started(runtime, config) as backend:
            assert backend.operator.cells.own() == {"c1": 0}
            assert backend.engine.cell_limit("c1") == 0


@rules("BR-081")
@virtual
async def test_a_campaign_obeys_and_goes_on_when_there_is_room() -> None:
    async with world() as backend, administrator(backend) as admin:
        await admin.put("/admin/cells/c1", json={"capacity": 0})
        await backend.load_devices({"name": name} for name in NAMES)
        meters = []
        for index, name in enumerate(NAMES):
            meter = ScriptedDevice(backend.runtime, backend.coap_address, name, index)
            meter.register()
            meters.append(meter)
            await backend.operator.attach(name, "c1", (f"10.1.0.{index + 1}", 1))
        await asyncio.sleep(1)
        campaign = await backend.create_campaign(NAMES, await package(backend))
        await asyncio.sleep(60)
        shown = (await admin.get("/admin/cells/c1")).json()
        assert shown == cell(
            "c1", capacity=0, isDefault=False, attached=6, active=0, waiting=len(NAMES)
        )
        assert campaign.active == 0
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, campaign.active)
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        await admin.put("/admin/cells/c1", json={"capacity": 2})
        await asyncio.sleep(120)
        watching.cancel()
        assert most == 2
        assert [meter.version for meter in meters] == ["2.0.0"] * len(NAMES)
        for meter in meters:
            meter.close()
