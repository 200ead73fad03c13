"""The small files of an artifact: version, manifest, header-info and type-info.

(Mender's "artifact-format" document, version 3. Where it and `mender-artifact` differ, the tool is
followed: `payloads`, which the document calls `updates`; provides and depends as one object, not as
a list of them; and a rootfs-image's type-info whose `type` is empty, as the tool 3.9 writes it.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firmware_images.archive import refuse_name
from firmware_images.errors import PackageRefused, Reason
from firmware_images.mender.compression import Compression
from firmware_images.package import PackageLimits

__all__ = [
    "ARTIFACT_NAME",
    "DATA_FOLDER",
    "DEVICE_TYPE",
    "HEADER_INFO",
    "META_DATA",
    "TYPE_INFO",
    "VERSION_TEXT",
    "HeaderInfo",
    "Manifest",
    "TypeInfo",
    "check_version",
    "file_name_allowed",
]

VERSION_TEXT = b'{"format":"mender","version":3}'
HEADER_INFO = "header-info"
TYPE_INFO = "headers/0000/type-info"
META_DATA = "headers/0000/meta-data"
DATA_FOLDER = "data/0000/"
DEVICE_TYPE = "device_type"
ARTIFACT_NAME = "artifact_name"

_MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_FILE_NAME = re.compile(r"[\w\-.,]+", re.ASCII)
_HEADERS = {f"header.tar{compression.value}" for compression in Compression}

Names = tuple[str, ...]


def check_version(text: bytes) -> None:
    """Raise `PackageRefused` unless this is version 3."""
    content = _object(text, "version")
    if content.get("format") != "mender":
        raise PackageRefused(Reason.BAD_MAGIC, "the version file does not say 'mender'")
    if content.get("version") != 3:
        raise PackageRefused(
            Reason.UNSUPPORTED_FLAGS, "the artifact has another version of the format than 3"
        )


def file_name_allowed(name: str) -> bool:
    """Whether Mender lets a payload's file be called so."""
    return name not in (".", "..") and _FILE_NAME.fullmatch(name) is not None


class Manifest:
    """The SHA-256 of every file: of the header as it is compressed, of payload files as they are.

    Raises `PackageRefused` for what is no manifest, and for files that no artifact for a device
    with one image has.
    """

    __slots__ = ("digests", "header", "payload", "payload_digest")

    def __init__(self, text: bytes, limits: PackageLimits) -> None:
        self.digests: dict[str, bytes] = {}
        for line in _decoded(text, "manifest").splitlines():
            found = _MANIFEST_LINE.fullmatch(line)
            if found is None:
                raise _bad("manifest", f"has a line that is no checksum: {line[:80]!r}")
            name = found[2]
            refuse_name(name, limits)
            if name in self.digests:
                raise _bad("manifest", f"names {name!r} twice")
            if len(self.digests) == limits.entries:
                raise _bad("manifest", f"has more than {limits.entries} lines")
            self.digests[name] = bytes.fromhex(found[1])
        if "version" not in self.digests:
            raise _bad("manifest", "does not name the version file")
        rest = set(self.digests) - {"version"}
        headers, payloads = rest & _HEADERS, {n for n in rest if n.startswith(DATA_FOLDER)}
        others = rest - headers - payloads
        if others:
            raise _bad("manifest", f"names {min(others)!r}, which has no place in it")
        if len(headers) != 1 or len(payloads) != 1:
            raise _bad(
                "manifest",
                f"names {len(headers)} headers and {len(payloads)} payload files, not one of each",
            )
        self.header = headers.pop()
        listed = payloads.pop()
        self.payload = listed.removeprefix(DATA_FOLDER)
        self.payload_digest = self.digests[listed]
        if not file_name_allowed(self.payload):
            raise _bad("manifest", f"names a payload file {self.payload!r}: forbidden characters")


@dataclass(frozen=True, slots=True)
class HeaderInfo:
    """What the artifact as a whole is, provides and needs."""

    payload_type: str
    provides: Mapping[str, str]
    depends: Mapping[str, Names]

    @classmethod
    def parse(cls, text: bytes) -> HeaderInfo:
        content = _object(text, HEADER_INFO)
        payloads = content.get("payloads", content.get("updates"))
        if not isinstance(payloads, list) or len(payloads) != 1:
            raise _bad(HEADER_INFO, "does not list exactly one payload")
        payload = payloads[0]
        kind = payload.get("type") if isinstance(payload, dict) else None
        if not isinstance(kind, str) or not kind:
            raise _bad(HEADER_INFO, "has a payload without a type")
        provides = _strings(content.get("artifact_provides"), HEADER_INFO)
        depends = _lists(content.get("artifact_depends"), HEADER_INFO)
        if not provides.get(ARTIFACT_NAME):
            raise _bad(HEADER_INFO, "does not name the artifact")
        if not depends.get(DEVICE_TYPE):
            raise _bad(HEADER_INFO, "names no device type")
        return cls(kind, provides, depends)


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """What the one payload provides and needs."""

    provides: Mapping[str, str] = field(default_factory=dict)
    depends: Mapping[str, Names] = field(default_factory=dict)
    clears: Names = ()
    """Patterns of what the device no longer provides once the payload is installed."""

    @classmethod
    def parse(cls, text: bytes, payload_type: str) -> TypeInfo:
        content = _object(text, TYPE_INFO)
        if content.get("type") not in (payload_type, "", None):
            raise _bad(TYPE_INFO, f"is not of type {payload_type!r}, as header-info says")
        return cls(
            _strings(content.get("artifact_provides"), TYPE_INFO),
            _lists(content.get("artifact_depends"), TYPE_INFO),
            _names(content.get("clears_artifact_provides") or [], TYPE_INFO),
        )


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(_decoded(text, what))
    except (ValueError, RecursionError):
        raise _bad(what, "is not JSON") from None
    if not isinstance(content, dict):
        raise _bad(what, "is no JSON object")
    return content


def _strings(value: object, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _bad(what, "has provides that are no object of strings")
    return value


def _lists(value: object, what: str) -> dict[str, Names]:
    """Depends: a list of values that will do, or the only one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(what, "has depends that are no object")
    return {
        key: (item,) if isinstance(item, str) else _names(item, what)
        for key, item in value.items()
        if item is not None
    }


def _names(value: object, what: str) -> Names:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _bad(what, "has something else where a list of strings belongs")
    return tuple(value)


def _decoded(text: bytes, what: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad(what, "is not UTF-8") from None


def _bad(what: str, detail: str) -> PackageRefused:
    return PackageRefused(Reason.BAD_STRUCTURE, f"{what} {detail}")
