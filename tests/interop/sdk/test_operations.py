"""The operations that the SDK has for v2 and v3, against what the backend serves; login, errors."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.sdk.customer import Choked, Customer, Refused, model, running_sdk
from tests.interop.sdk.served import NOT_SERVED
from tests.tools.backend.process import BackendProcess

DEVICES = ["350000000000000"]

# Whatever the operation, its parameters are among these.
ARGUMENTS: dict[str, Any] = {
    "campaign_id": "00000000-0000-4000-8000-000000000000",
    "device_id": DEVICES[0],
    "distribution_type": "HTTP",
    "last_seen_device_id": "0",
    "start_index": "0",
}


async def test_the_list_is_complete(backend: BackendProcess, customer: Customer) -> None:
    """What the backend says it serves, and what is listed as not served, is all that there is."""
    rest = backend.ready["listeners"]["rest"]
    for version in (2, 3):
        known = {one.method for one in customer.operations.values() if one.version == version}
        absent = {
            customer.operations[name].method
            for name in NOT_SERVED
            if customer.operations[name].version == version
        }
        async with httpx.AsyncClient(trust_env=False) as client:
            document = (await client.get(f"{rest}/api/fota/v{version}/openapi.json")).json()
        served = {
            operation["operationId"]
            for path in document["paths"].values()
            for operation in path.values()
        }
        assert known - served == absent
        assert not absent & served


async def test_what_is_not_served_is_refused_in_the_form_of_the_api(
    backend: BackendProcess, customer: Customer
) -> None:
    account = backend.ready["account"]["name"]
    for name, (status, body) in NOT_SERVED.items():
        arguments = {}
        for parameter in customer.operations[name].parameters:
            if parameter in ("account", "acc"):
                arguments[parameter] = account
            elif parameter == "body":
                assert body is not None, name
                arguments[parameter] = body
            else:
                arguments[parameter] = ARGUMENTS[parameter]
        with pytest.raises(Refused) as refused:
            await customer.call(name, **arguments)
        answer = refused.value
        assert (answer.kind, answer.status) == ("APIException", status), name
        code = {404: "RESOURCE_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}[status]
        assert answer.body["errorCode"] == code, name
        assert answer.body["errorMessage"], name


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
            "Invalid campaignStatus 'Unknown'",
        ),
        (
            "campaigns_v2.schedule_sw_upgrade_http_devices",
            {"acc": account, "body": model("SchedulesSoftwareUpgradeRequest")},
            "distributionType: Field required",
        ),
    ]
    for name, arguments, text in wrong:
        with pytest.raises(Refused) as refused:
            await customer.call(name, **arguments)
        answer, version = refused.value, customer.operations[name].version
        assert (answer.kind, answer.status) == (f"FotaV{version}ResultException", 400), name
        assert (answer.code, answer.message) == ("INVALID_PARAMETER", text), name


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
