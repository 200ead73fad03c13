"""v2, driven by the SDK to the end: software and files for HTTP devices, their logs, a cancel."""

from __future__ import annotations

import asyncio
import datetime
from functools import partial
from pathlib import Path

from tests.interop.images import VERSION
from tests.interop.sdk.campaigns import (
    DAY,
    DEVICES,
    IDS,
    LIMIT,
    NOTE,
    SPARE,
    Case,
    assert_all_were_driven,
    begun,
    powered,
    refused,
    stock,
    subscribe,
    until,
    versions,
)
from tests.interop.sdk.customer import Customer, date, model, upload
from tests.interop.sdk.office import (
    Inbox,
    assign,
    cancellation_list,
    holders,
    listening,
    remove,
    subscription,
)
from tests.tools.backend.process import BackendProcess
from tools.backend.campaigns.states import CAMPAIGN_FINAL
from tools.fleet.shard import Shard

CONTENT = b'{"apn": "internet"}\n'
MONTHLY = "TS-HFOTA-MRC"
LICENCES = DEVICES + 1
FILE = "configfile-fotilla_virtual_apn.json"


async def test_v2_software_files_and_logs(
    backend: BackendProcess, customer: Customer, tmp_path: Path
) -> None:
    case = await begun(backend, customer)
    credentials = (await stock(backend, "HTTP", [*IDS, SPARE]))[:DEVICES]
    [offered] = await case.call(
        "software_management_reports_v2.list_available_software",
        distribution_type="HTTP",
    )
    assert (offered.software_name, offered.release_note) == ("app", NOTE)
    assert (offered.make, offered.model) == ("fotilla", "virtual")
    assert offered.launch_date == case.today

    await subscribe(backend, MONTHLY, LICENCES)
    await switch_logging(case)
    server = backend.ready["listeners"]["http"]
    options = (("interval", "1"),)
    async with (
        listening(case, 2) as inbox,
        powered(server, "http", credentials=credentials, options=options) as shard,
    ):
        await licensed(case)
        # First, and they leave the devices free for the others.
        await cancelled_campaigns(case)
        await changed_campaign(case)
        await software_campaign(case, shard, inbox)
        await file_campaign(case, tmp_path, inbox)
        await what_devices_left(case)
        await devices_and_licences(case)
    assert_all_were_driven(customer, 2)


async def licensed(case: Case) -> None:
    assert await subscription(case, 2) == (MONTHLY, LICENCES, 0)
    assert await assign(case, 2, [*IDS, SPARE]) == ["Success"] * LICENCES
    assert await assign(case, 2, [SPARE]) == ["Success"]  # preexisting, counted once
    assert sorted(await holders(case, 2)) == [*IDS, SPARE]
    await cancellation_list(case, 2, SPARE, IDS[0])


async def devices_and_licences(case: Case) -> None:
    """What the campaigns have left behind."""
    listed = await case.call(
        "software_management_reports_v2.list_account_devices",
        last_seen_device_id="0",
        distribution_type="HTTP",
    )
    assert [item.device_id for item in listed.device_list] == [*IDS, SPARE]
    upgraded = {(one.name, one.version) for one in listed.device_list[0].software_list}
    assert upgraded == {("app", VERSION)}
    assert [one.version for one in listed.device_list[-1].software_list] == ["1.0.0"]
    history = await case.call(
        "software_management_reports_v2.get_device_firmware_upgrade_history", device_id=IDS[0]
    )
    done = [item.software_name for item in history if item.status == "UpgradeSuccess"]
    assert sorted(done) == sorted(["app", FILE])
    assert await remove(case, 2, [SPARE, IDS[0]]) == ["Success", "Failure"]
    assert await subscription(case, 2) == (MONTHLY, LICENCES, DEVICES)


async def switch_logging(case: Case) -> None:
    """On for four devices and off again for three: the first one is left."""
    first, second, third, fourth = IDS[:4]
    on = await case.call(
        "client_logging.enable_logging_for_devices",
        body=model("DeviceLoggingRequest", device_ids=[first, second, third]),
    )
    assert [type(item).__name__ for item in on] == ["DeviceLoggingStatus"] * 3
    one = await case.call("client_logging.enable_device_logging", device_id=fourth)
    assert one.device_id == fourth
    assert one.expiry_date == case.today + 7 * DAY
    await case.call("client_logging.disable_device_logging", device_id=fourth)
    await case.call(
        "client_logging.disable_logging_for_devices",
        device_ids=f"{second},{third}",
    )
    listed = await case.call("client_logging.list_devices_with_logging_enabled")
    assert [item.device_id for item in listed] == [first]


