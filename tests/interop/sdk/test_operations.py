"""The operations that the SDK has, against what the backend serves; login, errors."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.sdk.answers import ANSWERS
from tests.interop.sdk.campaigns import LIMIT
from tests.interop.sdk.customer import Choked, Customer, Refused, date, model, running_sdk
from tests.tools.backend.process import BackendProcess
from tests.tools.backend.sdk_operations import OPERATIONS, OURS

DEVICES = ["350000000000000"]


async def test_the_list_is_complete(backend: BackendProcess, customer: Customer) -> None:
    """The SDK has 71 operations, the backend serves them all, and each has a model to hold its
    answers against."""
    assert len(OPERATIONS) == len(ANSWERS) == 71
    known = sorted((one.version, one.method) for one in customer.operations.values())
    assert known == sorted((version, method) for version, method, _ in OPERATIONS)
    assert set(customer.operations) == set(ANSWERS)
    rest = backend.ready["listeners"]["rest"]
    for version in (1, 2, 3):
        async with httpx.AsyncClient(trust_env=False, timeout=LIMIT) as client:
            document = (await client.get(f"{rest}/api/fota/v{version}/openapi.json")).json()
        served = {
            operation["operationId"]
            for path in document["paths"].values()
            for operation in path.values()
        }
        assert served - set(OURS[version]) == {method for one, method in known if one == version}


async def test_a_session_from_login_to_logout(backend: BackendProcess, customer: Customer) -> None:
    account = backend.ready["account"]["name"]
    devices = "account_devices.get_account_device_information"
    assert (await customer.call(devices, acc=account)).account_name == account
    ended = await customer.call("session_management.end_connectivity_management_session")
    assert ended.session_token
    for token in (ended.session_token, "unknown"):
        await customer.use_session(token)
        with pytest.raises(Refused) as refused:
            await customer.call(devices, acc=account)
        assert refused.value.status == 401
        assert refused.value.body["errorCode"] == "FOTA.REQUEST_FAILED.SessionToken.Expired"


async def test_wrong_credentials(
    backend: BackendProcess, customer: Customer, interpreter: Path
) -> None:
    account, rest = backend.ready["account"], backend.ready["listeners"]["rest"]
    with pytest.raises(Refused) as refused:
        await customer.log_in(account["name"], "wrong")
    assert (refused.value.kind, refused.value.status) == ("APIException", 401)
    assert refused.value.body["errorCode"] == "M2M.REQUEST_FAILED.Unauthorized"

    async with running_sdk(interpreter, rest, account["name"], "wrong") as stranger:
        with pytest.raises(Choked, match="OAuthToken is undefined"):
            await stranger.log_in(account["name"], account["secret"])
        for name in (account["name"], "0000000000-99999"):
            basic = base64.b64encode(f"{name}:wrong".encode()).decode()
            with pytest.raises(Refused) as refused:
                await stranger.call(
                    "oauth_authorization.request_token_thingspace_oauth",
                    authorization=f"Basic {basic}",
                )
            assert (refused.value.kind, refused.value.status) == ("OauthProviderException", 401)
            assert refused.value.provider == "invalid_client"


async def test_a_request_that_is_wrong_becomes_the_exception_of_its_version(
    backend: BackendProcess, customer: Customer
) -> None:
    account = backend.ready["account"]["name"]
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (
            "firmware_v1.list_firmware_upgrade_details",
            {"account_name": account, "upgrade_id": "00000000-0000-4000-8000-000000000000"},
            "Invalid upgradeId",
        ),
        (
            "firmware_v1.schedule_firmware_upgrade",
            {
                "body": model(
                    "FirmwareUpgradeRequest",
                    account_name=account,
                    firmware_name="none",
                    firmware_to="2.0.0",
                    start_date=date("2020-01-01"),
                    end_date=date("2020-01-02"),
                    device_list=DEVICES,
                )
            },
            "FotaPostUpgrades: invalid state date",
        ),
        (
            "campaigns_v2.get_campaign_information",
            {"account": account, "campaign_id": "none"},
            "Campaign does not exist",
        ),
        (
            "campaigns_v3.cancel_campaign",
            {"account_name": "9999999999-00001", "campaign_id": "none"},
            "Account does not exist",
        ),
        (
            "client_logging.enable_device_logging",
            {"account": account, "device_id": "12"},
            "Invalid device id format",
        ),
        (
            "server_logging.get_device_check_in_history",
            {"account": account, "device_id": DEVICES[0]},
            "Device does not exist.",
        ),
        (
            "software_management_reports_v3.get_campaign_history_by_status",
            {"acc": account, "campaign_status": "Unknown"},
            "campaignStatus: Input should be",
        ),
        (
            "campaigns_v2.schedule_sw_upgrade_http_devices",
            {"acc": account, "body": model("SchedulesSoftwareUpgradeRequest")},
            "startDate: Field required",
        ),
    ]
    for name, arguments, text in wrong:
        with pytest.raises(Refused) as refused:
            await customer.call(name, **arguments)
        answer, version = refused.value, customer.operations[name].version
        assert (answer.kind, answer.status) == (f"FotaV{version}ResultException", 400), name
        assert answer.code == "INVALID_PARAMETER", name
        assert answer.message.startswith(text), name


async def test_what_the_sdk_encodes_in_a_path_is_no_other_path(
    backend: BackendProcess, customer: Customer
) -> None:
    with pytest.raises(Refused) as refused:
        await customer.call(
            "campaigns_v3.get_campaign_information",
            account_name=backend.ready["account"]["name"],
            campaign_id="../../v2/files",
        )
    assert refused.value.status in (400, 404)
    assert refused.value.body["errorCode"] in ("INVALID_PARAMETER", "RESOURCE_NOT_FOUND")
