"""Subscriptions, licences and cancellation lists, in the words of each version of the API.

Answers that hold a device for each of the request's are made piece by piece: the documentation
bounds no such request.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response

from tools.backend.inventory import PAGE, Account
from tools.backend.licences.pool import Candidate, Licence, Verdict
from tools.backend.licences.service import Result, check_index
from tools.backend.rest import licence_models as shapes
from tools.backend.rest.body import read_model
from tools.backend.rest.common import NEVER_FIRST, LastSeenDevice, body_of, page_of
from tools.backend.rest.v1_models import FotaV1SuccessResult
from tools.backend.rest.v1_reports import check_offset
from tools.backend.rest.v1_stream import streamed
from tools.backend.rest.v2_models import FotaV2SuccessResult
from tools.backend.timing import rfc3339

if TYPE_CHECKING:
    from tools.backend.backend import Backend

Caller = Callable[..., Awaitable[Account]]
"""The dependency that says whose account it is."""

L = TypeVar("L", bound=shapes.V1ListOfLicensesToRemove | shapes.V2ListOfLicensesToRemove)

HTTP = "HTTP"

GOOD = frozenset({Verdict.ASSIGNED, Verdict.PREEXISTING, Verdict.REMOVED})

# (of a device that went well, of one that did not). The first three are public; the last is
# inferred, and so is that v3 names them like v1.
ASSIGN = ("LicenseAssignSuccess", "LicenseAssignFailed")
REMOVE = ("LicenseRemoveSuccess", "LicenseRemoveFailed")
V2 = ("Success", "Failure")

# Four texts are public: those of the good ones, of an unknown device and of one without a licence.
# Of an upgraded device only the rule is; the other words are ours.
REASONS = {
    Verdict.ASSIGNED: "Success",
    Verdict.PREEXISTING: "Device license preexisting",
    Verdict.REMOVED: "Success",
    Verdict.UNKNOWN_DEVICE: "Device Not Found.",
    Verdict.NOT_LICENSED: "No license attached to device",
    Verdict.POOL_EMPTY: "No license available",
    Verdict.UPGRADED: "Device has been upgraded since the license was assigned",
    Verdict.IN_PROGRESS: "An upgrade of the device is in progress",
}
REASONS_V2 = {**REASONS, Verdict.UNKNOWN_DEVICE: "Device does not exist."}


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def listing(head: Mapping[str, Any], items: Iterable[object]) -> Response:
    """An answer with a `deviceList` of any length."""

    def parts() -> Iterator[str]:
        yield _text(head)[:-1] + ',"deviceList":['
        comma = ""
        for item in items:
            yield comma + _text(item)
            comma = ","
        yield "]}"

    return streamed(parts())


def items_v1(results: Sequence[Result], words: tuple[str, str]) -> Iterator[dict[str, str]]:
    """What became of each device, as `V1DeviceListItem`."""
    for item in results:
        yield {
            "deviceId": item.device_id,
            "status": words[item.verdict not in GOOD],
            "Reason": REASONS[item.verdict],
        }


def items_v2(results: Sequence[Result]) -> Iterator[dict[str, str]]:
    """The same as `V2DeviceStatus`."""
    for item in results:
        yield {
            "deviceId": item.device_id,
            "status": V2[item.verdict not in GOOD],
            "resultReason": REASONS_V2[item.verdict],
        }


def items_v3(
    results: Sequence[Result], words: tuple[str, str], now: float
) -> Iterator[dict[str, str]]:
    """The same as `V3DeviceStatus`, with the reason by both of its names."""
    updated = rfc3339(now)
    for item in items_v1(results, words):
        yield {**item, "resultReason": item["Reason"], "updatedTime": updated}


class _Figures:
    """What the versions say of one account's licences."""

    def __init__(self, backend: "Backend", account: Account) -> None:
        self.licences = backend.licences
        # As it is after a change, not as it was when the request came.
        self.account = backend.inventory.accounts[account.name]

    def subscription(self, protocol: str | None = None) -> dict[str, Any]:
        return {
            "accountName": self.account.name,
            "purchaseType": self.account.purchase_type,
            "licenseCount": self.account.licence_count,
            "licenseUsedCount": self.licences.used(self.account.name, protocol),
            "updateTime": rfc3339(self.account.subscribed),
        }

    def counts(self, *totals: str) -> dict[str, Any]:
        """The beginning of an answer to an assignment or a removal."""
        return {
            "accountName": self.account.name,
            **dict.fromkeys(totals, self.account.licence_count),
            "licUsedCount": self.licences.used(self.account.name),
        }

    def page(self, last_seen: str) -> tuple[list[Licence], dict[str, Any]]:
        """A page of v2 or v3, and what stands beside it; the licences in order of assignment."""
        name = self.account.name
        if last_seen in NEVER_FIRST:
            page, more = page_of(self.licences.from_index(name, 0))
        else:
            page, more = page_of(self.licences.after(name, last_seen))
        if more:
            self.licences.mark(page[-1])
        return page, {
            "accountName": name,
            "assignedLicenses": self.licences.used(name),
            "hasMoreData": more,
            "lastSeenDeviceId": page[-1].device_id if more else "0",
            "maxPageSize": PAGE,
        }

    def candidates(self, model: type[L], text: str) -> L:
        """A page of the cancellation list from a record on. Raises RequestRefused."""
        index = check_offset(text)
        listed = self.licences.candidates(self.account)
        check_index(index, len(listed))
        page, more = page_of(islice(listed, index, None))
        return model(
            count=len(listed), hasMoreData=more, updateTime=self._updated(listed), deviceList=page
        )

    def _updated(self, listed: Mapping[str, Candidate]) -> str:
        """When the list got an entry last. A list that is empty says when the subscription began:
        the SDK wants a time there, and nothing public says which; ours."""
        newest = max((item.listed for item in listed.values()), default=self.account.subscribed)
        return rfc3339(newest)


