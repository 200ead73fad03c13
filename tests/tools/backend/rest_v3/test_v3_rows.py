"""One raw-HTTP test for each row of section 3.3 of the API reference (prefix `/v3`) and of section
1.2, the behaviours of release 3.0, named after it. Every answer is held against its model in
section 3.4."""

from __future__ import annotations

import re
from dataclasses import replace

from protocols.coap import Code
from tests.tools.backend.rest_world import ACCOUNT, STRANGER, V3, rest_world
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.backend import Backend
from tools.backend.campaigns.reasons import REASONS
from tools.backend.faces.base import Ending

CAMPAIGNS = f"{V3}/campaigns/{ACCOUNT}"
FIRMWARE_CAMPAIGNS = f"{V3}/campaigns/firmware/{ACCOUNT}"
CALLBACKS = f"{V3}/callbacks/{ACCOUNT}"
LICENSES = f"{V3}/licenses/{ACCOUNT}"
DEVICES = f"{V3}/devices/{ACCOUNT}"


@virtual
async def test_get_subscriptions() -> None:
    async with rest_world() as world:
        path = f"{V3}/subscriptions/{ACCOUNT}"
        found = await world.json("GET", path, "FotaV3Subscription", every=True)
        assert found["accountName"] == ACCOUNT


@virtual
async def test_get_licenses() -> None:
    """The SDK's path, and the one of an older index of the documentation."""
    async with rest_world() as world:
        for path in (LICENSES, f"{LICENSES}?lastSeenDeviceId=0", f"{LICENSES}/index/0"):
            found = await world.json("GET", path, "V3LicenseSummary", every=True)
            assert (found["accountName"], found["hasMoreData"]) == (ACCOUNT, False)


@virtual
async def test_post_licenses_assign_and_remove() -> None:
    async with rest_world() as world:
        world.subscribe(10)
        for change, used in (("assign", 2), ("remove", 0)):
            found = await world.json(
                "POST",
                f"{LICENSES}/{change}",
                "V3LicenseAssignedRemovedResult",
                json={"deviceList": world.lwm2m},
            )
            assert [item["deviceId"] for item in found["deviceList"]] == world.lwm2m
            assert (found["licCount"], found["licUsedCount"]) == (10, used)


@virtual
async def test_get_firmware() -> None:
    """The SDK's spellings, and HTTP of the documentation."""
    async with rest_world() as world:
        path = f"{V3}/firmware/{ACCOUNT}"
        for protocol, names in (("LWM2M", ["fw"]), ("OMD-DM", ["dm"])):
            found = await world.json(
                "GET", path, "[FirmwarePackage]", every=True, params={"protocol": protocol}
            )
            assert [item["firmwareName"] for item in found] == names
            assert {item["protocol"] for item in found} == {protocol}
        for protocol, names in (("HTTP", ["app"]), ("all", ["app", "fw", "dm"])):
            answer = await world.api.get(path, params={"protocol": protocol})
            assert [item["firmwareName"] for item in answer.json()] == names
        await world.refused("GET", path, "protocol")
        await world.refused("GET", path, "protocol", params={"protocol": "GSM"})


@rules("BR-099")
@virtual
async def test_put_firmware_devices() -> None:
    """Synchronise device firmware; the misspelt key is the API's."""
    async with rest_world() as world:
        device = await world.scripted()
        device.version = "1.5.0"
        found = await world.json(
            "PUT",
            f"{V3}/firmware/{ACCOUNT}/devices",
            "DeviceFirmwareList",
            every=True,
            json={"deviceList": world.lwm2m},
        )
        [read, silent] = found["deviceFirmwarVersionList"]
        assert (read["status"], read["firmwareVersion"]) == (
            "FirmwareVersionUpdateSuccess",
            "1.5.0",
        )
        assert silent["status"] == "FirmwareVersionUpdateFailed"
        assert silent["reason"] == "The network reports the device is not reachable."
        assert silent["firmwareVersion"] == "1.0.0"  # the last known one


@virtual
async def test_put_firmware_async_device_id() -> None:
    """Ask a device to report its firmware, and look at it with POST /devices."""
    async with rest_world() as world:
        await world.scripted()
        [one, two] = world.lwm2m
        path = f"{V3}/firmware/{ACCOUNT}/async/"
        requests = [
            await world.json("PUT", path + device, "DeviceFirmwareVersionUpdateResult")
            for device in (one, two)
        ]
        assert len({item["requestId"] for item in requests}) == 2
        await world.sleep(1)
        found = await world.json(
            "POST", DEVICES, "DeviceListResult", json={"deviceList": [one, two]}
        )
        assert [item["requestStatus"] for item in found["deviceList"]] == ["Success", "Pending"]


