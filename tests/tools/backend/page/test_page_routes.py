"""The page's routes: who may read what, and that what is read is right."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.virtual import CONFIG, package, started, virtual
from tools.backend.backend import Backend
from tools.backend.page import campaign_views, device_views
from tools.backend.page import routes as page_routes

STATIC = Path(page_routes.__file__).parent / "static"
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>")

DATA = (
    "/page/api/summary",
    "/page/api/campaigns",
    "/page/api/campaigns/{campaign}",
    "/page/api/campaigns/{campaign}/devices",
    "/page/api/devices",
    "/page/api/devices/{device}",
    "/page/api/cells",
    "/page/api/callbacks",
)
FILES = (
    "/",
    "/page/page.css",
    "/page/page.js",
    "/page/icon.svg",
    "/page/uplot/uPlot.iife.min.js",
    "/page/uplot/uPlot.min.css",
    "/page/uplot/LICENSE",
)


@asynccontextmanager
async def served(devices: int = 3) -> AsyncIterator[tuple[Backend, httpx.AsyncClient, list[str]]]:
    """A backend with devices, and a client that has the token."""
    async with Runtime.in_memory(seed=7) as runtime, started(runtime, CONFIG) as backend:
        names = [f"urn:imei:{350000000000000 + number}" for number in range(devices)]
        await backend.load_devices([{"name": name, "firmware": "1.0.0"} for name in names])
        async with administrator(backend) as client:
            yield backend, client, names


async def read(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(page: dict[str, Any]) -> list[str]:
    return [device["deviceId"] for device in page["devices"]]


# -- who may read ---


@virtual
async def test_data_needs_the_token() -> None:
    async with served() as (backend, client, _):
        del client.headers["Authorization"]
        for path in (*DATA, "/page/feed"):
            for header in (None, "Bearer ", "Bearer wrong-token-wrong", "Basic Og=="):
                answer = await client.get(
                    path.format(campaign="x", device="y"),
                    headers={} if header is None else {"Authorization": header},
                    params={"token": backend.admin_token},  # in an address it is nothing
                )
                assert answer.status_code == 401, path
                assert backend.admin_token not in answer.text


@virtual
async def test_files_need_no_token_and_are_hardened() -> None:
    async with served() as (backend, client, _):
        del client.headers["Authorization"]
        for path in FILES:
            answer = await client.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy and "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-cache"
            assert backend.admin_token not in answer.text
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert (await client.head(path)).status_code == 200
            assert (await client.post(path)).status_code == 405


@virtual
async def test_data_is_not_stored_and_hardened() -> None:
    async with served() as (backend, client, names):
        campaign = await backend.create_campaign(names, await package(backend))
        device = backend.inventory.devices[names[0]].device_id
        for path in DATA:
            answer = await client.get(path.format(campaign=campaign.id, device=device))
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"] == "application/json"
            assert backend.account.secret not in answer.text


@virtual
async def test_page_is_not_in_the_document_of_the_api() -> None:
    async with served() as (_, client, _):
        document = await read(client, "/admin/openapi.json")
        assert not [path for path in document["paths"] if "page" in path or path == "/"]


REFUSED = {
    "/page/api/campaigns/none": 404,
    "/page/api/campaigns/none/devices": 404,
    "/page/api/devices/none": 404,
    "/page/feed?topic=campaign/none": 404,
    "/page/feed?topic=device/none": 404,
    "/page/feed?topic=nothing": 400,
    "/page/api/campaigns?before=-1": 400,
    "/page/api/campaigns?before=x": 400,
    "/page/api/devices?after=x": 400,
    "/page/api/devices?after=a/b": 400,
    f"/page/api/devices?search={'x' * 200}": 400,
    "/page/api/nothing": 404,
    "/page/static/../page.py": 404,
    "/page/..%2Fpage.py": 404,
    "/page/index.html": 404,
}


@virtual
async def test_refusals_are_in_the_form_of_the_api() -> None:
    async with served() as (_, client, _):
        for path, status in REFUSED.items():
            answer = await client.get(path)
            assert answer.status_code == status, path
            assert set(answer.json()) == {"errorCode", "errorMessage"}


# -- what is read ---


@virtual
async def test_summary() -> None:
    async with served() as (backend, client, names):
        await backend.create_campaign(names, await package(backend))
        summary = await read(client, "/page/api/summary")
        assert summary["accounts"] == [backend.account.name]
        assert summary["devices"] == 3
        assert sum(summary["campaigns"].values()) == 1
        assert summary["timing"] == "immediate"
        assert summary["now"] == backend.time.now()


@virtual
async def test_campaigns_come_newest_first_and_page_by_page() -> None:
    count = campaign_views.CAMPAIGNS + 3
    async with served(count) as (backend, client, names):
        firmware = await package(backend)
        for name in names:
            await backend.create_campaign([name], firmware, title=f"for {name}")
        first = await read(client, "/page/api/campaigns")
        numbers = [row["number"] for row in first["campaigns"]]
        assert len(numbers) == campaign_views.CAMPAIGNS
        second = await read(client, "/page/api/campaigns", before=first["next"])
        numbers += [row["number"] for row in second["campaigns"]]
        assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) == count
        assert second["next"] is None
        other = await read(client, "/page/api/campaigns", account="0000000000-00099")
        assert other == {"campaigns": [], "next": None}


@virtual
async def test_one_campaign_and_its_devices() -> None:
    devices = campaign_views.MEMBERS + 5
    async with served(devices) as (backend, client, names):
        campaign = await backend.create_campaign(names, await package(backend), title="All")
        detail = await read(client, f"/page/api/campaigns/{campaign.id}")
        assert (detail["title"], detail["devices"]) == ("All", devices)
        assert sum(detail["counts"].values()) == devices
        assert detail["status"] == campaign.status
        times, counts = detail["history"]["times"], detail["history"]["counts"]
        assert {len(column) for column in counts.values()} == {len(times)}
        assert {key: column[-1] for key, column in counts.items() if column[-1]} == detail["counts"]

        path = f"/page/api/campaigns/{campaign.id}/devices"
        first = await read(client, path)
        second = await read(client, path, offset=first["next"])
        found = [row["deviceId"] for row in first["members"] + second["members"]]
        assert found == [member.device_id for member in campaign.members.values()]
        assert second["next"] is None
        status = next(iter(campaign.members.values())).status
        same = await read(client, path, status=status)
        assert len(same["members"]) == campaign_views.MEMBERS
        assert (await read(client, path, status="UpgradeSuccess"))["members"] == []
        one = await read(client, path, search=found[7][-4:])
        assert [row["deviceId"] for row in one["members"]] == [found[7]]


@virtual
async def test_history_shows_what_the_campaign_went_through() -> None:
    async with served() as (backend, client, names):
        campaign = await backend.create_campaign(names, await package(backend))
        await backend.runtime.clock.sleep(60)
        before = {member.status for member in campaign.members.values()}
        await backend.engine.cancel(campaign)
        await backend.runtime.clock.sleep(60)
        detail = await read(client, f"/page/api/campaigns/{campaign.id}")
        after = {member.status for member in campaign.members.values()}
        counts = detail["history"]["counts"]
        assert all(counts[status][0] for status in before)
        assert all(counts[status][-1] for status in after)
        assert detail["changes"][-1]["status"] == campaign.status
        assert detail["final"]
        # It does not go on for ever after the end.
        times = detail["history"]["times"]
        assert times[-1] == pytest.approx(campaign.created + 66, abs=0.1)


@virtual
async def test_history_and_timeline_are_there_after_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"))
    async with Runtime.in_memory(seed=5) as runtime:
        async with started(runtime, config) as backend, administrator(backend) as client:
            await backend.load_devices([{"name": "urn:imei:350000000000001"}])
            campaign = await backend.create_campaign(
                ["urn:imei:350000000000001"], await package(backend)
            )
            await backend.operator.attach("urn:imei:350000000000001", "north", None)
            await runtime.clock.sleep(60)
            paths = (
                f"/page/api/campaigns/{campaign.id}",
                "/page/api/devices/350000000000001",
            )
            before = [await read(client, path) for path in paths]
            assert len(before[0]["history"]["times"]) > 2
            assert len(before[1]["timeline"]) > 4
        async with started(runtime, config) as backend, administrator(backend) as client:
            after = [await read(client, path) for path in paths]
            ends = [len(shown[0]["history"]["times"]) for shown in (before, after)]
            assert ends[0] == ends[1]
            for shown in (before[0], after[0]):
                shown["history"]["times"].pop()  # now
            # The last change is known to the millisecond.
            times = before[0]["history"].pop("times")
            assert after[0]["history"].pop("times") == pytest.approx(times, abs=0.001)
            assert after[0]["history"] == before[0]["history"]
            assert after[0]["changes"] == before[0]["changes"]
            assert after[0]["since"] == campaign.created
            kept = [item for item in before[1]["timeline"] if item["kind"] != "planned"]
            assert all(item in after[1]["timeline"] for item in kept)


@virtual
async def test_search_takes_every_field_and_all_words() -> None:
    async with served() as (backend, client, names):
        await backend.load_devices(
            [
                {"name": "urn:x:Pump-7", "make": HOSTILE[0], "model": HOSTILE[1]},
                {"name": "pump-8", "make": "Acme", "firmware": "7.7.7", "protocol": "HTTP"},
            ]
        )
        known = {device.name: device.device_id for device in backend.inventory.devices.values()}
        for search, expected in {
            known[names[1]]: [names[1]],
            "PUMP": ["urn:x:Pump-7", "pump-8"],
            "pump-7": ["urn:x:Pump-7"],
            "onerror=": ["urn:x:Pump-7"],
            "</script>": ["urn:x:Pump-7"],
            "acme 7.7": ["pump-8"],
            "7.7 ACME http": ["pump-8"],
            "acme 1.0.0": [],
            "1.0.0": names,
            "": [*names, "urn:x:Pump-7", "pump-8"],
        }.items():
            found = await read(client, "/page/api/devices", search=search)
            assert ids(found) == [known[name] for name in expected], search
        [row] = (await read(client, "/page/api/devices", search="pump-7"))["devices"]
        assert (row["make"], row["model"]) == HOSTILE  # as it is: the page shows texts


@virtual
async def test_search_pages_over_many_devices() -> None:
    total = device_views.SLICE + device_views.DEVICES * 2 + 7
    async with served(total) as (_, client, _):
        after, pages, found = "", 0, []
        while True:
            page = await read(client, "/page/api/devices", search="99", after=after)
            found += ids(page)
            pages += 1
            if page["next"] is None:
                break
            after = page["next"]
        expected = [str(350000000000000 + number) for number in range(total)]
        assert found == [device_id for device_id in expected if "99" in device_id]
        assert pages == -(-len(found) // device_views.DEVICES)


@virtual
async def test_devices_of_one_account() -> None:
    async with served() as (backend, client, names):
        name = backend.account.name
        assert len(ids(await read(client, "/page/api/devices", account=name))) == len(names)
        assert ids(await read(client, "/page/api/devices", account="0000000000-00099")) == []


@virtual
async def test_one_device() -> None:
    async with served() as (backend, client, names):
        device = backend.inventory.devices[names[0]]
        campaign = await backend.create_campaign(names, await package(backend), title="All")
        await backend.operator.attach(device.device_id, "cell-1", ("127.0.0.1", 5000))
        for text in (device.device_id, device.name):
            detail = await read(client, f"/page/api/devices/{text}")
            assert detail["name"] == device.name
            assert detail["attached"]["cell"] == "cell-1"
            assert detail["attached"]["push"] == "127.0.0.1:5000"
            [row] = detail["campaigns"]
            assert (row["campaign"], row["title"]) == (campaign.id, "All")
            assert row["member"]["status"] == campaign.members[device.name].status
            kinds = [entry["kind"] for entry in detail["timeline"]]
            assert {"inventory", "campaign", "status", "network"} <= set(kinds)
            times = [entry["time"] for entry in detail["timeline"]]
            assert times == sorted(times, reverse=True)
            assert not detail["truncated"]


@virtual
async def test_cells_and_callbacks() -> None:
    async with served() as (backend, client, names):
        assert (await read(client, "/page/api/cells"))["cells"] == []
        for name, cell in zip(names, ("b", "a", "b"), strict=True):
            await backend.operator.attach(name, cell, ("127.0.0.1", 5000))
        cells = (await read(client, "/page/api/cells"))["cells"]
        assert [(cell["name"], cell["attached"]) for cell in cells] == [("a", 1), ("b", 2)]
        assert all(cell["capacity"] > 0 and cell["active"] == 0 for cell in cells)
        await backend.operator.cells.set("z", 7)
        assert (await read(client, "/page/api/cells"))["cells"][-1] == {
            "name": "z",
            "attached": 0,
            "active": 0,
            "waiting": 0,
            "capacity": 7,
        }
        assert (await read(client, "/page/api/callbacks")) == {"callbacks": []}


@virtual
async def test_callbacks_are_listed_newest_first_without_their_listener() -> None:
    async with served() as (backend, client, names):
        url = "https://127.0.0.1/listener?key=secret-of-the-listener"
        await backend.callbacks.register(backend.account.name, 3, url)
        campaign = await backend.create_campaign(names, await package(backend))
        await backend.runtime.clock.sleep(5)
        answer = await client.get("/page/api/callbacks")
        rows = answer.json()["callbacks"]
        assert campaign.id in [row["campaign"] for row in rows]
        numbers = [row["number"] for row in rows]
        assert numbers == sorted(numbers, reverse=True) and len(numbers) > 0
        assert {row["account"] for row in rows} == {backend.account.name}
        assert "secret-of-the-listener" not in answer.text


@virtual
async def test_short_messages_are_in_the_timeline() -> None:
    async with served() as (backend, client, names):
        path = f"/page/api/devices/{names[0]}"

        async def messages() -> list[str]:
            entries = (await read(client, path))["timeline"]
            return [entry["title"] for entry in entries if entry["kind"] == "message"]

        await backend.operator.submit(names[0], b"hello", 60.0)
        await backend.operator.submit(names[1], b"to another one", 60.0)
        assert await messages() == ["A short message waits, 5 bytes"]
        assert (await read(client, path))["waitingMessages"] == 1
        await backend.runtime.clock.sleep(61)
        assert await messages() == ["A short message was given up: its validity was over"]
        await backend.operator.attach(names[0], "a", ("127.0.0.1", 5000))
        await backend.operator.submit(names[0], b"again", 60.0)
        assert (await messages())[0] == "A short message was sent"


# -- what the files are ---


def test_files_make_no_markup_and_name_no_other_host() -> None:
    scripts = sorted(STATIC.glob("*.js"))
    assert len(scripts) > 5
    for path in (*scripts, *STATIC.glob("*.html"), *STATIC.glob("*.css")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
            r"|setHTML|createContextualFragment|DOMParser|srcdoc|javascript:",
            text,
        ), path
        assert not re.search(r"(?:https?:)?//[\w-]+\.\w", text.replace("// ", "")), path
        assert " style=" not in text and " onclick" not in text, path


def test_every_module_that_is_imported_is_served() -> None:
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "(.*?)"', path.read_text(encoding="utf-8")):
            assert (STATIC / name).is_file() and name.startswith("./"), (path, name)


def test_statuses_of_the_page_are_those_of_the_engine() -> None:
    """The chart knows the colour of every status that a device can have."""
    from tools.backend.campaigns import kinds

    text = (STATIC / "chart.js").read_text(encoding="utf-8")
    known = {status for kind in kinds.KINDS.values() for status in kind.device_table}
    assert known
    assert [status for status in sorted(known) if not re.search(rf"\b{status}: \"#", text)] == []