async def _listed(
    backend: "Backend",
    account: Account,
    asked: shapes.V1ListOfLicensesToRemoveRequest | shapes.V2ListOfLicensesToRemoveRequest,
) -> Response:
    """Change the cancellation list and answer with it as it is now."""
    listed = await backend.licences.list_candidates(
        account, asked.deviceList, append=asked.type == "append"
    )
    return listing({"count": len(listed)}, listed)


def add_v1(routes: APIRouter, backend: "Backend", caller: Caller) -> None:
    """The routes of v1."""
    Owner = Annotated[Account, Depends(caller)]

    @routes.get("/subscriptions/{acc}", operation_id="get_account_subscription_status")
    async def subscription(account: Owner) -> shapes.V1AccountSubscription:
        return shapes.V1AccountSubscription(**_Figures(backend, account).subscription())

    @routes.get("/licenses/{acc}/index/{start_index}", operation_id="get_account_license_status")
    async def licences(account: Owner, start_index: str) -> shapes.AccountLicenseInfo:
        index = check_offset(start_index)
        page, more = page_of(backend.licences.from_index(account.name, index))
        if more:
            backend.licences.mark_index(index + PAGE, page[-1])
        return shapes.AccountLicenseInfo(
            accountName=account.name,
            totalLicenses=account.licence_count,
            assignedLicenses=backend.licences.used(account.name),
            hasMoreData=more,
            lastSeenDeviceId=index + PAGE if more else 0,
            deviceList=[
                shapes.AccountLicenseDeviceListItem(
                    deviceId=item.device_id, assignmentTime=rfc3339(item.assigned)
                )
                for item in page
            ],
        )

    @routes.post(
        "/licenses/{acc}/assign",
        operation_id="assign_licenses_to_devices",
        response_model=shapes.V1LicensesAssignedRemovedResult,
        openapi_extra=body_of(shapes.V1LicensesAssignedRemovedRequest),
    )
    async def assign(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V1LicensesAssignedRemovedRequest)
        results = await backend.licences.assign(account, asked.deviceList)
        head = _Figures(backend, account).counts("licCount")
        return listing(head, items_v1(results, ASSIGN))

    @routes.post(
        "/licenses/{acc}/remove",
        operation_id="remove_licenses_from_devices",
        response_model=shapes.V1LicensesAssignedRemovedResult,
        openapi_extra=body_of(shapes.V1LicensesAssignedRemovedRequest),
    )
    async def remove(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V1LicensesAssignedRemovedRequest)
        results = await backend.licences.remove(account, asked.deviceList)
        head = _Figures(backend, account).counts("licCount")
        return listing(head, items_v1(results, REMOVE))

    @routes.post(
        "/licenses/{acc}/cancel",
        operation_id="create_list_of_licenses_to_remove",
        response_model=shapes.V1ListOfLicensesToRemoveResult,
        openapi_extra=body_of(shapes.V1ListOfLicensesToRemoveRequest),
    )
    async def list_candidates(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V1ListOfLicensesToRemoveRequest)
        return await _listed(backend, account, asked)

    @routes.get(
        "/licenses/{acc}/cancel/index/{start_index}", operation_id="list_licenses_to_remove"
    )
    async def candidates(account: Owner, start_index: str) -> shapes.V1ListOfLicensesToRemove:
        figures = _Figures(backend, account)
        return figures.candidates(shapes.V1ListOfLicensesToRemove, start_index)

    # Since 2.2; since 2.4.1 the answer says so.
    @routes.delete("/licenses/{acc}/cancel", operation_id="delete_list_of_licenses_to_remove")
    async def clear(account: Owner) -> FotaV1SuccessResult:
        await backend.licences.clear_candidates(account)
        return FotaV1SuccessResult(success=True)