@rules("BR-107")
@virtual
async def test_get_devices() -> None:
    """Every spelling of a protocol; LwM2M without one."""
    async with rest_world() as world:
        every = world.ids() + world.lwm2m + world.omadm
        for query, expected in (
            ("", world.lwm2m),
            ("?protocol=LWM2M", world.lwm2m),
            ("?protocol=HTTP", world.ids()),
            *((f"?protocol={name}", world.omadm) for name in ("OMDADM", "OMD-DM", "OMADM", "OMA")),
            ("?protocol=NONE", []),
            ("?protocol=all", every),
            (f"?protocol=all&lastSeenDeviceId={every[2]}", every[3:]),
        ):
            found = await world.json("GET", DEVICES + query, "V3AccountDeviceList", every=True)
            assert [item["deviceId"] for item in found["deviceList"]] == expected
        protocols = {item["protocol"] for item in found["deviceList"]}
        assert protocols == {"LWM2M", "OMADM"}
        for bad in ("?protocol=GSM", "?lastSeenDeviceId=12", "?lastSeenDeviceId=x"):
            await world.refused("GET", DEVICES + bad, "")


@virtual
async def test_post_devices() -> None:
    async with rest_world() as world:
        await world.scripted()
        asked = [*world.lwm2m, *world.omadm, STRANGER]
        found = await world.json("POST", DEVICES, "DeviceListResult", json={"deviceList": asked})
        assert found["deviceCount"] == 4
        by_id = {item["deviceId"]: item for item in found["deviceList"]}
        assert by_id[world.lwm2m[0]]["lastConnectionTime"].startswith("2030-01-01T00:00:00")
        assert "lastConnectionTime" not in by_id[world.lwm2m[1]]
        assert by_id[world.omadm[0]]["protocol"] == "OMADM"
        assert by_id[STRANGER]["resultReason"] == "Device Not Found."
        assert "protocol" not in by_id[STRANGER]
        # The two queries of the GET, which a page of the documentation shows here too.
        for query, count in (("protocol=OMD-DM", 1), (f"lastSeenDeviceId={world.lwm2m[0]}", 3)):
            found = await world.json(
                "POST", f"{DEVICES}?{query}", "DeviceListResult", json={"deviceList": asked}
            )
            assert found["deviceCount"] == len(found["deviceList"]) == count


async def set_line(backend: Backend, device_id: str, line: str) -> None:
    device = backend.inventory.by_id(ACCOUNT, device_id)
    assert device is not None
    device.line, device.mdn = line, "15555550100"


@virtual
async def test_devices_show_line_and_licence() -> None:
    """Status and mdn of the line of service, and whether a licence is assigned, as they are."""
    async with rest_world() as world:
        [one, _two] = world.lwm2m
        world.subscribe(1)
        await set_line(world.backend, one, "suspend")
        await world.api.post(f"{LICENSES}/assign", json={"deviceList": [one]})
        found = await world.json("GET", DEVICES, "V3AccountDeviceList")
        asked = await world.json("POST", DEVICES, "DeviceListResult", json={"deviceList": [one]})
        for item in (found["deviceList"][0], asked["deviceList"][0]):
            assert (item["status"], item["mdn"]) == ("suspend", "15555550100")
            assert item["licenseAssigned"] is True
        other = found["deviceList"][1]
        assert (other["status"], other["mdn"], other["licenseAssigned"]) == ("active", "", False)


@rules("BR-106")
@virtual
async def test_post_campaigns_firmware() -> None:
    async with rest_world() as world:
        made = await world.json(
            "POST", FIRMWARE_CAMPAIGNS, "FirmwareCampaign", every=True, json=world.firmware()
        )
        assert (made["status"], made["protocol"]) == ("CampaignRequestPending", "LWM2M")
        # The name is optional, and so are windows; the protocol is LWM2M unless it is said.
        body = {
            name: value
            for name, value in world.firmware(deviceList=["360000000000001"]).items()
            if name not in ("campaignName", "campaignTimeWindowList", "protocol")
        }
        bare = await world.json("POST", FIRMWARE_CAMPAIGNS, "FirmwareCampaign", json=body)
        assert "campaignName" not in bare
        assert (bare["campaignTimeWindowList"], bare["protocol"]) == ([], "LWM2M")
        for protocol in ("OMA", "HTTP", "OMADM"):
            sent = world.firmware(protocol=protocol)
            await world.refused("POST", FIRMWARE_CAMPAIGNS, "not supported", json=sent)