async def software_campaign(case: Case, shard: Shard, inbox: Inbox) -> None:
    campaign = await case.call(
        "campaigns_v2.schedule_campaign_firmware_upgrade",
        body=model(
            "CampaignSoftwareUpgrade",
            campaign_name="software",
            software_name="app",
            software_from="1.0.0",
            software_to=VERSION,
            distribution_type="HTTP",
            start_date=date(str(case.today)),
            end_date=date(str(case.last)),
            download_after_date=date(str(case.today)),
            download_time_window_list=[model("V2TimeWindow", start_time=0, end_time=24)],
            install_time_window_list=[model("V2TimeWindow", start_time=0, end_time=24)],
            device_list=IDS,
        ),
    )
    assert (type(campaign).__name__, campaign.software_to) == ("CampaignSoftware", VERSION)
    assert (campaign.start_date, campaign.end_date) == (case.today, case.last)
    assert campaign.download_after_date == case.today
    assert [window.end_time for window in campaign.install_time_window_list] == [24]

    read = partial(
        case.call,
        "campaigns_v2.get_campaign_information",
        campaign_id=campaign.id,
    )
    assert (await until(read, CAMPAIGN_FINAL)).status == "CampaignEnded"
    assert versions(shard) == {VERSION}
    report = await case.call(
        "software_management_reports_v2.get_campaign_device_status",
        campaign_id=campaign.id,
    )
    assert (report.total_device, report.has_more_data) == (DEVICES, False)
    assert [item.device_id for item in report.device_list] == IDS
    assert {item.status for item in report.device_list} == {"UpgradeSuccess"}
    assert {item.result_reason for item in report.device_list} == {"DownloadInstallSucceeded"}
    history = await case.call(
        "software_management_reports_v2.get_campaign_history_by_status",
        campaign_status="CampaignEnded",
    )
    assert [item.id for item in history.campaign_list] == [campaign.id]
    assert type(history.campaign_list[0]).__name__ == "V2CampaignMetaInfo"
    await inbox.told(campaign.id, "CampaignEnded", IDS)


async def file_campaign(case: Case, folder: Path, inbox: Inbox) -> None:
    (folder / "apn.json").write_bytes(CONTENT)
    stored = await case.call(
        "configuration_files.upload_config_file",
        fileupload=upload(folder / "apn.json"),
        file_version="3",
        make="fotilla",
        model="virtual",
        local_target_path="/etc/apn.json",
    )
    assert (stored.file_name, stored.local_target_path) == (FILE, "/etc/apn.json")
    listed = await case.call("configuration_files.get_list_of_files", distribution_type="HTTP")
    [file] = listed.available_files_response
    assert (file.file_name, file.file_version) == (FILE, "3")
    window = model("DownloadTimeWindow", start_time="0", end_time="24")
    campaign = await case.call(
        "campaigns_v2.schedule_file_upgrade",
        body=model(
            "UploadAndScheduleFileRequest",
            campaign_name="file",
            file_name=FILE,
            file_version="3",
            distribution_type="HTTP",
            start_date=str(case.today),
            end_date=str(case.last),
            download_time_window_list=[window],
            device_list=IDS,
        ),
    )
    assert (campaign.file_name, campaign.file_version) == (FILE, "3")
    assert (campaign.device_list, campaign.start_date) == (IDS, str(case.today))
    assert [item.end_time for item in campaign.download_time_window_list] == ["24"]
    read = partial(
        case.call,
        "campaigns_v2.get_campaign_information",
        campaign_id=campaign.id,
    )
    assert (await until(read, CAMPAIGN_FINAL)).status == "CampaignEnded"
    report = await case.call(
        "software_management_reports_v2.get_campaign_device_status",
        campaign_id=campaign.id,
    )
    assert [item.status for item in report.device_list] == ["UpgradeSuccess"] * DEVICES
    await inbox.told(campaign.id, "CampaignEnded", IDS)


