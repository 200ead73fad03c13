"""v1, driven by the SDK to the end: firmware for LwM2M and OMA-DM devices."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

from agent.credentials import Credential
from tests.interop.images import VERSION
from tests.interop.sdk.campaigns import (
    DEVICES,
    DM_IDS,
    IDS,
    SPARE,
    Case,
    advance,
    assert_all_were_driven,
    attached,
    begun,
    powered,
    refused,
    stock,
    subscribe,
    until,
    versions,
)
from tests.interop.sdk.customer import Customer, date, model
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

MONTHLY = "TS-HFOTA-MRC"
LICENCES = 2 * DEVICES + 1
DETAILS = "firmware_v1.list_firmware_upgrade_details"
REPORT = "software_management_reports_v1.list_upgrades_for_specified_status"
HISTORY = "software_management_reports_v1.get_device_firmware_upgrade_history"


async def test_v1_firmware(backend: BackendProcess, customer: Customer) -> None:
    case = await begun(backend, customer)
    await stock(backend, "LWM2M", [*IDS, SPARE], "fw-lwm2m")
    accounts = await stock(backend, "OMADM", DM_IDS, "fw-omadm")
    offered = await case.call("firmware_v1.list_available_firmware")
    assert {item.firmware_name for item in offered} == {"fw-lwm2m", "fw-omadm"}
    assert {(item.from_version, item.to_version) for item in offered} == {("1.0.0", VERSION)}

    await subscribe(backend, MONTHLY, LICENCES)
    async with listening(case, 1) as inbox:
        await licensed(case)
        async with powered(backend.ready["listeners"]["coap"], "lwm2m") as shard:
            finished = await lwm2m_upgrade(case, inbox)
            assert versions(shard) == {VERSION}
        await cancelled_upgrade(case)
        await omadm_upgrade(case, backend, accounts, inbox)
    await reports(case, finished)
    await given_back(case)
    assert_all_were_driven(customer, 1)


async def licensed(case: Case) -> None:
    """Everybody but one; who has none is rejected, with that for a reason."""
    assert await subscription(case, 1) == (MONTHLY, LICENCES, 0)
    wanted = [*IDS[1:], *DM_IDS, SPARE]
    assert set(await assign(case, 1, wanted)) == {"LicenseAssignSuccess"}
    rejected = await schedule(case, "fw-lwm2m", IDS[:1], case.today)
    shown = await until(partial(case.call, DETAILS, upgrade_id=rejected.id), {"RequestFailed"})
    assert [item.status for item in shown.device_list] == ["Device Rejected"]
    assert [item.result_reason for item in shown.device_list] == ["No license attached to device"]
    # The thirteenth is the last one.
    assert await assign(case, 1, [IDS[0]]) == ["LicenseAssignSuccess"]
    assert sorted(await holders(case, 1)) == sorted([*IDS, *DM_IDS, SPARE])
    assert await subscription(case, 1) == (MONTHLY, LICENCES, LICENCES)


async def schedule(case: Case, package: str, ids: list[str], first: datetime.date) -> Any:
    return await case.call(
        "firmware_v1.schedule_firmware_upgrade",
        body=model(
            "FirmwareUpgradeRequest",
            account_name=case.account,
            firmware_name=package,
            firmware_to=VERSION,
            start_date=date(str(first)),
            end_date=date(str(case.last)),
            device_list=ids,
        ),
    )


async def lwm2m_upgrade(case: Case, inbox: Inbox) -> str:
    """For today: it begins at once."""
    made = await schedule(case, "fw-lwm2m", IDS, case.today)
    assert (made.status, made.firmware_to) == ("RequestPending", VERSION)
    read = partial(case.call, DETAILS, upgrade_id=made.id)
    shown = await until(read, {"Finished"})
    assert {item.device_id: item.status for item in shown.device_list} == dict.fromkeys(
        IDS, "UpgradeSuccess"
    )
    await inbox.told(made.id, "Finished", IDS)
    announced = [one for one in inbox.messages if one["type"] == "upgradeScheduled"]
    assert made.id in [one["upgradeScheduled"]["upgradeId"] for one in announced]
    cancel = partial(case.call, "firmware_v1.cancel_scheduled_firmware_upgrade")
    answer = await refused(cancel(upgrade_id=made.id))
    assert (answer.kind, answer.status) == ("FotaV1ResultException", 400)
    return str(made.id)


async def cancelled_upgrade(case: Case) -> None:
    """Scheduled for tomorrow, changed, and taken back."""
    made = await schedule(case, "fw-omadm", DM_IDS[:1], case.tomorrow)
    read = partial(case.call, DETAILS, upgrade_id=made.id)
    await until(read, {"Queued"})
    change = partial(case.call, "firmware_v1.update_firmware_upgrade_devices", upgrade_id=made.id)
    request = "FirmwareUpgradeChangeRequest"
    added = await change(body=model(request, mtype="append", device_list=DM_IDS[1:3]))
    assert [item.status for item in added.device_list] == ["AddDeviceSucceed"] * 2
    removed = await change(body=model(request, mtype="remove", device_list=DM_IDS[:1]))
    assert [item.status for item in removed.device_list] == ["RemoveDeviceSucceed"]
    assert [item.device_id for item in (await read()).device_list] == DM_IDS[1:3]
    queued = await case.call(REPORT, upgrade_status="Queued", start_index="0")
    assert [item.id for item in queued.report_list] == [made.id]
    cancelled = await case.call("firmware_v1.cancel_scheduled_firmware_upgrade", upgrade_id=made.id)
    assert cancelled.success is True
    queued = await case.call(REPORT, upgrade_status="Queued", start_index="0")
    assert not queued.report_list


async def omadm_upgrade(
    case: Case, backend: BackendProcess, accounts: tuple[Credential, ...], inbox: Inbox
) -> None:
    """For tomorrow: devices that wait in the operator network are notified at midnight."""
    async with backend.login() as client:
        token = client.headers["Authorization"].removeprefix("Bearer ")
    rest, server = backend.ready["listeners"]["rest"], backend.ready["listeners"]["omadm"]
    options = (("operator", rest), ("operator-token", token), ("cell", "c1"))
    async with powered(
        server, "omadm", DM_IDS, credentials=accounts, options=options, bind="127.0.0.1"
    ) as shard:
        await attached(backend, DM_IDS, "c1")
        made = await schedule(case, "fw-omadm", DM_IDS, case.tomorrow)
        read = partial(case.call, DETAILS, upgrade_id=made.id)
        waiting = await until(read, {"Queued"})
        assert {item.status for item in waiting.device_list} == {"Device Accepted"}
        midnight = datetime.time(tzinfo=datetime.UTC)
        await advance(backend, datetime.datetime.combine(case.tomorrow, midnight))
        shown = await until(read, {"Finished"})
        assert {item.status for item in shown.device_list} == {"UpgradeSuccess"}
        await inbox.told(made.id, "Finished", DM_IDS)
        assert versions(shard) == {VERSION}


async def reports(case: Case, finished: str) -> None:
    """What is left of it all."""
    listed = await case.call(REPORT, upgrade_status="Finished", start_index="0")
    assert [item.status for item in listed.report_list] == ["Finished"] * 2
    assert listed.report_list[0].id == finished
    for one in (IDS[0], DM_IDS[0]):
        [row] = await case.call(HISTORY, device_id=one)
        assert (row.status, row.firmware_from, row.firmware_to) == (
            "UpgradeSuccess",
            "1.0.0",
            VERSION,
        )
    found = await case.call("software_management_reports_v1.list_account_devices", start_index="0")
    firmware = {item.device_id: item.firmware for item in found.device_list}
    assert firmware == {SPARE: "1.0.0", **dict.fromkeys([*IDS, *DM_IDS], VERSION)}
    assert all(item.license_assigned for item in found.device_list)


async def given_back(case: Case) -> None:
    """A licence that has been used stays; the other one is free again."""
    await cancellation_list(case, 1, SPARE, IDS[0])
    assert await remove(case, 1, [SPARE, IDS[0]]) == ["LicenseRemoveSuccess", "LicenseRemoveFailed"]
    assert await subscription(case, 1) == (MONTHLY, LICENCES, LICENCES - 1)