@virtual
async def test_put_campaigns_firmware_campaign_id() -> None:
    """Add and remove devices: the SDK's form, and the two of the documentation."""
    async with rest_world(lwm2m=3) as world:
        one, two, three = world.lwm2m
        campaign = await world.v3_campaign(deviceList=[one])
        item = {"status": "AddDeviceSucceed", "Reason": "Device added Successfully"}
        change = {"deviceList": [two]}
        found = await world.json(
            "PUT",
            f"{FIRMWARE_CAMPAIGNS}/{campaign}",
            "V3AddOrRemoveDeviceResult",
            every=True,
            json={"Type": "append", **change},
        )
        assert found == {
            "accountName": ACCOUNT,
            "campaignId": campaign,
            "deviceList": [{"deviceId": two, **item}],
        }
        wrapped = {"addOrRemoveDevice": [{"type": "append", "deviceList": [three, STRANGER]}]}
        path = f"{CAMPAIGNS}/{campaign}"
        found = await world.json("PUT", path, "V3AddOrRemoveDeviceResult", json=wrapped)
        added, failed = found["deviceList"]
        assert added == {"deviceId": three, **item}
        assert (failed["status"], failed["Reason"]) == ("AddDeviceFailed", "Device Not Found.")
        found = await world.json(
            "PUT",
            path,
            "V3AddOrRemoveDeviceResult",
            json={"Type": "remove", "deviceList": [one, one, STRANGER]},
        )
        assert [(item["deviceId"], item["status"]) for item in found["deviceList"]] == [
            (one, "RemoveDeviceSucceed"),
            (STRANGER, "RemoveDeviceFailed"),
        ]
        report = f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices"
        left = await world.json("GET", report, "V3CampaignDevice")
        assert [item["deviceId"] for item in left["deviceList"]] == [two, three]
        for bad in (
            {"Type": "replace", **change},
            change,
            {"Type": "append", "deviceList": []},
            {"Type": "append", "deviceList": ["12"]},
            {"addOrRemoveDevice": []},
            {"addOrRemoveDevice": [{"type": "append", **change}] * 2},
            {"addOrRemoveDevice": [None]},
        ):
            await world.refused("PUT", path, "", json=bad)
        # Until the start only.
        await world.sleep(86400)
        async with world.again() as again:
            await again.refused("PUT", path, "started", json={"Type": "append", **change})


@rules("BR-008")
@virtual
async def test_put_campaigns_firmware_campaign_id_dates() -> None:
    """Anything before the start; after it the end date only, at least 24 h away."""
    async with rest_world() as world:
        campaign = await world.v3_campaign()
        path = f"{FIRMWARE_CAMPAIGNS}/{campaign}/dates"
        windows = [{"startTime": 1, "endTime": 5}]
        dates = {"startDate": "2030-01-03", "endDate": "2030-01-20"}
        changed = await world.json(
            "PUT", path, "FirmwareCampaign", json={**dates, "campaignTimeWindowList": windows}
        )
        assert changed == {**changed, **dates, "campaignTimeWindowList": windows}
        # Without windows they stay; the page that leaves `/firmware` out.
        dates["endDate"] = "2030-01-21"
        changed = await world.json(
            "PUT", f"{CAMPAIGNS}/{campaign}/dates", "FirmwareCampaign", json=dates
        )
        assert changed == {**changed, **dates, "campaignTimeWindowList": windows}
        for bad, text in (
            ({**dates, "startDate": "2029-12-31"}, "in the past"),
            ({**dates, "endDate": "2030-01-02"}, "endDate"),
            ({**dates, "endDate": "20300120"}, "endDate"),
            ({"startDate": "2030-01-03"}, "endDate"),
            ({**dates, "campaignTimeWindowList": [{"startTime": 5, "endTime": 1}]}, "window"),
        ):
            await world.refused("PUT", path, text, json=bad)
        await world.sleep(2 * 86400 + 3600)
        async with world.again() as again:
            stored = {**dates, "campaignTimeWindowList": windows}
            other = [*windows, {"startTime": 6, "endTime": 8}]
            for bad, text in (
                ({**stored, "startDate": "2030-01-04"}, "startDate"),
                ({**stored, "campaignTimeWindowList": other}, "indows"),
                ({**stored, "campaignTimeWindowList": []}, "indows"),
                ({**stored, "endDate": "2030-01-03"}, "24 hours"),
            ):
                await again.refused("PUT", path, text, json=bad)
            changed = await again.json(
                "PUT", path, "FirmwareCampaign", json={**stored, "endDate": "2030-01-05"}
            )
            assert changed["endDate"] == "2030-01-05"


