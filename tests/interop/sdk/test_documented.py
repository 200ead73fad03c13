"""The documented timing, seen through the SDK: lead times, and v1's status published once a day.

The devices are real and as quick as ever; the clock is moved by the administrator.
"""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.interop.images import VERSION
from tests.interop.sdk.campaigns import (
    IDS,
    LIMIT,
    Case,
    advance,
    begun,
    powered,
    stock,
    until,
)
from tests.interop.sdk.customer import date, model, running_sdk
from tests.tools.backend.process import BackendProcess
from tools.backend.campaigns.states import CAMPAIGN_FINAL

PILOT, REST = IDS[:3], IDS[3:]
ANY = "127.0.0.1:0"
FOTILLA = Path(sys.executable).parent / "fotilla"


class DocumentedBackend(BackendProcess):
    """`fotilla backend` as somebody starts it who says nothing of its timing."""

    def launch(self, ready: Path) -> subprocess.Popen[bytes]:
        listeners = ("rest", "admin", "coap", "http", "omadm")
        places = [word for name in listeners for word in (f"--{name}", ANY)]
        files = ["--database", self.database, "--ready-file", str(ready)]
        return self.run(str(FOTILLA), "backend", *places, *files)


async def test_lead_times_and_the_day_of_v1(tmp_path: Path, interpreter: Path) -> None:
    backend = DocumentedBackend(tmp_path)
    try:
        await backend.start()
        account, rest = backend.ready["account"], backend.ready["listeners"]["rest"]
        await stock(backend, "LWM2M")
        async with (
            running_sdk(interpreter, rest, account["name"], account["secret"]) as customer,
            powered(backend.ready["listeners"]["coap"], "lwm2m"),
        ):
            await customer.log_in(account["name"], account["secret"])
            case = await begun(backend, customer)
            await pilot(case, backend)
            await daily(case, backend)
        assert backend.interrupt() == 0
        assert "Traceback" not in (tmp_path / "stderr").read_text()
    finally:
        backend.kill()


async def firmware(case: Case) -> dict[str, str]:
    """What the device list says at this moment."""
    listed = await case.call("account_devices.get_account_device_information")
    return {item.device_id: item.firmware for item in listed.device_list}


async def pilot(case: Case, backend: BackendProcess) -> None:
    """v3 for today, small: it begins within ten minutes (ours), and shows every change at once."""
    made = await case.call(
        "campaigns_v3.schedule_campaign_firmware_upgrade",
        body=model(
            "CampaignFirmwareUpgrade",
            firmware_name="app",
            firmware_from="1.0.0",
            firmware_to=VERSION,
            protocol="LWM2M",
            start_date=date(str(case.today)),
            end_date=date(str(case.last)),
            device_list=PILOT,
            auto_assign_license_flag=False,
            auto_add_devices_flag=False,
        ),
    )
    read = partial(case.call, "campaigns_v3.get_campaign_information", campaign_id=made.id)
    await until(read, {"CampaignPreScheduled"})
    assert set((await firmware(case)).values()) == {"1.0.0"}
    await advance(backend, case.start + datetime.timedelta(minutes=11))
    assert (await until(read, CAMPAIGN_FINAL)).status == "CampaignEnded"
    report = await case.call(
        "software_management_reports_v3.get_campaign_device_status", campaign_id=made.id
    )
    assert {item.status for item in report.device_list} == {"UpgradeSuccess"}


async def daily(case: Case, backend: BackendProcess) -> None:
    """v1 for today: it begins 90 minutes later. The upgrade is live, its devices are not."""
    made = await case.call(
        "firmware_v1.schedule_firmware_upgrade",
        body=model(
            "FirmwareUpgradeRequest",
            account_name=case.account,
            firmware_name="app",
            firmware_to=VERSION,
            start_date=date(str(case.today)),
            end_date=date(str(case.last)),
            device_list=REST,
        ),
    )
    read = partial(case.call, "firmware_v1.list_firmware_upgrade_details", upgrade_id=made.id)
    await until(read, {"Queued"})
    await advance(backend, case.start + datetime.timedelta(minutes=95))
    assert (await read()).status == "Queued"
    await advance(backend, case.start + datetime.timedelta(minutes=105))
    shown = await until(read, {"Finished"})
    async with asyncio.timeout(LIMIT):
        while set((await firmware(case)).values()) != {VERSION}:
            await asyncio.sleep(0.1)
    history = partial(
        case.call,
        "software_management_reports_v1.get_device_firmware_upgrade_history",
        device_id=REST[0],
    )
    assert {item.status for item in shown.device_list} == {"Device Accepted"}
    assert await history() == []
    await advance(backend, case.start.replace(hour=12, second=1))
    assert {item.status for item in (await read()).device_list} == {"UpgradeSuccess"}
    [row] = await history()
    assert (row.id, row.status) == (made.id, "UpgradeSuccess")
