"""Fields that the JSON shapes of the versions share: texts, dates, hours, lists of devices.

What a request says is checked in two places. Here is what makes it readable: kinds and lengths.
What makes it right, such as whether a date is one and in which order two of them come, is the
engine's, because it does not matter how it was asked.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    WithJsonSchema,
)

MAX_DEVICES = 100_000
"""Devices in one request; the documentation names no number."""

MAX_WINDOWS = 24
"""One window an hour; more cannot say anything else."""

MAX_TEXT = 128
"""Characters of a name."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOUR = re.compile(r"[0-9]{1,2}")


class Shape(BaseModel):
    """A request or an answer. Keys that nobody knows are ignored, as the API does."""

    model_config = ConfigDict(extra="ignore")


def has_control(text: str) -> bool:
    """Whether a text has control characters, which no name has and PostgreSQL cannot store."""
    return _CONTROL.search(text) is not None


def _printable(text: str) -> str:
    if has_control(text):
        raise ValueError("control characters are not allowed")
    return text


def _hour(value: Any) -> Any:
    # An integer, or its digits; pydantic alone would also take true and " 5 ".
    if isinstance(value, str) and _HOUR.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 5.0 is an integer of JSON Schema
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("an hour is an integer or its digits")
    return value


Text = Annotated[StrictStr, Field(max_length=MAX_TEXT), AfterValidator(_printable)]

Date = Annotated[
    StrictStr, Field(max_length=64), WithJsonSchema({"type": "string", "format": "date"})
]

Hour = Annotated[
    int,
    BeforeValidator(_hour),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 24},
                {"type": "string", "pattern": "^[0-9]{1,2}$"},
            ],
            "description": "UTC hour",
        }
    ),
]
"""The SDK types hours as integers in some requests and as strings in others; both are read."""

# The form is checked where the device is looked up, with the API's own text.
DeviceId = Annotated[
    StrictStr,
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{15}$", "description": "IMEI"}),
]
DeviceIds = Annotated[list[DeviceId], Field(max_length=MAX_DEVICES)]


class AskedWindow(Shape):
    """A time window as a request says it."""

    startTime: Hour
    endTime: Hour


AskedWindows = Annotated[list[AskedWindow], Field(max_length=MAX_WINDOWS)]
