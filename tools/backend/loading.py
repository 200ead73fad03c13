"""Loading devices into the inventory: checked as a whole first, taken in part by part then.

A list of a hundred thousand devices takes seconds. Devices, customers and the writer have their
turns in between; a second list waits for the first, so that what was checked still holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tools.backend.errors import RequestRefused
from tools.backend.faces.base import Delivery
from tools.backend.faces.known import known_protocols
from tools.backend.inventory import Device, check_token, hash_token
from tools.backend.store import rows as store

if TYPE_CHECKING:
    from tools.backend.administration import Administration

DEFAULT_MAKE = "fotilla"
DEFAULT_MODEL = "virtual"

LINES = ("active", "suspend")

PART = 500
"""Devices that are checked or taken in before others have their turn: some 5 ms, and as many rows
in a transaction."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A device that was checked."""

    record: Mapping[str, Any]
    name: str
    account: str
    device_id: str
    token: str | None
    """The hash of a token that is given; None leaves what there is."""


class DeviceLoader:
    """Takes lists of devices, one after the other."""

    def __init__(self, backend: Administration) -> None:
        self._backend = backend
        self._inventory = backend.inventory
        self.turn = asyncio.Lock()
        """Held by whoever changes what there is: what was checked still holds then."""

    async def load(self, records: Iterable[Mapping[str, Any]]) -> list[Device]:
        """As `Administration.load_devices`."""
        async with self.turn:
            drafts = await self._checked(iter(records))
            devices: list[Device] = []
            for start in range(0, len(drafts), PART):
                devices += await self._take(drafts[start : start + PART])
        return devices

    async def _checked(self, records: Iterator[Mapping[str, Any]]) -> list[_Draft]:
        drafts: list[_Draft] = []
        ids: dict[str, str] = {}
        tokens: dict[str, str] = {}
        while part := list(islice(records, PART)):
            if drafts:
                await asyncio.sleep(0)
            for record in part:
                draft = self._draft(record)
                if ids.setdefault(draft.device_id, draft.name) != draft.name:
                    raise RequestRefused(f"Device id {draft.device_id} is there twice")
                if draft.token and tokens.setdefault(draft.token, draft.name) != draft.name:
                    raise RequestRefused(f"The token of device {draft.device_id} is there twice")
                drafts.append(draft)
        return drafts

    def _draft(self, record: Mapping[str, Any]) -> _Draft:
        known = self._known(record)
        name = str(record.get("name") or (known.name if known else _default_name(record)))
        account = str(record.get("account") or self._backend.config.account)
        if account not in self._inventory.accounts:
            raise RequestRefused("Account does not exist")
        former = known.device_id if known is not None else None
        device_id = str(record.get("deviceId") or former or self._inventory.id_for(name))
        token = record.get("token")
        draft = _Draft(
            record,
            name,
            account,
            device_id,
            None if token is None else hash_token(check_token(token)),
        )
        _delivery(record, known)
        _protocol(record, known)
        _line(record, known)
        self._inventory.check_free(name, account, device_id, draft.token or "")
        return draft

    def _known(self, record: Mapping[str, Any]) -> Device | None:
        name = record.get("name")
        if name:
            return self._inventory.devices.get(str(name))
        return self._inventory.identified(str(record.get("deviceId")))

    async def _take(self, drafts: Iterable[_Draft]) -> list[Device]:
        now = self._backend.time.now()
        devices = [self._made(draft, now) for draft in drafts]
        for device in devices:
            self._inventory.add_device(device)
        rows = [store.row_of(device) for device in devices]
        await self._backend.writer.submit(
            lambda connection: connection.execute(store.PUT_DEVICE, rows)
        )
        self._backend.engine.consider(devices)
        return devices

    def _made(self, draft: _Draft, now: float) -> Device:
        # What is known is read now and not when it was checked: the device may have said something
        # meanwhile.
        record, known = draft.record, self._inventory.devices.get(draft.name)
        token = draft.token
        if token is None:
            token = known.token if known is not None else ""
        return Device(
            name=draft.name,
            account=draft.account,
            device_id=draft.device_id,
            make=str(record.get("make") or (known.make if known else DEFAULT_MAKE)),
            model=str(record.get("model") or (known.model if known else DEFAULT_MODEL)),
            firmware=str(record.get("firmware") or (known.firmware if known else "")),
            delivery=_delivery(record, known),
            created=known.created if known is not None else now,
            updated=now,
            upgraded=known.upgraded if known is not None else None,
            protocol=_protocol(record, known),
            token=token,
            mdn=str(record.get("mdn", known.mdn if known is not None else "")),
            line=_line(record, known),
        )


def _default_name(record: Mapping[str, Any]) -> str:
    """The identity of a device that is only known by its id: as the devices of its protocol call
    themselves."""
    scheme = "IMEI" if record.get("protocol") == "OMADM" else "urn:imei"
    return f"{scheme}:{record.get('deviceId')}"


def _delivery(record: Mapping[str, Any], known: Device | None) -> Delivery:
    value = record.get("delivery")
    if value is None:
        return known.delivery if known is not None else "push"
    if value == "push":
        return "push"
    if value == "pull":
        return "pull"
    raise RequestRefused(f"delivery is push or pull, not {value!r}")


def _protocol(record: Mapping[str, Any], known: Device | None) -> str:
    """What a device speaks: as said, or HTTP for one that gets a token, or what it spoke before."""
    value = record.get("protocol")
    if value is None:
        if record.get("token") is not None:
            return "HTTP"
        return known.protocol if known is not None else "LWM2M"
    known_names = known_protocols()
    if value not in known_names:
        raise RequestRefused(f"protocol is one of {', '.join(known_names)}, not {value!r}")
    return str(value)


def _line(record: Mapping[str, Any], known: Device | None) -> str:
    value = record.get("line")
    if value is None:
        return known.line if known is not None else "active"
    if value not in LINES:
        raise RequestRefused(f"line is one of {', '.join(LINES)}, not {value!r}")
    return str(value)
