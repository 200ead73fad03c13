"""Removing devices and accounts, durably and with whatever hangs on them.

Nothing is removed that somebody still works with: a device in a campaign that has not ended for it,
or that waits in the network for such an upgrade, is refused, and so is its account; the text names
the campaign. A campaign that has ended keeps its line of a device that is gone, for it is the
record of its customer; the device's own history goes with the device. One that comes back under the
same identity is another device and begins without a past.

What is removed is out of the inventory at once, so that nobody takes it into a campaign meanwhile.
It is in one transaction; when that fails it comes back, and everything else (credentials in faces,
licences, attachments, logs) is forgotten only afterwards. Callback messages about a device that are
on their way are delivered still.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select, union

from tools.backend.errors import RequestRefused, StoreError
from tools.backend.faces.omadm_accounts import dm_accounts
from tools.backend.inventory import Account, Device
from tools.backend.operator_network.rows import attachments, short_messages
from tools.backend.store import rows, tables

if TYPE_CHECKING:
    from tools.backend.backend import Backend
    from tools.backend.campaigns.records import Campaign

VERSIONS = (1, 2, 3)
"""Of the API: each may have a callback listener of the account."""

PART = 2_000
"""Devices that are forgotten before others have their turn: some ms."""

BY_NAME = (
    (tables.attempts, "device"),
    (tables.reports, "device"),
    (tables.check_ins, "device"),
    (tables.logging, "device"),
    (tables.logs, "device"),
    (dm_accounts, "device"),
)
"""What is kept of a device, by its identity. Not its registration: it is its own to end, and an
identity that nobody has is listed as such."""

BY_ID = (
    (tables.licences, "device_id"),
    (tables.cancellations, "device_id"),
    (tables.firmware_syncs, "device_id"),
    (attachments, "device_id"),
    (short_messages, "device_id"),
)
"""The same by its device id."""

BY_CAMPAIGN = (
    (tables.campaign_devices, "campaign"),
    (tables.attempts, "campaign"),
    (tables.reports, "campaign"),
    (tables.state_samples, "campaign"),
)
BY_ACCOUNT: tuple[Table, ...] = (
    tables.campaigns,
    tables.packages,
    tables.files,
    tables.licences,
    tables.cancellations,
    tables.firmware_syncs,
    tables.listeners,
    tables.outbox,
    tables.outbox_changes,
)


def conflict(text: str) -> RequestRefused:
    """What cannot be removed now."""
    return RequestRefused(text, code="CONFLICT", status=409)


class Removal:
    """Removes from one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # -- devices ---

    async def device(self, device: Device) -> None:
        """Remove a device; its licence is free again. Raises RequestRefused while a campaign needs
        it."""
        backend = self._backend
        async with backend.loader.turn:
            if backend.inventory.devices.get(device.name) is not device:
                raise RequestRefused("Device does not exist.")
            campaign = self._campaign_of(device.name)
            if campaign is not None:
                raise conflict(
                    f"The device is in campaign {campaign.id}, which has not ended for it"
                )
            if device.name in backend.engine.book.queued:
                waits = backend.engine.book.queued[device.name].campaign
                raise conflict(
                    f"The device waits in the network for campaign {waits.id}: "
                    "take it out of the queue before"
                )
            backend.inventory.remove_device(device)
            try:
                await backend.writer.submit(
                    lambda connection: erase_devices(
                        connection, tables.devices.c.name == device.name
                    )
                )
            except StoreError:
                backend.inventory.add_device(device)
                raise
            self._forget(device)

    def _campaign_of(self, name: str) -> Campaign | None:
        """A campaign that still wants something of a device."""
        book = self._backend.engine.book
        member = book.open_member(name)
        if member is not None:
            return member.campaign
        unchecked = (item for item in book.campaigns.values() if item.unchecked)
        return next((item for item in unchecked if name in item.members), None)

    def _forget(self, device: Device) -> None:
        backend = self._backend
        backend.engine.book.disown(device.name)
        backend.licences.forget(device)
        backend.operator.forget(device.device_id)
        backend.logs.forget(device.name)
        backend.firmware_sync.forget(device)
        for face in backend.faces.values():
            face.forget(device.name)
        backend.page.feed.device_changed(device.name)

    # -- accounts ---

    async def account(self, account: Account, *, everything: bool) -> None:
        """Remove an account; `everything`: with its devices, licences, campaigns that have ended,
        firmware and files, which otherwise are a reason to refuse. Raises RequestRefused."""
        backend = self._backend
        name = account.name
        async with backend.loader.turn:
            if name not in backend.inventory.accounts:
                raise RequestRefused("Account does not exist")
            self._check(account, everything)
            devices = list(backend.inventory.after(name, ""))
            kept = backend.inventory.accounts.pop(name)
            for device in devices:
                backend.inventory.remove_device(device)
            try:
                await backend.writer.submit(lambda connection: erase_account(connection, name))
            except StoreError:
                backend.inventory.accounts[name] = kept
                for device in devices:
                    backend.inventory.add_device(device)
                raise
            await self._forget_account(name, devices)

    def _check(self, account: Account, everything: bool) -> None:
        backend, name = self._backend, account.name
        if name == backend.config.account:
            raise conflict("The account is the backend's own, by its config")
        waiting = {member.campaign.id for member in backend.engine.book.queued.values()}
        campaigns = self._campaigns(name)
        for campaign in campaigns:
            if campaign.active or not campaign.final or campaign.id in waiting:
                raise conflict(f"The account has campaign {campaign.id}, which has not ended")
        inventory = backend.inventory
        found = {
            "devices": inventory.count(name),
            "licences in use": backend.licences.used(name),
            "campaigns that have ended": len(campaigns),
            "firmwares": sum(key[0] == name for key in inventory.packages),
            "files": sum(key[0] == name for key in inventory.files),
        }
        has = ", ".join(f"{count} {what}" for what, count in found.items() if count)
        if has and not everything:
            raise conflict(
                f"The account has {has}: only everything=true (--everything) removes these as well"
            )

    def _campaigns(self, account: str) -> list[Campaign]:
        campaigns = self._backend.engine.book.campaigns.values()
        return [campaign for campaign in campaigns if campaign.account == account]

    async def _forget_account(self, name: str, devices: Sequence[Device]) -> None:
        backend = self._backend
        for campaign in self._campaigns(name):
            backend.engine.rest(campaign)
            backend.engine.book.remove(campaign)
            backend.page.forget(campaign.id)
        for held in (backend.inventory.packages, backend.inventory.files):
            for key in [key for key in held if key[0] == name]:
                del held[key]
        for number, device in enumerate(devices, 1):
            self._forget(device)
            if not number % PART:
                await backend.writer.submit(_nothing)  # a turn for everybody else
        backend.licences.forget_account(name)
        for version in VERSIONS:
            if backend.callbacks.listener(name, version) is not None:
                await backend.callbacks.deregister(name, version)


