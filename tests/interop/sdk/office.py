"""Licences and callbacks, which the three versions name differently and mean alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.interop.sdk.campaigns import LIMIT, Case, refused
from tests.interop.sdk.customer import model
from tests.tools.backend.callbacks.callback_raw import OK, RawListener, raw, says

LICENCES = "software_management_licenses_v{}.{}"
SUBSCRIPTION = "software_management_subscriptions_v{}.get_account_subscription_status"
CALLBACKS = "software_management_callbacks_v{}.{}"
ASSIGN_BODY = {1: "V1LicensesAssignedRemovedRequest", 2: "V2LicenseIMEI", 3: "V3LicenseIMEI"}
HOLDERS = {
    1: ("software_management_subscriptions_v1.get_account_license_status", {"start_index": "0"}),
    2: ("software_management_licenses_v2.get_account_license_status", {"last_seen_device_id": "0"}),
    3: (
        "software_management_licenses_v3.get_account_licenses_status",
        {"last_seen_device_id": "0"},
    ),
}


async def subscription(case: Case, version: int) -> tuple[str, int, int]:
    """Type, licences and how many of them are used."""
    found = await case.call(SUBSCRIPTION.format(version))
    # The SDK drops a zero.
    return found.purchase_type, found.license_count or 0, found.license_used_count or 0


async def holders(case: Case, version: int) -> list[str]:
    operation, arguments = HOLDERS[version]
    found = await case.call(operation, **arguments)
    assert not found.has_more_data
    return [item.device_id for item in found.device_list]


async def assign(case: Case, version: int, ids: Sequence[str]) -> list[str]:
    """How each of the devices came out of it."""
    body = model(ASSIGN_BODY[version], device_list=list(ids))
    operation = LICENCES.format(version, "assign_licenses_to_devices")
    found = await case.call(operation, body=body)
    assert [item.device_id for item in found.device_list] == list(ids)
    return [item.status for item in found.device_list]


async def remove(case: Case, version: int, ids: Sequence[str]) -> list[str]:
    body = model(ASSIGN_BODY[version], device_list=list(ids))
    operation = LICENCES.format(version, "remove_licenses_from_devices")
    found = await case.call(operation, body=body)
    assert [item.device_id for item in found.device_list] == list(ids)
    return [item.status for item in found.device_list]


async def cancellation_list(case: Case, version: int, first: str, second: str) -> None:
    """Of v1 and v2: made, appended to, read, deleted."""
    make = LICENCES.format(version, "create_list_of_licenses_to_remove")
    request = f"V{version}ListOfLicensesToRemoveRequest"
    made = await case.call(make, body=model(request, device_list=[first]))
    assert (made.count, made.device_list) == (1, [first])
    longer = await case.call(make, body=model(request, device_list=[second], mtype="append"))
    assert (longer.count, longer.device_list) == (2, [first, second])
    read = LICENCES.format(version, "list_licenses_to_remove")
    listed = await case.call(read, start_index="0")
    assert (listed.count, listed.device_list, listed.has_more_data) == (2, [first, second], False)
    deleted = await case.call(LICENCES.format(version, "delete_list_of_licenses_to_remove"))
    assert deleted.success is True
    assert (await case.call(read, start_index="0")).count in (0, None)


class Inbox:
    """What a listener was sent."""

    def __init__(self, listener: RawListener) -> None:
        self._listener = listener

    @property
    def url(self) -> str:
        return self._listener.url

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(one.partition(b"\r\n\r\n")[2]) for one in self._listener.requests]

    def progress(self, campaign_id: str) -> list[tuple[str, dict[str, str]]]:
        """What was told of a campaign, in order: its status, and those of devices."""
        found = []
        for message in self.messages:
            told = message.get("upgradeProgress") or message
            if campaign_id in (told.get("upgradeId"), told.get("campaignId")):
                devices = {one["deviceId"]: one["status"] for one in told["deviceList"]}
                found.append((told["status"], devices))
        return found

    async def told(self, campaign_id: str, status: str, ids: Sequence[str]) -> None:
        """Until the campaign's last status, and the success of these devices, have been told."""
        async with asyncio.timeout(LIMIT):
            while True:
                statuses = [status for status, _ in self.progress(campaign_id)]
                devices: dict[str, str] = {}
                for _, some in self.progress(campaign_id):
                    devices |= some
                if status in statuses and {devices.get(one) for one in ids} == {"UpgradeSuccess"}:
                    return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def listening(case: Case, version: int) -> AsyncIterator[Inbox]:
    """A listener that is registered, and removed in the end."""
    named = {1: {"service": "Fota"}}.get(version, {})
    shown = CALLBACKS.format(version, "list_registered_callbacks")
    register = CALLBACKS.format(version, "register_callback")
    body = f"FotaV{version}CallbackRegistrationRequest"
    async with raw(says(OK)) as listener:
        inbox = Inbox(listener)
        if version == 1:
            # The two that 2.9 dropped: taken, and neither stored nor shown.
            secret = {"name": "Fota", "username": "someone", "password": "once"}
            made = await case.call(register, body=model(body, url=inbox.url, **secret))
            assert (made.account_name, made.service_name) == (case.account, "Fota")
            [one] = await case.call(shown)
            assert (one.aname, one.name, one.url) == (case.account, "Fota", inbox.url)
            assert (one.username, one.password) == (None, None)
        else:
            elsewhere = model(body, url="https://127.0.0.1:1/before")
            assert (await case.call(register, body=elsewhere)).url == "https://127.0.0.1:1/before"
            update = CALLBACKS.format(version, "update_callback")
            assert (await case.call(update, body=model(body, url=inbox.url))).url == inbox.url
            assert (await case.call(shown)).url == inbox.url
        yield inbox
        remove_it = CALLBACKS.format(version, "deregister_callback")
        assert (await case.call(remove_it, **named)).success is True
        assert (await refused(case.call(remove_it, **named))).status == 400
        assert not (await case.call(shown) if version == 1 else (await case.call(shown)).url)
