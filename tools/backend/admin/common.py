"""What the routes of the admin API share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.backend.errors import RequestRefused
from tools.backend.inventory import Account, Device, check_account_name

if TYPE_CHECKING:
    from tools.backend.backend import Backend


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


def device_of(backend: Backend, text: str) -> Device:
    """The device with this identity or device id. Raises RequestRefused."""
    device = backend.inventory.identified(text)
    if device is None:
        raise RequestRefused("Device does not exist.")
    return device