@virtual
async def test_get_campaigns_campaign_id() -> None:
    async with rest_world() as world:
        campaign = await world.v3_campaign()
        shown = await world.json("GET", f"{CAMPAIGNS}/{campaign}", "Campaign", every=True)
        assert shown["autoAddDevicesFlag"] is shown["autoAssignLicenseFlag"] is False
        assert shown["status"] == "CampaignPreScheduled"


@virtual
async def test_delete_campaigns_campaign_id() -> None:
    """Before the start cancelled; after it aborted, or refused where the account says so."""
    async with rest_world() as world:
        first = await world.v3_campaign()
        answer = await world.json("DELETE", f"{CAMPAIGNS}/{first}", "FotaV3SuccessResult")
        assert answer == {"success": True}
        second = await world.v3_campaign(startDate="2030-01-01")
        assert (await world.api.delete(f"{CAMPAIGNS}/{second}")).json() == {"success": True}
        for campaign, status in ((first, "CampaignCancelled"), (second, "CampaignAborted")):
            shown = await world.json("GET", f"{CAMPAIGNS}/{campaign}", "Campaign")
            assert shown["status"] == status
        third = await world.v3_campaign(startDate="2030-01-01")
        accounts = world.backend.inventory.accounts
        accounts[ACCOUNT] = replace(accounts[ACCOUNT], v3_abort=False)
        await world.refused("DELETE", f"{CAMPAIGNS}/{third}", "started")


@virtual
async def test_get_reports_firmware_campaigns() -> None:
    """The SDK's path and that of the documentation."""
    async with rest_world() as world:
        campaign = await world.v3_campaign()
        for path in ("firmware/campaigns", "campaigns"):
            found = await world.json(
                "GET",
                f"{V3}/reports/{ACCOUNT}/{path}",
                "V3CampaignHistory",
                params={"campaignStatus": "CampaignPreScheduled"},
            )
            assert [item["id"] for item in found["campaignList"]] == [campaign]
            await world.refused("GET", f"{V3}/reports/{ACCOUNT}/{path}", "campaignStatus")


@virtual
async def test_get_reports_campaigns_campaign_id_devices() -> None:
    async with rest_world() as world:
        campaign = await world.v3_campaign()
        path = f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices"
        found = await world.json("GET", path, "V3CampaignDevice")
        assert found["totalDevice"] == 2
        assert [item["deviceId"] for item in found["deviceList"]] == world.lwm2m
        assert {item["status"] for item in found["deviceList"]} == {"NoDeviceDataFromNetwork"}
        page = await world.json(
            "GET", f"{path}?lastSeenDeviceId={world.lwm2m[0]}", "V3CampaignDevice"
        )
        assert [item["deviceId"] for item in page["deviceList"]] == world.lwm2m[1:]


@virtual
async def test_get_reports_devices_device_id() -> None:
    async with rest_world() as world:
        campaign = await world.v3_campaign()
        path = f"{V3}/reports/{ACCOUNT}/devices/{world.lwm2m[0]}"
        [entry] = await world.json("GET", path, "[DeviceFirmwareUpgrade]", every=True)
        assert (entry["campaignId"], entry["startDate"]) == (campaign, "2030-01-02")


@virtual
async def test_callbacks() -> None:
    """GET, POST, PUT and DELETE /callbacks/{acc}."""
    async with rest_world() as world:
        assert await world.json("GET", CALLBACKS, "FotaV3CallbackSummary") == {}
        first, second = ({"url": f"https://listener.example/{name}"} for name in "ab")
        for method, body in (("POST", first), ("PUT", second)):
            model = "FotaV3CallbackRegistrationResult"
            assert await world.json(method, CALLBACKS, model, every=True, json=body) == body
        assert await world.json("GET", CALLBACKS, "FotaV3CallbackSummary", every=True) == second
        answer = await world.json("DELETE", CALLBACKS, "FotaV3SuccessResult")
        assert answer == {"success": True}


# -- section 1.2: the behaviours of 3.0 ---


@rules("BR-005")
@virtual
async def test_release_3_0_dates() -> None:
    """Start date and end date are both required; up to a month is advised, more is accepted."""
    async with rest_world() as world:
        for missing in ("startDate", "endDate"):
            body = world.firmware()
            del body[missing]
            await world.refused("POST", FIRMWARE_CAMPAIGNS, missing, json=body)
        await world.v3_campaign(endDate="2030-06-30")


