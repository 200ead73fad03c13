"""The object definitions of LwM2M 1.1 that a device here carries, after the OMA registry.

Versions are those that core TS 1.1 lists: Security 1.1, Server 1.1, Device 1.1, Connectivity
Monitoring 1.2, Firmware Update 1.0. Operations are the letters of the registry; an empty string
means that only a bootstrap server may touch the resource.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.lwm2m.paths import Path

__all__ = [
    "OBJECTS",
    "ObjectDef",
    "ResourceDef",
    "ResourceType",
    "definition_of",
    "type_of",
]


class ResourceType(enum.Enum):
    """LwM2M 1.1 core appendix C; NONE is the type of what can only be executed."""

    STRING = "string"
    INTEGER = "integer"
    UNSIGNED = "unsigned integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    OPAQUE = "opaque"
    TIME = "time"
    OBJLNK = "object link"
    CORELNK = "CoRE link"
    NONE = "none"

    @property
    def numeric(self) -> bool:
        """Whether gt, lt and st mean something (core 5.1.2: "Numerical Resource")."""
        return self in _NUMERIC


_NUMERIC = frozenset(
    {ResourceType.INTEGER, ResourceType.UNSIGNED, ResourceType.FLOAT, ResourceType.TIME}
)


@dataclass(frozen=True, slots=True)
class ResourceDef:
    id: int
    name: str
    operations: str
    """Letters out of R, W, E."""
    type: ResourceType
    multiple: bool
    mandatory: bool

    @property
    def readable(self) -> bool:
        return "R" in self.operations

    @property
    def writable(self) -> bool:
        return "W" in self.operations

    @property
    def executable(self) -> bool:
        return "E" in self.operations


@dataclass(frozen=True, slots=True)
class ObjectDef:
    id: int
    name: str
    version: str
    multiple: bool
    mandatory: bool
    resources: dict[int, ResourceDef]


_TYPES = {
    "S": ResourceType.STRING,
    "I": ResourceType.INTEGER,
    "U": ResourceType.UNSIGNED,
    "F": ResourceType.FLOAT,
    "B": ResourceType.BOOLEAN,
    "O": ResourceType.OPAQUE,
    "T": ResourceType.TIME,
    "L": ResourceType.OBJLNK,
    "-": ResourceType.NONE,
}

_Row = tuple[int, str, str, str, str]


def _object(
    object_id: int, name: str, version: str, shape: str, rows: tuple[_Row, ...]
) -> ObjectDef:
    """`shape`: "1" or "*" instances, "M"andatory or "O"ptional, as in each row."""
    resources = {
        number: ResourceDef(number, label, operations, _TYPES[kind], "*" in form, "M" in form)
        for number, label, operations, kind, form in rows
    }
    return ObjectDef(object_id, name, version, "*" in shape, "M" in shape, resources)


_SECURITY: tuple[_Row, ...] = (
    (0, "LWM2M Server URI", "", "S", "1M"),
    (1, "Bootstrap-Server", "", "B", "1M"),
    (2, "Security Mode", "", "I", "1M"),
    (3, "Public Key or Identity", "", "O", "1M"),
    (4, "Server Public Key", "", "O", "1M"),
    (5, "Secret Key", "", "O", "1M"),
    (6, "SMS Security Mode", "", "I", "1O"),
    (7, "SMS Binding Key Parameters", "", "O", "1O"),
    (8, "SMS Binding Secret Key(s)", "", "O", "1O"),
    (9, "LwM2M Server SMS Number", "", "S", "1O"),
    (10, "Short Server ID", "", "I", "1O"),
    (11, "Client Hold Off Time", "", "I", "1O"),
    (12, "Bootstrap-Server Account Timeout", "", "I", "1O"),
    (13, "Matching Type", "", "U", "1O"),
    (14, "SNI", "", "S", "1O"),
    (15, "Certificate Usage", "", "I", "1O"),
    (16, "DTLS/TLS Ciphersuite", "", "I", "*O"),
    (17, "OSCORE Security Mode", "", "L", "1O"),
)

_SERVER: tuple[_Row, ...] = (
    (0, "Short Server ID", "R", "I", "1M"),
    (1, "Lifetime", "RW", "I", "1M"),
    (2, "Default Minimum Period", "RW", "I", "1O"),
    (3, "Default Maximum Period", "RW", "I", "1O"),
    (4, "Disable", "E", "-", "1O"),
    (5, "Disable Timeout", "RW", "I", "1O"),
    (6, "Notification Storing When Disabled or Offline", "RW", "B", "1M"),
    (7, "Binding", "RW", "S", "1M"),
    (8, "Registration Update Trigger", "E", "-", "1M"),
    (9, "Bootstrap-Request Trigger", "E", "-", "1O"),
    (10, "APN Link", "RW", "L", "1O"),
    (11, "TLS-DTLS Alert Code", "R", "U", "1O"),
    (12, "Last Bootstrapped", "R", "T", "1O"),
    (13, "Registration Priority Order", "R", "U", "1O"),
    (14, "Initial Registration Delay Timer", "RW", "U", "1O"),
    (15, "Registration Failure Block", "R", "B", "1O"),
    (16, "Bootstrap on Registration Failure", "R", "B", "1O"),
    (17, "Communication Retry Count", "RW", "U", "1O"),
    (18, "Communication Retry Timer", "RW", "U", "1O"),
    (19, "Communication Sequence Delay Timer", "RW", "U", "1O"),
    (20, "Communication Sequence Retry Count", "RW", "U", "1O"),
    (21, "Trigger", "RW", "B", "1O"),
    (22, "Preferred Transport", "RW", "S", "1O"),
    (23, "Mute Send", "RW", "B", "1O"),
)

_DEVICE: tuple[_Row, ...] = (
    (0, "Manufacturer", "R", "S", "1O"),
    (1, "Model Number", "R", "S", "1O"),
    (2, "Serial Number", "R", "S", "1O"),
    (3, "Firmware Version", "R", "S", "1O"),
    (4, "Reboot", "E", "-", "1M"),
    (5, "Factory Reset", "E", "-", "1O"),
    (6, "Available Power Sources", "R", "I", "*O"),
    (7, "Power Source Voltage", "R", "I", "*O"),
    (8, "Power Source Current", "R", "I", "*O"),
    (9, "Battery Level", "R", "I", "1O"),
    (10, "Memory Free", "R", "I", "1O"),
    (11, "Error Code", "R", "I", "*M"),
    (12, "Reset Error Code", "E", "-", "1O"),
    (13, "Current Time", "RW", "T", "1O"),
    (14, "UTC Offset", "RW", "S", "1O"),
    (15, "Timezone", "RW", "S", "1O"),
    (16, "Supported Binding and Modes", "R", "S", "1M"),
    (17, "Device Type", "R", "S", "1O"),
    (18, "Hardware Version", "R", "S", "1O"),
    (19, "Software Version", "R", "S", "1O"),
    (20, "Battery Status", "R", "I", "1O"),
    (21, "Memory Total", "R", "I", "1O"),
    (22, "ExtDevInfo", "R", "L", "*O"),
)

_CONNECTIVITY_MONITORING: tuple[_Row, ...] = (
    (0, "Network Bearer", "R", "I", "1M"),
    (1, "Available Network Bearer", "R", "I", "*M"),
    (2, "Radio Signal Strength", "R", "I", "1M"),
    (3, "Link Quality", "R", "I", "1O"),
    (4, "IP Addresses", "R", "S", "*M"),
    (5, "Router IP Addresses", "R", "S", "*O"),
    (6, "Link Utilization", "R", "I", "1O"),
    (7, "APN", "R", "S", "*O"),
    (8, "Cell ID", "R", "I", "1O"),
    (9, "SMNC", "R", "I", "1O"),
    (10, "SMCC", "R", "I", "1O"),
    (11, "SignalSNR", "R", "I", "1O"),
    (12, "LAC", "R", "I", "1O"),
)

# There is no resource 4; 10 to 13 came with object version 1.1.
_FIRMWARE_UPDATE: tuple[_Row, ...] = (
    (0, "Package", "W", "O", "1M"),
    (1, "Package URI", "RW", "S", "1M"),
    (2, "Update", "E", "-", "1M"),
    (3, "State", "R", "I", "1M"),
    (5, "Update Result", "R", "I", "1M"),
    (6, "PkgName", "R", "S", "1O"),
    (7, "PkgVersion", "R", "S", "1O"),
    (8, "Firmware Update Protocol Support", "R", "I", "*O"),
    (9, "Firmware Update Delivery Method", "R", "I", "1M"),
)

OBJECTS: dict[int, ObjectDef] = {
    definition.id: definition
    for definition in (
        _object(0, "LWM2M Security", "1.1", "*M", _SECURITY),
        _object(1, "LwM2M Server", "1.1", "*M", _SERVER),
        _object(3, "Device", "1.1", "1M", _DEVICE),
        _object(4, "Connectivity Monitoring", "1.2", "1O", _CONNECTIVITY_MONITORING),
        _object(5, "Firmware Update", "1.0", "1O", _FIRMWARE_UPDATE),
    )
}


def definition_of(path: Path) -> ResourceDef | None:
    """The definition of the resource at, or above, `path`; None when we know none."""
    if len(path) < 3:
        return None
    definition = OBJECTS.get(path[0])
    return None if definition is None else definition.resources.get(path[2])


def type_of(path: Path) -> ResourceType | None:
    """The type of the value at `path`, for the codecs; None when it is unknown."""
    definition = definition_of(path)
    return None if definition is None else definition.type
