"""The management side beyond the recording: rollouts, filters, checks, clearing away; a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.hawkbit import HawkbitStub
from tests.stubs.hawkbit.errors import Refused
from tests.stubs.hawkbit.model import ForceType, Settings
from tests.stubs.hawkbit.query import rsql
from tests.stubs.hawkbit_bench import IMAGE, NOON, TOKEN, Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.client:
        await bench.prepare()
        yield bench


# Rollouts

ROLLOUT: dict[str, Any] = {
    "name": "r",
    "distributionSetId": 1,
    "targetFilterQuery": "controllerId==r*",
    "amountGroups": 2,
}


async def rollout(bench: Bench, devices: int = 4) -> None:
    targets = [{"controllerId": f"r{n}", "securityToken": "t"} for n in range(devices)]
    await bench.rest("POST", "/targets", targets, 201)
    await bench.rest("POST", "/rollouts", ROLLOUT, 201)


async def close(bench: Bench, device: str, finished: str) -> None:
    (action,) = bench.stub.state.targets[device].actions
    url = f"/DEFAULT/controller/v1/{device}/deploymentBase/{action.id}/feedback"
    body = {"status": {"execution": "closed", "result": {"finished": finished}}}
    answer = await bench.client.post(url, json=body, headers=TOKEN)
    assert answer.status_code == 200


async def state(bench: Bench) -> tuple[str, list[str]]:
    bench.clock += 5
    groups = (await bench.rest("GET", "/rollouts/1/deploygroups"))["content"]
    return (await bench.rest("GET", "/rollouts/1"))["status"], [g["status"] for g in groups]


async def test_a_rollout_cannot_start_before_it_is_ready(bench: Bench) -> None:
    await rollout(bench)
    await bench.rest("POST", "/rollouts/1/start", expect=400)
    assert await state(bench) == ("ready", ["ready", "ready"])
    await bench.rest("POST", "/rollouts/1/resume", expect=400)
    await bench.rest("POST", "/rollouts/1/start", expect=204)
    assert await state(bench) == ("running", ["running", "scheduled"])


async def test_half_of_a_group_starts_the_next(bench: Bench) -> None:
    await rollout(bench)
    await state(bench)
    await bench.rest("POST", "/rollouts/1/start", expect=204)
    await state(bench)
    counts = (await bench.rest("GET", "/rollouts/1"))["totalTargetsPerStatus"]
    assert (counts["running"], counts["scheduled"]) == (2, 2)
    await close(bench, "r0", "success")
    assert await state(bench) == ("running", ["running", "running"])
    for device in ("r1", "r2", "r3"):
        await close(bench, device, "success")
    assert await state(bench) == ("finished", ["finished", "finished"])


async def test_errors_pause_and_resume_goes_on(bench: Bench) -> None:
    await rollout(bench)
    await state(bench)
    await bench.rest("POST", "/rollouts/1/start", expect=204)
    await state(bench)
    await close(bench, "r0", "failure")
    assert await state(bench) == ("paused", ["error", "scheduled"])
    await bench.rest("POST", "/rollouts/1/resume", expect=204)
    assert await state(bench) == ("running", ["error", "running"])
    await bench.rest("POST", "/rollouts/1/pause", expect=204)
    assert (await state(bench))[0] == "paused"


async def test_a_rollout_without_targets_is_refused(bench: Bench) -> None:
    await bench.rest("POST", "/rollouts", ROLLOUT, 400)
    for wrong in ({"amountGroups": 0}, {"targetFilterQuery": "x="}, {"distributionSetId": "1"}):
        await bench.rest("POST", "/rollouts", ROLLOUT | wrong, 400)
    await bench.rest("POST", "/rollouts", ROLLOUT | {"distributionSetId": 99}, 404)


# Management


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("controllerId==d", ["d"]),
        ("controllerId==D*", ["d", "d1"]),
        ("controllerId==*1", ["d1", "e1"]),
        ("id=in=(d1,e1)", ["d1", "e1"]),
        ("controllerId!=d*", ["e1"]),
        ("controllerId==d* and updateStatus==unknown", ["d", "d1"]),
        ("controllerId==d1;controllerId==e1", []),
        ("controllerId==d1,controllerId==e1", ["d1", "e1"]),
        ("controllerId==d1 or controllerId==e1", ["d1", "e1"]),
    ],
)
async def test_filters(bench: Bench, query: str, found: list[str]) -> None:
    more = [{"controllerId": name} for name in ("d1", "e1")]
    await bench.rest("POST", "/targets", more, 201)
    body = await bench.rest("GET", f"/targets?q={query}&sort=controllerId:ASC")
    assert [target["controllerId"] for target in body["content"]] == found


@given(st.text("ab=!;,()*. indor", max_size=20))
def test_any_filter_is_read_or_refused(query: str) -> None:
    try:
        rsql(query, {"a": str})
    except Refused as refused:
        assert refused.status == 400


async def test_paging_and_sorting(bench: Bench) -> None:
    await bench.rest("POST", "/targets", [{"controllerId": f"x{n}"} for n in range(5)], 201)
    body = await bench.rest("GET", "/targets?sort=controllerId:DESC&limit=2&offset=1")
    assert [target["controllerId"] for target in body["content"]] == ["x3", "x2"]
    assert (body["total"], body["size"]) == (6, 2)
    for wrong in ("limit=0", "limit=x", "sort=nothing:ASC", "q=nothing==1"):
        await bench.rest("GET", f"/targets?{wrong}", expect=400)


async def test_settings_are_checked(bench: Bench) -> None:
    for key, value in (
        ("pollingTime", "00:00:05"),
        ("pollingTime", 30),
        ("pollingTime", "soon"),
        ("authentication.targettoken.enabled", "true"),
        ("maintenanceWindowPollCount", True),
        ("unknown.key", "x"),
    ):
        await bench.rest("PUT", f"/system/configs/{key}", {"value": value}, 400)
    bench.stub.state.settings.min_polling_time = 1
    await bench.setting("pollingTime", "00:00:05")
    await bench.rest("DELETE", "/system/configs/pollingTime", expect=204)
    assert (await bench.rest("GET", "/system/configs/pollingTime"))["value"] == "00:05:00"


async def test_duplicates_and_wrong_bodies(bench: Bench) -> None:
    await bench.rest("POST", "/targets", [{"controllerId": "d"}], 409)
    body: Any
    for body in ({"controllerId": "x"}, [{}], [{"controllerId": 5}], [{"controllerId": ""}], [1]):
        await bench.rest("POST", "/targets", body, 400)
    await bench.rest("POST", "/softwaremodules", [{"name": "a", "version": "1", "type": "x"}], 404)
    await bench.rest("POST", "/softwaremodules", [{"name": "a", "version": "1"}], 400)
    app = {"name": "b", "version": "1", "type": "app", "modules": [{"id": 1}]}
    await bench.rest("POST", "/distributionsets", [app], 400)
    empty = {"name": "c", "version": "1", "type": "os", "modules": []}
    ds = (await bench.rest("POST", "/distributionsets", [empty], 201))[0]
    assert ds["complete"] is False
    await bench.rest("POST", f"/distributionsets/{ds['id']}/assignedTargets", [{"id": "d"}], 400)
    for wrong in ({"type": "harsh"}, {"weight": 1001}, {"weight": "1"}, {"forcetime": -1}):
        body = [{"id": "d"} | wrong]
        await bench.rest("POST", "/distributionsets/1/assignedTargets", body, 400)


async def test_a_wrong_checksum_is_refused(bench: Bench) -> None:
    part = {"name": "z", "version": "1", "type": "os"}
    module = (await bench.rest("POST", "/softwaremodules", [part], 201))[0]["id"]
    url = f"/rest/v1/softwaremodules/{module}/artifacts"
    for query, files, status in (
        ("?sha1sum=00", {"file": ("a", b"x")}, 400),
        ("?sha1sum=11f6ad8ec52a2984abaafd7c3b516503785c2072", {"file": ("a", b"x")}, 201),
        ("", {"file": ("a", b"x")}, 409),
        ("", {"other": ("b", b"x")}, 400),
        ("", {"file": ("c", b"")}, 400),
    ):
        answer = await bench.client.post(url + query, files=files, auth=("admin", "admin"))
        assert answer.status_code == status, (query, answer.text)
    answer = await bench.client.post(url, content=b"x", auth=("admin", "admin"))
    assert answer.status_code == 415


async def test_cleaning_up(bench: Bench) -> None:
    action = await bench.assign()
    await bench.rest("DELETE", "/targets/d", expect=204)
    await bench.rest("DELETE", "/distributionsets/1", expect=204)
    await bench.rest("DELETE", "/softwaremodules/1", expect=204)
    await bench.rest("GET", "/distributionsets/1", expect=404)
    await bench.rest("GET", "/softwaremodules/1", expect=404)
    assert action not in bench.stub.state.actions
    assert (await bench.get()).status_code == 401


async def test_bodies_are_bounded_and_media_types_agreed(bench: Bench) -> None:
    bench.stub.state.settings.max_body = 1000
    answer = await bench.client.put(
        bench.device + "/configData", content=b" " * 1001, headers=TOKEN
    )
    assert answer.status_code == 413
    assert (await bench.get(accept="text/html")).status_code == 406
    answer = await bench.get(accept="application/json")
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    plain = {"content-type": "application/json"} | TOKEN
    answer = await bench.client.put(
        bench.device + "/configData", content=b'{"data": {"a": NaN}}', headers=plain
    )
    assert answer.status_code == 400


def test_the_defaults_are_hawkbits() -> None:
    settings = Settings()
    assert (settings.max_status_entries, settings.max_messages) == (1000, 50)


async def test_what_tests_set_up_without_requests() -> None:
    stub = HawkbitStub(lambda: NOON)
    target = stub.add_target("d", "t")
    ds = stub.publish("2", {"a.bin": IMAGE})
    (action,) = stub.assign(ds, target, force_type=ForceType.SOFT)
    transport = httpx.ASGITransport(stub.app)
    async with httpx.AsyncClient(transport=transport, base_url=stub.url) as client:
        path = f"/DEFAULT/controller/v1/d/deploymentBase/{action.id}"
        body = (await client.get(path, headers=TOKEN)).json()
    assert body["deployment"]["download"] == "attempt"
    assert body["deployment"]["chunks"][0]["artifacts"][0]["size"] == len(IMAGE)


async def test_on_a_socket() -> None:
    async with HawkbitStub.serve() as stub, httpx.AsyncClient(base_url=stub.url) as client:
        answer = await client.get("/rest/v1/targets", auth=(stub.user, stub.password))
        assert answer.json() == {"content": [], "total": 0, "size": 0}
        targets = [{"controllerId": "d/1"}]
        answer = await client.post("/rest/v1/targets", json=targets, auth=("admin", "admin"))
        link = answer.json()[0]["_links"]["self"]["href"]
        assert link == f"{stub.url}/rest/v1/targets/d%2F1"
        assert (await client.get(link, auth=("admin", "admin"))).status_code == 200
        assert (await client.head(link, auth=("admin", "admin"))).content == b""
    assert [(seen.method, seen.status) for seen in stub.requests] == [
        ("GET", 200),
        ("POST", 201),
        ("GET", 200),
        ("HEAD", 200),
    ]
