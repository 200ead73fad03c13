"""v3, driven by the SDK to the end: firmware for LwM2M devices, synchronised, dated, changed."""

from __future__ import annotations

import asyncio
import datetime
from functools import partial
from typing import Any

from tests.interop.images import VERSION
from tests.interop.sdk.campaigns import (
    DAY,
    DEVICES,
    IDS,
    LIMIT,
    SPARE,
    Case,
    advance,
    assert_all_were_driven,
    begun,
    powered,
    refused,
    stock,
    subscribe,
    until,
    versions,
)
from tests.interop.sdk.customer import Customer, date, model
from tests.interop.sdk.office import Inbox, assign, holders, listening, remove, subscription
from tests.tools.backend.process import BackendProcess
from tools.backend.campaigns.states import CAMPAIGN_FINAL

MONTHLY = "TS-HFOTA-MRC"
LICENCES = DEVICES + 1
NOW, LATER = IDS[:3], IDS[3:]
"""Those of the campaign that begins at once, and of the one that is changed first."""


async def test_v3_firmware(backend: BackendProcess, customer: Customer) -> None:
    case = await begun(backend, customer)
    await stock(backend, "LWM2M", [*IDS, SPARE])
    [offered] = await case.call("firmware_v3.list_available_firmware", protocol="LWM2M")
    assert (offered.firmware_name, offered.firmware_to) == ("app", VERSION)
    assert offered.launch_date.date() == case.today

    await subscribe(backend, MONTHLY, LICENCES)
    async with (
        listening(case, 3) as inbox,
        powered(backend.ready["listeners"]["coap"], "lwm2m") as shard,
    ):
        await licensed(case)
        await synchronised(case)
        await cancelled_firmware_campaign(case)
        await aborted_firmware_campaign(case)
        await firmware_campaign(case, inbox)
        await changed_firmware_campaign(case, backend, inbox)
        assert versions(shard) == {VERSION}
        listed = await case.call("account_devices.get_account_device_information")
        assert [item.device_id for item in listed.device_list] == [*IDS, SPARE]
        assert [item.firmware for item in listed.device_list] == [VERSION] * DEVICES + ["1.0.0"]
        assert {item.protocol for item in listed.device_list} == {"LWM2M"}
        assert all(item.license_assigned for item in listed.device_list)
        assert await remove(case, 3, [IDS[0], SPARE]) == [
            "LicenseRemoveFailed",
            "LicenseRemoveSuccess",
        ]
        assert await subscription(case, 3) == (MONTHLY, LICENCES, DEVICES)
    assert_all_were_driven(customer, 3)


async def licensed(case: Case) -> None:
    """One is left for `auto_assign_license_flag` to license."""
    assert await subscription(case, 3) == (MONTHLY, LICENCES, 0)
    assert await assign(case, 3, [*IDS[1:], SPARE]) == ["LicenseAssignSuccess"] * DEVICES
    assert sorted(await holders(case, 3)) == [*IDS[1:], SPARE]


async def synchronised(case: Case) -> None:
    """Firmware read off living devices, at once and later; one that never came is not reachable."""
    read = await case.call(
        "firmware_v3.synchronize_device_firmware",
        body=model("FirmwareIMEI", device_list=[IDS[0], SPARE]),
    )
    first, absent = read.device_firmwar_version_list
    assert (first.device_id, first.status, first.firmware_version) == (
        IDS[0],
        "FirmwareVersionUpdateSuccess",
        "1.0.0",
    )
    assert (absent.device_id, absent.status) == (SPARE, "FirmwareVersionUpdateFailed")
    assert absent.reason == "The network reports the device is not reachable."
    asked = await case.call("firmware_v3.report_device_firmware", device_id=IDS[1])
    assert asked.request_id
    async with asyncio.timeout(LIMIT):
        while True:
            found = await case.call(
                "account_devices.list_account_devices_information",
                body=model("DeviceIMEI", device_list=[IDS[1]]),
            )
            [device] = found.device_list
            if device.request_status == "Success":
                break
            await asyncio.sleep(0.1)
    assert (device.device_id, device.firmware, found.device_count) == (IDS[1], "1.0.0", 1)


def firmware_request(
    case: Case, ids: list[str], first: datetime.date, *, auto_assign: bool = False
) -> dict[str, Any]:
    return model(
        "CampaignFirmwareUpgrade",
        campaign_name="firmware",
        firmware_name="app",
        firmware_from="1.0.0",
        firmware_to=VERSION,
        protocol="LWM2M",
        start_date=date(str(first)),
        end_date=date(str(case.last)),
        campaign_time_window_list=[model("V3TimeWindow", start_time=0, end_time=24)],
        device_list=ids,
        auto_assign_license_flag=auto_assign,
        auto_add_devices_flag=False,
    )


