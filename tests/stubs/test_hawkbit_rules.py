"""Beyond the recording, by hawkBit's documentation and source: security, quotas, ranges, time."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.hawkbit import HawkbitStub
from tests.stubs.hawkbit.ddi import parse_config_data, parse_feedback
from tests.stubs.hawkbit.deployments import Assignment
from tests.stubs.hawkbit.device_view import DeviceView
from tests.stubs.hawkbit.errors import Refused
from tests.stubs.hawkbit.management_bodies import parse_assignments
from tests.stubs.hawkbit.model import MaintenanceWindow
from tests.stubs.hawkbit.schedule import Schedule
from tests.stubs.hawkbit_bench import IMAGE, NOON, TOKEN, Bench, closed
from tests.stubs.hawkbit_replay import load


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.client:
        await bench.prepare()
        yield bench


# Security


async def test_each_mode_must_be_switched_on(bench: Bench) -> None:
    gateway = {"authorization": "GatewayToken key"}
    await bench.setting("authentication.gatewaytoken.key", "key")
    assert (await bench.client.get(bench.device, headers=gateway)).status_code == 401
    await bench.setting("authentication.gatewaytoken.enabled", True)
    assert (await bench.client.get(bench.device, headers=gateway)).status_code == 200
    await bench.setting("authentication.targettoken.enabled", False)
    assert (await bench.get()).status_code == 401


async def test_a_target_token_is_one_targets(bench: Bench) -> None:
    other = [{"controllerId": "e", "securityToken": "u"}]
    await bench.rest("POST", "/targets", other, 201)
    answer = await bench.client.get("/DEFAULT/controller/v1/e", headers=TOKEN)
    assert (answer.status_code, answer.content) == (401, b"")
    answer = await bench.client.get("/DEFAULT/controller/v1/unknown", headers=TOKEN)
    assert answer.status_code == 401
    assert "unknown" not in bench.stub.state.targets


async def test_a_proxy_vouches_for_a_certificate(bench: Bench) -> None:
    headers = {"x-controller-id": "d", "x-authority-0": "ROOT", "x-authority-1": "factory"}
    assert (await bench.client.get(bench.device, headers=headers)).status_code == 401
    await bench.setting("authentication.header.enabled", True)
    await bench.setting("authentication.header.authority", "other;Factory")
    assert (await bench.client.get(bench.device, headers=headers)).status_code == 200
    listed = {"x-controller-id": "d", "x-authority": "a, factory"}
    assert (await bench.client.get(bench.device, headers=listed)).status_code == 200
    stranger = headers | {"x-controller-id": "e"}
    assert (await bench.client.get(bench.device, headers=stranger)).status_code == 401
    foreign = {"x-controller-id": "d", "x-authority": "nobody"}
    assert (await bench.client.get(bench.device, headers=foreign)).status_code == 401


async def test_management_wants_its_password(bench: Bench) -> None:
    for auth in (None, ("admin", "wrong"), ("user", "admin")):
        answer = await bench.client.get("/rest/v1/targets", auth=auth)
        assert answer.status_code == 401
    answer = await bench.client.get("/rest/v1/targets", headers={"authorization": "Basic %%%"})
    assert answer.status_code == 401


async def test_security_comes_before_the_path(bench: Bench) -> None:
    assert (await bench.client.get(bench.device + "/nothing")).status_code == 401
    assert (await bench.get("/nothing")).status_code == 404
    assert (await bench.client.get("/other/controller/v1/d", headers=TOKEN)).status_code == 401
    assert (await bench.client.get("/DeFault/controller/v1/d", headers=TOKEN)).status_code == 200


# Feedback and quotas


async def test_a_full_history_refuses_intermediate_feedback_only(bench: Bench) -> None:
    action = await bench.assign()
    bench.stub.state.settings.max_status_entries = 2
    assert await bench.feedback(action, "proceeding") == 200
    assert await bench.feedback(action, "proceeding") == 429
    assert await bench.feedback(action, "download") == 429
    assert await bench.feedback(action, "closed", "success") == 200
    assert await bench.feedback(action, "closed", "success") == 410
    target = await bench.rest("GET", "/targets/d")
    assert target["updateStatus"] == "in_sync"


async def test_a_full_history_refuses_downloads_when_told_to(bench: Bench) -> None:
    path = await artifact(bench)
    bench.stub.state.settings.max_status_entries = 1
    assert (await bench.get(path)).status_code == 200
    bench.stub.state.settings.quota_refuses_downloads = True
    assert (await bench.get(path)).status_code == 429
    assert (await bench.get(path, range="bytes=0-")).status_code == 206


async def test_too_many_details_are_refused(bench: Bench) -> None:
    action = await bench.assign()
    assert await bench.feedback(action, "proceeding", details=["x"] * 51) == 429
    assert await bench.feedback(action, "proceeding", details=["x"] * 50) == 200


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {},
        {"status": None},
        {"status": {"execution": "closed"}},
        {"status": {"execution": "CLOSED", "result": {"finished": "success"}}},
        {"status": {"execution": "closed", "result": {"finished": "maybe"}}},
        {"status": {"execution": ["closed"], "result": {"finished": "none"}}},
        {"status": {"execution": "closed", "result": {"finished": "none"}, "details": "text"}},
        {"status": {"execution": "closed", "result": {"finished": "none"}, "code": "1"}},
        {"status": {"execution": "closed", "result": {"finished": "none", "progress": 5}}},
        {"timestamp": "now", "status": {"execution": "closed", "result": {"finished": "none"}}},
    ],
)
async def test_wrong_feedback_is_refused_and_changes_nothing(bench: Bench, body: Any) -> None:
    action = await bench.assign()
    history = len(bench.stub.state.actions[action].history)
    assert await bench.post(f"/deploymentBase/{action}/feedback", body) == 400
    assert len(bench.stub.state.actions[action].history) == history


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "status",
                        "execution",
                        "result",
                        "data",
                        "finished",
                        "closed",
                        "details",
                        "mode",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_body_is_taken_or_refused(body: Any) -> None:
    for parse in (parse_feedback, parse_config_data, parse_assignments):
        try:
            parse(body)
        except Refused as refused:
            assert refused.status == 400


async def test_canceled_and_rejected_on_a_deployment_leave_it_open(bench: Bench) -> None:
    action = await bench.assign()
    for execution in ("canceled", "rejected"):
        assert await bench.feedback(action, execution, "failure") == 200
        assert "deploymentBase" in await bench.links()
    entries = (await bench.rest("GET", f"/targets/d/actions/{action}/status"))["content"]
    assert [entry["type"] for entry in entries] == ["running", "canceled", "warning"]


async def test_a_failure_can_be_assigned_again(bench: Bench) -> None:
    action = await bench.assign()
    assert await bench.feedback(action, "closed", "failure") == 200
    assert await bench.assign() == action + 1


async def test_assigned_twice_is_one_action(bench: Bench) -> None:
    await bench.assign()
    body = await bench.rest("POST", "/distributionsets/1/assignedTargets", [{"id": "d"}])
    assert (body["alreadyAssigned"], body["assigned"], body["assignedActions"]) == (1, 0, [])


async def test_a_foreign_action_is_not_found(bench: Bench) -> None:
    action = await bench.assign()
    await bench.rest("POST", "/targets", [{"controllerId": "e", "securityToken": "t"}], 201)
    path = f"/DEFAULT/controller/v1/e/deploymentBase/{action}"
    answer = await bench.client.get(path, headers=TOKEN)
    assert answer.status_code == 404
    assert "Not a valid action" in answer.json()["message"]
    assert await bench.post(f"/cancelAction/{action}/feedback", closed()) == 405
    assert (await bench.get(f"/cancelAction/{action}")).status_code == 404
    assert (await bench.get(f"/installedBase/{action}")).status_code == 404


async def test_attributes_merge_replace_remove(bench: Bench) -> None:
    async def put(body: Any) -> int:
        path = bench.device + "/configData"
        return (await bench.client.put(path, json=body, headers=TOKEN)).status_code

    assert await put({"mode": "remove", "data": {"a": "1"}}) == 200
    assert "configData" in await bench.links()
    assert await put({"data": {"a": "1", "n": 7}}) == 200
    assert "configData" not in await bench.links()
    assert await put({"mode": "merge", "data": {"b": "2"}}) == 200
    assert await bench.rest("GET", "/targets/d/attributes") == {"a": "1", "n": "7", "b": "2"}
    assert await put({"mode": "remove", "data": {"a": ""}}) == 200
    assert await put({"mode": "replace", "data": {"c": "3"}}) == 200
    assert await bench.rest("GET", "/targets/d/attributes") == {"c": "3"}
    assert await put({"data": {"k": "v" * 2049}}) == 400
    assert await put({"data": {"k" * 128: "v"}}) == 200
    bench.stub.state.settings.max_attributes = 2
    assert await put({"data": {"x": "1"}}) == 429
    assert await put({"mode": "merge"}) == 400


# `c=`, force, time


def test_the_recorded_numbers_of_c() -> None:
    """The model of `c=` gives the very numbers of the recording, after 1 to 4 stored changes."""
    shown = {
        (int(action), int(c))
        for exchange in load()
        for action, c in re.findall(r"Base/([0-9]+)[?]c=(-?[0-9]+)", json.dumps(exchange.response))
    }
    stub = HawkbitStub(lambda: NOON)
    view = DeviceView(stub.state)
    target = stub.state.create_target("d")
    module = stub.state.create_module("app", "1", "os", "")
    ds = stub.state.create_set("app", "1", "os", [module.id])
    modelled = stub.deployments.new_action(ds, Assignment(target))
    assert len(shown) == 25
    for modelled.id, c in sorted(shown):
        found = []
        for modelled.revision in range(1, 5):
            found.append(view.etag(modelled))
        assert c in found


async def test_c_follows_what_is_stored(bench: Bench) -> None:
    action = await bench.assign(type="soft")
    first = (await bench.links())["deploymentBase"]
    assert (await bench.links())["deploymentBase"] == first
    assert (await bench.deployment(action))["update"] == "attempt"
    fetched = (await bench.links())["deploymentBase"]
    assert fetched != first, "RETRIEVED is a stored change"
    assert await bench.feedback(action, "proceeding") == 200
    assert (await bench.links())["deploymentBase"] == fetched
    forced = await bench.rest("PUT", f"/targets/d/actions/{action}", {"forceType": "forced"})
    assert forced["forceType"] == "forced"
    assert (await bench.links())["deploymentBase"] != fetched
    assert (await bench.deployment(action))["update"] == "forced"
    await bench.rest("PUT", f"/targets/d/actions/{action}", {"forceType": "soft"}, 400)


async def test_retrieval_is_noted_once_in_a_row(bench: Bench) -> None:
    action = await bench.assign()
    history = bench.stub.state.actions[action].history
    for _ in range(3):
        await bench.deployment(action)
    assert [entry.status.value for entry in history] == ["running", "retrieved"]
    assert await bench.feedback(action, "proceeding") == 200
    await bench.deployment(action)
    assert [entry.status.value for entry in history][2:] == ["running", "retrieved"]


async def test_timeforced_becomes_forced_in_time(bench: Bench) -> None:
    moment = int((bench.clock + 60) * 1000)
    action = await bench.assign(type="timeforced", forcetime=moment)
    assert (await bench.deployment(action))["download"] == "attempt"
    before = (await bench.links())["deploymentBase"]
    bench.clock += 60
    assert (await bench.links())["deploymentBase"] != before
    assert (await bench.deployment(action))["download"] == "forced"


WINDOW = {"schedule": "0 0 13 * * ? *", "duration": "01:00:00", "timezone": "+00:00"}


async def test_a_maintenance_window_opens_and_closes(bench: Bench) -> None:
    action = await bench.assign(maintenanceWindow=WINDOW)
    closed = await bench.deployment(action)
    assert (closed["download"], closed["update"]) == ("forced", "skip")
    assert closed["maintenanceWindow"] == "unavailable"
    before = (await bench.links())["deploymentBase"]
    bench.clock = NOON + 3600
    assert (await bench.links())["deploymentBase"] != before
    opened = await bench.deployment(action)
    assert (opened["update"], opened["maintenanceWindow"]) == ("forced", "available")
    bench.clock = NOON + 7200
    assert (await bench.deployment(action))["update"] == "skip"


async def test_polls_come_closer_before_a_window(bench: Bench) -> None:
    await bench.assign(maintenanceWindow=WINDOW)

    async def sleep(before: float) -> str:
        bench.clock = NOON + 3600 - before
        return str((await bench.get()).json()["config"]["polling"]["sleep"])

    assert await sleep(3600) == "00:05:00"
    assert await sleep(600) == "00:03:20"
    assert await sleep(30) == "00:00:30"
    assert await sleep(-1) == "00:05:00"


async def test_an_action_without_another_window_is_cancelled(bench: Bench) -> None:
    once = WINDOW | {"schedule": "0 0 13 23 11 ? 2026"}
    await bench.assign(maintenanceWindow=once)
    bench.clock = NOON + 7201
    await bench.links()
    assert "cancelAction" in await bench.links()
    wrong = [{"id": "d", "maintenanceWindow": once}]
    await bench.rest("POST", "/distributionsets/2/assignedTargets", wrong, 400)


@pytest.mark.parametrize(
    "change",
    [
        {"duration": "1h"},
        {"timezone": "CET"},
        {"schedule": "0 0 3"},
        {"schedule": "0 0 25 * * ?"},
        {"schedule": "0 0 x * * ?"},
        {"schedule": ""},
        {"duration": None},
    ],
)
async def test_wrong_windows_are_refused(bench: Bench, change: dict[str, Any]) -> None:
    body = [{"id": "d", "maintenanceWindow": WINDOW | change}]
    await bench.rest("POST", "/distributionsets/1/assignedTargets", body, 400)
    assert bench.stub.state.actions == {}


@pytest.mark.parametrize(
    ("schedule", "zone", "after"),
    [
        ("0 30 12 * * ?", "+00:00", 1800),
        ("0 0/15 * * * ?", "+00:00", 900),
        ("0 0 15 * * ?", "+02:00", 3600),
        ("0 0 12 ? * TUE", "+00:00", 86_400),
        ("0 0 12 ? * 2-6", "+00:00", 86_400),
        ("0 0 12 1 JAN ?", "+00:00", 39 * 86_400),
        ("30 0 12 * * ? 2026,2028", "+00:00", 30),
    ],
)
def test_cron_expressions(schedule: str, zone: str, after: float) -> None:
    window = Schedule(MaintenanceWindow(schedule, "00:00:00", zone))
    assert window.next_start(NOON) == NOON + after


@given(st.text("0123456789*?/,- ABCLMW#", max_size=24))
def test_any_schedule_is_read_or_refused(text: str) -> None:
    try:
        Schedule(MaintenanceWindow(text, "01:00:00", "+00:00"))
    except Refused as refused:
        assert refused.status == 400


async def test_download_only_ends_with_downloaded(bench: Bench) -> None:
    action = await bench.assign(type="downloadonly")
    assert await bench.feedback(action, "download") == 200
    assert await bench.feedback(action, "downloaded", "success") == 200
    assert await bench.feedback(action, "downloaded", "success") == 410
    found = await bench.rest("GET", f"/targets/d/actions/{action}")
    assert (found["active"], found["status"]) == (False, "downloaded")
    await bench.rest("GET", "/targets/d/installedDS", expect=204)


async def test_an_update_of_long_ago_installs_nothing(bench: Bench) -> None:
    first = await bench.assign()
    assert await bench.feedback(first, "closed", "success") == 200
    second = await bench.assign(2)
    late = closed() | {"timestamp": 1000}
    assert await bench.post(f"/deploymentBase/{second}/feedback", late) == 200
    target = await bench.rest("GET", "/targets/d")
    assert target["updateStatus"] == "pending"
    assert (await bench.rest("GET", "/targets/d/installedDS"))["id"] == 1


# Confirmation


async def test_auto_confirm_lets_what_waits_run(bench: Bench) -> None:
    await bench.setting("user.confirmation.flow.enabled", True)
    action = await bench.assign()
    assert await bench.feedback(action, "proceeding") == 404
    assert (await bench.get(f"/deploymentBase/{action}")).status_code == 404
    assert await bench.post("/confirmationBase/activateAutoConfirm", {"initiator": "me"}) == 200
    assert await bench.post("/confirmationBase/activateAutoConfirm", {}) == 409
    assert "deploymentBase" in await bench.links()
    confirmed = {"confirmation": "confirmed"}
    assert await bench.post(f"/confirmationBase/{action}/feedback", confirmed) == 404
    assert await bench.feedback(action, "closed", "success") == 200
    assert await bench.post(f"/confirmationBase/{action}/feedback", confirmed) == 410
    assert await bench.post(f"/confirmationBase/{action}/feedback", {"confirmation": "x"}) == 400
    await bench.assign(2)
    assert "deploymentBase" in await bench.links()


async def test_confirmation_can_be_waived(bench: Bench) -> None:
    await bench.setting("user.confirmation.flow.enabled", True)
    await bench.assign(confirmationRequired=False)
    assert "deploymentBase" in await bench.links()


# Artifacts


async def artifact(bench: Bench) -> str:
    action = await bench.assign()
    link = (await bench.deployment(action))["chunks"][0]["artifacts"][0]["_links"]
    path: str = link["download-http"]["href"].removeprefix("http://hawkbit")
    return path.removeprefix(bench.device)


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, None),
        ("bytes=-5", -5, None),
        ("bytes=5-99999", 5, None),
    ],
)
async def test_a_range(bench: Bench, wanted: str, first: int, last: int | None) -> None:
    answer = await bench.get(await artifact(bench), range=wanted)
    assert (answer.status_code, answer.content) == (206, IMAGE[first:last])


async def test_several_ranges(bench: Bench) -> None:
    answer = await bench.get(await artifact(bench), range="bytes=0-1,10-11")
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert answer.content.count(b"Content-Range: bytes ") == 2
    assert IMAGE[:2] in answer.content and IMAGE[10:12] in answer.content


@pytest.mark.parametrize(
    "wanted", ["bytes=10240-", "bytes=5-3", "bytes=-", "items=0-1", "bytes=a-b"]
)
async def test_an_impossible_range(bench: Bench, wanted: str) -> None:
    answer = await bench.get(await artifact(bench), range=wanted)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(IMAGE)}"


async def test_conditions_of_a_download(bench: Bench) -> None:
    path = await artifact(bench)
    whole = await bench.get(path)
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    ranged = {"range": "bytes=10-"}
    for condition, status in (
        (etag, 206),
        (f"W/{etag}", 200),
        ('"other"', 200),
        (modified, 206),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 200),
        ("nonsense", 200),
    ):
        answer = await bench.get(path, **ranged, **{"if-range": condition})
        assert answer.status_code == status, condition
    assert (await bench.get(path, **{"if-match": '"other"'})).status_code == 412
    assert (await bench.get(path, **{"if-match": etag})).status_code == 200


async def test_artifacts_of_other_sets_are_not_found(bench: Bench) -> None:
    path = await artifact(bench)
    assert (
        await bench.get(path.replace("softwaremodules/1", "softwaremodules/2"))
    ).status_code == 404


async def test_https_links_can_be_switched_on(bench: Bench) -> None:
    bench.stub.state.settings.https_links = True
    action = await bench.assign()
    links = (await bench.deployment(action))["chunks"][0]["artifacts"][0]["_links"]
    assert list(links) == ["download", "md5sum", "download-http", "md5sum-http"]


async def test_what_is_assigned_cannot_change(bench: Bench) -> None:
    await bench.assign()
    answer = await bench.client.post(
        "/rest/v1/softwaremodules/1/artifacts",
        files={"file": ("more.bin", b"x")},
        auth=("admin", "admin"),
    )
    assert answer.status_code == 423
