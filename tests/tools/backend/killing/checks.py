"""What must be so after a backend was killed and everything has come to its end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.tools.backend.callbacks.test_callback_campaigns import is_subsequence
from tests.tools.backend.killing.customer import NEW, PROTOCOLS, VERSION
from tools.backend.campaigns import states
from tools.backend.licences.service import NOT_LICENSED
from tools.backend.rest.v1_words import DEVICE_STATUSES, UPGRADE_STATUSES
from tools.fleet.audit import Belief, audit
from tools.fleet.factory import target_of

if TYPE_CHECKING:
    from tests.tools.backend.killing.run import Run


async def check(run: Run) -> None:
    """Everything, one after the other; then the backend ends in order."""
    assert run.killer.blows, f"the point never came; seen: {dict(run.killer.counts)}"
    assert run.backend.starts == 1 + run.killer.blows
    await check_campaigns(run)
    await check_audit(run)
    check_installs(run)
    await check_attempts(run)
    await check_licences(run)
    await check_rest(run)
    await check_callbacks(run)
    assert run.backend.interrupt() == 0, run.backend.stderr
    assert "Traceback" not in run.backend.stderr, run.backend.stderr


async def check_campaigns(run: Run) -> None:
    """What was accepted is there, once, and every device in it is final."""
    rows = await run.store.rows("SELECT id, status FROM campaigns")
    assert sorted(row[0] for row in rows) == sorted(run.customer.campaigns.values())
    assert {status for _id, status in rows} == {states.ENDED}
    rows = await run.store.rows("SELECT device, status, reason FROM campaign_devices")
    assert sorted(device for device, *_rest in rows) == sorted(one.name for one in run.meters)
    found = {device: (status, reason) for device, status, reason in rows}
    for meter in run.meters:
        status, reason = found[meter.name]
        assert status in states.DEVICE_FINAL, (meter.name, status)
        if meter.licensed:
            assert status == states.SUCCESS, (meter.name, status, reason)
        else:
            assert (status, reason) == (states.REJECTED, NOT_LICENSED)


async def check_audit(run: Run) -> None:
    """Truth and belief agree on every device that takes part."""
    beliefs = {}
    for meter in run.meters:
        seen = await run.customer.ask("GET", f"/admin/devices/{meter.name}/belief", seen=False)
        beliefs[meter.name] = Belief(seen["verdict"], seen["detail"], seen["firmware"])
    truths = [meter.truth() for meter in run.meters if meter.licensed]
    result = audit(truths, beliefs, target_of(NEW))
    assert result.differences == ()
    assert result.agree == len(truths)
    assert {truth.running_version for truth in truths} == {str(target_of(NEW).version)}


def check_installs(run: Run) -> None:
    """Nothing was executed twice, and what has no licence not at all: by the devices' own count."""
    expected = {meter.name: int(meter.licensed) for meter in run.meters}
    assert {meter.name: meter.installs for meter in run.meters} == expected
    assert {meter.name: meter.device.boots for meter in run.meters} == {
        name: 1 + installs for name, installs in expected.items()
    }


async def check_attempts(run: Run) -> None:
    """A kill is nobody's failure: one attempt each, in the campaign and in the history."""
    expected = {meter.name: int(meter.licensed) for meter in run.meters}
    rows = await run.store.rows("SELECT device, attempts FROM campaign_devices")
    assert dict(rows) == expected
    rows = await run.store.rows("SELECT device, number, finished, status FROM attempts")
    assert Counter(row[0] for row in rows) == Counter(
        name for name, attempts in expected.items() if attempts
    )
    for device, number, finished, status in rows:
        assert (number, status) == (1, states.SUCCESS), (device, number, status)
        assert finished is not None, device


