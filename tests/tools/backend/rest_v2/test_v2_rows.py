"""One raw-HTTP test for each row of section 1.1 of the API reference (release 2.33, prefix `/v2`),
named after it; and those of release 2.39. Every answer is held against its model in section 3.4."""

from __future__ import annotations

from tests.tools.backend.http_device import TIME
from tests.tools.backend.rest_world import ACCOUNT, FORM, STORED, UPLOAD, V2, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual

LOGGING = f"{V2}/logging/{ACCOUNT}/devices"
CAMPAIGNS = f"{V2}/campaigns/{ACCOUNT}"
CALLBACKS = f"{V2}/callbacks/{ACCOUNT}"
LICENSES = f"{V2}/licenses/{ACCOUNT}"


@rules("BR-117")
@virtual
async def test_get_subscriptions() -> None:
    """Number of FOTA subscriptions for HTTP devices, per account."""
    async with rest_world() as world:
        path = f"{V2}/subscriptions/{ACCOUNT}"
        world.subscribe(10)
        before = await world.json("GET", path, "FotaV2Subscription", every=True)
        assert (before["accountName"], before["licenseUsedCount"]) == (ACCOUNT, 0)
        assert (before["licenseCount"], before["purchaseType"]) == (
            10,
            "TS-HFOTA-EVNT,TS-HFOTA-MRC",
        )
        body = {"deviceList": [*world.ids(), world.lwm2m[0]]}
        await world.api.post(f"{LICENSES}/assign", json=body)
        after = await world.json("GET", path, "FotaV2Subscription", every=True)
        # One pool for all versions, but only HTTP devices count here.
        assert after["licenseUsedCount"] == 2


@virtual
async def test_get_licenses() -> None:
    """The account's licences and the list of licensed devices."""
    async with rest_world() as world:
        world.subscribe(10)
        await world.api.post(f"{LICENSES}/assign", json={"deviceList": world.ids()})
        found = await world.json("GET", LICENSES, "V2LicenseSummary", every=True)
        assert (found["totalLicense"], found["assignedLicenses"]) == (10, 2)
        assert [item["deviceId"] for item in found["deviceList"]] == world.ids()
        assert (found["hasMoreData"], found["lastSeenDeviceId"]) == (False, "0")


@rules("BR-154")
@virtual
async def test_post_licenses_assign() -> None:
    """Assign FOTA licences to devices."""
    async with rest_world() as world:
        world.subscribe(1)
        answer = await world.json(
            "POST",
            f"{LICENSES}/assign",
            "V2LicensesAssignedRemovedResult",
            json={"accountName": ACCOUNT, "deviceList": world.ids()},
            headers={"Content-Type": "*/*"},
        )
        assert [item["deviceId"] for item in answer["deviceList"]] == world.ids()
        # As many as there are licences.
        assert [item["status"] for item in answer["deviceList"]] == ["Success", "Failure"]
        assert (answer["licTotalCount"], answer["licUsedCount"]) == (1, 1)


@virtual
async def test_post_licenses_remove() -> None:
    """Remove FOTA licences from devices."""
    async with rest_world() as world:
        answer = await world.json(
            "POST",
            f"{LICENSES}/remove",
            "V2LicensesAssignedRemovedResult",
            json={"deviceList": world.ids()},
            headers={"Content-Type": "*/*"},
        )
        assert [item["deviceId"] for item in answer["deviceList"]] == world.ids()
        # Nobody had one.
        assert {item["status"] for item in answer["deviceList"]} == {"Failure"}


@virtual
async def test_post_campaigns() -> None:
    """Schedule a software upgrade for HTTP devices."""
    async with rest_world() as world:
        made = await world.json(
            "POST",
            CAMPAIGNS,
            "CampaignSoftware",
            json=world.software(downloadTimeWindowList=[{"startTime": 1, "endTime": "5"}]),
            headers={"Content-Type": "*/*"},
        )
        assert made["status"] == "CampaignRequestPending"
        assert made["downloadTimeWindowList"] == [{"startTime": 1, "endTime": 5}]
        newer = await world.json(
            "POST",
            f"{V2}/campaigns/software/{ACCOUNT}",
            "UploadAndScheduleFileResponse",
            json=world.software(installTimeWindowList=[{"startTime": "1", "endTime": "5"}]),
        )
        assert newer["installTimeWindowList"] == [{"startTime": "1", "endTime": "5"}]
        assert newer["deviceList"] == world.ids()


