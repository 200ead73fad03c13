"""The JSON shapes of licences and subscriptions in all three versions, by the names of the SDK."""

from __future__ import annotations

from typing import Literal

from tools.backend.rest.fields import DeviceIds, Shape
from tools.backend.rest.v1_models import V1DeviceListItem
from tools.backend.rest.v2_models import V2DeviceStatus
from tools.backend.rest.v3_models import V3DeviceStatus

ListType = Literal["append", "replace"]
"""What to do with a cancellation list. Only `append` is documented; to leave it out is to replace,
and to say so is read too (ours)."""


class _Subscription(Shape):
    accountName: str
    purchaseType: str
    licenseCount: int
    licenseUsedCount: int
    updateTime: str


class _ListRequest(Shape):
    type: ListType | None = None
    deviceList: DeviceIds


class _ListResult(Shape):
    count: int
    deviceList: list[str]


class _List(_ListResult):
    hasMoreData: bool
    updateTime: str


class _LicenceDevice(Shape):
    deviceId: str
    assignmentTime: str


# -- v1 ---


class V1AccountSubscription(_Subscription):
    """What the account has subscribed to."""


class AccountLicenseDeviceListItem(_LicenceDevice):
    """A device that has a licence."""


class AccountLicenseInfo(Shape):
    accountName: str
    totalLicenses: int
    assignedLicenses: int
    hasMoreData: bool
    lastSeenDeviceId: int
    """The startIndex of the next request [SDK]; 0 at the end."""
    deviceList: list[AccountLicenseDeviceListItem]


class V1LicensesAssignedRemovedRequest(Shape):
    deviceList: DeviceIds


class V1LicensesAssignedRemovedResult(Shape):
    accountName: str
    licCount: int
    licUsedCount: int
    deviceList: list[V1DeviceListItem]


class V1ListOfLicensesToRemoveRequest(_ListRequest):
    """The devices whose licences go first."""


class V1ListOfLicensesToRemoveResult(_ListResult):
    """The list as it is now."""


class V1ListOfLicensesToRemove(_List):
    """A page of the list."""


# -- v2 ---


class FotaV2Subscription(_Subscription):
    """The same; what is used counts HTTP devices."""


class V2LicenseDevice(_LicenceDevice):
    """A device that has a licence."""


class V2LicenseSummary(Shape):
    accountName: str
    # In the singular, unlike v1's and v3's.
    totalLicense: int
    assignedLicenses: int
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V2LicenseDevice]


class V2LicenseIMEI(Shape):
    # The path names the account; this one is not looked at.
    accountName: str | None = None
    deviceList: DeviceIds


class V2LicensesAssignedRemovedResult(Shape):
    accountName: str
    licTotalCount: int
    licUsedCount: int
    deviceList: list[V2DeviceStatus]


class V2ListOfLicensesToRemoveRequest(_ListRequest):
    # How many there are; the list itself says it too.
    count: int | None = None


class V2ListOfLicensesToRemoveResult(_ListResult):
    """The list as it is now."""


class V2ListOfLicensesToRemove(_List):
    """A page of the list."""


# -- v3 ---


class FotaV3Subscription(_Subscription):
    """What the account has subscribed to."""


class V3LicenseDevice(_LicenceDevice):
    """A device that has a licence."""


class V3LicenseSummary(Shape):
    accountName: str
    totalLicenses: int
    assignedLicenses: int
    hasMoreData: bool
    lastSeenDeviceId: str
    maxPageSize: int
    deviceList: list[V3LicenseDevice]


class V3LicenseIMEI(Shape):
    deviceList: DeviceIds


class V3LicenseDeviceStatus(V3DeviceStatus):
    Reason: str
    """The reason again: the SDK reads `resultReason`, the documentation's table has this."""


class V3LicenseAssignedRemovedResult(Shape):
    accountName: str
    licCount: int
    licTotalCount: int
    """The same number again, by the name that the documentation's table has."""
    licUsedCount: int
    deviceList: list[V3LicenseDeviceStatus]
