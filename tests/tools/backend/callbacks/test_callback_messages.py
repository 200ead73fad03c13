"""What messages say, and that every change is in one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.backend.callbacks.callback_room import ACCOUNT, KINDS, campaign_of
from tests.tools.backend.rules_marker import rules
from tools.backend.callbacks import messages
from tools.backend.callbacks.rows import Change
from tools.backend.campaigns import states
from tools.backend.inventory import Firmware
from tools.backend.rest import v2_models, v3_models

NOW = 1_900_000_000.25


def device(number: int, status: str = states.PENDING, campaign: str = "c1", **more: Any) -> Change:
    imei = str(990_000_000_000_000 + number)
    return Change(number, ACCOUNT, 3, campaign, imei, status, "why", NOW, **more)


def moved(number: int, old: str, new: str, campaign: str = "c1") -> Change:
    return Change(number, ACCOUNT, 3, campaign, "", new, old, NOW)


def bodies(version: int, changes: list[Change], **now: str) -> list[dict[str, Any]]:
    campaign = campaign_of(KINDS[version])
    return [
        json.loads(messages.body_of(version, ACCOUNT, draft, campaign))
        for draft in messages.drafts_of(version, changes, now)
    ]


@rules("BR-126")
def test_v1_says_that_an_upgrade_is_scheduled_and_how_it_goes_on() -> None:
    changes = [
        moved(1, states.REQUEST_PENDING, states.QUEUED),
        moved(2, states.QUEUED, states.SCHEDULED),
        device(3, states.ACCEPTED),
    ]
    scheduled, queued, running = bodies(1, changes, c1=states.SCHEDULED)
    frame = {"accountName": ACCOUNT, "participantName": ACCOUNT, "firmwareList": []}
    assert scheduled == {
        **frame,
        "type": "upgradeScheduled",
        "upgradeScheduled": {"firmwareName": "app", "upgradeId": "c1", "startDate": "2030-01-01"},
        "upgradeProgress": {},
    }
    assert queued == {
        **frame,
        "type": "upgradeProgress",
        "upgradeScheduled": {},
        "upgradeProgress": {"upgradeId": "c1", "status": "Queued", "deviceList": []},
    }
    item = {
        "deviceId": "990000000000003",
        "status": "Device Accepted",
        "resultReason": "why",
    }
    assert running["upgradeProgress"] == {
        "upgradeId": "c1",
        "status": "InProgress",
        "deviceList": [item],
    }


@rules("BR-136")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_no_message_has_a_user_name_or_a_password(version: int) -> None:
    for body in bodies(version, [moved(1, "a", "b"), device(2)], c1="b"):
        assert "username" not in json.dumps(body)
        assert "password" not in json.dumps(body)


@rules("BR-127")
def test_v3_devices_have_the_shape_of_the_report() -> None:
    changes = [device(1, recent_attempt=NOW - 60, next_attempt=NOW + 60), device(2)]
    [body] = bodies(3, changes, c1=states.SCHEDULED)
    first, second = body.pop("deviceList")
    assert body == {
        "accountName": ACCOUNT,
        "type": "campaignProgress",
        "campaignId": "c1",
        "status": "CampaignScheduled",
        "firmwareList": [],
    }
    shown = v3_models.V3DeviceStatus(**first).model_dump(exclude_none=True)
    assert shown == first
    assert first["updatedTime"] == "2030-03-17T17:46:40.250Z"
    assert first["nextAttemptTime"] == "2030-03-17T17:47:40.250Z"
    # What it does not have is absent and not null, as in the report.
    assert set(second) == {"deviceId", "status", "resultReason", "updatedTime"}


def test_v2_devices_have_the_shape_of_the_report() -> None:
    [body] = bodies(2, [device(1)], c1=states.SCHEDULED)
    [item] = body["deviceList"]
    assert v2_models.V2DeviceStatus(**item).model_dump() == item
    assert body["softwareList"] == []


def test_a_device_is_told_under_the_status_that_its_campaign_had() -> None:
    changes = [
        device(1),
        moved(2, states.SCHEDULED, states.ENDED),
        device(3),
        device(4, campaign="c2"),
    ]
    found = [
        (body["campaignId"], body["status"], len(body["deviceList"]))
        for body in bodies(3, changes, c1=states.ENDED, c2=states.SCHEDULED)
    ]
    assert found == [
        ("c1", "CampaignScheduled", 1),
        ("c1", "CampaignEnded", 1),
        ("c2", "CampaignScheduled", 1),
    ]


@rules("BR-129")
def test_a_message_holds_a_thousand_devices() -> None:
    found = bodies(3, [device(number) for number in range(2_500)], c1=states.SCHEDULED)
    assert [len(body["deviceList"]) for body in found] == [1000, 1000, 500]


STATUSES = [states.PENDING, states.STARTED, states.SUCCESS]


@given(
    st.sampled_from([1, 2, 3]),
    st.lists(
        st.tuples(
            st.sampled_from(["c1", "c2", "c3"]),
            st.integers(0, 5),  # 0: the campaign itself
            st.sampled_from(STATUSES),
        ),
        max_size=40,
    ),
)
def test_every_change_is_told_once_and_in_order(
    version: int, told: list[tuple[str, int, str]]
) -> None:
    current = dict.fromkeys(("c1", "c2", "c3"), "before")
    changes, expected = [], []
    for number, (campaign, who, status) in enumerate(told):
        if who == 0:
            changes.append(moved(number, current[campaign], status, campaign))
            current[campaign] = status
            expected.append((campaign, status, ""))
        else:
            change = device(number, status, campaign)
            changes.append(change)
            expected.append((campaign, current[campaign], str(number)))
    found = []
    for draft in messages.drafts_of(version, changes, current):
        # A draft that begins with the status of its campaign tells that too.
        found.append((draft.campaign, draft.status, ""))
        found += [(draft.campaign, draft.status, str(item.number)) for item in draft.devices]
        assert len(draft.devices) <= messages.MAX_DEVICES
    for campaign in current:
        wanted = [item for item in expected if item[0] == campaign]
        devices = [item for item in found if item[0] == campaign and item[2]]
        assert devices == [item for item in wanted if item[2]]
        statuses = [item[1] for item in found if item[0] == campaign and not item[2]]
        rest = iter(statuses)
        assert all(status in rest for _campaign, status, who in wanted if not who)


def firmware(protocol: str) -> Firmware:
    return Firmware(ACCOUNT, "app", "1", "2", "m", "x", protocol, "note", NOW, "d", 3)


@rules("BR-128")
def test_new_firmware_fills_the_list_of_v1() -> None:
    kind, text = messages.announcement_of(1, firmware("OMADM"))
    body = json.loads(text)
    assert (kind, body["type"]) == ("newFirmware", "newFirmware")
    assert (body["upgradeScheduled"], body["upgradeProgress"]) == ({}, {})
    assert body["firmwareList"] == [
        {
            "firmwareName": "app",
            "participantName": ACCOUNT,
            "launchDate": "2030-03-17T17:46:40.250Z",
            "releaseNote": "note",
            "model": "x",
            "make": "m",
            "fromVersion": "1",
            "toVersion": "2",
        }
    ]


def test_new_firmware_in_v2_and_v3() -> None:
    kind, text = messages.announcement_of(2, firmware("HTTP"))
    [item] = json.loads(text)["softwareList"]
    assert (kind, item["softwareName"], item["launchDate"]) == ("newSoftware", "app", "2030-03-17")
    kind, text = messages.announcement_of(3, firmware("LWM2M"))
    body = json.loads(text)
    assert (
        v3_models.FirmwarePackage(**body["firmwareList"][0]).model_dump()
        == (body["firmwareList"][0])
    )
    assert (kind, body["campaignId"], body["status"], body["deviceList"]) == (
        "newFirmware",
        "",
        "",
        [],
    )
