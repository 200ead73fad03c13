"""What the routes of the admin API share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.errors import RequestRefused
from tools.backend.inventory import Account, Device, check_account_name

if TYPE_CHECKING:
    from tools.backend.backend import Backend
    from tools.backend.campaigns.records import Campaign


NO_STORE = {"Cache-Control": "no-store"}
"""On answers that hold secrets or may be large."""


def account_of(backend: Backend, name: str | None) -> Account:
    """The account that is meant; the one of the config when none is named. Raises
    RequestRefused."""
    if name is None:
        return backend.account
    account = backend.inventory.accounts.get(check_account_name(name))
    if account is None:
        raise RequestRefused("Account does not exist")
    return account


def campaign_with(backend: Backend, account: str, package: str) -> Campaign | None:
    """A campaign that has not ended and delivers the firmware or file of that name."""
    for campaign in backend.engine.book.campaigns.values():
        theirs = campaign.account == account and campaign.package == package
        if theirs and (campaign.active or not campaign.final):
            return campaign
    return None


def device_of(backend: Backend, text: str) -> Device:
    """The device with this identity or device id. Raises RequestRefused."""
    device = backend.inventory.identified(text)
    if device is None:
        raise RequestRefused("Device does not exist.")
    return device