async def firmware_campaign(case: Case, inbox: Inbox) -> None:
    """For today: it begins at once, and licenses the device that has no licence."""
    campaign = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        body=firmware_request(case, NOW, case.today, auto_assign=True),
    )
    assert type(campaign).__name__ == "FirmwareCampaign"
    known = {"campaign_id": campaign.id}
    read = partial(case.call, "campaigns_v3.get_campaign_information", **known)
    shown = await until(read, CAMPAIGN_FINAL)
    assert shown.status == "CampaignEnded"
    assert (type(shown).__name__, shown.campaign_name) == ("Campaign", "firmware")
    assert (shown.auto_assign_license_flag, shown.auto_add_devices_flag) == (True, False)
    assert [window.end_time for window in shown.campaign_time_window_list] == [24]
    report = await case.call(
        "software_management_reports_v3.get_campaign_device_status",
        campaign_id=campaign.id,
    )
    assert (report.total_device, report.has_more_data) == (len(NOW), False)
    assert [item.device_id for item in report.device_list] == NOW
    assert {item.status for item in report.device_list} == {"UpgradeSuccess"}
    assert all(item.recent_attempt_time <= item.updated_time for item in report.device_list)
    history = await case.call(
        "software_management_reports_v3.get_campaign_history_by_status",
        campaign_status="CampaignEnded",
    )
    assert [item.id for item in history.campaign_list] == [campaign.id]
    assert type(history.campaign_list[0]).__name__ == "V3CampaignMetaInfo"
    for one in NOW:
        upgrades = await case.call(
            "software_management_reports_v3.get_device_firmware_upgrade_history",
            device_id=one,
        )
        [upgrade] = [item for item in upgrades if item.campaign_id == campaign.id]
        assert (upgrade.status, upgrade.start_date) == ("UpgradeSuccess", case.today)
    await inbox.told(campaign.id, "CampaignEnded", NOW)


async def changed_firmware_campaign(case: Case, backend: BackendProcess, inbox: Inbox) -> None:
    """For tomorrow, then for the day after; with other devices than at first."""
    campaign = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        body=firmware_request(case, [LATER[0], SPARE], case.tomorrow),
    )
    known = {"campaign_id": campaign.id}
    read = partial(case.call, "campaigns_v3.get_campaign_information", **known)
    await until(read, {"CampaignPreScheduled"})
    change = partial(case.call, "campaigns_v3.update_campaign_firmware_devices", **known)
    request = "V3AddOrRemoveDeviceRequest"
    added = await change(body=model(request, mtype="append", device_list=LATER))
    assert [item.status for item in added.device_list] == [
        "AddDeviceFailed",  # it is in already
        "AddDeviceSucceed",
        "AddDeviceSucceed",
    ]
    removed = await change(body=model(request, mtype="remove", device_list=[SPARE]))
    assert [item.status for item in removed.device_list] == ["RemoveDeviceSucceed"]
    first = case.tomorrow + DAY
    window = model("V3TimeWindow", start_time=1, end_time=23)
    dated = await case.call(
        "campaigns_v3.update_campaign_dates",
        **known,
        body=model(
            "V3ChangeCampaignDatesRequest",
            start_date=date(str(first)),
            end_date=date(str(case.last + DAY)),
            campaign_time_window_list=[window],
        ),
    )
    assert (dated.start_date, dated.end_date) == (first, case.last + DAY)
    assert [item.start_time for item in dated.campaign_time_window_list] == [1]
    hour = datetime.time(1, tzinfo=datetime.UTC)
    await advance(backend, datetime.datetime.combine(first, hour))
    assert (await until(read, CAMPAIGN_FINAL)).status == "CampaignEnded"
    report = await case.call("software_management_reports_v3.get_campaign_device_status", **known)
    assert {item.device_id: item.status for item in report.device_list} == dict.fromkeys(
        LATER, "UpgradeSuccess"
    )
    assert {item.recent_attempt_time.date() for item in report.device_list} == {first}
    await inbox.told(campaign.id, "CampaignEnded", LATER)


async def cancelled_firmware_campaign(case: Case) -> None:
    campaign = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        body=firmware_request(case, LATER[:2], case.tomorrow),
    )
    known = {"campaign_id": campaign.id}
    assert (await case.call("campaigns_v3.cancel_campaign", **known)).success is True
    answer = await refused(case.call("campaigns_v3.cancel_campaign", **known))
    assert (answer.kind, answer.status) == ("FotaV3ResultException", 400)
    shown = await case.call("campaigns_v3.get_campaign_information", **known)
    assert shown.status == "CampaignCancelled"


async def aborted_firmware_campaign(case: Case) -> None:
    """It has started and waits for a device that never comes; nobody is asked any more then."""
    campaign = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        body=firmware_request(case, [SPARE], case.today),
    )
    known = {"campaign_id": campaign.id}
    read = partial(case.call, "campaigns_v3.get_campaign_information", **known)
    await until(read, {"CampaignScheduled"})
    report = partial(
        case.call, "software_management_reports_v3.get_campaign_device_status", **known
    )
    [waiting] = (await report()).device_list
    assert waiting.recent_attempt_time is None
    assert waiting.result_reason == "The network reports the device is not reachable."
    assert (await case.call("campaigns_v3.cancel_campaign", **known)).success is True
    assert (await until(read, CAMPAIGN_FINAL)).status == "CampaignAborted"
    [left] = (await report()).device_list
    assert (left.device_id, left.status) == (SPARE, "CampaignAborted")