@rules("BR-163")
@virtual
async def test_get_campaigns_campaign_id() -> None:
    """One upgrade: target date, and the status of the upgrade per device."""
    async with rest_world() as world:
        campaign = await world.v2_campaign()
        shown = await world.json("GET", f"{CAMPAIGNS}/{campaign}", "CampaignSoftware")
        assert (shown["startDate"], shown["status"]) == ("2030-01-02", "CampaignRequestQueued")
        assert [item["deviceId"] for item in shown["deviceList"]] == world.ids()
        assert {item["status"] for item in shown["deviceList"]} == {"Accepted"}


@rules("BR-048")
@virtual
async def test_delete_campaigns_campaign_id() -> None:
    """Cancel a software upgrade: before its start cancelled, after it aborted."""
    async with rest_world() as world:
        for start, status in (
            ("2030-01-02", "CampaignCancelled"),
            ("2030-01-01", "CampaignAborted"),
        ):
            campaign = await world.v2_campaign(startDate=start)
            path = f"{CAMPAIGNS}/{campaign}"
            answer = await world.json("DELETE", path, "FotaV2SuccessResult")
            assert answer == {"success": True}
            shown = await world.json("GET", path, "CampaignSoftware")
            assert shown["status"] == status
            assert {item["status"] for item in shown["deviceList"]} == {status}
            await world.refused("DELETE", path, "")


@rules("BR-061")
@virtual
async def test_put_campaigns_campaign_id() -> None:
    """Add or remove devices."""
    async with rest_world(http=3) as world:
        one, two, three = world.ids()
        campaign = await world.v2_campaign(deviceList=[one, two])
        path = f"{CAMPAIGNS}/{campaign}"
        requests = set()
        for change, device, left in (
            ("append", three, [one, two, three]),
            ("remove", one, [two, three]),
        ):
            answer = await world.json(
                "PUT",
                path,
                "V2AddOrRemoveDeviceResult",
                json={"Type": change, "deviceList": [device]},
                headers={"Content-Type": "*/*"},
            )
            assert (answer["accountName"], answer["campaignId"]) == (ACCOUNT, campaign)
            requests.add(answer["requestId"])
            # Applied before the answer.
            shown = await world.json("GET", path, "CampaignSoftware")
            assert [item["deviceId"] for item in shown["deviceList"]] == left
        assert len(requests) == 2
        # v1's spelling of the key is read too.
        await world.json(
            "PUT",
            path,
            "V2AddOrRemoveDeviceResult",
            json={"type": "remove", "deviceList": [two, three]},
        )
        shown = await world.json("GET", path, "CampaignSoftware")
        assert (shown["status"], shown["deviceList"]) == ("CampaignCancelled", [])


@rules("BR-008")
@virtual
async def test_put_campaigns_campaign_id_dates() -> None:
    """Change campaign dates and time windows."""
    async with rest_world() as world:
        path = f"{CAMPAIGNS}/{await world.v2_campaign()}"
        dates = {
            "startDate": "2030-01-03",
            "endDate": "2030-01-09",
            "downloadAfterDate": "2030-01-03",
            "downloadTimeWindowList": [{"startTime": "2", "endTime": 6}],
            "installAfterDate": "2030-01-04",
            "installTimeWindowList": [{"startTime": 6, "endTime": 8}],
        }
        changed = await world.json(
            "PUT", f"{path}/dates", "CampaignSoftware", json=dates, headers={"Content-Type": "*/*"}
        )
        stored = {**dates, "downloadTimeWindowList": [{"startTime": 2, "endTime": 6}]}
        assert changed == {**changed, **stored}
        shown = await world.json("GET", path, "CampaignSoftware")
        assert shown == {**shown, **stored}


@virtual
async def test_post_callbacks() -> None:
    """Create the https callback address."""
    async with rest_world() as world:
        body = {"url": "https://listener.example/fota"}
        answer = await world.json(
            "POST",
            CALLBACKS,
            "FotaV2CallbackRegistrationResult",
            every=True,
            json=body,
            headers={"Content-Type": "*/*"},
        )
        assert answer == body


