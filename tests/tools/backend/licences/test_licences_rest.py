"""Subscriptions, licences and cancellation lists over the API: one test for each row and rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.tools.backend.api_models import check
from tests.tools.backend.licence_office import ACCOUNT, IMEI, OTHER, ids
from tests.tools.backend.rest_client import logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, virtual, world
from tools.backend.backend import Backend
from tools.backend.inventory import EVENT_BILLED, MONTHLY_BILLED, PAGE

V1, V2, V3 = (f"/api/fota/v{version}" for version in (1, 2, 3))
TOTAL = 3


@asynccontextmanager
async def served(
    total: int = TOTAL, devices: int = 6, purchase_type: str = MONTHLY_BILLED
) -> AsyncIterator[tuple[Backend, httpx.AsyncClient]]:
    config = replace(CONFIG, account=ACCOUNT)
    async with world(config) as backend, logged_in(backend) as api:
        await backend.load_devices({"deviceId": device} for device in ids(*range(devices)))
        await backend.runtime.clock.sleep(60)
        await backend.licences.set_subscription(ACCOUNT, purchase_type, total)
        yield backend, api


async def told(api: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    """What a call answers; the Content-Type is the one that the SDK sends on most of them."""
    content = None if body is None else httpx.Request("POST", "http://x", json=body).content
    answer = await api.request(method, path, content=content, headers={"Content-Type": "*/*"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(api: httpx.AsyncClient, method: str, path: str, body: Any = None) -> str:
    """The message of a 400."""
    answer = await api.request(method, path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errorCode"] == "INVALID_PARAMETER"
    return str(answer.json()["errorMessage"])


def devices(*numbers: int) -> dict[str, list[str]]:
    return {"deviceList": ids(*numbers)}


# -- subscriptions ---


@pytest.mark.parametrize(
    ("base", "model"),
    [(V1, "V1AccountSubscription"), (V2, "FotaV2Subscription"), (V3, "FotaV3Subscription")],
)
@virtual
async def test_get_subscriptions(base: str, model: str) -> None:
    async with served() as (backend, api):
        await backend.mint_tokens([f"urn:imei:{IMEI}"])  # it speaks HTTP from now on
        await told(api, "POST", f"{V3}/licenses/{ACCOUNT}/assign", devices(0, 1))
        found = await told(api, "GET", f"{base}/subscriptions/{ACCOUNT}")
        check(model, found, every=True)
        assert found == {
            "accountName": ACCOUNT,
            "purchaseType": MONTHLY_BILLED,
            "licenseCount": TOTAL,
            # v2 counts HTTP devices; the pool is one for all.
            "licenseUsedCount": 1 if base == V2 else 2,
            "updateTime": "2030-01-01T00:01:00.000Z",
        }


@virtual
async def test_a_subscription_begins_with_its_account() -> None:
    async with world(replace(CONFIG, account=ACCOUNT)) as backend, logged_in(backend) as api:
        await backend.runtime.clock.sleep(60)
        found = await told(api, "GET", f"{V1}/subscriptions/{ACCOUNT}")
        assert found == {
            "accountName": ACCOUNT,
            "purchaseType": EVENT_BILLED,
            "licenseCount": 0,
            "licenseUsedCount": 0,
            "updateTime": "2030-01-01T00:00:00.000Z",
        }


@virtual
async def test_the_purchase_type_is_a_comma_list() -> None:
    async with served(purchase_type=f"{MONTHLY_BILLED},{EVENT_BILLED}") as (_backend, api):
        found = await told(api, "GET", f"{V3}/subscriptions/{ACCOUNT}")
        assert found["purchaseType"] == "TS-HFOTA-EVNT,TS-HFOTA-MRC"


# -- v1 ---


@virtual
async def test_v1_assign_and_remove() -> None:
    async with served() as (_backend, api):
        url = f"{V1}/licenses/{ACCOUNT}"
        found = await told(api, "POST", f"{url}/assign", devices(0, 1, 99, 2, 3))
        check("V1LicensesAssignedRemovedResult", found, every=True)
        good = "LicenseAssignSuccess"
        assert found == {
            "accountName": ACCOUNT,
            "licCount": TOTAL,
            "licUsedCount": 3,
            "deviceList": [
                {"deviceId": ids(0)[0], "status": good, "Reason": "Success"},
                {"deviceId": ids(1)[0], "status": good, "Reason": "Success"},
                {
                    "deviceId": ids(99)[0],
                    "status": "LicenseAssignFailed",
                    "Reason": "Device Not Found.",
                },
                {"deviceId": ids(2)[0], "status": good, "Reason": "Success"},
                {
                    "deviceId": ids(3)[0],
                    "status": "LicenseAssignFailed",
                    "Reason": "No license available",
                },
            ],
        }
        found = await told(api, "POST", f"{url}/assign", devices(0))
        assert found["deviceList"][0]["Reason"] == "Device license preexisting"
        assert (found["deviceList"][0]["status"], found["licUsedCount"]) == (good, 3)
        found = await told(api, "POST", f"{url}/remove", devices(0, 4))
        check("V1LicensesAssignedRemovedResult", found, every=True)
        assert (found["licCount"], found["licUsedCount"]) == (TOTAL, 2)
        assert [(item["status"], item["Reason"]) for item in found["deviceList"]] == [
            ("LicenseRemoveSuccess", "Success"),
            ("LicenseRemoveFailed", "No license attached to device"),
        ]


@virtual
async def test_v1_get_licenses_index() -> None:
    async with served() as (_backend, api):
        url = f"{V1}/licenses/{ACCOUNT}"
        empty = await told(api, "GET", f"{url}/index/0")
        check("AccountLicenseInfo", empty, every=True)
        assert (empty["deviceList"], empty["assignedLicenses"]) == ([], 0)
        await told(api, "POST", f"{url}/assign", devices(2, 0))
        found = await told(api, "GET", f"{url}/index/0")
        check("AccountLicenseInfo", found, every=True)
        assert found == {
            "accountName": ACCOUNT,
            "totalLicenses": TOTAL,
            "assignedLicenses": 2,
            "hasMoreData": False,
            "lastSeenDeviceId": 0,
            "deviceList": [
                {"deviceId": device, "assignmentTime": "2030-01-01T00:01:00.000Z"}
                for device in ids(2, 0)
            ],
        }
        assert [item["deviceId"] for item in found["deviceList"]] == ids(2, 0)
        second = await told(api, "GET", f"{url}/index/1")
        assert [item["deviceId"] for item in second["deviceList"]] == ids(0)


@virtual
async def test_v1_index_is_a_record_offset() -> None:
    async with served(total=3 * PAGE, devices=2 * PAGE + 5) as (_backend, api):
        url = f"{V1}/licenses/{ACCOUNT}"
        everybody = ids(*range(2 * PAGE + 5))
        await told(api, "POST", f"{url}/assign", {"deviceList": everybody})
        seen, index = [], 0
        for following in (PAGE, 2 * PAGE, 0):
            page = await told(api, "GET", f"{url}/index/{index}")
            assert (page["hasMoreData"], page["lastSeenDeviceId"]) == (following > 0, following)
            seen += [item["deviceId"] for item in page["deviceList"]]
            index = page["lastSeenDeviceId"]
        assert seen == everybody


@virtual
async def test_v1_index_that_is_none() -> None:
    async with served() as (_backend, api):
        for path in ("index", "cancel/index"):
            for index, message in (
                ("1", "Index exceeds number of devices in list"),
                ("99999999", "Index exceeds number of devices in list"),
                ("-1", "Invalid index value"),
                ("x", "Invalid index value"),
                ("1e3", "Invalid index value"),
                ("%D9%A1", "Invalid index value"),
            ):
                url = f"{V1}/licenses/{ACCOUNT}/{path}/{index}"
                assert await refused(api, "GET", url) == message


# -- v2 ---


@virtual
async def test_v2_assign_and_remove() -> None:
    async with served() as (_backend, api):
        url = f"{V2}/licenses/{ACCOUNT}"
        asked = {"accountName": ACCOUNT, **devices(0, 99)}
        found = await told(api, "POST", f"{url}/assign", asked)
        check("V2LicensesAssignedRemovedResult", found, every=True)
        assert found == {
            "accountName": ACCOUNT,
            "licTotalCount": TOTAL,
            "licUsedCount": 1,
            "deviceList": [
                {"deviceId": ids(0)[0], "status": "Success", "resultReason": "Success"},
                {
                    "deviceId": ids(99)[0],
                    "status": "Failure",
                    "resultReason": "Device does not exist.",
                },
            ],
        }
        found = await told(api, "POST", f"{url}/remove", devices(0, 1))
        check("V2LicensesAssignedRemovedResult", found, every=True)
        assert (found["licTotalCount"], found["licUsedCount"]) == (TOTAL, 0)
        assert [(item["status"], item["resultReason"]) for item in found["deviceList"]] == [
            ("Success", "Success"),
            ("Failure", "No license attached to device"),
        ]


@rules("BR-156")
@pytest.mark.parametrize(
    ("base", "model", "total"),
    [(V2, "V2LicenseSummary", "totalLicense"), (V3, "V3LicenseSummary", "totalLicenses")],
)
@virtual
async def test_get_licenses(base: str, model: str, total: str) -> None:
    async with served() as (_backend, api):
        await told(api, "POST", f"{V1}/licenses/{ACCOUNT}/assign", devices(2, 0))
        for query in ("", "?lastSeenDeviceId=0", "?lastSeenDeviceId="):
            found = await told(api, "GET", f"{base}/licenses/{ACCOUNT}{query}")
            check(model, found, every=True)
            assert found == {
                "accountName": ACCOUNT,
                total: TOTAL,
                "assignedLicenses": 2,
                "hasMoreData": False,
                "lastSeenDeviceId": "0",
                "maxPageSize": PAGE,
                "deviceList": [
                    {"deviceId": device, "assignmentTime": "2030-01-01T00:01:00.000Z"}
                    for device in ids(2, 0)
                ],
            }


@rules("BR-157")
@pytest.mark.parametrize("base", [V2, V3])
@virtual
async def test_a_licence_that_stays_is_on_exactly_one_page(base: str) -> None:
    async with served(total=3 * PAGE, devices=2 * PAGE + 20) as (_backend, api):
        url = f"{base}/licenses/{ACCOUNT}"
        await told(
            api, "POST", f"{url}/assign", {"deviceList": ids(*reversed(range(10, 2 * PAGE + 20)))}
        )
        seen: list[str] = []
        moved: set[str] = set()
        last_seen = "0"
        while True:
            page = await told(api, "GET", f"{url}?lastSeenDeviceId={last_seen}")
            seen += [item["deviceId"] for item in page["deviceList"]]
            last_seen = page["lastSeenDeviceId"]
            if not page["hasMoreData"]:
                break
            # Between two pages others give theirs back, and so does the one that the page ended
            # with; that one and somebody new get one.
            assert last_seen == seen[-1]
            gone = [*ids(2 * PAGE + 15, 500), last_seen]
            moved.update(gone)
            await told(api, "POST", f"{url}/remove", {"deviceList": gone})
            await told(api, "POST", f"{url}/assign", {"deviceList": [last_seen, *ids(1)]})
        times = Counter(seen)
        stayed = [device for device in ids(*range(10, 2 * PAGE + 20)) if device not in moved]
        assert {times[device] for device in stayed} == {1}
        assert len(moved) == 4
        assert last_seen == "0"


@rules("BR-157")
@virtual
async def test_v1_pages_do_not_shift_when_a_licence_goes() -> None:
    numbers = range(10, 2 * PAGE + 20)
    async with served(total=3 * PAGE, devices=2 * PAGE + 20) as (backend, api):
        url = f"{V1}/licenses/{ACCOUNT}"
        await told(api, "POST", f"{url}/assign", {"deviceList": ids(*numbers)})
        first = await told(api, "GET", f"{url}/index/0")
        # Some of the first page, its last one too, give theirs back, and somebody gets one.
        gone = ids(10, 500, PAGE + 9)
        await told(api, "POST", f"{url}/remove", {"deviceList": gone})
        await told(api, "POST", f"{url}/assign", {"deviceList": ids(1)})
        second = await told(api, "GET", f"{url}/index/{first['lastSeenDeviceId']}")
        await told(
            api, "POST", f"{url}/remove", {"deviceList": ids(11, 12, 13, 14, 15, 16, 17, 18)}
        )
        # So many that there is no number 2000 any more; the rest is shown all the same.
        third = await told(api, "GET", f"{url}/index/{second['lastSeenDeviceId']}")
        pages = [first, second, third]
        assert [page["hasMoreData"] for page in pages] == [True, True, False]
        seen = [item["deviceId"] for page in pages for item in page["deviceList"]]
        assert seen == [*ids(*numbers), *ids(1)]
        # Whoever asks long afterwards means the number.
        await backend.runtime.clock.sleep(21 * 60)
        async with logged_in(backend) as later:
            found = await told(later, "GET", f"{url}/index/{PAGE}")
            now = [item for item in seen if item not in [*gone, *ids(*range(11, 19))]]
            assert [item["deviceId"] for item in found["deviceList"]] == now[PAGE:]
            assert await refused(later, "GET", f"{url}/index/{2 * PAGE}")


@virtual
async def test_a_page_that_nothing_ended_with() -> None:
    async with served() as (_backend, api):
        for base in (V2, V3):
            for last_seen in (str(IMEI), str(IMEI + 99), "7", "x"):
                url = f"{base}/licenses/{ACCOUNT}?lastSeenDeviceId={last_seen}"
                assert await refused(api, "GET", url) == "LastSeenDeviceId Not Valid"


# -- v3 ---


@virtual
async def test_v3_assign_and_remove() -> None:
    async with served() as (_backend, api):
        url = f"{V3}/licenses/{ACCOUNT}"
        found = await told(api, "POST", f"{url}/assign", devices(0, 99))
        check("V3LicenseAssignedRemovedResult", found)
        good, bad = found.pop("deviceList")
        # Both names of the total, both names of the reason: the SDK's and the documentation's.
        assert found == {
            "accountName": ACCOUNT,
            "licCount": TOTAL,
            "licTotalCount": TOTAL,
            "licUsedCount": 1,
        }
        assert good == {
            "deviceId": ids(0)[0],
            "status": "LicenseAssignSuccess",
            "resultReason": "Success",
            "Reason": "Success",
            "updatedTime": "2030-01-01T00:01:00.000Z",
        }
        assert (bad["status"], bad["resultReason"]) == ("LicenseAssignFailed", "Device Not Found.")
        found = await told(api, "POST", f"{url}/remove", devices(0))
        check("V3LicenseAssignedRemovedResult", found)
        assert found["deviceList"][0]["status"] == "LicenseRemoveSuccess"
        assert found["licUsedCount"] == 0


@virtual
async def test_v3_licenses_by_the_path_of_the_older_index() -> None:
    async with served() as (_backend, api):
        await told(api, "POST", f"{V3}/licenses/{ACCOUNT}/assign", devices(0, 1))
        first = await told(api, "GET", f"{V3}/licenses/{ACCOUNT}/index/0")
        assert first == await told(api, "GET", f"{V3}/licenses/{ACCOUNT}")
        after = await told(api, "GET", f"{V3}/licenses/{ACCOUNT}/index/{IMEI}")
        assert [item["deviceId"] for item in after["deviceList"]] == ids(1)


# -- cancellation lists ---


@pytest.mark.parametrize("base", [V1, V2])
@virtual
async def test_post_licenses_cancel_appends_or_replaces(base: str) -> None:
    version = base[-2:].upper()
    async with served() as (backend, api):
        url = f"{base}/licenses/{ACCOUNT}/cancel"
        first = await told(api, "POST", url, {"count": 2, **devices(3, 1)})
        check(f"{version}ListOfLicensesToRemoveResult", first, every=True)
        assert first == {"count": 2, "deviceList": ids(3, 1)}
        await backend.runtime.clock.sleep(30)
        more = await told(api, "POST", url, {"type": "append", **devices(1, 2)})
        assert more == {"count": 3, "deviceList": ids(3, 1, 2)}
        found = await told(api, "GET", f"{url}/index/0")
        check(f"{version}ListOfLicensesToRemove", found, every=True)
        assert found == {
            "count": 3,
            "hasMoreData": False,
            "updateTime": "2030-01-01T00:01:30.000Z",
            "deviceList": ids(3, 1, 2),
        }
        assert (await told(api, "GET", f"{url}/index/2"))["deviceList"] == ids(2)
        # Nothing has changed for the devices, and they need no licence to be on the list.
        assert (await told(api, "GET", f"{V3}/licenses/{ACCOUNT}"))["deviceList"] == []
        for body in ({"type": "replace", **devices(5)}, devices(5)):
            assert await told(api, "POST", url, body) == {"count": 1, "deviceList": ids(5)}


@pytest.mark.parametrize("base", [V1, V2])
@virtual
async def test_2_2_the_whole_list_is_deleted_and_2_4_1_says_success(base: str) -> None:
    async with served() as (_backend, api):
        url = f"{base}/licenses/{ACCOUNT}/cancel"
        await told(api, "POST", url, devices(3, 1))
        assert await told(api, "DELETE", url) == {"success": True}
        found = await told(api, "GET", f"{url}/index/0")
        assert (found["count"], found["deviceList"]) == (0, [])
        assert found["updateTime"] == "2030-01-01T00:01:00.000Z"
        assert await told(api, "DELETE", url) == {"success": True}


@virtual
async def test_2_39_the_list_of_v2_by_query_and_by_path() -> None:
    async with served() as (_backend, api):
        url = f"{V2}/licenses/{ACCOUNT}/cancel"
        await told(api, "POST", url, devices(4, 3, 2))
        for path in (url, f"{url}?startIndex=0", f"{url}/index/0"):
            found = await told(api, "GET", path)
            assert found["deviceList"] == ids(4, 3, 2)
        for path in (f"{url}?startIndex=2", f"{url}/index/2"):
            assert (await told(api, "GET", path))["deviceList"] == ids(2)
        assert await refused(api, "GET", f"{url}?startIndex=x") == "Invalid index value"
        message = await refused(api, "GET", f"{url}?startIndex=3")
        assert message == "Index exceeds number of devices in list"
        # It is one list for all versions.
        assert (await told(api, "GET", f"{V1}/licenses/{ACCOUNT}/cancel/index/0"))["count"] == 3


@virtual
async def test_2_39_a_list_of_more_than_a_page() -> None:
    async with served(devices=PAGE + 7) as (_backend, api):
        url = f"{V2}/licenses/{ACCOUNT}/cancel"
        everybody = ids(*range(PAGE + 7))
        await told(api, "POST", url, {"deviceList": everybody})
        first = await told(api, "GET", url)
        assert (first["count"], first["hasMoreData"]) == (PAGE + 7, True)
        second = await told(api, "GET", f"{url}?startIndex={PAGE}")
        assert (second["hasMoreData"], second["count"]) == (False, PAGE + 7)
        assert first["deviceList"] + second["deviceList"] == everybody


@pytest.mark.parametrize("base", [V1, V2])
@virtual
async def test_only_monthly_accounts_have_a_list(base: str) -> None:
    async with served(purchase_type=EVENT_BILLED) as (_backend, api):
        url = f"{base}/licenses/{ACCOUNT}/cancel"
        words = "The account has no monthly subscription"
        assert await refused(api, "POST", url, devices(1)) == words
        assert await refused(api, "GET", f"{url}/index/0") == words
        assert await refused(api, "DELETE", url) == words


# -- bad input ---


REFUSED = [
    (b"", "Input binding error"),
    (b"{", "The request body is not JSON"),
    (b"[]", ""),
    (b"{}", "deviceList"),
    (b'{"deviceList": "350000000000000"}', "deviceList"),
    (b'{"deviceList": [350000000000000]}', "deviceList.0"),
    (b'{"deviceList": [null]}', "deviceList.0"),
    (b'{"deviceList": []}', "Device list is empty"),
    (b'{"deviceList": ["350000000000000", "12"]}', "Invalid device id format"),
]
REFUSED_LISTS = [
    *REFUSED,
    (b'{"deviceList": ["350000000000000"], "type": "add"}', "type"),
    (b'{"deviceList": ["350000000000000"], "type": 1}', "type"),
    (b'{"deviceList": ["350000000000000", "350000000000099"]}', "Device does not exist."),
]


@pytest.mark.parametrize("base", [V1, V2, V3])
@virtual
async def test_a_request_that_is_refused_changes_nothing(base: str) -> None:
    async with served() as (backend, api):
        cases = [(call, *case) for call in ("assign", "remove") for case in REFUSED]
        if base != V3:  # it has no cancellation list
            cases += [("cancel", *case) for case in REFUSED_LISTS]
        for call, body, message in cases:
            answer = await api.post(f"{base}/licenses/{ACCOUNT}/{call}", content=body)
            assert answer.status_code == 400, (call, body, answer.text)
            assert answer.json()["errorCode"] == "INVALID_PARAMETER"
            assert answer.json()["errorMessage"].startswith(message), (call, body)
        assert backend.licences.used(ACCOUNT) == 0
        assert not backend.licences.candidates(backend.account)


PATHS = [
    ("GET", f"{V1}/subscriptions/{{}}"),
    ("GET", f"{V1}/licenses/{{}}/index/0"),
    ("POST", f"{V1}/licenses/{{}}/assign"),
    ("POST", f"{V1}/licenses/{{}}/remove"),
    ("POST", f"{V1}/licenses/{{}}/cancel"),
    ("GET", f"{V1}/licenses/{{}}/cancel/index/0"),
    ("DELETE", f"{V1}/licenses/{{}}/cancel"),
    ("GET", f"{V2}/subscriptions/{{}}"),
    ("GET", f"{V2}/licenses/{{}}"),
    ("POST", f"{V2}/licenses/{{}}/assign"),
    ("POST", f"{V2}/licenses/{{}}/remove"),
    ("POST", f"{V2}/licenses/{{}}/cancel"),
    ("GET", f"{V2}/licenses/{{}}/cancel"),
    ("GET", f"{V2}/licenses/{{}}/cancel/index/0"),
    ("DELETE", f"{V2}/licenses/{{}}/cancel"),
    ("GET", f"{V3}/subscriptions/{{}}"),
    ("GET", f"{V3}/licenses/{{}}"),
    ("GET", f"{V3}/licenses/{{}}/index/0"),
    ("POST", f"{V3}/licenses/{{}}/assign"),
    ("POST", f"{V3}/licenses/{{}}/remove"),
]


@virtual
async def test_who_may_see_what() -> None:
    async with served() as (backend, api):
        backend.inventory.accounts[OTHER] = replace(backend.account, name=OTHER, secret="other")
        for method, path in PATHS:
            body = devices(0) if method == "POST" else None
            ours = await api.request(method, path.format(ACCOUNT), json=body)
            assert ours.status_code == 200, (path, ours.text)
            unknown = await api.request(method, path.format("0242078689-99999"), json=body)
            other = await api.request(method, path.format(OTHER), json=body)
            assert unknown.status_code == other.status_code == 400
            assert unknown.json() == other.json()
            headers = {"Authorization": "Bearer wrong"}
            nobody = await api.request(method, path.format(ACCOUNT), json=body, headers=headers)
            assert nobody.status_code == 401


@virtual
async def test_the_operations_have_the_names_of_the_sdk() -> None:
    async with served() as (_backend, api):
        expected = {
            V1: {
                "get_account_subscription_status",
                "get_account_license_status",
                "assign_licenses_to_devices",
                "remove_licenses_from_devices",
                "create_list_of_licenses_to_remove",
                "list_licenses_to_remove",
                "delete_list_of_licenses_to_remove",
            },
            V3: {
                "get_account_subscription_status",
                "get_account_licenses_status",
                "assign_licenses_to_devices",
                "remove_licenses_from_devices",
            },
        }
        expected[V2] = expected[V1]
        for base, names in expected.items():
            document = (await api.get(f"{base}/openapi.json")).json()
            found = {
                operation["operationId"]
                for path, operations in document["paths"].items()
                for operation in operations.values()
                if "/licenses/" in path or "/subscriptions/" in path
            }
            assert found == names, base
