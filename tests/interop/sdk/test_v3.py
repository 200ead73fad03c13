"""v3, driven by the SDK to the end: firmware for LwM2M devices, and a cancel."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

from tests.interop.images import VERSION
from tests.interop.sdk.campaigns import (
    DEVICES,
    IDS,
    Case,
    assert_all_were_driven,
    powered,
    refused,
    stock,
    until,
    versions,
)
from tests.interop.sdk.customer import Customer, date, model
from tests.tools.backend.process import BackendProcess
from tools.backend.campaigns.states import CAMPAIGN_FINAL


async def test_v3_firmware(backend: BackendProcess, customer: Customer) -> None:
    case = Case(customer, backend.ready["account"]["name"])
    await stock(backend, "LWM2M")
    [offered] = await case.call(
        "firmware_v3.list_available_firmware", acc=case.account, protocol="LWM2M"
    )
    assert (offered.firmware_name, offered.firmware_to) == ("app", VERSION)
    assert offered.launch_date.date() in (case.today, case.tomorrow)

    async with powered(backend.ready["listeners"]["coap"], "lwm2m") as shard:
        await cancelled_firmware_campaign(case)
        await firmware_campaign(case)
        assert versions(shard) == {VERSION}
        listed = await case.call("account_devices.get_account_device_information", acc=case.account)
        assert [item.device_id for item in listed.device_list] == IDS
        assert {item.firmware for item in listed.device_list} == {VERSION}
        assert {item.protocol for item in listed.device_list} == {"LWM2M"}
    assert_all_were_driven(customer, 3)


def firmware_request(case: Case, ids: list[str], first: datetime.date) -> dict[str, Any]:
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
        auto_assign_license_flag=False,
        auto_add_devices_flag=False,
    )


async def firmware_campaign(case: Case) -> None:
    campaign = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        account_name=case.account,
        body=firmware_request(case, IDS, case.today),
    )
    assert type(campaign).__name__ == "FirmwareCampaign"
    known = {"account_name": case.account, "campaign_id": campaign.id}
    read = partial(case.call, "campaigns_v3.get_campaign_information", **known)
    shown = await until(read, CAMPAIGN_FINAL)
    assert shown.status == "CampaignEnded"
    assert (type(shown).__name__, shown.campaign_name) == ("Campaign", "firmware")
    assert (shown.auto_assign_license_flag, shown.auto_add_devices_flag) == (False, False)
    assert [window.end_time for window in shown.campaign_time_window_list] == [24]
    report = await case.call(
        "software_management_reports_v3.get_campaign_device_status",
        acc=case.account,
        campaign_id=campaign.id,
    )
    assert (report.total_device, report.has_more_data) == (DEVICES, False)
    assert [item.device_id for item in report.device_list] == IDS
    assert {item.status for item in report.device_list} == {"UpgradeSuccess"}
    assert all(item.recent_attempt_time <= item.updated_time for item in report.device_list)
    history = await case.call(
        "software_management_reports_v3.get_campaign_history_by_status",
        acc=case.account,
        campaign_status="CampaignEnded",
    )
    assert [item.id for item in history.campaign_list] == [campaign.id]
    assert type(history.campaign_list[0]).__name__ == "V3CampaignMetaInfo"
    for one in IDS:
        upgrades = await case.call(
            "software_management_reports_v3.get_device_firmware_upgrade_history",
            acc=case.account,
            device_id=one,
        )
        [upgrade] = [item for item in upgrades if item.campaign_id == campaign.id]
        assert (upgrade.status, upgrade.start_date) == ("UpgradeSuccess", case.today)


async def cancelled_firmware_campaign(case: Case) -> None:
    campaign = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        account_name=case.account,
        body=firmware_request(case, IDS[:2], case.tomorrow),
    )
    known = {"account_name": case.account, "campaign_id": campaign.id}
    assert (await case.call("campaigns_v3.cancel_campaign", **known)).success is True
    answer = await refused(case.call("campaigns_v3.cancel_campaign", **known))
    assert (answer.kind, answer.status) == ("FotaV3ResultException", 400)
    shown = await case.call("campaigns_v3.get_campaign_information", **known)
    assert shown.status == "CampaignCancelled"
