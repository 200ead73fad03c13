"""API v2 through the ASGI application, with devices that check in, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.tools.backend.http_device import TIME, HttpDevice, devices, in_process
from tests.tools.backend.rest_client import administrator, logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, IMAGE, virtual, world
from tools.backend.backend import Backend
from tools.backend.campaigns.kinds import FIRMWARE_V3
from tools.backend.inventory import PAGE

ACCOUNT = "0242078689-00001"
V2 = "/api/fota/v2"
IMEI = 350000000000000


@asynccontextmanager
async def served(
    count: int = 2, **changes: Any
) -> AsyncIterator[tuple[Backend, httpx.AsyncClient, list[HttpDevice]]]:
    config = replace(CONFIG, account=ACCOUNT, **changes)
    async with (
        world(config) as backend,
        logged_in(backend) as api,
        administrator(backend) as admin,
        in_process(backend) as client,
    ):
        made = await devices(backend, client, count, IMEI)
        answer = await admin.put(
            "/admin/firmware?name=app&version=2.0.0&versionFrom=1.0.0&protocol=HTTP", content=IMAGE
        )
        assert answer.status_code == 200, answer.text
        yield backend, api, made


def ids(made: list[HttpDevice]) -> list[str]:
    return [device.name.removeprefix("urn:imei:") for device in made]


def software(made: list[HttpDevice], **changes: Any) -> dict[str, Any]:
    return {
        "campaignName": "first",
        "softwareName": "app",
        "softwareFrom": "1.0.0",
        "softwareTo": "2.0.0",
        "distributionType": "HTTP",
        "startDate": "2030-01-01",
        "endDate": "2030-01-07",
        "deviceList": ids(made),
        **changes,
    }


FORM = {"fileVersion": "7", "make": "fotilla", "model": "virtual", "localTargetPath": "/etc/apn"}
UPLOAD = {"fileupload": ("/home/somebody/apn.cfg", b"\x00\r\n--apn=iot\r\n", "text/plain")}
STORED = "configfile-fotilla_virtual_apn.cfg"


async def told(api: httpx.AsyncClient, path: str, **params: str) -> Any:
    answer = await api.get(V2 + path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@virtual
async def test_a_software_campaign_from_post_to_report() -> None:
    async with served() as (backend, api, made):
        # The Content-Type that the SDK sends on this call must not matter.
        made_json = httpx.Request(
            "POST",
            "http://x",
            json=software(
                made,
                downloadAfterDate="2030-01-01",
                downloadTimeWindowList=[{"startTime": 0, "endTime": "24"}],
            ),
        ).content
        answer = await api.post(
            f"{V2}/campaigns/{ACCOUNT}", content=made_json, headers={"Content-Type": "*/*"}
        )
        assert answer.status_code == 200, answer.text
        campaign = answer.json()
        assert campaign == {
            "id": campaign["id"],
            "accountName": ACCOUNT,
            "campaignName": "first",
            "softwareName": "app",
            "softwareFrom": "1.0.0",
            "softwareTo": "2.0.0",
            "distributionType": "HTTP",
            "make": "fotilla",
            "model": "virtual",
            "startDate": "2030-01-01",
            "endDate": "2030-01-07",
            "downloadAfterDate": "2030-01-01",
            "downloadTimeWindowList": [{"startTime": 0, "endTime": 24}],
            "installTimeWindowList": [],
            "status": "CampaignRequestPending",
        }
        await backend.runtime.clock.sleep(1)
        shown = await told(api, f"/campaigns/{ACCOUNT}/{campaign['id']}")
        assert shown["status"] == "CampaignScheduled"
        assert shown["deviceList"] == [
            {"deviceId": one, "status": "Accepted", "resultReason": "Device passed all checks."}
            for one in ids(made)
        ]
        for device in made:
            await device.update((await device.check_in())["campaign"])
        report = await told(api, f"/reports/{ACCOUNT}/campaigns/{campaign['id']}/devices")
        assert (report["totalDevice"], report["hasMoreData"], report["maxPageSize"]) == (
            2,
            False,
            PAGE,
        )
        assert [item["status"] for item in report["deviceList"]] == ["UpgradeSuccess"] * 2
        assert report["deviceList"][0]["resultReason"] == "DownloadInstallSucceeded"
        history = await told(api, f"/reports/{ACCOUNT}/campaigns", campaignStatus="CampaignEnded")
        assert [item["id"] for item in history["campaignList"]] == [campaign["id"]]
        assert "deviceList" not in history["campaignList"][0]
        # A campaign of this version does not exist in the other one.
        other = await api.get(f"/api/fota/v3/campaigns/{ACCOUNT}/{campaign['id']}")
        assert (other.status_code, other.json()["errorMessage"]) == (
            400,
            "Campaign does not exist",
        )


@virtual
async def test_the_newer_call_and_the_cancel() -> None:
    async with served() as (_backend, api, made):
        windows = [{"startTime": "1", "endTime": "5"}]
        answer = await api.post(
            f"{V2}/campaigns/software/{ACCOUNT}",
            json=software(made, startDate="2030-01-02", installTimeWindowList=windows),
        )
        campaign = answer.json()
        assert campaign["installTimeWindowList"] == windows
        assert campaign["deviceList"] == ids(made)
        assert "fileName" not in campaign
        url = f"{V2}/campaigns/{ACCOUNT}/{campaign['id']}"
        assert (await api.delete(url)).json() == {"success": True}
        assert (await api.delete(url)).status_code == 400
        shown = (await api.get(url)).json()
        assert shown["status"] == "CampaignCancelled"
        assert {item["status"] for item in shown["deviceList"]} == {"CampaignCancelled"}
        assert {item["resultReason"] for item in shown["deviceList"]} == {"by user"}


@rules("BR-051")
@virtual
async def test_an_abort_after_the_start() -> None:
    async with served() as (backend, api, [first, second]):
        answer = await api.post(f"{V2}/campaigns/{ACCOUNT}", json=software([first, second]))
        campaign = answer.json()["id"]
        await backend.runtime.clock.sleep(1)
        await first.check_in()
        await first.told(campaign, "installing")
        await second.check_in()
        assert (await api.delete(f"{V2}/campaigns/{ACCOUNT}/{campaign}")).status_code == 200
        assert (await second.report(campaign, "downloading")).status_code == 409
        await first.told(campaign, "success")
        shown = await told(api, f"/campaigns/{ACCOUNT}/{campaign}")
        assert shown["status"] == "CampaignAborted"
        assert [item["status"] for item in shown["deviceList"]] == [
            "UpgradeSuccess",
            "CampaignAborted",
        ]


@rules("BR-137", "BR-138", "BR-139", "BR-140", "BR-141")
@virtual
async def test_a_configuration_file() -> None:
    async with served() as (backend, api, made):
        answer = await api.post(f"{V2}/files/{ACCOUNT}", data=FORM, files=UPLOAD)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "fileName": STORED,
            "fileVersion": "7",
            "launchDate": "2030-01-01",
            "releaseNote": "",
            "model": "virtual",
            "make": "fotilla",
            "distributionType": "HTTP",
            "devicePlatformId": "IoT",
            "localTargetPath": "/etc/apn",
        }
        listed = await told(api, f"/files/{ACCOUNT}", distributionType="HTTP")
        [file] = listed["AvailableFilesResponse"]
        assert (file["fileName"], file["fileVersion"]) == (STORED, "7")
        assert (await told(api, f"/files/{ACCOUNT}", distributionType="OMD-DM")) == {
            "AvailableFilesResponse": []
        }
        asked = {
            "fileName": STORED,
            "fileVersion": "7",
            "distributionType": "HTTP",
            "startDate": "2030-01-01",
            "endDate": "2030-01-02",
            "deviceList": ids(made),
        }
        campaign = (await api.post(f"{V2}/campaigns/files/{ACCOUNT}", json=asked)).json()
        assert (campaign["fileName"], campaign["fileVersion"]) == (STORED, "7")
        assert (campaign["softwareName"], campaign["softwareFrom"]) == (STORED, "")
        # A campaign pins the content; what is uploaded later under the name is another one's.
        replaced = await api.put(
            f"{V2}/files/{ACCOUNT}",
            params={"fileName": STORED},
            data={**FORM, "fileVersion": "8"},
            files={"fileupload": ("apn.cfg", b"new")},
        )
        assert replaced.json()["fileVersion"] == "8"
        await backend.runtime.clock.sleep(1)
        order = (await made[0].check_in())["campaign"]
        assert (order["kind"], order["path"]) == ("file", "/etc/apn")
        assert await made[0].update(order) == UPLOAD["fileupload"][1]
        shown = await told(api, f"/campaigns/{ACCOUNT}/{campaign['id']}")
        assert shown["softwareTo"] == "7"
        assert shown["deviceList"][0]["status"] == "UpgradeSuccess"
        stale = await api.post(f"{V2}/campaigns/files/{ACCOUNT}", json=asked)
        assert (stale.status_code, "'7' is not available" in stale.text) == (400, True)
        unknown = await api.put(
            f"{V2}/files/{ACCOUNT}", data={**FORM, "fileName": "none"}, files=UPLOAD
        )
        assert (unknown.status_code, "does not exist" in unknown.text) == (400, True)


@rules("BR-142")
@pytest.mark.parametrize(
    ("form", "files", "text"),
    [
        (FORM, None, "multipart/form-data"),
        (FORM, {"fileupload": (None, b"x")}, "fileupload"),
        (FORM, {"other": ("a", b"x")}, "fileupload"),
        ({**FORM, "make": ""}, UPLOAD, "make"),
        ({**FORM, "fileVersion": "x" * 256}, UPLOAD, "fileVersion"),
        ({"make": "a", "model": "b"}, UPLOAD, "fileVersion"),
        (FORM, {"fileupload": ("n" * 129, b"x")}, "file name"),
        (FORM, {"fileupload": ("dir/", b"x")}, "file name"),
    ],
)
@virtual
async def test_a_bad_upload_is_named(form: dict[str, str], files: Any, text: str) -> None:
    async with served(0) as (_backend, api, _made):
        answer = await api.post(f"{V2}/files/{ACCOUNT}", data=form, files=files)
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_PARAMETER")
        assert text in answer.json()["errorMessage"]


@virtual
async def test_the_catalogue() -> None:
    async with served(0) as (_backend, api, _made):
        expected = [
            {
                "softwareName": "app",
                "launchDate": "2030-01-01",
                "releaseNote": "",
                "model": "virtual",
                "make": "fotilla",
                "distributionType": "HTTP",
                "devicePlatformId": "IoT",
            }
        ]
        assert await told(api, f"/software/{ACCOUNT}") == expected
        assert await told(api, f"/software/{ACCOUNT}", distributionType="HTTP") == expected
        assert await told(api, f"/software/{ACCOUNT}", distributionType="LWM2M") == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"distributionType": "LWM2M"}, "not supported"),
        ({"distributionType": "PIGEON"}, "distributionType"),
        ({"softwareName": "other"}, "not available"),
        ({"softwareFrom": "0.1"}, "does not lead"),
        ({"startDate": "2029-12-31"}, "in the past"),
        ({"endDate": "2029-12-31"}, "before startDate"),
        ({"endDate": "later"}, "endDate"),
        ({"downloadAfterDate": "soon"}, "downloadAfterDate"),
        ({"installAfterDate": "2031-01-01"}, "installAfterDate"),
        ({"downloadTimeWindowList": [{"startTime": 5, "endTime": 5}]}, "time window"),
        ({"installTimeWindowList": [{"startTime": 0, "endTime": 25}]}, "time window"),
        ({"installTimeWindowList": [{"startTime": 1}]}, "endTime"),
        ({"deviceList": []}, "Device list is empty"),
        ({"deviceList": ["12"]}, "Invalid device id format"),
        ({"deviceList": None}, "deviceList"),
        ({"startDate": 20300101}, "startDate"),
    ],
)
@pytest.mark.parametrize("path", ["", "/software"])
@virtual
async def test_what_is_wrong_is_named_and_nothing_is_written(
    path: str, changes: dict[str, Any], text: str
) -> None:
    async with served() as (backend, api, made):
        answer = await api.post(f"{V2}/campaigns{path}/{ACCOUNT}", json=software(made, **changes))
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_PARAMETER")
        assert text in answer.json()["errorMessage"]
        assert backend.engine.book.campaigns == {}


@rules("BR-042")
@virtual
async def test_overlap_holds_over_the_versions() -> None:
    async with served() as (backend, api, made):
        firmware = await backend.add_package(IMAGE, name="old", version="2.0.0")
        names = [device.name for device in made]
        # Somebody changed what the device speaks while a v3 campaign has it.
        await backend.load_devices({"name": name, "protocol": "LWM2M"} for name in names)
        campaign = await backend.create_campaign(names, firmware)
        assert campaign.kind is FIRMWARE_V3
        await backend.load_devices({"name": name, "protocol": "HTTP"} for name in names)
        answer = await api.post(f"{V2}/campaigns/{ACCOUNT}", json=software(made))
        assert answer.json()["status"] == "CampaignRequestFailed"
        shown = await told(api, f"/campaigns/{ACCOUNT}/{answer.json()['id']}")
        assert {item["status"] for item in shown["deviceList"]} == {"DeviceRejected"}
        assert "needs to be completed before" in shown["deviceList"][0]["resultReason"]


@virtual
async def test_reports_come_in_pages() -> None:
    async with served(PAGE + 5) as (_backend, api, made):
        answer = await api.post(
            f"{V2}/campaigns/{ACCOUNT}", json=software(made, startDate="2030-01-02")
        )
        path = f"/reports/{ACCOUNT}/campaigns/{answer.json()['id']}/devices"
        first = await told(api, path)
        assert (first["totalDevice"], first["hasMoreData"]) == (PAGE + 5, True)
        second = await told(api, path, lastSeenDeviceId=first["lastSeenDeviceId"])
        assert (second["hasMoreData"], second["lastSeenDeviceId"]) == (False, "0")
        seen = [item["deviceId"] for item in first["deviceList"] + second["deviceList"]]
        assert seen == ids(made)
        shown = await told(api, f"/campaigns/{ACCOUNT}/{answer.json()['id']}")
        assert len(shown["deviceList"]) == PAGE


@rules("BR-156")
@virtual
async def test_campaigns_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.backend.rest.common.PAGE", 2)
    async with served(5) as (_backend, api, made):
        made_ids = []
        for device in made:
            answer = await api.post(
                f"{V2}/campaigns/{ACCOUNT}", json=software([device], startDate="2030-01-02")
            )
            made_ids.append(answer.json()["id"])
        await _backend.runtime.clock.sleep(1)
        seen: list[str] = []
        last = "0"
        for more in (True, True, False):
            page = await told(
                api,
                f"/reports/{ACCOUNT}/campaigns",
                campaignStatus="CampaignQueued",  # the lifecycle page's name for it
                lastSeenCampaignId=last,
            )
            assert page["hasMoreData"] is more
            seen += [item["id"] for item in page["campaignList"]]
            last = page["lastSeenCampaignId"]
        assert (seen, last) == (made_ids, "0")


@rules("BR-143", "BR-144")
@virtual
async def test_logging_is_switched_for_one_and_for_many() -> None:
    async with served(21) as (backend, api, made):
        path = f"{V2}/logging/{ACCOUNT}/devices"
        one, two, *_rest = names = ids(made)
        status = {"deviceId": one, "expiryDate": "2030-01-08"}
        assert (await api.put(f"{path}/{one}")).json() == status
        assert (await api.get(path)).json() == [status]
        many = await api.put(path, json={"deviceIds": names[:20]})
        assert [item["deviceId"] for item in many.json()] == names[:20]
        beyond = await api.put(f"{path}/{names[20]}")
        assert (beyond.status_code, "At most 20" in beyond.text) == (400, True)
        beyond = await api.put(path, json={"deviceIds": names})
        assert beyond.status_code == 400
        assert len((await api.get(path)).json()) == 20
        await backend.runtime.clock.sleep(86400)
        async with logged_in(backend) as api:
            renewed = await api.put(f"{path}/{one}")  # again: renewed, not one more
            assert renewed.json()["expiryDate"] == "2030-01-09"
            # The query of the SDK, then the body of the documentation; the last device has none.
            left = await api.delete(path, params={"deviceIds": ",".join(names[2:])})
            assert [item["deviceId"] for item in left.json()] == [one, two]
            left = await api.request("DELETE", path, json={"deviceIds": [two]})
            assert [item["deviceId"] for item in left.json()] == [one]
            off = await api.delete(f"{path}/{one}")
            assert off.json() == {"deviceId": one, "expiryDate": "2030-01-02"}
            assert (await api.get(path)).json() == []


@virtual
async def test_logs_and_check_ins_are_shown() -> None:
    async with served() as (backend, api, [device, _other]):
        path = f"{V2}/logging/{ACCOUNT}/devices"
        [one] = ids([device])
        await api.put(f"{path}/{one}")
        await device.check_in(reason="power-up", clientType="WiFiClient")
        await backend.runtime.clock.sleep(60)
        assert (await device.check_in())["logging"]["on"] is True
        entry = {
            "deviceId": one,
            "logTime": TIME,
            "logType": "Event",
            "eventLog": "hello",
            "binaryLogFileBase64": "AAEC",
            "binaryLogFilename": "a.bin",
        }
        assert (await device.post("/logs", json=entry)).status_code == 204
        assert (await api.get(f"{path}/{one}/logs")).json() == [entry]
        history = (await api.get(f"{path}/{one}/checkInHistory")).json()
        assert history == [
            {
                "deviceId": one,
                "clientType": client_type,
                "result": "NoUpdate",
                "failureType": "None",
                "timeCompleted": time,
            }
            for client_type, time in (
                ("RovaClient", "2030-01-01T00:01:00.000Z"),
                ("WiFiClient", "2030-01-01T00:00:00.000Z"),
            )
        ]


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/campaigns/{}/none", None),
        ("DELETE", "/campaigns/{}/none", None),
        ("GET", "/reports/{}/campaigns", None),
        ("GET", "/reports/{}/campaigns?campaignStatus=No", None),
        ("GET", "/reports/{}/campaigns?campaignStatus=CampaignEnded&lastSeenCampaignId=x", None),
        ("GET", "/reports/{}/campaigns/none/devices", None),
        ("GET", "/software/{}?distributionType=GSM", None),
        ("GET", "/files/{}", None),
        ("GET", "/files/{}?distributionType=GSM", None),
        ("POST", "/files/{}", b"x"),
        ("POST", "/campaigns/{}", b""),
        ("POST", "/campaigns/software/{}", b"{"),
        ("POST", "/campaigns/files/{}", b"[]"),
        ("PUT", "/logging/{}/devices", b"{}"),
        ("PUT", "/logging/{}/devices", b'{"deviceIds":[]}'),
        ("PUT", "/logging/{}/devices/12", None),
        ("PUT", "/logging/{}/devices/999999999999999", None),
        ("DELETE", "/logging/{}/devices", None),
        ("DELETE", "/logging/{}/devices?deviceIds=", None),
        ("GET", "/logging/{}/devices/999999999999999/logs", None),
        ("GET", "/logging/{}/devices/12/checkInHistory", None),
    ],
)
@virtual
async def test_every_refusal_has_the_same_form(method: str, path: str, sent: bytes | None) -> None:
    async with served(0) as (_backend, api, _made):
        answer = await api.request(method, V2 + path.format(ACCOUNT), content=sent)
        assert answer.status_code == 400, answer.text
        assert set(answer.json()) == {"errorCode", "errorMessage"}
        for account, text in (
            ("0242078689-00002", "does not exist"),
            ("fotilla", "account name format"),
        ):
            answer = await api.request(method, V2 + path.format(account), content=sent)
            assert answer.status_code == 400
            assert text in answer.json()["errorMessage"]
        bare = httpx.AsyncClient(transport=api._transport, base_url="http://test")
        answer = await bare.request(method, V2 + path.format(ACCOUNT), content=sent)
        assert answer.status_code == 401


@rules("BR-147")
@virtual
async def test_only_http_devices_log() -> None:
    async with served(0) as (backend, api, _made):
        await backend.load_devices([{"deviceId": "350000000000009"}])
        path = f"{V2}/logging/{ACCOUNT}/devices/350000000000009"
        for method, tail in (("PUT", ""), ("DELETE", ""), ("GET", "/logs")):
            answer = await api.request(method, path + tail)
            assert (answer.status_code, "HTTP devices" in answer.text) == (400, True)


@virtual
async def test_admin_of_http_devices() -> None:
    async with served(0) as (backend, api, _made), administrator(backend) as admin:
        sent = [{"name": "meter", "protocol": "HTTP"}, {"name": "given", "token": "token-of-it"}]
        assert (await admin.put("/admin/devices", json=sent)).status_code == 200
        assert backend.inventory.devices["given"].protocol == "HTTP"
        answer = await admin.post("/admin/devices/tokens", json={"names": ["meter"]})
        token = answer.json()["tokens"]["meter"]
        async with in_process(backend) as client:
            await HttpDevice(client, "meter", token).check_in()
            await HttpDevice(client, "given", "token-of-it").check_in()
        belief = (await admin.get("/admin/devices/meter/belief")).json()
        assert (belief["registered"], belief["firmware"]) == (True, "1.0.0")
        for bad in ({"names": ["nobody"]}, {"names": 1}, {}):
            assert (await admin.post("/admin/devices/tokens", json=bad)).status_code == 400
        for bad in ({"name": "x", "token": "short"}, {"name": "x", "protocol": "GSM"}):
            assert (await admin.put("/admin/devices", json=[bad])).status_code == 400
        bad_name = "/admin/firmware?name=a&version=1&protocol=GSM"
        assert (await admin.put(bad_name, content=b"x")).status_code == 400
        listed = await api.get(f"/api/fota/v3/devices/{ACCOUNT}?protocol=HTTP")
        assert {item["protocol"] for item in listed.json()["deviceList"]} == {"HTTP"}
        assert (await api.get(f"/api/fota/v3/devices/{ACCOUNT}")).json()["deviceList"] == []
