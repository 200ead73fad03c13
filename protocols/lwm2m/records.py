"""What codecs take and give: a flat list of (path, value) records, whatever the wire looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from protocols.lwm2m.paths import Path, format_path

__all__ = ["NO_LINK", "ObjectLink", "Record", "Value"]

_MAX_LINK_ID = 65535


@dataclass(frozen=True, slots=True)
class ObjectLink:
    """A reference to an object instance (LwM2M 1.1 core appendix C, type Objlnk)."""

    object_id: int
    instance_id: int

    def __post_init__(self) -> None:
        for value in (self.object_id, self.instance_id):
            if not 0 <= value <= _MAX_LINK_ID:
                raise ValueError(f"{value} in an object link is not from 0 to {_MAX_LINK_ID}")

    @classmethod
    def parse(cls, text: str) -> ObjectLink:
        """``"66:0"``; a ValueError names the text."""
        parts = text.split(":")
        if len(parts) != 2 or not all(
            part.isascii() and part.isdigit() and len(part) <= 5 for part in parts
        ):
            raise ValueError(f"{text[:64]!r} is no object link like '66:0'")
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.object_id}:{self.instance_id}"


# "If no Object is linked, the value is 65535:65535" (appendix C).
NO_LINK = ObjectLink(_MAX_LINK_ID, _MAX_LINK_ID)

# A time is an int: seconds since 1970-01-01 UTC.
Value: TypeAlias = int | float | bool | str | bytes | ObjectLink


@dataclass(frozen=True, slots=True)
class Record:
    """One value at the path of a resource or resource instance.

    `time` is set by the formats that carry one (SenML, old JSON), in seconds: absolute since 1970,
    or relative to the moment of reception when small (RFC 8428 section 4.5.3).
    """

    path: Path
    value: Value
    time: float | None = None

    def __str__(self) -> str:
        return f"{format_path(self.path)} = {self.value!r}"