@virtual
async def test_put_callbacks() -> None:
    """Update it."""
    async with rest_world() as world:
        body = {"url": "https://listener.example/fota"}
        await world.refused("PUT", CALLBACKS, "", json=body)
        await world.json("POST", CALLBACKS, "FotaV2CallbackRegistrationResult", json=body)
        newer = {"url": "https://listener.example/newer"}
        answer = await world.json(
            "PUT",
            CALLBACKS,
            "FotaV2CallbackRegistrationResult",
            every=True,
            json=newer,
            headers={"Content-Type": "*/*"},
        )
        assert answer == newer


@virtual
async def test_get_callbacks() -> None:
    """List the registered listeners: one object, not an array."""
    async with rest_world() as world:
        assert await world.json("GET", CALLBACKS, "CallbackSummary") == {}
        body = {"url": "https://listener.example/fota"}
        await world.json("POST", CALLBACKS, "FotaV2CallbackRegistrationResult", json=body)
        assert await world.json("GET", CALLBACKS, "CallbackSummary", every=True) == body


@virtual
async def test_delete_callbacks() -> None:
    """Delete it."""
    async with rest_world() as world:
        body = {"url": "https://listener.example/fota"}
        await world.json("POST", CALLBACKS, "FotaV2CallbackRegistrationResult", json=body)
        answer = await world.json("DELETE", CALLBACKS, "FotaV2SuccessResult")
        assert answer == {"success": True}
        assert await world.json("GET", CALLBACKS, "CallbackSummary") == {}
        await world.refused("DELETE", CALLBACKS, "")


@virtual
async def test_get_software() -> None:
    """List of available software."""
    async with rest_world() as world:
        path = f"{V2}/software/{ACCOUNT}"
        for query, names in (
            ("", ["app"]),
            ("?distributionType=HTTP", ["app"]),
            ("?distributionType=LWM2M", ["fw"]),
            ("?distributionType=OMD-DM", ["dm"]),
            ("?distributionType=OMA", ["dm"]),
        ):
            found = await world.json("GET", path + query, "[SoftwarePackage]")
            assert [item["softwareName"] for item in found] == names
        assert found[0]["distributionType"] == "OMD-DM"


@virtual
async def test_get_devices() -> None:
    """Devices of the account."""
    async with rest_world() as world:
        path = f"{V2}/devices/{ACCOUNT}"
        every = await world.json("GET", path, "V2AccountDeviceList", every=True)
        ids = [*world.ids(), *world.lwm2m, *world.omadm]
        assert [item["deviceId"] for item in every["deviceList"]] == ids
        for distribution, expected in (
            ("HTTP", world.ids()),
            ("LWM2M", world.lwm2m),
            ("OMD-DM", world.omadm),
        ):
            found = await world.json(
                "GET", path, "V2AccountDeviceList", params={"distributionType": distribution}
            )
            assert [item["deviceId"] for item in found["deviceList"]] == expected
            assert {item["distributionType"] for item in found["deviceList"]} == {distribution}


@virtual
async def test_get_reports_devices_device_id() -> None:
    """Upgrade history of one device."""
    async with rest_world() as world:
        campaign = await world.v2_campaign(startDate="2030-01-01")
        [device, _other] = world.http
        await device.update((await device.check_in())["campaign"])
        path = f"{V2}/reports/{ACCOUNT}/devices/{world.ids()[0]}"
        [entry] = await world.json("GET", path, "[DeviceSoftwareUpgrade]", every=True)
        assert (entry["id"], entry["softwareName"]) == (campaign, "app")
        assert (entry["status"], entry["reason"]) == ("UpgradeSuccess", "DownloadInstallSucceeded")
        # What a v3 campaign did to a device is in v3's history.
        await world.v3_campaign()
        path = f"{V2}/reports/{ACCOUNT}/devices/{world.lwm2m[0]}"
        assert await world.json("GET", path, "[DeviceSoftwareUpgrade]") == []
        # The device list knows of it as well.
        devices = await world.json(
            "GET", f"{V2}/devices/{ACCOUNT}?distributionType=HTTP", "V2AccountDeviceList"
        )
        upgraded, waiting = devices["deviceList"]
        [info] = upgraded["softwareList"]
        assert (info["name"], info["version"]) == ("app", "2.0.0")
        assert upgraded["upgradeTime"] == info["upgradeTime"] == "2030-01-01T00:00:01.000Z"
        assert (waiting["upgradeTime"], waiting["softwareList"]) == ("01/01/1900 0:0:0", [])


