"""API v2: the devices of the account and their histories, and the software that is available."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query

from tools.backend.inventory import PAGE, Account, Device
from tools.backend.rest import v2_models as shapes
from tools.backend.rest.common import (
    DeviceIdPath,
    LastSeenDevice,
    device_named,
    last_seen_device,
    page_of,
)
from tools.backend.rest.device_views import DISTRIBUTION_OF, software_on, time_text, upgrade_time
from tools.backend.timing import date_text

if TYPE_CHECKING:
    from tools.backend.backend import Backend

VERSION = 2

PLATFORM = "IoT"
"""`devicePlatformId`; the public pages give no other value. [unverified]"""

PROTOCOL_OF = {"HTTP": "HTTP", "LWM2M": "LWM2M", "OMD-DM": "OMADM", "OMA": "OMADM"}
"""distributionType as the SDK and the pages spell it -> what devices and campaigns have."""

Filter = Annotated[
    shapes.Distribution | None, Query(description="Only devices or software of this type.")
]


def add_routes(
    routes: APIRouter, backend: "Backend", account_named: Callable[..., Awaitable[Account]]
) -> None:
    """The routes of `/devices`, `/software` and of the history of a device."""
    Caller = Annotated[Account, Depends(account_named)]

    def shown(device: Device) -> shapes.V2AccountDevice:
        return shapes.V2AccountDevice(
            deviceId=device.device_id,
            mdn=device.mdn,
            model=device.model,
            make=device.make,
            fotaEligible=True,
            # Whether applications on the device can be upgraded; ours cannot.
            appFotaEligible=False,
            licenseAssigned=backend.licences.holds(device.device_id),
            distributionType=DISTRIBUTION_OF[device.protocol],
            softwareList=[shapes.V2SoftwareInfo(**item) for item in software_on(backend, device)],
            createTime=time_text(device.created),
            upgradeTime=upgrade_time(device),
            updateTime=time_text(device.updated),
            refreshTime=time_text(device.updated),
        )

    @routes.get("/devices/{acc}", operation_id="list_account_devices")
    async def devices(
        account: Caller, lastSeenDeviceId: LastSeenDevice = "0", distributionType: Filter = None
    ) -> shapes.V2AccountDeviceList:
        wanted = None if distributionType is None else PROTOCOL_OF[distributionType]
        page, more = page_of(
            device
            for device in backend.inventory.after(account.name, last_seen_device(lastSeenDeviceId))
            if wanted is None or device.protocol == wanted
        )
        return shapes.V2AccountDeviceList(
            accountName=account.name,
            hasMoreData=more,
            lastSeenDeviceId=page[-1].device_id if more else "0",
            maxPageSize=PAGE,
            deviceList=[shown(device) for device in page],
        )

    @routes.get(
        "/reports/{acc}/devices/{device_id}", operation_id="get_device_firmware_upgrade_history"
    )
    async def history(
        account: Caller, device_id: DeviceIdPath
    ) -> list[shapes.DeviceSoftwareUpgrade]:
        device = device_named(backend, account, device_id)
        return [
            shapes.DeviceSoftwareUpgrade(
                deviceId=device.device_id,
                id=member.campaign.id,
                accountName=account.name,
                softwareName=member.campaign.package,
                startDate=member.campaign.start_date,
                status=member.status,
                reason=member.reason,
            )
            for member in backend.engine.book.members_of(device.name)
            if member.campaign.kind.version == VERSION
        ]

    # Without a filter: what a campaign of this version can bring.
    @routes.get("/software/{acc}", operation_id="list_available_software")
    async def catalogue(
        account: Caller, distributionType: Filter = None
    ) -> list[shapes.SoftwarePackage]:
        wanted = PROTOCOL_OF[distributionType or "HTTP"]
        return [
            shapes.SoftwarePackage(
                softwareName=item.name,
                launchDate=date_text(item.launched),
                releaseNote=item.release_note,
                model=item.model,
                make=item.make,
                distributionType=DISTRIBUTION_OF[item.protocol],
                devicePlatformId=PLATFORM,
            )
            for item in backend.inventory.packages.values()
            if item.account == account.name and item.protocol == wanted
        ]