async def check_licences(run: Run) -> None:
    """What the API counts is what the table holds: those who were to have one, nobody else."""
    rows = await run.store.rows("SELECT device_id, account FROM licences ORDER BY number")
    account = run.customer.account
    assert {owner for _device, owner in rows} == {account}
    held = [device for device, _owner in rows]
    assert sorted(held) == sorted(one.id for one in run.meters if one.licensed)
    ask = run.customer.ask
    for version in (1, 2, 3):
        figures = await ask("GET", f"/api/fota/v{version}/subscriptions/{account}", seen=False)
        assert figures["licenseCount"] == len(held), version
    subscription = await ask("GET", f"/api/fota/v1/subscriptions/{account}", seen=False)
    assert subscription["licenseUsedCount"] == len(held)
    shown = await ask("GET", f"/api/fota/v1/licenses/{account}/index/0", seen=False)
    assert (shown["totalLicenses"], shown["assignedLicenses"]) == (len(held), len(held))
    assert [item["deviceId"] for item in shown["deviceList"]] == held
    seen = await ask("GET", f"/admin/accounts/{account}", seen=False)
    assert seen["licensesUsed"] == len(held)


async def check_rest(run: Run) -> None:
    """Every version of the API shows what the rows hold, and nothing else."""
    account, ask = run.customer.account, run.customer.ask
    for protocol, (_kind, version) in PROTOCOLS.items():
        campaign = run.customer.campaigns[protocol]
        rows = await run.store.rows(
            "SELECT device_id, status, reason, updated, recent_attempt, next_attempt "
            f"FROM campaign_devices WHERE campaign = '{campaign}' ORDER BY device_id"
        )
        [head] = await run.store.rows(
            "SELECT status, start_date, end_date, version_to, package "
            f"FROM campaigns WHERE id = '{campaign}'"
        )
        place = "upgrades" if version == 1 else "campaigns"
        name = f"upgrade/{campaign}" if version == 1 else campaign
        shown = await ask("GET", f"/api/fota/v{version}/{place}/{account}/{name}", seen=False)
        assert _head(version, shown) == head, protocol
        items = shown.get("deviceList")
        if version != 1:
            path = f"/api/fota/v{version}/reports/{account}/campaigns/{campaign}/devices"
            report = await ask("GET", path, seen=False)
            assert report["totalDevice"] == len(rows)
            items = report["deviceList"]
        stored = [(row[0], _word(version, row[1]), row[2]) for row in rows]
        assert sorted(_item(one) for one in items) == stored, protocol
    for meter in run.meters:
        [[firmware]] = await run.store.rows(
            f"SELECT firmware FROM devices WHERE name = '{meter.name}'"
        )
        shown = await ask("GET", f"/admin/devices/{meter.name}", seen=False)
        assert shown["firmware"] == firmware, meter.name
        if meter.licensed:
            assert firmware == VERSION, meter.name


def _head(version: int, shown: dict[str, Any]) -> tuple[str, ...]:
    """A campaign as it is stored."""
    if version == 1:
        inside = {word: status for status, word in UPGRADE_STATUSES.items()}
        target, package = shown["firmwareTo"], shown["firmwareName"]
        status = inside[shown["status"]]
    else:
        kind = "software" if version == 2 else "firmware"
        status, target, package = shown["status"], shown[f"{kind}To"], shown[f"{kind}Name"]
    return status, shown["startDate"], shown["endDate"], target, package


def _item(shown: dict[str, Any]) -> tuple[str, str, str]:
    return shown["deviceId"], shown["status"], shown["resultReason"]


def _word(version: int, status: str) -> str:
    """What the version calls the status of a device."""
    return DEVICE_STATUSES.get(status, status) if version == 1 else status


async def check_callbacks(run: Run) -> None:
    """Each change of a status that the database has seen was delivered, in its order."""
    recorder = run.recorder
    assert recorder.forged == []
    durable = await run.store.rows("SELECT campaign, device_id, status FROM audit ORDER BY number")
    assert durable
    for protocol, (_kind, version) in PROTOCOLS.items():
        campaign = run.customer.campaigns[protocol]
        told = recorder.told.get(version, [])
        assert {change[0] for change in told} == {campaign}, protocol
        changes = [row for row in durable if row[0] == campaign]
        for subject in dict.fromkeys(device for _campaign, device, _status in changes):
            wanted = [_told_as(version, subject, row[2]) for row in changes if row[1] == subject]
            got = [status for _campaign, device, status in told if device == subject]
            assert is_subsequence(wanted, got), (protocol, subject or "campaign", wanted, got)


def _told_as(version: int, subject: str, status: str) -> str:
    """What a message calls the status of a device, or of the campaign itself."""
    if version == 1 and not subject:
        return UPGRADE_STATUSES[status]
    return _word(version, status)