@virtual
async def test_get_reports_campaigns() -> None:
    """Campaign history for a given status."""
    async with rest_world() as world:
        campaign = await world.v2_campaign()
        path = f"{V2}/reports/{ACCOUNT}/campaigns"
        for status in ("CampaignRequestQueued", "CampaignQueued"):
            found = await world.json(
                "GET", path, "V2CampaignHistory", params={"campaignStatus": status}
            )
            assert [item["id"] for item in found["campaignList"]] == [campaign]
            assert (found["hasMoreData"], found["lastSeenCampaignId"]) == (False, "0")
        for status in ("CampaignRequestPending", "CampaignFailed", "CampaignEnded"):
            found = await world.json(
                "GET", path, "V2CampaignHistory", params={"campaignStatus": status}
            )
            assert found["campaignList"] == []


@virtual
async def test_get_reports_campaigns_campaign_id_devices() -> None:
    """Device status in one campaign."""
    async with rest_world() as world:
        campaign = await world.v2_campaign(deviceList=[*world.ids(), *world.lwm2m])
        found = await world.json(
            "GET",
            f"{V2}/reports/{ACCOUNT}/campaigns/{campaign}/devices",
            "V2CampaignDevice",
            every=True,
        )
        assert (found["totalDevice"], found["maxPageSize"]) == (4, 1000)
        assert [item["status"] for item in found["deviceList"]] == [
            "Accepted",
            "Accepted",
            "DeviceRejected",
            "DeviceRejected",
        ]


@virtual
async def test_get_logging_devices() -> None:
    """Devices with logging on."""
    async with rest_world() as world:
        assert await world.json("GET", LOGGING, "[DeviceLoggingStatus]") == []
        [one, _two] = world.ids()
        await world.json("PUT", f"{LOGGING}/{one}", "DeviceLoggingStatus")
        found = await world.json("GET", LOGGING, "[DeviceLoggingStatus]")
        assert found == [{"deviceId": one, "expiryDate": "2030-01-08"}]


@virtual
async def test_put_logging_devices() -> None:
    """Switch logging on for a list of devices."""
    async with rest_world() as world:
        found = await world.json(
            "PUT",
            LOGGING,
            "[DeviceLoggingStatus]",
            json={"deviceIds": world.ids()},
            headers={"Content-Type": "*/*"},
        )
        assert [item["deviceId"] for item in found] == world.ids()


@rules("BR-148")
@virtual
async def test_delete_logging_devices() -> None:
    """Switch it off for a list of devices: the SDK's query, and the body of the pages."""
    async with rest_world(http=3) as world:
        one, two, three = world.ids()
        await world.json("PUT", LOGGING, "[DeviceLoggingStatus]", json={"deviceIds": world.ids()})
        left = await world.json(
            "DELETE", f"{LOGGING}?deviceIds={one}%2C{two}", "[DeviceLoggingStatus]"
        )
        assert [item["deviceId"] for item in left] == [three]
        left = await world.json(
            "DELETE", LOGGING, "[DeviceLoggingStatus]", json={"deviceIds": [three]}
        )
        assert left == []


@virtual
async def test_put_logging_devices_device_id() -> None:
    """Switch logging on for one device."""
    async with rest_world() as world:
        [one, _two] = world.ids()
        found = await world.json("PUT", f"{LOGGING}/{one}", "DeviceLoggingStatus")
        assert found == {"deviceId": one, "expiryDate": "2030-01-08"}
        assert (await world.http[0].check_in())["logging"]["on"] is True


@virtual
async def test_delete_logging_devices_device_id() -> None:
    """Switch logging off for one device."""
    async with rest_world() as world:
        [one, _two] = world.ids()
        await world.json("PUT", f"{LOGGING}/{one}", "DeviceLoggingStatus")
        found = await world.json("DELETE", f"{LOGGING}/{one}", "DeviceLoggingStatus")
        assert found["deviceId"] == one
        assert await world.json("GET", LOGGING, "[DeviceLoggingStatus]") == []


@virtual
async def test_get_logging_devices_device_id_logs() -> None:
    """Logs of one device."""
    async with rest_world() as world:
        [one, _two] = world.ids()
        await world.json("PUT", f"{LOGGING}/{one}", "DeviceLoggingStatus")
        await world.http[0].check_in()
        entry = {
            "deviceId": one,
            "logTime": TIME,
            "logType": "Event",
            "eventLog": "hello",
            "binaryLogFileBase64": "AAEC",
            "binaryLogFilename": "a.bin",
        }
        assert (await world.http[0].post("/logs", json=entry)).status_code == 204
        assert await world.json("GET", f"{LOGGING}/{one}/logs", "[DeviceLog]") == [entry]


