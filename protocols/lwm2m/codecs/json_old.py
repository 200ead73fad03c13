"""application/vnd.oma.lwm2m+json (content format 11543), of LwM2M 1.0 section 6.4.4.

A draft of SenML: one map with the base name, the base time and the array ``e`` of entries, whose
values stand under ``v``, ``sv``, ``bv`` and ``ov``; opaque data is base64 inside ``sv``. Without a
base name the names are relative to the path of the request.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from protocols.lwm2m.codecs import json_text, senml
from protocols.lwm2m.codecs.errors import CodecError
from protocols.lwm2m.codecs.values import TypeOf, fit, link_value, resource_path
from protocols.lwm2m.model import ResourceType
from protocols.lwm2m.paths import Path, format_path
from protocols.lwm2m.records import Record, Value

__all__ = ["decode", "encode"]

_VALUE_FIELDS = ("v", "sv", "bv", "ov")
# What SenML calls the fields of the records that senml.build() makes.
_FROM_SENML = {"vs": "sv", "vb": "bv", "vlo": "ov"}


def encode(base: Path, records: Sequence[Record], type_of: TypeOf) -> bytes:
    entries: list[senml.Fields] = []
    document: senml.Fields = {}
    for fields in senml.build(base, records, type_of):
        if "bn" in fields:
            document["bn"] = fields.pop("bn")
        data = fields.pop("vd", None)
        if isinstance(data, bytes):
            fields["sv"] = base64.b64encode(data).decode()
        entries.append({_FROM_SENML.get(label, label): v for label, v in fields.items()})
    document["e"] = entries
    return json_text.dump(document)


def decode(base: Path, payload: bytes, type_of: TypeOf) -> list[Record]:
    document = json_text.load(payload, format_path(base))
    if not isinstance(document, Mapping):
        raise CodecError(f"{format_path(base)}: LwM2M JSON is a map with an array 'e'")
    entries = document.get("e")
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise CodecError(f"{format_path(base)}: LwM2M JSON has an array 'e'")
    base_name = document.get("bn")
    if not isinstance(base_name, str | None):
        raise CodecError(f"'bn' is a text, not {base_name!r:.64}")
    base_time = senml.number(document["bt"], "bt") if "bt" in document else None
    records: list[Record] = []
    seen: set[tuple[Path, float | None]] = set()
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise CodecError(f"an entry of 'e' is a map, not {entry!r:.64}")
        record = _record(entry, base, base_name, base_time, type_of)
        if (record.path, record.time) in seen:
            raise CodecError(f"{format_path(record.path)} appears twice at the same time")
        seen.add((record.path, record.time))
        records.append(record)
    return records


def _record(
    entry: Mapping[str, object],
    base: Path,
    base_name: str | None,
    base_time: int | float | None,
    type_of: TypeOf,
) -> Record:
    name = entry.get("n", "")
    if not isinstance(name, str):
        raise CodecError(f"'n' is a text, not {name!r:.64}")
    if base_name is not None:
        name = base_name + name
    elif not name.startswith("/"):
        name = f"{format_path(base).rstrip('/')}/{name}" if name else format_path(base)
    path = resource_path(name, base)
    time = base_time
    if "t" in entry:
        time = senml.add(base_time or 0, senml.number(entry["t"], "t"), "t")
    present = [label for label in _VALUE_FIELDS if label in entry]
    if len(present) != 1:
        raise CodecError(f"{name} has {len(present)} values, not one")
    kind = type_of(path)
    value = _value(present[0], entry[present[0]], kind, path)
    return Record(path, fit(value, kind, path), senml.seconds(time))


def _value(label: str, raw: object, kind: ResourceType | None, path: Path) -> Value:
    if label == "v":
        return senml.number(raw, "v")
    if label == "bv":
        if not isinstance(raw, bool):
            raise CodecError(f"'bv' is a boolean, not {raw!r:.64}")
        return raw
    if label == "ov":
        return link_value(raw, path)
    if kind is ResourceType.OPAQUE:
        return json_text.read_base64(raw, path, None)
    if not isinstance(raw, str):
        raise CodecError(f"'sv' is a text, not {raw!r:.64}")
    return raw