def add_v2(routes: APIRouter, backend: "Backend", caller: Caller) -> None:
    """The routes of v2."""
    Owner = Annotated[Account, Depends(caller)]

    @routes.get("/subscriptions/{acc}", operation_id="get_account_subscription_status")
    async def subscription(account: Owner) -> shapes.FotaV2Subscription:
        return shapes.FotaV2Subscription(**_Figures(backend, account).subscription(HTTP))

    @routes.get("/licenses/{acc}", operation_id="get_account_license_status")
    async def licences(
        account: Owner, lastSeenDeviceId: LastSeenDevice = "0"
    ) -> shapes.V2LicenseSummary:
        page, head = _Figures(backend, account).page(lastSeenDeviceId)
        return shapes.V2LicenseSummary(
            **head,
            totalLicense=account.licence_count,
            deviceList=[
                shapes.V2LicenseDevice(
                    deviceId=item.device_id, assignmentTime=rfc3339(item.assigned)
                )
                for item in page
            ],
        )

    @routes.post(
        "/licenses/{acc}/assign",
        operation_id="assign_licenses_to_devices",
        response_model=shapes.V2LicensesAssignedRemovedResult,
        openapi_extra=body_of(shapes.V2LicenseIMEI),
    )
    async def assign(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V2LicenseIMEI)
        results = await backend.licences.assign(account, asked.deviceList)
        return listing(_Figures(backend, account).counts("licTotalCount"), items_v2(results))

    @routes.post(
        "/licenses/{acc}/remove",
        operation_id="remove_licenses_from_devices",
        response_model=shapes.V2LicensesAssignedRemovedResult,
        openapi_extra=body_of(shapes.V2LicenseIMEI),
    )
    async def remove(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V2LicenseIMEI)
        results = await backend.licences.remove(account, asked.deviceList)
        return listing(_Figures(backend, account).counts("licTotalCount"), items_v2(results))

    @routes.post(
        "/licenses/{acc}/cancel",
        operation_id="create_list_of_licenses_to_remove",
        response_model=shapes.V2ListOfLicensesToRemoveResult,
        openapi_extra=body_of(shapes.V2ListOfLicensesToRemoveRequest),
    )
    async def list_candidates(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V2ListOfLicensesToRemoveRequest)
        return await _listed(backend, account, asked)

    # The SDK's query, and the path that the documentation shows.
    @routes.get("/licenses/{acc}/cancel", operation_id="list_licenses_to_remove")
    async def candidates(account: Owner, startIndex: str = "0") -> shapes.V2ListOfLicensesToRemove:
        return _Figures(backend, account).candidates(shapes.V2ListOfLicensesToRemove, startIndex)

    @routes.get("/licenses/{acc}/cancel/index/{start_index}", include_in_schema=False)
    async def candidates_from(account: Owner, start_index: str) -> shapes.V2ListOfLicensesToRemove:
        return _Figures(backend, account).candidates(shapes.V2ListOfLicensesToRemove, start_index)

    @routes.delete("/licenses/{acc}/cancel", operation_id="delete_list_of_licenses_to_remove")
    async def clear(account: Owner) -> FotaV2SuccessResult:
        await backend.licences.clear_candidates(account)
        return FotaV2SuccessResult(success=True)


def add_v3(routes: APIRouter, backend: "Backend", caller: Caller) -> None:
    """The routes of v3."""
    Owner = Annotated[Account, Depends(caller)]

    @routes.get("/subscriptions/{acc}", operation_id="get_account_subscription_status")
    async def subscription(account: Owner) -> shapes.FotaV3Subscription:
        return shapes.FotaV3Subscription(**_Figures(backend, account).subscription())

    # The SDK's query, and the path of an older index of the documentation.
    @routes.get("/licenses/{acc}", operation_id="get_account_licenses_status")
    async def licences(
        account: Owner, lastSeenDeviceId: LastSeenDevice = "0"
    ) -> shapes.V3LicenseSummary:
        page, head = _Figures(backend, account).page(lastSeenDeviceId)
        return shapes.V3LicenseSummary(
            **head,
            totalLicenses=account.licence_count,
            deviceList=[
                shapes.V3LicenseDevice(
                    deviceId=item.device_id, assignmentTime=rfc3339(item.assigned)
                )
                for item in page
            ],
        )

    @routes.get("/licenses/{acc}/index/{last_seen}", include_in_schema=False)
    async def licences_after(account: Owner, last_seen: str) -> shapes.V3LicenseSummary:
        return await licences(account, last_seen)

    @routes.post(
        "/licenses/{acc}/assign",
        operation_id="assign_licenses_to_devices",
        response_model=shapes.V3LicenseAssignedRemovedResult,
        openapi_extra=body_of(shapes.V3LicenseIMEI),
    )
    async def assign(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V3LicenseIMEI)
        results = await backend.licences.assign(account, asked.deviceList)
        head = _Figures(backend, account).counts("licCount", "licTotalCount")
        return listing(head, items_v3(results, ASSIGN, backend.time.now()))

    @routes.post(
        "/licenses/{acc}/remove",
        operation_id="remove_licenses_from_devices",
        response_model=shapes.V3LicenseAssignedRemovedResult,
        openapi_extra=body_of(shapes.V3LicenseIMEI),
    )
    async def remove(account: Owner, request: Request) -> Response:
        asked = await read_model(request, shapes.V3LicenseIMEI)
        results = await backend.licences.remove(account, asked.deviceList)
        head = _Figures(backend, account).counts("licCount", "licTotalCount")
        return listing(head, items_v3(results, REMOVE, backend.time.now()))