@rules("BR-017")
@virtual
async def test_release_3_0_time_windows() -> None:
    """Windows are optional; they say when an upgrade may run."""
    async with rest_world() as world:
        await world.scripted(lifetime=86400)
        campaign = await world.v3_campaign(
            startDate="2030-01-01", campaignTimeWindowList=[{"startTime": 2, "endTime": 4}]
        )
        report = f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices"
        before, _absent = (await world.json("GET", report, "V3CampaignDevice"))["deviceList"]
        assert "recentAttemptTime" not in before
        await world.sleep(3 * 3600)
        async with world.again() as again:
            found = await again.json("GET", report, "V3CampaignDevice")
        after, _absent = found["deviceList"]
        assert (after["status"], after["resultReason"]) == (
            "UpgradeSuccess",
            "Upgrade completed successfully",
        )
        assert after["recentAttemptTime"].startswith("2030-01-01T02:00:00")


@rules("BR-038", "BR-088", "BR-089")
@virtual
async def test_release_3_0_report_freshness_and_attempt_times() -> None:
    """Device status changes during the day, with the time of the change; `nextAttemptTime` is the
    SDK's spelling, and `recentAttemptTime` belongs to a result."""
    async with rest_world() as world:
        campaign = await world.v3_campaign(
            startDate="2030-01-01", campaignTimeWindowList=[{"startTime": 2, "endTime": 4}]
        )
        report = f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices"
        first = (await world.json("GET", report, "V3CampaignDevice"))["deviceList"][0]
        await world.scripted()
        second = (await world.json("GET", report, "V3CampaignDevice"))["deviceList"][0]
        assert first["status"] == "NoDeviceDataFromNetwork"
        assert second["status"] in ("UpgradePending", "UpgradeScheduled")
        assert second["updatedTime"] > first["updatedTime"]
        assert second["nextAttemptTime"] == "2030-01-01T02:00:00.000Z"
        assert re.search(r"01 Jan 30 02:00 UTC", second["resultReason"])


@rules("BR-028")
@virtual
async def test_release_3_0_result_reasons() -> None:
    """Where v1 says `Firmware update failed to device`, v3 says what the network reports."""
    assert REASONS[Ending.UNREACHABLE].v1 == "Firmware update failed to device"
    async with rest_world() as world:
        campaign = await world.v3_campaign(startDate="2030-01-01")
        found = await world.json(
            "GET", f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices", "V3CampaignDevice"
        )
        assert {item["resultReason"] for item in found["deviceList"]} == {
            "The network reports the device is not reachable."
        }


@rules("BR-108", "BR-114")
@virtual
async def test_release_3_0_pilot_campaigns() -> None:
    """A small run comes before a large one: until then 400, and nothing is written."""
    async with rest_world(lwm2m=21, pilot_waived=False) as world:
        await world.refused("POST", FIRMWARE_CAMPAIGNS, "pilot", json=world.firmware())
        campaign = await world.v3_campaign(deviceList=world.lwm2m[:20])
        body = {"Type": "append", "deviceList": world.lwm2m[20:]}
        await world.refused("PUT", f"{FIRMWARE_CAMPAIGNS}/{campaign}", "pilot", json=body)


@virtual
async def test_release_3_0_cell_awareness_and_large_campaigns_in_cells() -> None:
    """Devices that share a cell are upgraded a few at a time; the parts are not to be seen, only
    that some devices wait for a later date while others are processed."""
    async with rest_world(lwm2m=3) as world:
        backend = world.backend
        for index, device_id in enumerate(world.lwm2m):
            device = await world.scripted(index, lifetime=86400)
            device.on_execute = lambda: Code.CHANGED  # and installs for as long as we look
            await backend.operator.attach(device_id, "cell-1", ("127.0.0.1", 9))
        await backend.operator.cells.set("cell-1", 2)
        campaign = await world.v3_campaign(startDate="2030-01-01", campaignTimeWindowList=[])
        await world.sleep(30)
        found = await world.json(
            "GET", f"{V3}/reports/{ACCOUNT}/campaigns/{campaign}/devices", "V3CampaignDevice"
        )
        statuses = sorted(item["status"] for item in found["deviceList"])
        assert statuses == ["UpgradePending", "UpgradeScheduled", "UpgradeScheduled"]
        for item in found["deviceList"]:
            waits = item["status"] == "UpgradePending"
            assert ("recentAttemptTime" not in item) is waits
            assert ("nextAttemptTime" in item) is waits
