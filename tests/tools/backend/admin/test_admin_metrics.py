"""`/metrics`: what it says of campaigns, requests, store, callbacks and network."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.tools.backend.rest_client import administrator, logged_in
from tests.tools.backend.scripted import ScriptedDevice
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual, world
from tools.backend.admin import metrics

METER = "urn:imei:350000000000000"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(admin: httpx.AsyncClient) -> Samples:
    answer = await admin.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@virtual
async def test_a_campaign_in_figures() -> None:
    async with world() as backend, administrator(backend) as admin:
        before = await scrape(admin)
        assert not [name for name, _ in before if name == "fotilla_campaigns"]
        await admin.put("/admin/firmware?name=app&version=2.0.0", content=IMAGE)
        others = [{"name": "other", "protocol": "HTTP"}]
        await admin.put("/admin/devices", json=[{"name": METER}, *others])
        meter = ScriptedDevice(backend.runtime, backend.coap_address, METER)
        meter.register()
        await backend.operator.attach(METER, "c1", ("10.1.0.1", 1))
        firmware = backend.inventory.packages[backend.account.name, "app"]
        campaign = await backend.create_campaign([METER], firmware)
        waiting = await scrape(admin)
        kind = campaign.kind.name
        assert value(waiting, "fotilla_campaigns", kind=kind, status=campaign.status) == 1
        assert value(waiting, "fotilla_devices", protocol="LWM2M") == 1
        assert value(waiting, "fotilla_devices", protocol="HTTP") == 1
        assert value(waiting, "fotilla_attached_devices") == 1
        await asyncio.sleep(60)
        assert meter.version == "2.0.0"
        after = await scrape(admin)
        [member] = campaign.members.values()
        assert value(after, "fotilla_campaigns", kind=kind, status=campaign.status) == 1
        assert value(after, "fotilla_campaign_devices", kind=kind, status=member.status) == 1
        assert value(after, "fotilla_device_sessions", face="lwm2m") == 1
        commits = "fotilla_store_commits_total"
        assert value(after, commits) > value(waiting, commits) > value(before, commits)
        assert value(after, "fotilla_store_changes_total") >= value(after, commits)
        assert value(after, "fotilla_store_queue") == 0
        assert value(after, "fotilla_callbacks_waiting") == 0
        assert value(after, "fotilla_callbacks_total", state="delivered") == 0
        assert value(after, "fotilla_clock_rate") == 1
        assert value(after, "fotilla_clock_seconds") == backend.time.now()
        meter.close()


@virtual
async def test_requests_go_by_their_template() -> None:
    async with world() as backend, administrator(backend) as admin:
        for name in ("a", "b/c"):
            await admin.get(f"/admin/devices/{name}")
        await admin.request("BREW", "/admin/devices")
        await admin.get("/nowhere/at-all")
        async with logged_in(backend) as api:
            await api.get(f"/api/fota/v3/devices/{backend.account.name}")
        samples = await scrape(admin)
        count = "fotilla_http_request_duration_seconds_count"
        one = {"app": "admin", "method": "GET", "route": "/admin/devices/{name:path}"}
        assert value(samples, count, **one, code="400") == 2
        found = {dict(labels)["route"] for name, labels in samples if name == count}
        assert "unmatched" in found
        assert not [route for route in found if "at-all" in route or "b/c" in route]
        methods = {dict(labels)["method"] for name, labels in samples if name == count}
        assert methods == {"GET", "POST", "other"}
        devices = [
            (dict(labels)["route"], dict(labels)["code"])
            for name, labels in samples
            if name == count and dict(labels)["app"] == "rest" and "devices" in str(labels)
        ]
        assert devices == [("/api/fota/v3/devices/{acc}", "200")]
        bucket = "fotilla_http_request_duration_seconds_bucket"
        assert value(samples, bucket, **one, code="400", le="+Inf") == 2
        # A second look has counted the first.
        again = await scrape(admin)
        scraped = {"app": "admin", "method": "GET", "route": "/metrics", "code": "200"}
        assert value(again, count, **scraped) == 1


@virtual
async def test_it_asks_for_the_token_unless_told_otherwise() -> None:
    for is_open, status in ((False, 401), (True, 200)):
        async with world(replace(CONFIG, open_metrics=is_open)) as backend:
            transport = httpx.ASGITransport(app=backend.admin_app)
            async with httpx.AsyncClient(transport=transport, base_url="http://b") as client:
                assert (await client.get("/metrics")).status_code == status
                assert (await client.get("/admin/accounts")).status_code == 401


@virtual
async def test_a_census_is_taken_in_parts() -> None:
    async with world() as backend:
        await backend.load_devices({"name": f"m{number}"} for number in range(50))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        part, metrics.PART = metrics.PART, 10
        try:
            census = await metrics.take_census(backend)
        finally:
            metrics.PART = part
            task.cancel()
        assert census.devices == {"LWM2M": 50}
        assert turns >= 5