async def what_devices_left(case: Case) -> None:
    """Only the device whose logging is on has sent logs; all of them have checked in."""
    async with asyncio.timeout(LIMIT):
        while not (logs := await case.call("client_logging.list_device_logs", device_id=IDS[0])):
            await asyncio.sleep(0.2)
    assert {log.device_id for log in logs} == {IDS[0]}
    # The time is the device's, whose clock is the machine's and not the backend's.
    now = datetime.datetime.now(datetime.UTC)
    assert all(abs((now - log.log_time).total_seconds()) < 10 * LIMIT for log in logs)
    assert "leave to install" in "".join(log.event_log for log in logs)
    assert all(log.log_type for log in logs)
    silent = await case.call("client_logging.list_device_logs", device_id=IDS[1])
    assert silent == []
    for one in IDS:
        check_ins = await case.call("server_logging.get_device_check_in_history", device_id=one)
        # After each boot, of which there are two, and after each of two final reports.
        assert len(check_ins) >= 4
        assert {item.device_id for item in check_ins} == {one}
        assert {item.client_type for item in check_ins} == {"RovaClient"}
        times = [item.time_completed for item in check_ins]
        assert times == sorted(times, reverse=True)


async def changed_campaign(case: Case) -> None:
    """Scheduled for tomorrow, changed in its devices and dates, and taken back."""
    campaign = await case.call(
        "campaigns_v2.schedule_campaign_firmware_upgrade",
        body=model(
            "CampaignSoftwareUpgrade",
            software_name="app",
            software_from="1.0.0",
            software_to=VERSION,
            distribution_type="HTTP",
            start_date=date(str(case.tomorrow)),
            end_date=date(str(case.last)),
            device_list=IDS[:2],
        ),
    )
    known = {"campaign_id": campaign.id}
    read = partial(case.call, "campaigns_v2.get_campaign_information", **known)
    await until(read, {"CampaignRequestQueued"})
    change = partial(case.call, "campaigns_v2.update_campaign_firmware_devices", **known)
    request = "V2AddOrRemoveDeviceRequest"
    added = await change(body=model(request, mtype="append", device_list=IDS[2:4]))
    assert (added.campaign_id, bool(added.request_id)) == (campaign.id, True)
    await change(body=model(request, mtype="remove", device_list=IDS[:1]))
    report = await case.call("software_management_reports_v2.get_campaign_device_status", **known)
    assert [item.device_id for item in report.device_list] == IDS[1:4]
    dated = await case.call(
        "campaigns_v2.update_campaign_dates",
        **known,
        body=model(
            "V2ChangeCampaignDatesRequest",
            start_date=date(str(case.tomorrow)),
            end_date=date(str(case.tomorrow)),
            download_after_date=date(str(case.tomorrow)),
            download_time_window_list=[model("V2TimeWindow", start_time=2, end_time=5)],
        ),
    )
    assert (dated.end_date, dated.download_after_date) == (case.tomorrow, case.tomorrow)
    assert [item.start_time for item in dated.download_time_window_list] == [2]
    assert (await case.call("campaigns_v2.cancel_campaign", **known)).success is True


async def cancelled_campaigns(case: Case) -> None:
    """One is cancelled before its start; one is aborted while its devices wait for a window."""
    hour = (case.start.hour + 2) % 24
    closed = model("DownloadTimeWindow", start_time=str(hour), end_time=str(hour + 1))
    for first, before, after in (
        (case.tomorrow, "CampaignRequestQueued", "CampaignCancelled"),
        (case.today, "CampaignScheduled", "CampaignAborted"),
    ):
        campaign = await case.call(
            "campaigns_v2.schedule_sw_upgrade_http_devices",
            body=model(
                "SchedulesSoftwareUpgradeRequest",
                software_name="app",
                software_from="1.0.0",
                software_to=VERSION,
                distribution_type="HTTP",
                start_date=str(first),
                end_date=str(case.last),
                download_time_window_list=[closed],
                device_list=IDS,
            ),
        )
        assert type(campaign).__name__ == "UploadAndScheduleFileResponse"
        known = {"campaign_id": campaign.id}
        read = partial(case.call, "campaigns_v2.get_campaign_information", **known)
        await until(read, {before})
        assert (await case.call("campaigns_v2.cancel_campaign", **known)).success is True
        answer = await refused(case.call("campaigns_v2.cancel_campaign", **known))
        assert (answer.kind, answer.status) == ("FotaV2ResultException", 400)
        assert (await read()).status == after
