"""JSON shapes of the admin API. Unset optional fields are absent or null."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr

MAX_DEVICES = 100_000
"""Devices in one request, as in the public API."""

Text = Annotated[StrictStr, Field(max_length=128)]


class Shape(BaseModel):
    # A field that nobody reads is a mistake of the administrator's, and is said to be one.
    model_config = ConfigDict(extra="forbid")


class InventoryDevice(Shape):
    """A device of the inventory; `name` is its identity on the wire."""

    deviceId: StrictStr | None = None
    name: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = None
    make: Annotated[StrictStr, Field(max_length=64)] | None = None
    model: Annotated[StrictStr, Field(max_length=64)] | None = None
    firmware: Annotated[StrictStr, Field(max_length=255)] | None = None
    delivery: Literal["push", "pull"] | None = None
    protocol: Literal["LWM2M", "HTTP", "OMADM"] | None = None
    token: Annotated[StrictStr | None, Field(repr=False)] = None


class InventoryNames(Shape):
    """Devices by identity."""

    names: Annotated[list[StrictStr], Field(max_length=MAX_DEVICES)]


class ClockChange(Shape):
    """One of the three."""

    rate: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    """Seconds of the backend in a second of the machine."""
    advanceBy: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)] | None = None
    """Seconds."""
    advanceTo: datetime.datetime | None = None
    """RFC 3339; UTC without an offset."""


class DmAccounts(InventoryNames):
    """Devices that get a DM account."""

    auth: Literal["none", "basic", "md5", "hmac"] = "md5"
