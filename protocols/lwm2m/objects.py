"""What the objects of a virtual device hold: values read from the device, and what servers wrote.

Nothing here is stored that can be looked up: state and result come from the update engine, the
firmware version from the image that runs. Only what a server wrote is kept, in a dictionary that
an untouched device does not have, and in ``nvm``, so that it survives a reboot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

import cbor2

from agent.errors import StoreError
from protocols.coap.numbers import Code
from protocols.lwm2m.errors import OperationRefused
from protocols.lwm2m.firmware_tables import report
from protocols.lwm2m.model import OBJECTS, ObjectDef, ResourceDef
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import ObjectLink, Record, Value

if TYPE_CHECKING:
    from agent.device import Device
    from protocols.coap.endpoint import CoapEndpoint

__all__ = ["SERVER_DEFAULTS", "SINGLES", "Objects"]

Held = Value | Mapping[int, Value]

SECURITY, SERVER, DEVICE, CONNECTIVITY, FIRMWARE = 0, 1, 3, 4, 5

SHORT_SERVER_ID = 123
_NAMESPACE, _KEY = "lwm2m", "written"
MAX_INSTANCES = 8  # of the Server object; a server must not fill the flash with accounts
MAX_TEXT = 255  # of a written string: it has to fit nvm beside everything else
# Of all that servers wrote, in nvm: the records of the update engine must always find room.
MAX_WRITTEN = 1536

# Resources of a fresh Server instance, beside its id and the lifetime of the device's own account.
SERVER_DEFAULTS: dict[int, Value] = {1: 86_400, 6: True, 7: "U"}


def _version(device: Device) -> str:
    running = device.running
    return str(running.version) if running is not None else ""


def _packed(value: Value) -> object:
    # An object link is the only value that CBOR does not know, and no other value is a list.
    return [value.object_id, value.instance_id] if isinstance(value, ObjectLink) else value


def _unpacked(value: object) -> Value:
    if isinstance(value, list):
        return ObjectLink(*value)
    if isinstance(value, int | float | str | bytes):
        return value
    raise ValueError(f"{value!r} is no value of a resource")


# What every virtual device says of itself. Power and radio are plausible constants: no rule of an
# update depends on them, and servers want something to observe.
_READERS: dict[tuple[int, int], Callable[[Device], Held]] = {
    (DEVICE, 0): lambda device: "fotilla",
    (DEVICE, 1): lambda device: "virtual",
    (DEVICE, 2): lambda device: device.name,
    (DEVICE, 3): _version,
    (DEVICE, 6): lambda device: {0: 1, 1: 5},
    (DEVICE, 7): lambda device: {0: 3800, 1: 5000},
    (DEVICE, 8): lambda device: {0: 125, 1: 900},
    (DEVICE, 9): lambda device: 100,
    (DEVICE, 10): lambda device: 64,
    (DEVICE, 11): lambda device: {0: 0},
    (DEVICE, 13): lambda device: int(device.runtime.clock.utc().timestamp()),
    (DEVICE, 16): lambda device: "U",
    (DEVICE, 17): lambda device: "virtual device",
    (CONNECTIVITY, 0): lambda device: 6,
    (CONNECTIVITY, 1): lambda device: {0: 6},
    (CONNECTIVITY, 2): lambda device: -85,
    (CONNECTIVITY, 8): lambda device: 1 + device.index % 0xFFFFFFF,
    (FIRMWARE, 1): lambda device: device.engine.uri,
    (FIRMWARE, 3): lambda device: int(report(device.engine.state, device.engine.outcome).state),
    (FIRMWARE, 5): lambda device: int(report(device.engine.state, device.engine.outcome).result),
    (FIRMWARE, 6): lambda device: device.engine.package_name,
    (FIRMWARE, 7): lambda device: device.engine.package_version,
    (FIRMWARE, 8): lambda device: {0: 0},
    (FIRMWARE, 9): lambda device: 2,
}
_WRITABLE_DEFAULTS: dict[tuple[int, int], Value] = {
    (DEVICE, 14): "+00",
    (DEVICE, 15): "Etc/UTC",
}
# The resources that have one value in one instance: what servers poll, answered without a look at
# the tree.
SINGLES: dict[Path, Callable[[Device], Value]] = {
    (object_id, 0, resource): cast("Callable[[Device], Value]", reader)
    for (object_id, resource), reader in _READERS.items()
    if not OBJECTS[object_id].resources[resource].multiple
}
# Executable resources that do something here.
_EXECUTABLE = {(SERVER, 4), (SERVER, 8), (DEVICE, 4), (DEVICE, 12), (FIRMWARE, 2)}
_WRITE_ONLY = {(FIRMWARE, 0)}


class Objects:
    """The object tree of one device."""

    __slots__ = ("_device", "_endpoint", "_lifetime", "_written")

    def __init__(self, device: Device, lifetime: int, endpoint: CoapEndpoint) -> None:
        self._device = device
        self._lifetime = lifetime
        self._endpoint = endpoint
        self._written: dict[Path, Value] | None = None
        stored = device.nvm.get(_NAMESPACE, _KEY)
        if stored is not None:
            try:
                pairs = cbor2.loads(stored)
                self._written = {tuple(path): _unpacked(value) for path, value in pairs}
            except (cbor2.CBORDecodeError, TypeError, ValueError):
                # Foreign or damaged: a torn record fails its checksum in nvm and is not seen here.
                self._written = None

    # -- the tree -------------------------------------------------------------------------------

    def instances(self, object_id: int) -> list[int]:
        """Instance ids of an object; 4.04 when the device has no such object."""
        if object_id not in OBJECTS:
            raise OperationRefused(Code.NOT_FOUND, f"no object {object_id}")
        if object_id != SERVER or not self._written:
            return [0]
        return sorted({0} | {path[1] for path in self._written if path[0] == SERVER})

    def definition(self, object_id: int) -> ObjectDef:
        definition = OBJECTS.get(object_id)
        if definition is None:
            raise OperationRefused(Code.NOT_FOUND, f"no object {object_id}")
        if object_id == SECURITY:
            # Core 8.1.1: only a bootstrap server may touch the Security object (ETS 221).
            raise OperationRefused(Code.UNAUTHORIZED, "the Security object is not accessible")
        return definition

    def resource(self, path: Path) -> ResourceDef:
        """The definition of a resource that this device has; 4.04 otherwise."""
        definition = self.definition(path[0])
        resource = definition.resources.get(path[2])
        if (
            resource is None
            or path[1] not in self.instances(path[0])
            or not self._present(path[0], path[1], path[2])
        ):
            raise OperationRefused(Code.NOT_FOUND, f"no resource {format_path(path[:3])}")
        return resource

    def _present(self, object_id: int, instance: int, resource: int) -> bool:
        key = (object_id, resource)
        return (
            key in _READERS
            or key in _EXECUTABLE
            or key in _WRITE_ONLY
            or self._stored(object_id, instance, resource) is not None
            or (key == (CONNECTIVITY, 4))
        )

    def present(self, object_id: int, instance: int) -> Iterable[ResourceDef]:
        """The resources that an instance has, by id."""
        for resource in self.definition(object_id).resources.values():
            if self._present(object_id, instance, resource.id):
                yield resource

    # -- values ---------------------------------------------------------------------------------

    def _stored(self, object_id: int, instance: int, resource: int) -> Value | None:
        if self._written:
            value = self._written.get((object_id, instance, resource))
            if value is not None:
                return value
        if object_id == SERVER:
            if resource == 0:
                return SHORT_SERVER_ID if instance == 0 else None
            if resource == 1 and instance == 0:
                return self._lifetime
            return SERVER_DEFAULTS.get(resource)
        return _WRITABLE_DEFAULTS.get((object_id, resource))

    def value(self, object_id: int, instance: int, resource: int) -> Held | None:
        """One resource's value: a map of resource instances when it is multiple, None if absent."""
        reader = _READERS.get((object_id, resource))
        if reader is not None:
            return reader(self._device)
        if object_id == CONNECTIVITY and resource == 4:
            return {0: self._endpoint.local[0]}
        return self._stored(object_id, instance, resource)

    def records(self, path: Path) -> list[Record]:
        """Everything readable at or under ``path``. Raises 4.04 or 4.05."""
        definition = self.definition(path[0])
        if len(path) >= 3:
            resource = self.resource(path)
            if not resource.readable:
                raise OperationRefused(Code.METHOD_NOT_ALLOWED, f"{format_path(path)} has no Read")
            return self._resource_records(path)
        instances = self.instances(path[0])
        if len(path) == 2:
            if path[1] not in instances:
                raise OperationRefused(Code.NOT_FOUND, f"no instance {format_path(path)}")
            instances = [path[1]]
        out: list[Record] = []
        for instance in instances:
            for resource in self.present(definition.id, instance):
                if resource.readable:
                    out += self._resource_records((definition.id, instance, resource.id))
        return out

    def _resource_records(self, path: Path) -> list[Record]:
        held = self.value(path[0], path[1], path[2])
        if isinstance(held, Mapping):
            if len(path) == 4:
                if path[3] not in held:
                    raise OperationRefused(Code.NOT_FOUND, f"no {format_path(path)}")
                return [Record(path, held[path[3]])]
            return [Record((*path, number), value) for number, value in held.items()]
        if held is None or len(path) == 4:
            raise OperationRefused(Code.NOT_FOUND, f"no {format_path(path)}")
        return [Record(path, held)]

    @property
    def lifetime(self) -> int:
        value = self._stored(SERVER, 0, 1)
        return value if isinstance(value, int) else self._lifetime

    def period(self, resource: int) -> int | None:
        """1/0/2 or 1/0/3: the server's default pmin or pmax, None when it set none."""
        value = self._stored(SERVER, 0, resource)
        return value if isinstance(value, int) else None

    # -- changes --------------------------------------------------------------------------------

    def check_target(self, path: Path) -> None:
        """Raise 4.01, 4.04 or 4.05 when nothing can be written at an instance or below.

        A resource that was never written is no obstacle: 1/0/2 comes to be by its first Write.
        """
        definition = self.definition(path[0])
        if path[1] not in self.instances(path[0]):
            raise OperationRefused(Code.NOT_FOUND, f"no instance {format_path(path[:2])}")
        if len(path) > 2:
            resource = definition.resources.get(path[2])
            if resource is None or not (resource.writable or self._present(*path[:3])):
                raise OperationRefused(Code.NOT_FOUND, f"no resource {format_path(path[:3])}")
            if not resource.writable:
                raise OperationRefused(Code.METHOD_NOT_ALLOWED, f"{format_path(path)} has no Write")

    def check_write(self, record: Record) -> None:
        """Raise 4.00 for a value that the resource cannot take."""
        path, value = record.path, record.value
        name = format_path(path)
        if len(path) != 3:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, f"{name} is not a writable resource")
        if isinstance(value, str) and len(value.encode()) > MAX_TEXT:
            raise OperationRefused(Code.BAD_REQUEST, f"{name} takes at most {MAX_TEXT} bytes")
        if path[0] == SERVER and path[2] in (1, 2, 3, 5) and isinstance(value, int):
            lowest = 1 if path[2] == 1 else 0
            if not lowest <= value <= 0xFFFFFFFF:
                raise OperationRefused(Code.BAD_REQUEST, f"{name} cannot be {value}")
        if path[0] == SERVER and path[2] == 7 and (not isinstance(value, str) or "U" not in value):
            raise OperationRefused(Code.BAD_REQUEST, f"{name}: this device speaks UDP, U")

    def store(self, records: Iterable[Record]) -> None:
        """Take over checked records, durably."""
        written = dict(self._written or {})
        for record in records:
            # The clock is the run's; a server may set it and reads the run's time all the same.
            if record.path != (DEVICE, 0, 13):
                written[record.path] = record.value
        self._save(written)

    def replace(self, path: Path, records: list[Record]) -> None:
        """Replace an instance: writable resources that the new content lacks fall back."""
        kept = {key: value for key, value in (self._written or {}).items() if key[:2] != path}
        if path[0] == SERVER and path[1] != 0:
            kept[(SERVER, path[1], 0)] = (self._written or {}).get((SERVER, path[1], 0), path[1])
        kept.update({record.path: record.value for record in records})
        self._save(kept)

    def create(self, object_id: int, instance: int | None, records: list[Record]) -> int:
        """A new instance of the Server object; 4.05 for objects with exactly one instance."""
        definition = self.definition(object_id)
        if not definition.multiple:
            text = f"object {object_id} has one instance"
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, text)
        existing = self.instances(object_id)
        if instance is None:
            instance = next(number for number in range(65535) if number not in existing)
        if instance in existing:
            raise OperationRefused(Code.BAD_REQUEST, f"/{object_id}/{instance} exists")
        if len(existing) >= MAX_INSTANCES:
            raise OperationRefused(Code.BAD_REQUEST, f"at most {MAX_INSTANCES} instances")
        written = dict(self._written or {})
        written[(object_id, instance, 0)] = instance
        written.update({record.path: record.value for record in records})
        self._save(written)
        return instance

    def delete(self, path: Path) -> None:
        """Delete an instance that a server created; 4.05 for what the device needs to live."""
        self.definition(path[0])
        if path[1] not in self.instances(path[0]):
            raise OperationRefused(Code.NOT_FOUND, f"no instance {format_path(path)}")
        if path[0] != SERVER or path[1] == 0:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, f"{format_path(path)} stays")
        self._save({key: value for key, value in (self._written or {}).items() if key[:2] != path})

    def _save(self, written: dict[Path, Value]) -> None:
        content = cbor2.dumps([[list(path), _packed(value)] for path, value in written.items()])
        if len(content) > MAX_WRITTEN:
            raise OperationRefused(Code.INTERNAL_SERVER_ERROR, "no room to keep what was written")
        try:
            self._device.nvm.set(_NAMESPACE, _KEY, content)
        except StoreError as error:
            raise OperationRefused(Code.INTERNAL_SERVER_ERROR, f"no room: {error}") from None
        self._written = written
