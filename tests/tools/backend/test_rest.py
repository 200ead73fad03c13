"""API v3 and the admin API, through the ASGI app: shapes, errors, who may see what."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.rest_client import administrator
from tests.tools.backend.rules_marker import rules
from tools.backend.backend import Backend, BackendConfig
from tools.backend.campaigns.reasons import RETRYABLE
from tools.backend.inventory import PAGE
from tools.backend.rest import auth as rest_auth

ACCOUNT = "0242078689-00001"
V3 = "/api/fota/v3"
CONFIG = BackendConfig(timing="documented", account=ACCOUNT)
IMEI = 350000000000000


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Runtime.in_memory() as runtime:
        backend = Backend(runtime, CONFIG)
        await backend.start()
        yield backend
        await backend.stop()


@pytest.fixture
async def anonymous(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=backend.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.fixture
async def api(backend: Backend, anonymous: httpx.AsyncClient) -> httpx.AsyncClient:
    """Logged in as the SDK does it."""
    secret = backend.account.secret
    answer = await anonymous.post(
        "/api/ts/v1/oauth2/token",
        headers=basic(ACCOUNT, secret),
        data={"grant_type": "client_credentials"},
    )
    assert answer.status_code == 200
    anonymous.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    answer = await anonymous.post(
        "/api/m2m/v1/session/login", json={"username": ACCOUNT, "password": secret}
    )
    anonymous.headers["VZ-M2M-Token"] = answer.json()["sessionToken"]
    return anonymous


@pytest.fixture
async def admin(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    async with administrator(backend) as client:
        yield client


async def stock(backend: Backend, devices: int = 3) -> list[str]:
    """A package and devices, through the admin API."""
    async with administrator(backend) as admin:
        return await stocked(admin, devices)


async def stocked(admin: httpx.AsyncClient, devices: int) -> list[str]:
    answer = await admin.put(
        "/admin/firmware?name=app&version=2.0.0&versionFrom=1.0.0", content=b"x"
    )
    assert answer.status_code == 200, answer.text
    ids = [str(IMEI + number) for number in range(devices)]
    answer = await admin.put("/admin/devices", json=[{"deviceId": device} for device in ids])
    assert answer.json() == {"deviceCount": devices}
    return ids


def body(devices: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "campaignName": "first",
        "firmwareName": "app",
        "firmwareFrom": "1.0.0",
        "firmwareTo": "2.0.0",
        "protocol": "LWM2M",
        "startDate": "2100-01-01",
        "endDate": "2100-01-31",
        "campaignTimeWindowList": [{"startTime": 20, "endTime": "24"}],
        "deviceList": devices,
        "autoAssignLicenseFlag": False,
        "autoAddDevicesFlag": False,
        **changes,
    }


async def test_a_campaign_is_made_shown_reported_and_cancelled(
    backend: Backend, api: httpx.AsyncClient
) -> None:
    ids = await stock(backend)
    url = f"{V3}/campaigns/firmware/{ACCOUNT}"
    # The Content-Type that the SDK sends on some calls must not matter.
    made = await api.post(
        url,
        content=httpx.Request("POST", "http://x", json=body([*ids, "111111111111111"])).content,
        headers={"Content-Type": "*/*"},
    )
    assert made.status_code == 200, made.text
    campaign = made.json()
    assert campaign["status"] == "CampaignRequestPending"
    assert campaign["campaignTimeWindowList"] == [{"startTime": 20, "endTime": 24}]
    shown = (await api.get(f"{V3}/campaigns/{ACCOUNT}/{campaign['id']}")).json()
    assert shown["accountName"] == ACCOUNT
    assert shown["autoAddDevicesFlag"] is False
    report = (await api.get(f"{V3}/reports/{ACCOUNT}/campaigns/{campaign['id']}/devices")).json()
    assert (report["totalDevice"], report["hasMoreData"]) == (4, False)
    rejected, *rest = report["deviceList"]
    assert (rejected["deviceId"], rejected["status"]) == ("111111111111111", "DeviceRejected")
    assert {item["status"] for item in rest} == {"NoDeviceDataFromNetwork"}
    assert rest[0]["resultReason"] == "The network reports the device is not reachable."
    history = (await api.get(f"{V3}/reports/{ACCOUNT}/devices/{ids[0]}")).json()
    assert [item["campaignId"] for item in history] == [campaign["id"]]
    cancelled = await api.delete(f"{V3}/campaigns/{ACCOUNT}/{campaign['id']}")
    assert cancelled.json() == {"success": True}
    again = await api.delete(f"{V3}/campaigns/{ACCOUNT}/{campaign['id']}")
    assert again.status_code == 400
    for path in ("firmware/campaigns", "campaigns"):
        found = await api.get(
            f"{V3}/reports/{ACCOUNT}/{path}", params={"campaignStatus": "CampaignCancelled"}
        )
        assert [item["id"] for item in found.json()["campaignList"]] == [campaign["id"]]


@rules("BR-158")
async def test_devices_come_in_pages(backend: Backend, api: httpx.AsyncClient) -> None:
    ids = await stock(backend, PAGE + 5)
    first = (await api.get(f"{V3}/devices/{ACCOUNT}")).json()
    assert first["hasMoreData"] is True
    assert first["maxPageSize"] == PAGE
    second = (
        await api.get(
            f"{V3}/devices/{ACCOUNT}", params={"lastSeenDeviceId": first["lastSeenDeviceId"]}
        )
    ).json()
    assert (second["hasMoreData"], second["lastSeenDeviceId"]) == (False, "0")
    assert [item["deviceId"] for item in first["deviceList"] + second["deviceList"]] == ids
    assert (await api.get(f"{V3}/devices/{ACCOUNT}?protocol=HTTP")).json()["deviceList"] == []


async def test_the_catalogue(backend: Backend, api: httpx.AsyncClient) -> None:
    await stock(backend)
    found = (await api.get(f"{V3}/firmware/{ACCOUNT}", params={"protocol": "LWM2M"})).json()
    assert [item["firmwareTo"] for item in found] == ["2.0.0"]
    assert (await api.get(f"{V3}/firmware/{ACCOUNT}?protocol=OMD-DM")).json() == []


@rules("BR-150")
@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", f"/firmware/{ACCOUNT}", None),
        ("GET", f"/firmware/{ACCOUNT}?protocol=GSM", None),
        ("GET", f"/devices/{ACCOUNT}?protocol=GSM", None),
        ("GET", "/devices/fotilla", None),
        ("GET", "/devices/0242078689-00002", None),
        ("GET", f"/campaigns/{ACCOUNT}/none", None),
        ("DELETE", f"/campaigns/{ACCOUNT}/none", None),
        ("GET", f"/reports/{ACCOUNT}/campaigns/none/devices", None),
        ("GET", f"/reports/{ACCOUNT}/devices/12", None),
        ("GET", f"/reports/{ACCOUNT}/devices/999999999999999", None),
        ("GET", f"/reports/{ACCOUNT}/firmware/campaigns", None),
        ("GET", f"/reports/{ACCOUNT}/firmware/campaigns?campaignStatus=No", None),
        ("POST", f"/campaigns/firmware/{ACCOUNT}", b""),
        ("POST", f"/campaigns/firmware/{ACCOUNT}", b"{"),
        ("POST", f"/campaigns/firmware/{ACCOUNT}", b"[]"),
        ("POST", f"/campaigns/firmware/{ACCOUNT}", b'{"deviceList": null}'),
        ("POST", f"/campaigns/firmware/{ACCOUNT}", b"\xff"),
    ],
)
async def test_every_refusal_has_the_same_form(
    api: httpx.AsyncClient, method: str, path: str, sent: bytes | None
) -> None:
    answer = await api.request(method, V3 + path, content=sent)
    assert answer.status_code == 400
    assert set(answer.json()) == {"errorCode", "errorMessage"}
    assert answer.json()["errorCode"] == "INVALID_PARAMETER"


@pytest.mark.parametrize("field", sorted(body([])))
async def test_a_wrong_field_is_named(backend: Backend, api: httpx.AsyncClient, field: str) -> None:
    ids = await stock(backend)
    answer = await api.post(
        f"{V3}/campaigns/firmware/{ACCOUNT}", json=body(ids, **{field: {"wrong": 1}})
    )
    assert answer.status_code == 400
    assert field in answer.json()["errorMessage"]


@rules("BR-152")
async def test_too_much_is_413(api: httpx.AsyncClient) -> None:
    answer = await api.post(
        f"{V3}/campaigns/firmware/{ACCOUNT}", content=b'"' + b"x" * (9 << 20) + b'"'
    )
    assert answer.status_code == 413
    assert set(answer.json()) == {"errorCode", "errorMessage"}


async def test_pilot_first(backend: Backend, api: httpx.AsyncClient) -> None:
    ids = await stock(backend, 21)
    answer = await api.post(f"{V3}/campaigns/firmware/{ACCOUNT}", json=body(ids))
    assert answer.status_code == 400
    assert "pilot" in answer.json()["errorMessage"]


@rules("BR-151")
async def test_who_may_call(backend: Backend, anonymous: httpx.AsyncClient) -> None:
    url = f"{V3}/devices/{ACCOUNT}"
    answer = await anonymous.get(url)
    assert (answer.status_code, answer.json()["fault"]["code"]) == (401, "900902")
    answer = await anonymous.get(url, headers={"Authorization": "Bearer nonsense"})
    assert (answer.status_code, answer.json()["fault"]["code"]) == (401, "900901")
    token = "/api/ts/v1/oauth2/token"
    for headers, data, status in (
        ({}, {"grant_type": "client_credentials"}, 401),
        (basic(ACCOUNT, "wrong"), {"grant_type": "client_credentials"}, 401),
        (basic("nobody", ""), {"grant_type": "client_credentials"}, 401),
        ({"Authorization": "Basic ???"}, {"grant_type": "client_credentials"}, 401),
        (basic(ACCOUNT, backend.account.secret), {"grant_type": "password"}, 400),
        (basic(ACCOUNT, backend.account.secret), {}, 400),
    ):
        answer = await anonymous.post(token, headers=headers, data=data)
        assert answer.status_code == status
        assert "errorCode" in answer.json()
        # RFC 6749 section 5.2, which libraries of clients read.
        error = {400: "invalid_request", 401: "invalid_client"}[status]
        assert (answer.json()["error"], bool(answer.json()["error_description"])) == (error, True)
        assert answer.headers.get("WWW-Authenticate", "").startswith("Basic") is (status == 401)
    answer = await anonymous.post(
        token,
        headers=basic(ACCOUNT, backend.account.secret),
        data={"grant_type": "client_credentials"},
    )
    anonymous.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    assert (await anonymous.get(url)).json()["errorCode"].endswith("SessionToken.Expired")
    login = "/api/m2m/v1/session/login"
    answer = await anonymous.post(login, json={"username": ACCOUNT, "password": "wrong"})
    assert answer.status_code == 401
    answer = await anonymous.post(
        login, json={"username": ACCOUNT, "password": backend.account.secret}
    )
    anonymous.headers["VZ-M2M-Token"] = answer.json()["sessionToken"]
    assert (await anonymous.get(url)).status_code == 200
    answer = await anonymous.post("/api/m2m/v1/session/logout")
    assert answer.json() == {"sessionToken": anonymous.headers["VZ-M2M-Token"]}
    assert (await anonymous.get(url)).status_code == 401


async def test_admin(backend: Backend, admin: httpx.AsyncClient) -> None:
    await stocked(admin, 3)
    assert (await admin.get("/admin/devices/unknown")).json() == {
        "identities": [],
        "hasMoreData": False,
    }
    named = await admin.put("/admin/devices", json=[{"name": "meter-1", "delivery": "pull"}])
    assert named.status_code == 200
    seen = (await admin.get("/admin/devices/meter-1/belief")).json()
    assert (seen["registered"], seen["verdict"]) == (False, "unknown")
    assert backend.inventory.devices["meter-1"].device_id == seen["deviceId"]
    for sent in ([{}], [{"deviceId": "12"}], [{"name": "x", "delivery": "mail"}], {"a": 1}):
        assert (await admin.put("/admin/devices", json=sent)).status_code == 400
    assert (await admin.put("/admin/firmware?name=app&version=2", content=b"")).status_code == 400
    assert (await admin.put("/admin/firmware?version=2", content=b"x")).status_code == 400


@rules("BR-150")
@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/openapi.json", "token_api_ts_v1_oauth2_token_post"),
        ("/api/fota/v2/openapi.json", "schedule_file_upgrade"),
        ("/api/fota/v3/openapi.json", "schedule_campaign_firmware_upgrade"),
    ],
)
async def test_the_documents_know_no_422(api: httpx.AsyncClient, path: str, operation: str) -> None:
    wanted = operation
    document = (await api.get(path)).json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            assert "400" in operation["responses"], path
    names = {
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    }
    assert wanted in names
    schemas = document.get("components", {}).get("schemas", {})
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in schemas, name
    versions = {path.split("/")[3] for path in document["paths"] if path.startswith("/api/fota")}
    assert len(versions) <= 1


async def test_unknown_places(api: httpx.AsyncClient) -> None:
    answer = await api.get("/api/fota/v9/devices")
    assert answer.status_code == 404
    assert set(answer.json()) == {"errorCode", "errorMessage"}
    assert (await api.patch(f"{V3}/devices/{ACCOUNT}")).status_code == 405


def test_retryable_endings_are_not_success() -> None:
    assert all(ending.value != "success" for ending in RETRYABLE)


async def test_a_fault_of_ours_is_answered_in_the_one_error_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Runtime.real() as runtime:
        backend = Backend(runtime, BackendConfig(rest=None))
        await backend.start()
        try:
            monkeypatch.setattr(rest_auth.Sessions, "bearer", lambda *_: 1 / 0)
            transport = httpx.ASGITransport(app=backend.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://b") as client:
                answer = await client.get(f"{V3}/devices/{ACCOUNT}")
        finally:
            await backend.stop()
    assert answer.status_code == 500
    assert answer.json()["errorCode"] == "INTERNAL_ERROR"