@rules("BR-146")
@virtual
async def test_get_logging_devices_device_id_check_in_history() -> None:
    """Check-in history of one device, newest first; independent of logging."""
    async with rest_world() as world:
        [one, _two] = world.ids()
        for _ in range(2):
            await world.http[0].check_in()
            await world.sleep(60)
        found = await world.json("GET", f"{LOGGING}/{one}/checkInHistory", "[CheckInHistoryItem]")
        times = [item["timeCompleted"] for item in found]
        assert times == ["2030-01-01T00:01:00.000Z", "2030-01-01T00:00:00.000Z"]


@virtual
async def test_release_2_39_cancellation_list() -> None:
    """Add devices to the cancellation list or remove it: POST, DELETE, GET in v2."""
    async with rest_world() as world:
        path = f"{LICENSES}/cancel"
        # For accounts with a monthly subscription only.
        await world.refused("POST", path, "monthly", json={"deviceList": world.ids()})
        world.subscribe(10)
        one, two = world.ids()
        await world.api.post(f"{LICENSES}/assign", json={"deviceList": [one, two]})
        for body, listed in (
            ({"deviceList": [one]}, [one]),
            ({"type": "append", "deviceList": [two]}, [one, two]),
            ({"deviceList": [two]}, [two]),
        ):
            await world.json("POST", path, "V2ListOfLicensesToRemoveResult", json=body)
            # The query of the SDK, the path of the documentation, and neither.
            for index in ("?startIndex=0", "/index/0", ""):
                found = await world.json("GET", path + index, "V2ListOfLicensesToRemove")
                assert (found["count"], found["deviceList"]) == (len(listed), listed)
        answer = await world.json("DELETE", path, "FotaV2SuccessResult")
        assert answer == {"success": True}
        found = await world.json("GET", path, "V2ListOfLicensesToRemove")
        assert (found["count"], found["deviceList"]) == (0, [])


@virtual
async def test_release_2_39_configuration_files() -> None:
    """Upload, update and list files; a campaign for them, monitored by the v2 campaign calls."""
    async with rest_world() as world:
        path = f"{V2}/files/{ACCOUNT}"
        stored = await world.json(
            "POST", path, "UploadConfigurationFilesResponse", every=True, data=FORM, files=UPLOAD
        )
        assert (stored["fileName"], stored["distributionType"]) == (STORED, "HTTP")
        for where in ("query", "form"):
            changed = await world.json(
                "PUT",
                path,
                "UploadConfigurationFilesResponse",
                every=True,
                params={"fileName": STORED} if where == "query" else {},
                data={"fileVersion": where, "fileName": STORED},
                files={"fileupload": ("other.cfg", where.encode())},
            )
            assert changed == {**stored, "fileVersion": where}
        listed = await world.json(
            "GET",
            path,
            "RetrievesAvailableFilesResponseList",
            every=True,
            params={"distributionType": "HTTP"},
        )
        [file] = listed["AvailableFilesResponse"]
        assert (file["fileName"], file["fileVersion"]) == (STORED, "form")
        made = await world.json(
            "POST",
            f"{V2}/campaigns/files/{ACCOUNT}",
            "UploadAndScheduleFileResponse",
            json={
                "fileName": STORED,
                "fileVersion": "form",
                "distributionType": "HTTP",
                "startDate": "2030-01-01",
                "endDate": "2030-01-02",
                "downloadTimeWindowList": [{"startTime": "0", "endTime": "24"}],
                "deviceList": world.ids(),
            },
        )
        assert (made["fileName"], made["softwareName"]) == (STORED, STORED)
        await world.sleep(1)
        order = (await world.http[0].check_in())["campaign"]
        assert await world.http[0].update(order) == b"form"
        shown = await world.json("GET", f"{CAMPAIGNS}/{made['id']}", "CampaignSoftware")
        assert shown["deviceList"][0]["status"] == "UpgradeSuccess"
        assert (await world.api.delete(f"{CAMPAIGNS}/{made['id']}")).json() == {"success": True}
