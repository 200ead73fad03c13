"""Accounts, devices and firmware packages in memory, as the store has them.

Decisions come from here; the store is read once, at the start. Devices are listed in the numeric
order of their ids, which for 15 digits is the order of the text.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Delivery
from tools.backend.refusals import Refusal

ACCOUNT_NAME = re.compile(r"[0-9]{10}-[0-9]{5}")
DEVICE_ID = re.compile(r"[0-9]{15}")
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{8,512}=*")
IMEI_NAME = re.compile(r"urn:imei:([0-9]{15})")

EVENT_BILLED = "TS-HFOTA-EVNT"
MONTHLY_BILLED = "TS-HFOTA-MRC"
"""The purchase types of the API; an account may have both. Only one that has nothing but the
monthly type needs a licence for each device."""

ACTIVE, SUSPENDED = "active", "suspend"
"""The statuses of a line of service [documented]; only an active one is upgraded."""

PAGE = 1000
"""Devices in one answer [documented]."""

SYNTHETIC_ID = 990_000_000_000_000
"""Ids for names that are no IMEI begin here: no reporting body 99 hands out real IMEIs."""


@dataclass(frozen=True, slots=True)
class Account:
    """A customer of the backend. `secret` is never logged, so it is kept out of the repr."""

    name: str
    secret: str
    pilot_waived: bool
    purchase_type: str = EVENT_BILLED
    licence_count: int = 0
    subscribed: float = 0.0
    """When the subscription changed last."""
    omadm_mode: str = "network_aware"
    """How OMA-DM campaigns treat a device that failed: a name of `campaigns.plans.PLANS`."""
    v3_abort: bool = True
    """Whether DELETE aborts a v3 campaign that has started; two public pages disagree."""

    def __repr__(self) -> str:
        return f"<Account {self.name}>"


@dataclass(slots=True)
class Device:
    """A device of the inventory; `name` is its identity on the wire."""

    name: str
    account: str
    device_id: str
    make: str
    model: str
    firmware: str
    delivery: Delivery
    created: float
    updated: float
    upgraded: float | None = None
    protocol: str = "LWM2M"
    """What it speaks, as campaigns call it."""
    token: str = field(default="", repr=False)
    """SHA-256 of its bearer token, in hex; empty when it has none."""
    mdn: str = ""
    line: str = ACTIVE
    """The status of its line of service."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """A package of the catalogue, without its bytes."""

    account: str
    name: str
    version_from: str
    version_to: str
    make: str
    model: str
    protocol: str
    release_note: str
    launched: float
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file that was uploaded, without its bytes."""

    account: str
    name: str
    """Made from make, model and the name of the upload; it identifies the file."""
    version_to: str
    make: str
    model: str
    protocol: str
    path: str
    """Where on the device it goes."""
    launched: float
    digest: str
    size: int

    @property
    def version_from(self) -> str:
        """A file has no prerequisite version [documented]."""
        return ""


def check_token(text: object) -> bytes:
    """A bearer token as it is sent, or RequestRefused; the text never repeats it."""
    if not isinstance(text, str) or not TOKEN.fullmatch(text):
        raise RequestRefused("A token has 8 to 512 characters of RFC 6750 section 2.1")
    return text.encode()


def hash_token(token: bytes) -> str:
    """What is kept of a device's bearer token."""
    return hashlib.sha256(token).hexdigest()


def check_account_name(text: str) -> str:
    """The account name as given, or RequestRefused."""
    if not ACCOUNT_NAME.fullmatch(text):
        raise Refusal.ACCOUNT_FORMAT()
    return text


def check_device_id(text: object) -> str:
    """The device id as given, or RequestRefused."""
    if not isinstance(text, str) or not DEVICE_ID.fullmatch(text):
        raise Refusal.DEVICE_FORMAT()
    return text


class Inventory:
    """What the backend knows of its accounts."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.devices: dict[str, Device] = {}
        self.packages: dict[tuple[str, str], Firmware] = {}
        self.files: dict[tuple[str, str], ConfigFile] = {}
        self._by_token: dict[str, Device] = {}
        self._by_id: dict[str, Device] = {}
        self._ids: dict[str, list[str]] = {}
        self._stale: set[str] = set()
        self._synthetic = SYNTHETIC_ID

    def check_free(self, name: str, account: str, device_id: str, token: str) -> None:
        """Whether a device can be added so: raises RequestRefused when the id or the hash of the
        token is another device's, or the name is another account's."""
        former = self._by_id.get(device_id)
        if former is not None and former.name != name:
            raise RequestRefused(f"Device id {device_id} belongs to another identity already")
        if token:
            former = self._by_token.get(token)
            if former is not None and former.name != name:
                raise RequestRefused(f"The token of device {device_id} belongs to another one")
        known = self.devices.get(name)
        if known is not None and known.account != account:
            raise RequestRefused(f"Identity {name} is not free")

    def add_device(self, device: Device) -> None:
        """Add a device, or replace the one of that name. Raises RequestRefused as `check_free`."""
        self.check_free(device.name, device.account, device.device_id, device.token)
        replaced = self.devices.get(device.name)
        if replaced is not None:
            self._by_id.pop(replaced.device_id, None)
            self._by_token.pop(replaced.token, None)
        self.devices[device.name] = device
        self._by_id[device.device_id] = device
        if device.token:
            self._by_token[device.token] = device
        self._stale.add(device.account)
        number = int(device.device_id)
        if number >= self._synthetic:
            self._synthetic = number + 1

    def remove_device(self, device: Device) -> None:
        """Take a device out."""
        self.devices.pop(device.name, None)
        self._by_id.pop(device.device_id, None)
        self._by_token.pop(device.token, None)
        self._stale.add(device.account)

    def by_token(self, token: bytes) -> Device | None:
        """The device of that bearer token."""
        return self._by_token.get(hash_token(token))

    def identified(self, text: str) -> Device | None:
        """The device that calls itself so: by its name or by its id."""
        return self.devices.get(text) or self._by_id.get(text)

    def by_id(self, account: str, device_id: str) -> Device | None:
        """The device of that id, if the account owns it."""
        device = self._by_id.get(device_id)
        return device if device is not None and device.account == account else None

    def id_for(self, name: str) -> str:
        """The device id of a new identity: its IMEI, or a synthetic one."""
        match = IMEI_NAME.fullmatch(name)
        if match is not None:
            return match[1]
        device_id = str(self._synthetic)
        self._synthetic += 1
        return device_id

    def _sorted_ids(self, account: str) -> list[str]:
        if account in self._stale or account not in self._ids:
            self._ids[account] = sorted(
                device.device_id for device in self.devices.values() if device.account == account
            )
            self._stale.discard(account)
        return self._ids[account]

    def count(self, account: str) -> int:
        """How many devices the account has."""
        return len(self._sorted_ids(account))

    def after(self, account: str, last_seen: str) -> Iterator[Device]:
        """The devices of the account with an id above `last_seen`, in order."""
        ids = self._sorted_ids(account)
        for index in range(bisect.bisect_right(ids, last_seen), len(ids)):
            yield self._by_id[ids[index]]
