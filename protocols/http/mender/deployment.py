"""A deployment as the server offers it, and as the device keeps it in `nvm`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from protocols.http.messages import BadAnswer

__all__ = [
    "Deployment",
    "Kept",
    "decode_kept",
    "decode_provides",
    "encode_provides",
    "parse_deployment",
]

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
MAX_NAME = 255
"""Bytes: it is kept in `nvm`."""
MAX_URI = 8192
"""Bytes; presigned links of object stores are long."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a device shall install."""

    id: str
    artifact_name: str
    uri: str = field(repr=False)


def parse_deployment(answer: Mapping[str, Any]) -> Deployment:
    """The body of a 200 to `next`. Raises BadAnswer, which names what is wrong."""
    identifier = answer.get("id")
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise BadAnswer("'id' of the deployment is no identifier")
    artifact = answer.get("artifact")
    if not isinstance(artifact, dict):
        raise BadAnswer("'artifact' is no object")
    source = artifact.get("source")
    if not isinstance(source, dict):
        raise BadAnswer("'artifact.source' is no object")
    # Whom the artifact is for is judged by what the artifact says itself.
    types = artifact.get("device_types_compatible") or []
    if not isinstance(types, list) or not all(isinstance(one, str) for one in types):
        raise BadAnswer("'artifact.device_types_compatible' is no list of texts")
    return Deployment(
        identifier, _text(artifact, "artifact_name", MAX_NAME), _text(source, "uri", MAX_URI)
    )


def _text(members: Mapping[str, Any], name: str, limit: int) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise BadAnswer(f"{name!r} is missing or no text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadAnswer(f"{name!r} is no text that can be encoded") from None
    if size > limit:
        raise BadAnswer(f"{name!r} is longer than {limit} bytes")
    return value


@dataclass(frozen=True, slots=True)
class Kept:
    """The deployment under way: what a reboot must not lose."""

    id: str
    artifact_name: str
    provides: Mapping[str, str] | None = None
    """What the device will provide when it has been installed; None until that has been read, and
    once it has been taken over."""

    def encode(self) -> bytes:
        provides = None if self.provides is None else dict(self.provides)
        return _encoded([self.id, self.artifact_name, provides])


def decode_kept(data: bytes | None) -> Kept | None:
    """None for nothing, and for what no client of this version wrote."""
    if data is None:
        return None
    try:
        identifier, name, provides = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(identifier, str) or not isinstance(name, str):
        return None
    if provides is not None and not _texts(provides):
        return None
    return Kept(identifier, name, provides)


def encode_provides(provides: Mapping[str, str]) -> bytes:
    return _encoded(dict(provides))


def decode_provides(data: bytes | None) -> dict[str, str]:
    """Empty for nothing, and for what no client of this version wrote."""
    try:
        provides = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return dict(provides) if _texts(provides) else {}


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _encoded(value: object) -> bytes:
    """Characters as they are: escapes could take twelve bytes each. One that has no encoding, which
    an artifact may hold, is replaced."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
