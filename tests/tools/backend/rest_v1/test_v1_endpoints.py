"""Section 3.1 of the API reference: one test for each endpoint of v1 that is about firmware,
devices, upgrades and reports. Raw HTTP; every field of the SDK's models is there."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.runtime.runtime import Runtime
from tests.tools.backend.api_models import check
from tests.tools.backend.rest_v1.stock import (
    ACCOUNT,
    CAMERA,
    FIRMWARE,
    LAST,
    METER,
    MODEM,
    TODAY,
    TOMORROW,
    Caller,
    add_account,
    device,
    ids,
    request,
    served,
    stock,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, started, virtual
from tools.backend.inventory import MONTHLY_BILLED
from tools.backend.rest import v1_reports
from tools.backend.timing import DAY

UNKNOWN = "990000862471854"
LWM2M = {"firmwareName": FIRMWARE["LWM2M"]}

METHODS = [
    "cancel_scheduled_firmware_upgrade",
    "list_available_firmware",
    "list_firmware_upgrade_details",
    "schedule_firmware_upgrade",
    "update_firmware_upgrade_devices",
    "deregister_callback",
    "list_registered_callbacks",
    "register_callback",
    "assign_licenses_to_devices",
    "create_list_of_licenses_to_remove",
    "delete_list_of_licenses_to_remove",
    "list_licenses_to_remove",
    "remove_licenses_from_devices",
    "get_device_firmware_upgrade_history",
    "list_account_devices",
    "list_upgrades_for_specified_status",
    "get_account_license_status",
    "get_account_subscription_status",
]
"""The operations of v1 in the SDK (section 7.1)."""


@virtual
async def test_get_firmware() -> None:
    async with served() as backend:
        api = Caller(backend)
        found = await api.told("GET", f"/firmware/{ACCOUNT}")
        check("[Firmware]", found, every=True)
        assert found[0] == {
            "firmwareName": "modem-app",
            "participantName": ACCOUNT,
            "launchDate": "2030-01-01T00:00:00.000Z",
            "releaseNote": "",
            "model": "virtual",
            "make": "fotilla",
            "fromVersion": "1.0.0",
            "toVersion": "2.0.0",
            "clientType": "OMADM",
        }
        # What HTTP devices run belongs to v2.
        assert [item["firmwareName"] for item in found] == ["modem-app", "meter-app"]


@virtual
async def test_get_devices() -> None:
    async with served() as backend:
        api = Caller(backend)
        upgraded = device(backend, str(METER))
        upgraded.upgraded, upgraded.mdn = backend.time.now() + 196.079, "0000040881"
        for path in (f"/devices/{ACCOUNT}/index/0", f"/devices/{ACCOUNT}"):
            found = await api.told("GET", path)
            check("DeviceListQueryResult", found, every=True)
            assert found["accountName"] == ACCOUNT
            assert (found["hasMoreData"], found["lastSeenDeviceId"]) == (False, 0)
            modem, _modem, meter, _meter = found["deviceList"]
            assert modem == {
                "deviceId": str(MODEM),
                "mdn": "",
                "model": "virtual",
                "make": "fotilla",
                "firmware": "1.0.0",
                "fotaEligible": True,
                "licenseAssigned": False,
                "upgradeTime": "01/01/1900 0:0:0",
                "clientType": "OMADM",
                "status": "active",
            }
            assert meter["upgradeTime"] == "2030-01-01 00:03:16.079 +0000 UTC"
            assert (meter["mdn"], meter["clientType"]) == ("0000040881", "LWM2M")
        assert str(CAMERA) not in {item["deviceId"] for item in found["deviceList"]}


@rules("BR-025")
@pytest.mark.parametrize(("protocol", "first"), [("OMADM", MODEM), ("LWM2M", METER)])
@virtual
async def test_post_upgrades(protocol: str, first: int) -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade(
            [*ids(first, 2), str(CAMERA), UNKNOWN], firmwareName=FIRMWARE[protocol]
        )
        check("FirmwareUpgrade", made, every=True)
        assert str(uuid.UUID(made["id"])) == made["id"]
        assert made["status"] == "RequestPending"
        assert (made["startDate"], made["endDate"]) == (TOMORROW, LAST)
        assert (made["firmwareName"], made["firmwareTo"]) == (FIRMWARE[protocol], "2.0.0")
        assert [item["deviceId"] for item in made["deviceList"]] == [
            *ids(first, 2),
            str(CAMERA),
            UNKNOWN,
        ]
        await backend.runtime.clock.sleep(1)
        shown = await api.shown(made["id"])
        assert shown["status"] == "Queued"
        assert [item["status"] for item in shown["deviceList"]] == [
            "Device Accepted",
            "Device Accepted",
            "Device Rejected",
            "Device Rejected",
        ]
        assert all(item["resultReason"] for item in shown["deviceList"])


@rules("BR-046")
@virtual
async def test_post_upgrades_of_which_no_device_is_accepted() -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade([UNKNOWN])
        await backend.runtime.clock.sleep(1)
        assert (await api.shown(made["id"]))["status"] == "RequestFailed"
        report = await api.report("RequestFailed")
        assert [item["id"] for item in report["reportList"]] == [made["id"]]


@virtual
async def test_post_upgrades_says_why_a_device_is_rejected() -> None:
    async with served(4) as backend:
        api = Caller(backend)
        licensed, bare, suspended, other = ids(MODEM, 4)
        account = replace(backend.account, purchase_type=MONTHLY_BILLED, licence_count=4)
        backend.inventory.accounts[ACCOUNT] = account
        wanted = [licensed, suspended, other]
        await api.told("POST", f"/licenses/{ACCOUNT}/assign", json={"deviceList": wanted})
        device(backend, suspended).line = "suspend"
        device(backend, other).model = "other"
        # A device that is named twice counts once.
        made = await api.upgrade([licensed, bare, suspended, other, UNKNOWN, licensed])
        await backend.runtime.clock.sleep(1)
        found = (await api.shown(made["id"]))["deviceList"]
        assert [item["deviceId"] for item in found] == [licensed, bare, suspended, other, UNKNOWN]
        assert [item["status"] for item in found] == ["Device Accepted", *["Device Rejected"] * 4]
        reasons = [item["resultReason"] for item in found[1:]]
        for reason, word in zip(reasons, ("icense", "active", "model", "not found"), strict=True):
            assert word in reason
        listed = (await api.told("GET", f"/devices/{ACCOUNT}/index/0"))["deviceList"]
        assert [item["licenseAssigned"] for item in listed[:4]] == [True, False, True, True]


@virtual
async def test_post_upgrades_of_older_clients() -> None:
    """They know no end date, and their start date is an instant."""
    async with served() as backend:
        api = Caller(backend)
        body = request(ids(MODEM, 1), startDate="2030-01-02T01:00:00+02:00")
        del body["endDate"]
        made = await api.told("POST", "/upgrades", json=body)
        assert (made["startDate"], made["endDate"]) == (TODAY, "2030-01-04")
        body["endDate"] = None
        body["startDate"] = "2030-01-02T16:03:00"
        body["deviceList"] = ids(MODEM + 1, 1)
        made = await api.told("POST", "/upgrades", json=body)
        assert (made["startDate"], made["endDate"]) == (TOMORROW, "2030-01-05")


@rules("BR-154")
@virtual
async def test_post_upgrades_whatever_the_content_type() -> None:
    async with served() as backend:
        body = request(ids(MODEM, 1))
        answer = await Caller(backend).send(
            "POST", "/upgrades", json=body, headers={"Content-Type": "*/*"}
        )
        assert answer.status_code == 200


@virtual
async def test_get_an_upgrade() -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 2))
        shown = await api.shown(made["id"])
        check("FirmwareUpgrade", shown, every=True)
        assert shown.keys() == made.keys()
        assert shown["endDate"] == LAST
        # The documentation writes ids in either case.
        assert (await api.shown(made["id"].upper()))["id"] == made["id"]


@rules("BR-058")
@virtual
async def test_put_an_upgrade() -> None:
    async with served(4) as backend:
        api = Caller(backend)
        one, two, three, four = ids(MODEM, 4)
        made = await api.upgrade([one, two])
        await backend.runtime.clock.sleep(1)
        path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
        # The Content-Type of the SDK; the key as the documentation's example has it.
        answer = await api.send(
            "PUT",
            path,
            json={"type": "append", "devicelist": [two, three, four, UNKNOWN]},
            headers={"Content-Type": "*/*"},
        )
        assert answer.status_code == 200, answer.text
        changed = answer.json()
        check("FirmwareUpgradeChangeResult", changed, every=True)
        assert (changed["accountName"], changed["id"]) == (ACCOUNT, made["id"])
        added = {"status": "AddDeviceSucceed", "Reason": "Device added Successfully"}
        again, *good, unknown = changed["deviceList"]
        assert good == [{"deviceId": three, **added}, {"deviceId": four, **added}]
        for item, device in ((again, two), (unknown, UNKNOWN)):
            assert (item["deviceId"], item["status"]) == (device, "AddDeviceFailed")
            assert item["Reason"]
        assert set(await api.statuses(made["id"])) >= {one, two, three, four}
        changed = await api.told(
            "PUT", path, json={"type": "remove", "deviceList": [one, str(METER)]}
        )
        assert [item["status"] for item in changed["deviceList"]] == [
            "RemoveDeviceSucceed",
            "RemoveDeviceFailed",
        ]
        assert one not in await api.statuses(made["id"])
        # A device that was removed is free for another upgrade.
        other = await api.upgrade([one])
        await backend.runtime.clock.sleep(1)
        assert await api.statuses(other["id"]) == {one: "Device Accepted"}


@rules("BR-060")
@virtual
async def test_put_an_upgrade_without_its_last_device() -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 2))
        await backend.runtime.clock.sleep(1)
        path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
        changed = await api.told("PUT", path, json={"type": "remove", "deviceList": ids(MODEM, 2)})
        assert {item["status"] for item in changed["deviceList"]} == {"RemoveDeviceSucceed"}
        assert (await api.report("Queued"))["reportList"] == []
        await api.refused("PUT", path, json={"type": "append", "deviceList": ids(MODEM, 1)})
        await api.refused("DELETE", path)


@rules("BR-049")
@virtual
async def test_delete_an_upgrade() -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 2))
        await backend.runtime.clock.sleep(1)
        path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
        assert await api.told("DELETE", path) == {"success": True}
        assert (await api.report("Queued"))["reportList"] == []
        await api.refused("DELETE", path)
        # Its devices are free.
        other = await api.upgrade(ids(MODEM, 2))
        await backend.runtime.clock.sleep(1)
        assert set((await api.statuses(other["id"])).values()) == {"Device Accepted"}


@rules("BR-050", "BR-057")
@virtual
async def test_an_upgrade_that_has_started_is_not_changed() -> None:
    async with served(3) as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 2), startDate=TODAY)
        await backend.runtime.clock.sleep(1)
        assert (await api.shown(made["id"]))["status"] == "InProgress"
        path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
        await api.refused("PUT", path, json={"type": "append", "deviceList": ids(MODEM + 2, 1)})
        await api.refused("PUT", path, json={"type": "remove", "deviceList": ids(MODEM, 1)})
        await api.refused("DELETE", path)
        assert list(await api.statuses(made["id"])) == ids(MODEM, 2)


@virtual
async def test_get_a_report_by_status() -> None:
    async with served(8) as backend:
        api = Caller(backend)
        queued = [(await api.upgrade(ids(MODEM + number, 1)))["id"] for number in range(3)]
        begun = await api.upgrade(ids(MODEM + 4, 1), startDate=TODAY)
        await backend.runtime.clock.sleep(1)
        report = await api.report("Queued")
        check("UpgradeListQueryResult", report, every=True)
        assert [item["id"] for item in report["reportList"]] == queued
        assert (report["hasMoreFlag"], report["lastSeenUpgradeId"]) == (False, 0)
        assert report["reportList"][0] == await api.shown(queued[0])
        found = (await api.report("InProgress"))["reportList"]
        assert [item["id"] for item in found] == [begun["id"]]
        for status in ("RequestPending", "Finished", "RequestFailed", "UpgradeFailed"):
            assert (await api.report(status))["reportList"] == []


@virtual
async def test_an_upgrade_that_whoever_runs_us_stops_has_failed() -> None:
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade(ids(MODEM, 1), startDate=TODAY)
        await backend.runtime.clock.sleep(1)
        await backend.engine.cancel(backend.engine.book.campaigns[made["id"]], customer=False)
        assert (await api.shown(made["id"]))["status"] == "UpgradeFailed"
        found = (await api.report("UpgradeFailed"))["reportList"]
        assert [item["id"] for item in found] == [made["id"]]


@rules("BR-160")
@virtual
async def test_get_a_report_by_status_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v1_reports, "REPORT_PAGE", 2)
    async with served(5) as backend:
        api = Caller(backend)
        made = [(await api.upgrade([one]))["id"] for one in ids(MODEM, 5)]
        await backend.runtime.clock.sleep(1)
        seen: list[str] = []
        index = 0
        for more, following in ((True, 2), (True, 4), (False, 0)):
            page = await api.report("Queued", index)
            assert (page["hasMoreFlag"], page["lastSeenUpgradeId"]) == (more, following)
            seen += [item["id"] for item in page["reportList"]]
            index = following
        assert seen == made
        assert (await api.report("Queued", 5))["reportList"] == []


@rules("BR-162")
@virtual
async def test_get_a_report_goes_back_six_months(monkeypatch: pytest.MonkeyPatch) -> None:
    assert v1_reports.SIX_MONTHS > 180 * DAY
    monkeypatch.setattr(v1_reports, "SIX_MONTHS", 3 * DAY)
    async with served() as backend:
        api = Caller(backend)
        made = await api.upgrade([UNKNOWN], startDate=TODAY)
        await backend.runtime.clock.sleep(3 * DAY - 60)
        found = (await api.report("RequestFailed"))["reportList"]
        assert [item["id"] for item in found] == [made["id"]]
        await backend.runtime.clock.sleep(120)
        assert (await api.report("RequestFailed"))["reportList"] == []
        # By its id it is found for ever.
        assert (await api.shown(made["id"]))["status"] == "RequestFailed"


@virtual
async def test_get_the_history_of_a_device_that_has_none() -> None:
    async with served() as backend:
        api = Caller(backend)
        await api.upgrade(ids(MODEM, 1))
        assert await api.history(str(MODEM)) == []
        assert await api.told("GET", f"/reports/{ACCOUNT}/device/{MODEM}") == []


@rules("BR-153")
@virtual
async def test_another_account_sees_nothing() -> None:
    async with served() as backend:
        api, other = Caller(backend), Caller(backend, await add_account(backend))
        theirs = other.account.name
        made = await api.upgrade(ids(MODEM, 1))
        assert await other.told("GET", f"/firmware/{theirs}") == []
        assert (await other.told("GET", f"/devices/{theirs}/index/0"))["deviceList"] == []
        assert (await other.report("RequestPending"))["reportList"] == []
        unknown = str(uuid.UUID(int=1))
        for method, sent in (
            ("GET", None),
            ("PUT", {"type": "append", "deviceList": ids(MODEM, 1)}),
            ("DELETE", None),
        ):
            path = f"/upgrades/{theirs}/upgrade/"
            # As if it did not exist.
            assert (
                await other.refused(method, path + made["id"], json=sent)
                == await other.refused(method, path + unknown, json=sent)
                == "Invalid upgradeId"
            )
            # Under its own account it is somebody else's.
            path = f"/upgrades/{ACCOUNT}/upgrade/{made['id']}"
            assert await other.refused(method, path, json=sent) == "Account does not exist"
        nobodys = "9999999999-00001"
        for path in (
            "/firmware/{}",
            "/devices/{}/index/0",
            "/reports/{}/status/Queued/index/0",
            f"/reports/{{}}/devices/{MODEM}",
        ):
            assert await other.refused("GET", path.format(ACCOUNT)) == await other.refused(
                "GET", path.format(nobodys)
            )
        body = request(ids(MODEM, 1))
        assert await other.refused("POST", "/upgrades", json=body) == await other.refused(
            "POST", "/upgrades", json={**body, "accountName": nobodys}
        )
        mine = await other.refused("GET", f"/devices/{theirs}/index/{MODEM}")
        assert mine == await other.refused("GET", f"/devices/{theirs}/index/{UNKNOWN}")
        mine = await other.refused("GET", f"/reports/{theirs}/devices/{MODEM}")
        assert mine == await other.refused("GET", f"/reports/{theirs}/devices/{UNKNOWN}")


@virtual
async def test_a_long_list_is_answered_before_its_devices_are_checked() -> None:
    async with served(1100, timing="documented") as backend:
        api = Caller(backend)
        wanted = [*ids(MODEM, 1100), UNKNOWN]
        made = await api.upgrade(wanted)
        assert {item["status"] for item in made["deviceList"]} == {"RequestPending"}
        await backend.runtime.clock.sleep(1)
        # What the checks find is no change of a status, so nobody waits a day for it.
        found = await api.statuses(made["id"])
        assert found.pop(UNKNOWN) == "Device Rejected"
        assert set(found.values()) == {"Device Accepted"}


@rules("BR-045")
@virtual
async def test_of_two_requests_with_one_device_one_gets_it() -> None:
    async with served() as backend:
        api = Caller(backend)
        both = await asyncio.gather(api.upgrade(ids(MODEM, 1)), api.upgrade(ids(MODEM, 1)))
        await backend.runtime.clock.sleep(1)
        shown = [await api.shown(made["id"]) for made in both]
        assert sorted(item["status"] for item in shown) == ["Queued", "RequestFailed"]
        items = [item["deviceList"][0] for item in shown if item["status"] == "RequestFailed"]
        assert "needs to be completed before another" in items[0]["resultReason"]


@rules("BR-164")
@virtual
async def test_upgrades_outlive_a_restart(tmp_path: Path) -> None:
    config = replace(CONFIG, account=ACCOUNT, db=str(tmp_path / "backend.db"))
    async with Runtime.in_memory(seed=7) as runtime:
        async with started(runtime, config) as backend:
            await stock(backend, 2)
            api = Caller(backend)
            queued = (await api.upgrade(ids(MODEM, 2)))["id"]
            begun = (await api.upgrade(ids(METER, 2), **LWM2M, startDate=TODAY))["id"]
            await runtime.clock.sleep(1)
            before = [await api.shown(queued), await api.shown(begun)]
            assert [item["status"] for item in before] == ["Queued", "InProgress"]
        async with started(runtime, config) as backend:
            api = Caller(backend)
            assert [await api.shown(queued), await api.shown(begun)] == before
            assert (await api.report("Queued"))["reportList"] == before[:1]
            await api.told("DELETE", f"/upgrades/{ACCOUNT}/upgrade/{queued}")


@virtual
async def test_the_document_names_the_methods_of_the_sdk() -> None:
    async with served(0) as backend:
        document = (await Caller(backend).request("GET", "/api/fota/v1/openapi.json")).json()
        methods = [
            operation["operationId"]
            for item in document["paths"].values()
            for operation in item.values()
        ]
        assert sorted(methods) == sorted(METHODS)


@virtual
async def test_nobody_comes_in_without_tokens() -> None:
    async with served(0) as backend:
        transport = Caller(backend).transport
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            document = (await client.get("/api/fota/v1/openapi.json")).json()
            calls = [(method, path) for path, item in document["paths"].items() for method in item]
            assert len(calls) >= 8
            for method, path in calls:
                answer = await client.request(method, path)
                assert answer.status_code == 401, (method, path, answer.text)
