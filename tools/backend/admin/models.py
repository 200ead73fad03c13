"""JSON shapes of the admin API. Unset optional fields are absent or null."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from tools.backend.inventory import ACCOUNT_NAME

MAX_DEVICES = 100_000
"""Devices in one request, as in the public API."""

Protocol = Literal["LWM2M", "HTTP", "OMADM"]
Line = Literal["active", "suspend"]
Mdn = Annotated[StrictStr, Field(pattern=r"^[0-9]{0,15}$")]
"""A number of the public telephone network (E.164 has 15 digits at most); empty for none."""
PRINTED = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: no identity, maker or version has any, and not every store keeps them."""
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Shape(BaseModel):
    # A field that nobody reads is a mistake of the administrator's, and is said to be one.
    model_config = ConfigDict(extra="forbid")


class Flags(Shape):
    """What is special about an account."""

    pilotWaived: StrictBool | None = None
    """Spare its campaigns the pilot that the API demands."""
    omadmMode: Literal["network_aware", "one_attempt"] | None = None
    """How its OMA-DM campaigns treat a device that failed."""
    v3Abort: StrictBool | None = None
    """Whether a v3 campaign that has started can be aborted."""


class NewAccount(Flags):
    """An account that is to be made."""

    name: Annotated[StrictStr, Field(pattern=f"^{ACCOUNT_NAME.pattern}$")]


class Subscription(Shape):
    """What an account has subscribed to."""

    purchaseType: Annotated[StrictStr, Field(max_length=128)]
    """A comma list of TS-HFOTA-EVNT and TS-HFOTA-MRC."""
    licenseCount: Annotated[int, Field(strict=True, ge=0)]


class InventoryDevice(Shape):
    """A device of the inventory; `name` is its identity on the wire. What is absent stays as it
    was."""

    deviceId: StrictStr | None = None
    name: Annotated[StrictStr, Field(min_length=1, max_length=255, pattern=PRINTED)] | None = None
    make: Annotated[StrictStr, Field(max_length=64, pattern=PRINTED)] | None = None
    model: Annotated[StrictStr, Field(max_length=64, pattern=PRINTED)] | None = None
    firmware: Annotated[StrictStr, Field(max_length=255, pattern=PRINTED)] | None = None
    delivery: Literal["push", "pull"] | None = None
    protocol: Protocol | None = None
    mdn: Mdn | None = None
    line: Line | None = None
    token: Annotated[StrictStr | None, Field(repr=False)] = None


class InventoryNames(Shape):
    """Devices by identity."""

    names: Annotated[list[StrictStr], Field(max_length=MAX_DEVICES)]


class LineChange(Shape):
    """The line of service of a device."""

    status: Line
    mdn: Mdn | None = None


class Capacity(Shape):
    """How many devices of a cell may be upgraded at once."""

    capacity: Annotated[int, Field(strict=True, ge=0, le=1_000_000)]


class ClockChange(Shape):
    """One of the three."""

    rate: Finite | None = None
    """Seconds of the backend in a second of the machine."""
    advanceBy: Annotated[Finite, Field(ge=0)] | None = None
    """Seconds."""
    advanceTo: datetime.datetime | None = None
    """RFC 3339; UTC without an offset."""


class DmAccounts(InventoryNames):
    """Devices that get a DM account."""

    auth: Literal["none", "basic", "md5", "hmac"] = "md5"
