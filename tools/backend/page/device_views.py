"""What the page shows of devices: the search, and one device with its timeline."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

from tools.backend.errors import RequestRefused
from tools.backend.inventory import DEVICE_ID, Device
from tools.backend.operator_network.network import NOWHERE
from tools.backend.page import timeline
from tools.backend.page.campaign_views import CampaignViews
from tools.backend.page.models import (
    Attached,
    DeviceCampaign,
    DeviceDetail,
    DevicePage,
    DeviceRow,
    Seen,
    TimelineEntry,
)

if TYPE_CHECKING:
    from tools.backend.backend import Backend

DEVICES = 50
"""Devices in one answer: more than a screen."""

SLICE = 2_000
"""Devices looked at in one go, 2 ms; then others have their turn."""

TIMELINE = 500
"""Entries of one timeline, the newest."""


class DeviceViews:
    """Reads the devices of a backend."""

    def __init__(self, backend: Backend, campaigns: CampaignViews) -> None:
        self._backend = backend
        self._campaigns = campaigns

    async def page(self, search: str, account: str | None, after: str) -> DevicePage:
        """The devices after a place in the order of account and id, in which every word of
        `search` occurs: in id, name, make, model, version or protocol. Raises RequestRefused."""
        words = search.lower().split()
        last_account, last_id = _place(after)
        inventory = self._backend.inventory
        found: list[Device] = []
        for name in sorted(inventory.accounts):
            if name < last_account or account not in (None, name):
                continue
            last = last_id if name == last_account else ""
            while True:
                # Asked for anew each time: devices may come and go in between.
                looked = list(islice(inventory.after(name, last), SLICE))
                found += [device for device in looked if _matches(device, words)]
                if len(found) > DEVICES:
                    page = found[:DEVICES]
                    return DevicePage(
                        devices=[_row(device) for device in page],
                        next=f"{page[-1].account}/{page[-1].device_id}",
                    )
                if len(looked) < SLICE:
                    break
                last = looked[-1].device_id
                await asyncio.sleep(0)
        return DevicePage(devices=[_row(device) for device in found], next=None)

    def named(self, text: str) -> Device:
        """The device with this id or identity. Raises RequestRefused."""
        device = self._backend.inventory.identified(text)
        if device is None:
            raise RequestRefused("Device does not exist.", code="RESOURCE_NOT_FOUND", status=404)
        return device

    async def detail(self, device: Device) -> DeviceDetail:
        """One device with its timeline."""
        from tools.backend.backend import authority

        backend = self._backend
        attachment = backend.operator.attachment(device.device_id)
        seen = backend.seen(device.name)
        members = backend.engine.book.members_of(device.name)
        entries = await self._timeline(device)
        return DeviceDetail(
            **_row(device).model_dump(),
            mdn=device.mdn,
            delivery=device.delivery,
            created=device.created,
            updated=device.updated,
            upgraded=device.upgraded,
            loggingUntil=backend.logs.until(device.name),
            licensed=backend.licences.holds(device.device_id),
            attached=None
            if attachment is None
            else Attached(
                cell=attachment.cell,
                push="" if attachment.push == NOWHERE else authority(attachment.push),
                since=attachment.since,
            ),
            waitingMessages=backend.operator.waiting(device.device_id),
            seen=None
            if seen is None
            else Seen(
                state=seen.state, result=seen.result, version=seen.version, source=seen.source
            ),
            campaigns=[
                DeviceCampaign(
                    campaign=member.campaign.id,
                    title=member.campaign.title,
                    package=member.campaign.package,
                    versionTo=member.campaign.version_to,
                    kind=member.campaign.kind.name,
                    status=member.campaign.status,
                    member=self._campaigns.member(member),
                )
                for member in reversed(members)
            ],
            timeline=entries[:TIMELINE],
            truncated=len(entries) > TIMELINE,
        )

    async def _timeline(self, device: Device) -> list[TimelineEntry]:
        """Everything that is known to have happened to a device, newest first."""
        backend = self._backend
        members = backend.engine.book.members_of(device.name)
        attempts = await backend.engine.attempts(device.name)
        trails = await backend.engine.trails(device.name)
        check_ins = await backend.logs.check_ins(device.name)
        logs = await backend.logs.logs(device.name)
        return timeline.in_order(
            [
                TimelineEntry(
                    time=device.created, kind="inventory", title="Taken into the inventory"
                ),
                *timeline.of_members(members, trails),
                *timeline.of_attempts(attempts, members, trails),
                *timeline.of_check_ins(check_ins),
                *timeline.of_logs(logs),
                *timeline.of_messages(
                    backend.operator.messages(device.device_id),
                    backend.operator.reports(device.device_id),
                ),
                *timeline.of_attachment(backend.operator.attachment(device.device_id)),
            ]
        )


def _place(after: str) -> tuple[str, str]:
    """`ACCOUNT/ID`, or nothing for the beginning. Raises RequestRefused."""
    account, slash, device_id = after.partition("/")
    if after and not (slash and DEVICE_ID.fullmatch(device_id)):
        raise RequestRefused("after is ACCOUNT/ID")
    return account, device_id


def _matches(device: Device, words: list[str]) -> bool:
    if not words:
        return True
    # A line break stands in no search, so no word is found over two fields.
    text = "\n".join(
        (
            device.device_id,
            device.name,
            device.make,
            device.model,
            device.firmware,
            device.protocol,
        )
    ).lower()
    return all(word in text for word in words)


def _row(device: Device) -> DeviceRow:
    return DeviceRow(
        deviceId=device.device_id,
        name=device.name,
        account=device.account,
        make=device.make,
        model=device.model,
        firmware=device.firmware,
        protocol=device.protocol,
        line=device.line,
    )
