"""Cells and attempt times as a client of v3 sees them, by raw HTTP: rows of section 1.2 of the API
reference, named after them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.tools.backend.rest_client import administrator
from tests.tools.backend.rest_world import ACCOUNT, V3, RestWorld, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual

WHOLE_DAY: dict[str, Any] = {"startDate": "2030-01-01", "campaignTimeWindowList": []}


async def attached(world: RestWorld, cell: str, indexes: range) -> None:
    """Devices register, and the network reports where they are."""
    for index in indexes:
        device = await world.scripted(index, lifetime=86400)
        device.on_package = lambda: None  # it downloads for a long time
        path = f"/operator/devices/{world.lwm2m[index]}"
        answer = await world.api.put(path, json={"cell": cell})
        assert answer.status_code == 200, answer.text


async def reported(world: RestWorld, campaign: str) -> list[dict[str, Any]]:
    path = f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices"
    async with world.again() as again:
        found = await again.json("GET", path, "V3CampaignDevice")
    devices: list[dict[str, Any]] = found["deviceList"]
    return devices


@rules("BR-081", "BR-082", "BR-083")
@virtual
async def test_release_3_0_cell_awareness() -> None:
    """Devices of one cell follow each other; nobody manages the parts, the report shows them."""
    async with rest_world(lwm2m=5) as world, administrator(world.backend) as admin:
        await admin.put("/admin/cells/crowded", json={"capacity": 2})
        await attached(world, "crowded", range(4))
        await attached(world, "empty", range(4, 5))
        campaign = await world.v3_campaign(**WHOLE_DAY)
        await world.sleep(60)
        shown = await reported(world, campaign)
        assert [item["status"] for item in shown] == [
            *["UpgradeScheduled"] * 2,
            *["UpgradePending"] * 2,
            "UpgradeScheduled",
        ]
        listed = await world.json("GET", f"{V3}/campaigns/{ACCOUNT}/{campaign}", "Campaign")
        assert listed["status"] == "CampaignScheduled"  # one campaign, whatever its parts


@rules("BR-082", "BR-085")
@virtual
async def test_release_3_0_large_campaigns_in_cells() -> None:
    """Some are queued for a later uncertain date, while others are being processed."""
    async with (
        rest_world(lwm2m=9, timing="documented") as world,
        administrator(world.backend) as admin,
    ):
        await admin.put("/admin/cells/crowded", json={"capacity": 1})
        await attached(world, "crowded", range(9))
        campaign = await world.v3_campaign(**WHOLE_DAY, endDate="2030-01-01")
        await world.sleep(900)
        shown = await reported(world, campaign)
        assert Counter(item["status"] for item in shown) == {
            "UpgradeScheduled": 1,
            "UpgradePending": 8,
        }
        later = [item["nextAttemptTime"] for item in shown if "nextAttemptTime" in item]
        assert later and later == sorted(later) and later[0] < later[-1]
        await world.sleep(86400)
        assert {item["status"] for item in await reported(world, campaign)} == {"UpgradeFailed"}
        left = [item for item in await reported(world, campaign) if "recentAttemptTime" not in item]
        assert left
        assert all(item["resultReason"].endswith("try count 0.") for item in left)


@rules("BR-088", "BR-089")
@virtual
async def test_release_3_0_recent_attempt_time_and_next_attempt() -> None:
    """The last request to start, with its result; and when the next one is, or the first."""
    async with rest_world(lwm2m=1, timing="documented") as world:
        device = await world.scripted(lifetime=86400)
        device.on_package = lambda: device.set(0, 4)  # the connection was lost
        campaign = await world.v3_campaign(**WHOLE_DAY)
        [first] = await reported(world, campaign)
        assert "recentAttemptTime" not in first
        assert first["nextAttemptTime"].startswith("2030-01-01T00:10")
        await world.sleep(3600)
        [second] = await reported(world, campaign)
        assert second["status"] == "UpgradePending"
        assert second["recentAttemptTime"].startswith("2030-01-01T00:10")
        assert second["nextAttemptTime"].startswith("2030-01-01T04:10")
        assert second["resultReason"] == "The connection was lost during the download."
        await world.sleep(9 * 3600)
        [last] = await reported(world, campaign)
        assert last["status"] == "UpgradeFailed"
        assert last["recentAttemptTime"].startswith("2030-01-01T08:1")
        assert "nextAttemptTime" not in last