def erase_devices(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Delete the devices that meet a condition, and what is kept of them."""
    devices = tables.devices.c
    _erase(connection, BY_NAME, select(devices.name).where(condition))
    _erase(connection, BY_ID, select(devices.device_id).where(condition))
    connection.execute(delete(tables.devices).where(condition))


def erase_account(connection: Connection, name: str) -> None:
    """Delete an account, and what is kept of it."""
    owned = [table.c.digest for table in (tables.packages, tables.files, tables.campaigns)]
    digests = union(*(select(column).where(column.table.c.account == name) for column in owned))
    contents = connection.execute(digests).scalars().all()
    _keep_number(connection)
    campaigns = select(tables.campaigns.c.id).where(tables.campaigns.c.account == name)
    _erase(connection, BY_CAMPAIGN, campaigns)
    erase_devices(connection, tables.devices.c.account == name)
    for table in BY_ACCOUNT:
        connection.execute(delete(table).where(table.c.account == name))
    connection.execute(delete(tables.accounts).where(tables.accounts.c.name == name))
    for digest in contents:
        rows.drop_unused(connection, digest)


def _keep_number(connection: Connection) -> None:
    """Ids come from the numbers of campaigns, so none is used again."""
    last = connection.execute(select(func.max(tables.campaigns.c.number))).scalar_one() or 0
    rows.put_counter(connection, rows.CAMPAIGNS, max(rows.campaign_number(connection), last))


def _erase(
    connection: Connection, places: Iterable[tuple[Table, str]], which: Select[tuple[str]]
) -> None:
    for table, column in places:
        connection.execute(delete(table).where(table.c[column].in_(which)))


def _nothing(_connection: Connection) -> None:
    """Only the turn is wanted."""
